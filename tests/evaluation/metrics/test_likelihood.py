"""Importance-weighted likelihood against the exact one, by formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import log_likelihood
from tests.bounds import SIGMAS


def test_exact_densities() -> None:
    each = torch.tensor([[-1.0, -2.0, -6.0]])
    found = log_likelihood(each)
    assert found.value == -3.0
    reach = 1.959963984540054 * math.sqrt(7 / 3)
    assert found.interval == pytest.approx((-3 - reach, -3 + reach))
    assert (found.data, found.details, found.notes) == (3, {}, ())
    assert "bound" not in found.accounts


def lognormal(n: int, particles: int, blocks: int, spread: float, seed: int) -> Tensor:
    """Weights exp(spread e - spread^2 / 2) of mean 1: log p(x) = 0 for every datum."""
    e = torch.randn(blocks, particles // blocks, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (spread * e - spread**2 / 2).logsumexp(1) - math.log(particles // blocks)


@pytest.mark.statistical
def test_the_bias_is_estimated() -> None:
    """To first order the bound lacks var(w) / 2K; here var(w) = exp(s^2) - 1."""
    n, particles = 40_000, 100
    found = log_likelihood(lognormal(n, particles, 10, 0.8, 0), particles)
    expected = (math.exp(0.64) - 1) / (2 * particles)
    assert found.interval is not None
    error = (found.interval[1] - found.interval[0]) / 2 / 1.959963984540054
    assert -found.value == pytest.approx(expected, abs=SIGMAS * error + 0.06 * expected)
    assert found.details["bias"] == pytest.approx(expected, rel=0.06), "4 % of the second order, and 5 errors of 0.3 %"
    assert not found.notes


def test_a_loose_bound_is_told() -> None:
    found = log_likelihood(lognormal(50, 10, 10, 5.0, 0), 10)
    assert found.value < -2
    assert "loose bound" in found.notes[0]
    assert "--particles" in found.notes[0]


def test_no_density_is_no_number() -> None:
    with pytest.raises(DataError, match="1 of 2 data have no density"):
        log_likelihood(torch.tensor([[0.0, -torch.inf]]))
    with pytest.raises(DataError, match="0 of 0"):
        log_likelihood(torch.zeros(1, 0))
