"""Intervals against scipy's and against how often they hold what they should."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binomtest

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import Value
from jointkl.evaluation.metrics.intervals import around, of_mean, wilson


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


def test_a_share_of_trials_that_depend_on_each_other() -> None:
    """Ten trials each made four times over are forty with four times the variance, and know as much as ten; about,
    since the share compared is that of two more hits and misses."""
    low, high = wilson(12, 40, 4 * (14 / 44) * (30 / 44) / 40)
    assert (low, high) == pytest.approx(wilson(3, 10))
    assert wilson(12, 40, 1e-9) == wilson(12, 40), "never more than there are"
    n = 42 * 2 / 44**2 / 0.01
    assert wilson(40, 40, 0.01) == (pytest.approx(n / (n + 1.959963984540054**2)), 1.0), "no miss is no certainty"


def test_a_value_is_never_no_number() -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(DataError, match="cannot be judged"):
            Value(bad, None, "")
        with pytest.raises(DataError, match="cannot be judged"):
            Value(0.0, (0.0, bad), "")
        with pytest.raises(DataError, match="cannot be judged"):
            Value(0.0, None, "", details={"k": bad})
