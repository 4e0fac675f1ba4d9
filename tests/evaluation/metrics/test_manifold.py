"""Precision, recall, density, coverage: the definitions written out, disjoint and equal sets, expectations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import density_coverage, distances, manifold, precision_recall
from tests.bounds import fewest, reach


def normal(n: int, seed: int, d: int = 2) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_out(x: Tensor, y: Tensor, k: int) -> dict[str, float]:
    """Samples x, data y, point by point."""
    a, b = x.numpy(), y.numpy()

    def radius(points: np.ndarray, i: int) -> float:
        return float(sorted(np.linalg.norm(points - points[i], axis=1))[k])

    of_a, of_b = [radius(a, i) for i in range(len(a))], [radius(b, i) for i in range(len(b))]
    inside = np.array([[np.linalg.norm(p - q) <= of_b[j] for j, q in enumerate(b)] for p in a])
    backward = np.array([[np.linalg.norm(q - p) <= of_a[i] for i, p in enumerate(a)] for q in b])
    return {
        "precision": inside.any(1).mean(),
        "recall": backward.any(1).mean(),
        "density": inside.sum() / (k * len(a)),
        "coverage": inside.any(0).mean(),
    }


def covered(x: Tensor, y: Tensor, k: int) -> float:
    distance = torch.cdist(y, y).sort(1).values[:, k]
    return float((torch.cdist(y, x) <= distance[:, None]).any(1).double().mean())


@pytest.mark.parametrize("numbers", [50, 10**6])
def test_the_definitions(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "NUMBERS", numbers)
    x, y = normal(40, 0) * 0.6 + 0.4, normal(30, 1)
    for k in (1, 3):
        found = precision_recall(x, y, k) | density_coverage(x, y, k)
        assert {name: v.value for name, v in found.items()} == pytest.approx(written_out(x, y, k))
        assert all((v.samples, v.data) == (40, 30) for v in found.values())


def test_equal_sets_and_disjoint_ones() -> None:
    x = normal(50, 0)
    same = precision_recall(x, x) | density_coverage(x, x)
    assert [same[name].value for name in ("precision", "recall", "coverage")] == [1.0, 1.0, 1.0]
    far = precision_recall(x, x + 100) | density_coverage(x, x + 100)
    assert all(v.value == 0.0 for v in far.values())


def test_half_of_the_modes_and_a_surplus() -> None:
    """Samples on one of two modes are as precise as if it were the only one, and recall half of what they would then;
    data on one of the samples' two modes, the reverse. Exactly: the other mode is out of every ball's reach."""
    near, one = normal(100, 0), normal(200, 2)
    two = torch.cat([near, normal(100, 1) + 50])
    alone, found = precision_recall(one, near), precision_recall(one, two)
    assert found["precision"].value == alone["precision"].value > 0.5
    assert found["recall"].value == alone["recall"].value / 2 > 0.25
    alone, found = (density_coverage(one, v)["coverage"].value for v in (near, two))
    assert found == alone / 2 > 0.25
    alone, found = precision_recall(near, one), precision_recall(two, one)
    assert found["precision"].value == alone["precision"].value / 2 > 0.25
    assert found["recall"].value == alone["recall"].value > 0.5


@pytest.mark.statistical
@pytest.mark.parametrize(("m", "n", "d"), [(100, 100, 2), (200, 60, 5)])
def test_expectations_under_equality(m: int, n: int, d: int) -> None:
    """Naeem et al.: density has mean 1, coverage 1 - (n-1)...(n-k) / (m+n-1)...(m+n-k), in any dimension."""
    k, repetitions = 5, 150
    density, coverage = [], []
    for seed in range(repetitions):
        found = density_coverage(normal(m, 2 * seed, d), normal(n, 2 * seed + 1, d), k)
        density.append(found["density"].value)
        coverage.append(found["coverage"].value)
    known = 1.0
    for i in range(1, k + 1):
        known *= (n - i) / (m + n - i)
    for values, truth in ((density, 1.0), (coverage, 1 - known)):
        assert np.mean(values) == pytest.approx(truth, abs=reach(values))
    assert found["coverage"].details["of_equal"] == pytest.approx(1 - known)


@pytest.mark.parametrize(("m", "n"), [(20, 15), (7, 7), (1, 9)])
def test_the_variance_of_coverage_is_the_jackknifes(m: int, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without each datum and each sample, written out."""
    k, seen = 5, list[float]()
    real = manifold.wilson
    monkeypatch.setattr(manifold, "wilson", lambda hits, n, variance: seen.append(variance) or real(hits, n, variance))
    x, y = normal(m, 0) * 0.5, normal(n, 1)
    density_coverage(x, y, k)
    variance = 0.0
    for which, size in ((0, m), (1, n)):
        without = []
        for i in range(size):
            a, b = (torch.cat([v[:i], v[i + 1 :]]) if which == j else v for j, v in enumerate((x, y)))
            without.append(covered(a, b, k))
        variance += (size - 1) / size * sum((w - np.mean(without)) ** 2 for w in without)
    assert seen == [pytest.approx(variance)]
    few = density_coverage(x, y[:6], k)["coverage"]  # a datum less, and there are no k others
    assert few.interval is not None
    assert few.interval[0] <= few.value <= few.interval[1]


@pytest.mark.statistical
@pytest.mark.parametrize(("m", "n", "shift"), [(100, 100, 0.0), (200, 200, 1.0), (100, 300, 2.0), (400, 100, 0.0)])
def test_how_often_the_interval_of_coverage_holds_its_mean(m: int, n: int, shift: float) -> None:
    """Balls overlap, so that Wilson's alone, as if each were hit by itself, holds it in 70 to 85 of 100."""
    every = [
        density_coverage(normal(m, 2 * i) + torch.tensor([shift, 0.0]), normal(n, 2 * i + 1))["coverage"]
        for i in range(200)
    ]
    truth = np.mean([v.value for v in every])
    assert sum(v.interval[0] <= truth <= v.interval[1] for v in every if v.interval is not None) >= fewest(0.95, 200)


def test_intervals_are_of_shares() -> None:
    x, y = normal(400, 0), normal(400, 1) * 1.5 + 1.0
    for name, v in (precision_recall(x, y) | density_coverage(x, y)).items():
        assert v.interval is not None
        assert v.interval[0] < v.value < v.interval[1], name
        assert name == "density" or 0 <= v.interval[0] < v.interval[1] <= 1


def test_points_that_repeat_are_noted() -> None:
    constant, spread = torch.zeros(20, 2), normal(20, 0)
    found = precision_recall(constant, spread)
    assert found["recall"].value == 0.0
    assert "100% of the balls about the samples have no extent" in found["recall"].notes[0]
    assert not found["precision"].notes
    assert density_coverage(spread, constant)["density"].notes


def test_too_few() -> None:
    with pytest.raises(DataError, match="3 points to judge"):
        precision_recall(normal(3, 0), normal(30, 0))
    with pytest.raises(DataError, match="5 points to judge"):
        density_coverage(normal(30, 0), normal(5, 0))
