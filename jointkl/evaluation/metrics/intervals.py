"""Intervals of 95 %: normal, Wilson's for shares, the bootstrap's percentiles."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal."""

RESAMPLES = 1000
"""How often a bootstrap draws."""

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


def wilson(hits: float, n: int) -> Interval:
    """Of a probability from `hits` of n independent trials (Wilson 1927, eq. 4); it stays in [0, 1]."""
    share, ratio = hits / n, Z * Z / n
    centre = (share + ratio / 2) / (1 + ratio)
    reach = Z * math.sqrt(share * (1 - share) / n + ratio / (4 * n)) / (1 + ratio)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def bootstrap(statistic: Callable[[Tensor], Tensor], n: int, generator: torch.Generator | None = None) -> Interval:
    """The 2.5 % and 97.5 % percentiles of a statistic over resamples (Efron 1979).

    `statistic` maps weights (r, n), float64 on the CPU, each row of sum 1, to r values: it must be a function of
    weighted means.
    """
    at_once = max(1, 2**22 // n)
    found: list[Tensor] = []
    for start in range(0, RESAMPLES, at_once):
        r = min(at_once, RESAMPLES - start)
        chosen = torch.randint(n, (r, n), generator=generator)
        counts = torch.zeros(r, n, dtype=torch.float64).scatter_add_(1, chosen, torch.ones(r, n, dtype=torch.float64))
        found.append(statistic(counts / n))
    low, high = torch.cat(found).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high
