"""Intervals against scipy's and against how often they hold what they should."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binomtest

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import Value
from jointkl.evaluation.metrics.intervals import around, bootstrap, of_mean, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (250, 1000)])
def test_wilson_is_scipys(hits: int, n: int) -> None:
    known = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((known.low, known.high), abs=1e-12)


def test_of_a_mean() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    reach = 1.959963984540054 * math.sqrt((4 + 1 + 0 + 9) / 3 / 4)
    assert of_mean(values) == pytest.approx((3 - reach, 3 + reach))
    assert of_mean(values[:1]) is None
    assert around(1.0, -1e-18) == (1.0, 1.0), "a variance below 0 is rounding"


def test_the_bootstrap_of_a_mean_is_its_normal_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2000, generator=generator, dtype=torch.float64)
    found = bootstrap(lambda weights: weights @ values, len(values), generator)
    known = of_mean(values)
    assert known is not None
    assert found == pytest.approx(known, abs=0.1 * (known[1] - known[0]))


def test_a_value_is_never_no_number() -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(DataError, match="cannot be judged"):
            Value(bad, None, "")
        with pytest.raises(DataError, match="cannot be judged"):
            Value(0.0, (0.0, bad), "")
        with pytest.raises(DataError, match="cannot be judged"):
            Value(0.0, None, "", details={"k": bad})
