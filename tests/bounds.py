"""Bounds that hold whatever the seed: five standard errors of a normal, which it exceeds once in two million."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import norm, t
from torch import Tensor

SIGMAS = 5.0


def sigmas(n: int) -> float:
    """Five standard errors where the error itself is estimated from n values: Student's quantile in the normal's
    place, 5.3 of 100 values and 6.2 of 40."""
    return float(t.isf(norm.sf(SIGMAS), n - 1))


def reach(values: Sequence[float] | Tensor | np.ndarray) -> float:
    """Five standard errors of the mean of independent values."""
    each = values.detach().double().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return sigmas(len(each)) * float(each.std(ddof=1)) / math.sqrt(len(each))


def share_reach(share: float, n: int) -> float:
    """Of the share of n independent trials that succeed with probability `share`."""
    return SIGMAS * math.sqrt(share * (1 - share) / n)


def fewest(share: float, n: int) -> float:
    """So many of n independent trials succeed at least, with probability `share` or more each."""
    return n * (share - share_reach(share, n))


def verify_log_mean(draw: Callable[[], Tensor], known: Tensor, runs: int = 40) -> None:
    """The mean of exp(draw()), unbiased estimates of exp(known), is that within five standard errors, each."""
    each = torch.stack([(draw().detach() - known).exp() for _ in range(runs)])
    error = each.std(0) / math.sqrt(runs)
    assert bool((error < 0.1).all()), "an estimate this noisy would tell nothing"
    assert bool(((each.mean(0) - 1).abs() <= sigmas(runs) * error + 1e-7).all())
