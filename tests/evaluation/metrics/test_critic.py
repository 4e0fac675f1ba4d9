"""The Wasserstein critic where the distance is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import Value, critic, wasserstein
from tests.bounds import SIGMAS

pytestmark = pytest.mark.statistical


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sets(d: int, shift: float = 0.0, scale: float = 1.0, n: int = 2000) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Samples N(shift e_1, scale^2) and data N(0, 1), each twice."""
    x, y, known_x, known_y = (normal(n, d, seed) for seed in range(4))
    for v in (x, known_x):
        v *= scale
        v[:, 0] += shift
    return x, y, known_x, known_y


def error(found: Value) -> float:
    """The standard error that its interval is made of."""
    assert found.interval is not None
    return (found.interval[1] - found.interval[0]) / 2 / 1.959963984540054


def verify(found: Value, distance: float, best: float) -> None:
    """In mean no more than the distance, by duality, whatever it has learnt; and most of what the best critic of all
    tells by on the same points, `best`. That it learns is no theorem: 24 seeds had 90 % of it or more, none is let
    through with less than 70 %."""
    assert found.value <= distance + SIGMAS * error(found)
    assert found.value >= 0.7 * best


@pytest.mark.slow
@pytest.mark.parametrize(("d", "shift"), [(2, 3.0), (8, 1.0)])
def test_shifted_gaussians(d: int, shift: float) -> None:
    """W_1 of N(0, I) and N(shift e_1, I) is the shift, and x_1 a critic that tells them by it."""
    given = sets(d, shift)
    found = wasserstein(*given, steps=300, generator=of(0))
    verify(found, shift, float(given[0][:, 0].mean() - given[1][:, 0].mean()))
    assert (found.samples, found.data) == (2000, 2000)


@pytest.mark.slow
def test_equal_gaussians() -> None:
    """Whatever the critic has learnt of other points, on fresh ones its mean difference is 0."""
    found = wasserstein(*sets(2), steps=300, generator=of(0))
    assert abs(found.value) <= SIGMAS * error(found)


@pytest.mark.slow
def test_another_spread_and_unit() -> None:
    """W_1 of N(0, 1) and N(0, s^2) on the line is (s - 1) E|z| = (s - 1) sqrt(2 / pi), and |x| the best critic; of
    points times 2^10 it is 2^10 times that, to the bit, as a power of two rounds nothing."""
    given = sets(1, scale=3.0)
    near = wasserstein(*given, steps=300, generator=of(0))
    verify(near, 2 * math.sqrt(2 / math.pi), float(given[0].abs().mean() - given[1].abs().mean()))
    far = wasserstein(*(1024 * v for v in given), steps=300, generator=of(0))
    assert far.value == 1024 * near.value


def test_no_more_than_the_distance() -> None:
    """Its slope nowhere exceeds 1, whatever it was trained on and for however long, and is 1 behind the first layer,
    where nothing is projected: matrices with singular values 1, to what floats leave of it."""
    x, y = normal(300, 3, 0) * 2 + 1, normal(300, 3, 1)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        f = critic._trained(x, y, None, 73)
    a, b = normal(4000, 3, 2) * 3, normal(4000, 3, 3) * 3
    slope = (f(a) - f(b))[:, 0].abs() / (a - b).norm(dim=1)
    assert float(slope.detach().max()) <= 1 + 1e-5
    hidden = f[0](a).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(f[1:](hidden).sum(), hidden)
    torch.testing.assert_close(gradient.norm(dim=1), torch.ones(4000), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_with_the_papers_penalty() -> None:
    """The mean squared excess of the slope over 1: of a plane with slope w, (|w| - 1)^2. What is trained under it is
    held by it alone, not by its making: all that can be said of it is that it tells."""
    plane = torch.nn.Sequential(torch.nn.Linear(2, 1))
    with torch.no_grad():
        plane[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
    x, y, *_ = given = sets(2, 2.0)
    assert critic._excess(plane, x, y).item() == pytest.approx(16.0, rel=1e-5)
    found = wasserstein(*given, penalty=10.0, steps=600, generator=of(0))
    assert found.value > SIGMAS * error(found)


def test_copies_of_the_training_data_gain_nothing() -> None:
    """Samples that are 20 rows over and over: the rows that nobody saw tell, on which a fair generator is within five
    standard errors of 0."""
    data = normal(1020, 8, 0)
    known, unseen = data[:20].repeat(50, 1), data[20:]
    found = wasserstein(known, unseen[:500], known, unseen[500:], steps=200, generator=of(0))
    assert found.value > SIGMAS * error(found)


def test_fixed_by_its_generator_and_alone() -> None:
    given = sets(2, 0.5, n=200)
    torch.manual_seed(3)
    first = wasserstein(*given, steps=20, generator=of(1))
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    with torch.no_grad():
        assert wasserstein(*given, steps=20, generator=of(1)) == first
    assert wasserstein(*given, steps=20, generator=of(2)) != first


def test_constants() -> None:
    zero = torch.zeros(10, 2)
    assert wasserstein(zero, zero, zero, zero, steps=5).value == 0.0
    apart = wasserstein(zero, zero + 2, zero, zero + 2, steps=200)
    assert 0.7 * math.sqrt(8) <= apart.value <= math.sqrt(8) * (1 + 1e-5), "W_1, without an error"
    with pytest.raises(DataError, match="1 point to judge"):
        wasserstein(zero, zero, zero[:1], zero)
