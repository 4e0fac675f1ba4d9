"""Bounds that hold whatever the seed: five standard errors, which a normal exceeds once in two million."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

SIGMAS = 5.0


def reach(values: Sequence[float] | Tensor | np.ndarray) -> float:
    """Five standard errors of the mean of independent values."""
    each = values.detach().double().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return SIGMAS * float(each.std(ddof=1)) / math.sqrt(len(each))


def share_reach(share: float, n: int) -> float:
    """Of the share of n independent trials that succeed with probability `share`."""
    return SIGMAS * math.sqrt(share * (1 - share) / n)


def fewest(share: float, n: int) -> float:
    """So many of n independent trials succeed at least, with probability `share` or more each."""
    return n * (share - share_reach(share, n))
