"""The discrepancy against its closed form between Gaussians, and against the definition."""

from __future__ import annotations

import math

import pytest
import torch

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import distances, mmd
from jointkl.evaluation.metrics.mmd import SCALES
from tests.bounds import fewest, reach


def closed(shift: float, d: int, bandwidth: float) -> float:
    """MMD^2 of N(0, 1) and N(shift e_1, 1) in R^d under the mean of Gaussian kernels: a convolution of Gaussians."""
    total = 0.0
    for h in (s * bandwidth for s in SCALES):
        same = (h * h / (h * h + 2)) ** (d / 2)
        total += 2 * same * (1 - math.exp(-(shift**2) / (2 * (h * h + 2))))
    return total / len(SCALES)


def test_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 2, 3, generator=generator, dtype=torch.float64) for n in (7, 5))

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return sum(math.exp(-float((a - b).square().sum()) / (2 * (s * 1.5) ** 2)) for s in SCALES) / len(SCALES)

    known = (
        sum(k(x[i], x[j]) for i in range(7) for j in range(7) if i != j) / 42
        + sum(k(y[i], y[j]) for i in range(5) for j in range(5) if i != j) / 20
        - 2 * sum(k(a, b) for a in x for b in y) / 35
    )
    found = mmd(x, y, bandwidth=1.5)
    assert found.value == pytest.approx(known, abs=1e-12)
    spreads = []
    for s, other, swap in ((x, y, False), (y, x, True)):
        left = [torch.cat([s[:i], s[i + 1 :]]) for i in range(len(s))]
        without = [mmd(other, part, 1.5).value if swap else mmd(part, other, 1.5).value for part in left]
        mean = sum(without) / len(s)
        spreads.append((len(s) - 1) / len(s) * sum((w - mean) ** 2 for w in without))
    assert found.details["standard_error"] == pytest.approx(math.sqrt(sum(spreads))), "leave one out, written out"


def test_any_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, 2, generator=generator) for _ in range(2))
    whole = mmd(x, y)
    monkeypatch.setattr(distances, "NUMBERS", 120)
    assert mmd(x, y).value == pytest.approx(whole.value, abs=1e-14)


@pytest.mark.statistical
@pytest.mark.parametrize(("shift", "share"), [(0.0, 0.95), (1.0, 0.9)])
def test_unbiased_and_its_interval(shift: float, share: float) -> None:
    """Equal distributions: mean 0 over repetitions; shifted ones: the closed form, which is held as often as said."""
    generator = torch.Generator().manual_seed(1)
    repetitions, held, values = 300, 0, []
    truth = closed(shift, 2, 1.5)
    for _ in range(repetitions):
        x, y = (torch.randn(60, 2, generator=generator, dtype=torch.float64) for _ in range(2))
        x[:, 0] += shift
        found = mmd(x, y, bandwidth=1.5)
        values.append(found.value)
        assert found.interval is not None
        held += found.interval[0] <= truth <= found.interval[1]
    each = torch.tensor(values)
    assert float(each.mean()) == pytest.approx(truth, abs=reach(each))
    assert float(each.min()) < truth
    assert held >= fewest(share, repetitions)


def test_the_bandwidth_is_the_datas() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(80, 2, generator=generator) for _ in range(2))
    assert mmd(x, y).value == mmd(128 * x, 128 * y).value, "no unit: a power of two, which rounds nothing"
    assert mmd(x, y).details["bandwidth"] == mmd(x + 50, y).details["bandwidth"]


def test_what_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="2 points to judge"):
        mmd(torch.zeros(2, 1), torch.randn(9, 1))
    with pytest.raises(DataError, match="all data are one point"):
        mmd(torch.randn(9, 1), torch.zeros(9, 1))
    constant = mmd(torch.zeros(9, 1), torch.linspace(-1, 1, 9)[:, None])
    assert 0 < constant.value < 1
