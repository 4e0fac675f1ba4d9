"""The distance of Gaussians by closed forms, by scipy's matrix root, and by torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import between, fitted, frechet, gaussian
from tests.bounds import SIGMAS, fewest, reach


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(d: int, seed: int, rank: int | None = None) -> Tensor:
    a = normal(d, rank or d, seed)
    return a @ a.T


def test_closed_forms() -> None:
    one = gaussian(torch.tensor([1.0]), torch.tensor([[4.0]]))
    two = gaussian(torch.tensor([3.0]), torch.tensor([[25.0]]))
    assert between(one, two) == pytest.approx(4 + 9), "(m - m')^2 + (s - s')^2"
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 0.5, 3.0])
    zero = torch.zeros(3)
    assert between(gaussian(zero, a.diag()), gaussian(zero, b.diag())) == pytest.approx(
        float((a.sqrt() - b.sqrt()).square().sum())
    )
    s = covariance(5, 0)
    assert between(gaussian(torch.zeros(5), s), gaussian(torch.ones(5), 9 * s)) == pytest.approx(
        5 + 4 * float(s.trace()), rel=1e-9
    )
    assert between(gaussian(torch.zeros(5), s), gaussian(torch.zeros(5), s)) == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("rank", [None, 3])
def test_scipys_matrix_root(rank: int | None) -> None:
    """Also where a covariance has no full rank, as with fewer points than features."""
    s, t = covariance(8, 0), covariance(8, 1, rank)
    m = normal(1, 8, 2)[0]
    root = np.trace(sqrtm((s @ t).numpy())).real
    known = float(m.square().sum() + s.trace() + t.trace()) - 2 * root
    assert between(gaussian(m, s), gaussian(torch.zeros(8), t)) == pytest.approx(known, rel=1e-6)


@pytest.mark.slow
def test_torchmetrics() -> None:
    metrics = pytest.importorskip("torchmetrics.image.fid", reason="needs the extra `metrics`")
    x, y = normal(60, 4, 0), normal(80, 4, 1) * 1.3 + 0.4
    net = torch.nn.Identity()
    net.num_features = 4
    score = metrics.FrechetInceptionDistance(feature=net, input_img_size=(4,), normalize=True)
    score.set_dtype(torch.float64)
    score.inception = net
    score.used_custom_model = True
    score.update(x, real=False)
    score.update(y, real=True)
    assert frechet(x, y).value == pytest.approx(float(score.compute()), rel=1e-5)


@pytest.mark.slow
@pytest.mark.statistical
def test_samples_of_gaussians_and_the_interval() -> None:
    """N(0, I) against N(1/2, 1.5^2 I) in 4 dimensions: 4 (1/4 + 1/4) = 2. The interval, which does not account for
    the bias, holds it in 94 of 100."""
    values, extrapolated, errors, held = [], [], [], 0
    n = 600
    for seed in range(n):
        found = frechet(normal(800, 4, 2 * seed), 0.5 + 1.5 * normal(800, 4, 2 * seed + 1))
        assert found.interval is not None
        values.append(found.value)
        extrapolated.append(found.details["extrapolated"])
        errors.append((found.interval[1] - found.interval[0]) / 2 / 1.96)
        held += found.interval[0] <= 2.0 <= found.interval[1]
    bias = np.subtract(values, extrapolated)
    assert np.mean(bias) > reach(bias), "biased upwards"
    assert np.mean(extrapolated) == pytest.approx(2.0, abs=reach(extrapolated))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=SIGMAS / math.sqrt(2 * n)), "a normal's"
    assert held >= fewest(0.93, n)


@pytest.mark.statistical
def test_the_bias_and_its_extrapolation() -> None:
    """Equal distributions: the plain estimator is above 0, the extrapolated one about 0."""
    found = [frechet(normal(300, 10, 2 * i), normal(300, 10, 2 * i + 1)) for i in range(40)]
    plain, better = ([v.value for v in found], [v.details["extrapolated"] for v in found])
    assert np.mean(plain) > reach(plain)
    assert abs(np.mean(better)) < np.mean(plain) / 5 + reach(better), "of the second order in 1 / n"


def test_few_points() -> None:
    found = frechet(normal(20, 30, 0), normal(20, 30, 1))
    assert math.isfinite(found.value)
    assert "20 points for 30 features" in found.notes[0]
    constant = frechet(torch.zeros(10, 3), torch.ones(10, 3))
    assert constant.value == pytest.approx(3.0)
    assert constant.interval == pytest.approx((3.0, 3.0))
    with pytest.raises(DataError, match="3 points to judge"):
        frechet(normal(3, 2, 0), normal(30, 2, 0))


def test_a_single_feature() -> None:
    x, y = normal(500, 1, 0), 2 * normal(500, 1, 1)
    assert frechet(x, y).value == pytest.approx(float((x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2))
    assert fitted(x).covariance.shape == (1, 1)
