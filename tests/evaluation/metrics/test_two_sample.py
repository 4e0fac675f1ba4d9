"""The classifier two-sample test: chance, certainty, and Bayes' accuracy in between."""

from __future__ import annotations

from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import two_sample
from tests.bounds import SIGMAS, fewest, reach, share_reach

pytestmark = pytest.mark.statistical


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_chance() -> None:
    """Under equality the number right is binomial: Wilson's interval of 100 holds 1/2 in 94 of 100, and p is below 5 %
    in no more than 5 of 100."""
    n = 400
    found = [two_sample(normal(100, 2 * i), normal(100, 2 * i + 1), generator=of(i)) for i in range(n)]
    held = [v.interval[0] <= 0.5 <= v.interval[1] for v in found if v.interval]
    assert sum(held) >= fewest(0.943, n)
    assert sum(v.details["p"] >= 0.05 for v in found) >= fewest(0.95, n)
    values = [v.value for v in found]
    assert sum(values) / n == pytest.approx(0.5, abs=reach(values))


def test_certainty() -> None:
    found = two_sample(normal(100, 0), normal(100, 1) + 50, generator=of(0))
    assert found.value == 1.0
    assert found.details["p"] == pytest.approx(0.5**100)
    assert (found.details["of_samples"], found.details["of_data"]) == (1.0, 1.0)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_shifted_gaussians(shift: float) -> None:
    """Bayes' accuracy between N(0, 1) and N(shift, 1) is Phi(shift / 2), and no classifier's mean is above it. Where
    data are as t to 1 of two, t = tanh(log odds / 2), k votes err with probability exp(-k t^2 / 2) at most, which
    costs t (Hoeffding): all of it in mean is what the neighbours may lack, as far as they are like the point."""
    x = normal(4000, 0)
    x[:, 0] += shift
    found = two_sample(x, normal(4000, 1), generator=of(0))
    assert found.details["k"] == 63, "the root of 4000, made odd"
    bayes, error = NormalDist().cdf(shift / 2), share_reach(NormalDist().cdf(shift / 2), 4000)
    at = torch.linspace(-8, 8 + shift, 4001, dtype=torch.float64)
    density = sum(torch.exp(-((at - m) ** 2) / 2) for m in (0.0, shift)) / 2 / (2 * torch.pi) ** 0.5
    t = torch.tanh(shift * (at - shift / 2) / 2).abs()
    lost = float(torch.trapezoid(density * t * torch.exp(-63 * t**2 / 2), at))
    assert bayes - lost - error <= found.value <= bayes + error
    assert lost < 0.025


def test_a_copy_of_the_data_shows_in_neither() -> None:
    """Half of the points have their twin among those learnt from, which is of the other kind: nearest neighbours are
    wrong there, and right by chance elsewhere."""
    data = normal(200, 0)
    found = two_sample(data, data, k=1, generator=of(0))
    assert found.value == pytest.approx(0.25, abs=SIGMAS * (0.25 / 200) ** 0.5)


def test_as_many_of_each() -> None:
    found = two_sample(normal(1000, 0), normal(41, 1), generator=of(0))
    assert (found.samples, found.data) == (41, 41)
    assert found.value <= 0.5 + share_reach(0.5, 42) < 1000 / 1041, "which calling all samples would have"


def test_constants_are_told_apart_or_not() -> None:
    constant = torch.zeros(40, 1)
    assert two_sample(constant, constant, generator=of(0)).value == pytest.approx(0.5)
    assert two_sample(constant, constant + 1, generator=of(0)).value == 1.0
    with pytest.raises(DataError, match="3 points to judge"):
        two_sample(constant[:3], constant)


def test_the_generator_fixes_it() -> None:
    x, y = normal(60, 0), normal(60, 1) + 0.5
    assert two_sample(x, y, generator=of(3)) == two_sample(x, y, generator=of(3))
