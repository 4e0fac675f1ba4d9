"""Intervals of 95 %: normal, and Wilson's for shares."""

from __future__ import annotations

import math

from torch import Tensor

Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal."""

Interval = tuple[float, float]


def around(value: float, variance: float) -> Interval:
    """value +- 1.96 sqrt(variance)."""
    reach = Z * math.sqrt(max(variance, 0.0))
    return value - reach, value + reach


def of_mean(values: Tensor) -> Interval | None:
    """Of the mean of independent values, (n,), by the central limit theorem; None of fewer than two."""
    if len(values) < 2:
        return None
    return around(float(values.mean()), float(values.var()) / len(values))


def wilson(hits: float, n: float, variance: float = 0.0) -> Interval:
    """Of a probability from `hits` of n independent trials (Wilson 1927, eq. 4); it stays in [0, 1].

    Of trials that depend on each other, the `variance` of their share is larger than that of n independent ones: then
    for as many independent ones as have it (Kish 1965, the effective number), two hits and two misses added in the
    comparison, so that a share of 0 or 1 has a variance too (Agresti and Coull 1998).
    """
    share = (hits + 2) / (n + 4)
    independent = share * (1 - share) / n
    n, share = n * min(1.0, independent / variance) if variance > 0 else n, hits / n
    ratio = Z * Z / n
    centre = (share + ratio / 2) / (1 + ratio)
    reach = Z * math.sqrt(share * (1 - share) / n + ratio / (4 * n)) / (1 + ratio)
    return max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach))
