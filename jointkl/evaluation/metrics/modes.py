"""Mode coverage of mixtures whose modes are known: modes found, share of high quality, reverse KL."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jointkl.evaluation import errors
from jointkl.evaluation.metrics.distances import nearest, points
from jointkl.evaluation.metrics.intervals import around, wilson
from jointkl.evaluation.metrics.value import Value

WITHIN = 3.0
"""How many standard deviations from a mode a sample may be to count as of high quality."""


FEWEST = 5
"""Samples of high quality a mode from which on the interval of the KL is told."""


def mode_coverage(samples: Tensor, modes: Tensor, std: float) -> dict[str, Value]:
    """`modes`, `high_quality` and `reverse_kl` of samples (n, d) against M modes (M, d) of equal weight and standard
    deviation `std`, as Lin et al. 2018 (PacGAN) measure them, after Srivastava et al. 2017 (VEEGAN); they
    draw 2,500 samples.

    A sample is of high quality if it is less than 3 `std` from the nearest mode. `high_quality` is the share of such
    samples; its interval is Wilson's and accounts for the finite number of samples. (Data have it below 1 too: 98.9 %
    in the plane.) `modes` counts the modes with at least one sample of high quality near them; it depends on n and has
    no interval, since resampling can only lose modes. `reverse_kl` is the KL divergence, in nats, of the share p_m of
    high-quality samples at each mode from the uniform one, sum_m p_m log(M p_m), by the plug-in estimator; its
    interval is normal by the delta method, with variance (sum_m p_m log^2(M p_m) - KL^2) / n about the value less its
    first-order bias (K - 1) / 2n, K the modes found (Miller 1955), and accounts for the finite number of samples; there
    is none with fewer than 5 such samples a mode. With no sample of high quality it is log M, its largest value.

    Raises `DataError` for no samples, or modes without width.
    """
    x = points(samples)
    if not len(x):
        raise errors.too_few(0, 1, "modes")
    if not std > 0:
        raise errors.no_width(std)
    distance, place = nearest(x, points(modes.to(x.device)), 1)
    good = place[distance[:, 0] < WITHIN * std, 0]
    counts = torch.bincount(good, minlength=len(modes)).double().cpu()
    n, found, hits = len(x), int((counts > 0).sum()), len(good)
    return {
        "modes": Value(
            found, None, "none: the count of these samples; more of them may find more", n, details={"of": len(modes)}
        ),
        "high_quality": Value(hits / n, wilson(hits, n), "Wilson's: finite samples", n),
        "reverse_kl": _reverse_kl(counts, n, len(modes)),
    }


def _reverse_kl(counts: Tensor, n: int, modes: int) -> Value:
    hits = int(counts.sum())
    if not hits:
        note = "no sample is of high quality: the largest value that there is, log M"
        return Value(math.log(modes), None, "none", n, notes=(note,))
    few = f"fewer than {FEWEST} samples of high quality a mode: no interval"
    share = counts[counts > 0] / hits
    score = (modes * share).log()
    value = float((share * score).sum())
    variance = float((share * score.square()).sum() - value**2) / hits
    low, high = around(value - (len(share) - 1) / (2 * hits), variance)
    interval = (max(0.0, low), min(math.log(modes), max(0.0, high)))
    details = {"high_quality": hits}
    if hits < FEWEST * modes:
        return Value(max(0.0, value), None, "none", n, details=details, notes=(few,))
    return Value(max(0.0, value), interval, "normal, delta method: finite samples", n, details=details)
