"""The Wasserstein critic where the distance is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import critic, wasserstein


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


@pytest.mark.parametrize(("d", "shift"), [(2, 0.0), (2, 3.0), (8, 1.0)])
def test_shifted_gaussians(d: int, shift: float) -> None:
    """W_1 of N(0, I) and N(shift, I) is the shift."""
    found = wasserstein(*sets(d, shift), steps=300, generator=of(0))
    assert found.interval is not None
    assert found.interval[0] <= shift <= found.interval[1] + 0.1
    assert (found.samples, found.data) == (2000, 2000)


def test_another_spread_and_unit() -> None:
    """W_1 of N(0, 1) and N(0, s^2) on the line is (s - 1) E|z| = (s - 1) sqrt(2 / pi); of points times 1000, so too."""
    truth = 2 * math.sqrt(2 / math.pi)
    near = wasserstein(*sets(1, scale=3.0), steps=300, generator=of(0))
    assert near.value == pytest.approx(truth, abs=0.15)
    far = wasserstein(*(1000 * v for v in sets(1, scale=3.0)), steps=300, generator=of(0))
    assert far.value == pytest.approx(1000 * near.value, rel=0.05)


def test_no_more_than_the_distance() -> None:
    """Its slope nowhere exceeds 1, whatever it was trained on and for however long."""
    x, y = normal(300, 3, 0) * 2 + 1, normal(300, 3, 1)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        f = critic._trained(x, y, None, 73)
    a, b = normal(4000, 3, 2) * 3, normal(4000, 3, 3) * 3
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(f(a).sum(), a)
    slope = (f(a) - f(b))[:, 0].abs() / (a - b).norm(dim=1)
    assert float(slope.detach().max()) <= 1 + 1e-5
    assert 0.9 < float(gradient.norm(dim=1).max()) <= 1 + 1e-5


def test_with_the_papers_penalty() -> None:
    """The optimum under the penalty overshoots: slope 1 + shift / 2 lambda, here 1.1 times 2."""
    found = wasserstein(*sets(2, 2.0), penalty=10.0, steps=600, generator=of(0))
    assert found.value == pytest.approx(2.2, abs=0.25)


def test_copies_of_the_training_data_gain_nothing() -> None:
    """Samples that are 20 rows over and over: the rows that nobody saw tell, on which a fair generator has about 0."""
    data = normal(1020, 8, 0)
    known, unseen = data[:20].repeat(50, 1), data[20:]
    found = wasserstein(known, unseen[:500], known, unseen[500:], steps=200, generator=of(0))
    assert found.value > 0.5
    assert found.interval is not None
    assert found.interval[0] > 0


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
    assert wasserstein(zero, zero + 2, zero, zero + 2, steps=200).value == pytest.approx(math.sqrt(8), rel=0.02)
    with pytest.raises(DataError, match="1 point to judge"):
        wasserstein(zero, zero, zero[:1], zero)
