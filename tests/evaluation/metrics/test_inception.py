"""The inception score at its ends, by its definition, and how often its interval holds."""

from __future__ import annotations

import math

import pytest
import torch

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import inception_score
from tests.bounds import fewest


def of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_its_ends() -> None:
    unsure = inception_score(torch.zeros(50, 7))
    assert unsure.value == pytest.approx(1.0)
    sure = inception_score(1000 * torch.eye(7).repeat(20, 1))
    assert sure.value == pytest.approx(7.0)
    one = inception_score(1000 * torch.eye(7)[:1].repeat(20, 1))
    assert one.value == pytest.approx(1.0)
    assert (one.details["classes_seen"], sure.details["classes_seen"]) == (1, 7)
    two = inception_score(1000 * torch.eye(7)[:2].repeat(20, 1))
    assert two.value == pytest.approx(2.0)


def test_the_definition() -> None:
    logits = torch.randn(30, 4, generator=of(0), dtype=torch.float64)
    p = torch.softmax(logits, 1)
    mean = p.mean(0)
    known = math.exp(sum(float((row * (row / mean).log()).sum()) for row in p) / 30)
    assert inception_score(logits).value == pytest.approx(known, rel=1e-12)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torchmetrics': a buffer, and the spread of one part
def test_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.image.inception", reason="needs the extra `metrics`")
    logits = torch.randn(64, 10, generator=of(0)) * 3
    score = metrics.InceptionScore(feature=torch.nn.Identity(), splits=1)
    score.update(logits)
    assert inception_score(logits).value == pytest.approx(float(score.compute()[0]), rel=1e-4)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize(
    ("classes", "sharpness", "n"), [(3, 2.0, 300), (10, 5.0, 200), (10, 20.0, 200), (10, 200.0, 200), (100, 5.0, 500)]
)
def test_how_often_its_interval_holds_the_limit(classes: int, sharpness: float, n: int) -> None:
    """Also where the classifier is sure, or has many classes: there the estimator lies well below the limit."""

    def logits(n: int, seed: int) -> torch.Tensor:
        return sharpness * torch.randn(n, classes, generator=of(seed), dtype=torch.float64)

    truth = inception_score(logits(100_000, 0)).value
    found = [inception_score(logits(n, seed)).interval for seed in range(1, 201)]
    assert sum(v[0] <= truth <= v[1] for v in found if v is not None) >= fewest(0.93, 200)


def test_what_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="1 point to judge"):
        inception_score(torch.zeros(1, 3))
    with pytest.raises(DataError, match="1 of 2 points"):
        inception_score(torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]))
