"""The log-likelihood of held-out data, exact or importance-weighted."""

from __future__ import annotations

import math

from torch import Tensor

from jointkl.density import Estimate
from jointkl.evaluation import errors
from jointkl.evaluation.metrics.intervals import of_mean
from jointkl.evaluation.metrics.value import Value

LOOSE = 0.1
"""Nats of estimated bias from which on the bound is called loose."""


def log_likelihood(blocks: Tensor, particles: int = 0, effective: Tensor | None = None) -> Value:
    """The mean log-likelihood of n data, in nats, from estimates (r, n) of each datum's in r equal blocks of
    importance samples, log 1/K sum_k p(x, z_k) / q(z_k | x) each; `particles` is their number in all blocks together,
    0 if the densities are exact, and `effective`, (n,), how many of a datum's count: (sum w)^2 / sum w^2 of the
    weights of each block, added.

    Burda et al. 2016, eq. 8: the log of the mean weight over all samples, a lower bound in mean that
    rises to log p(x) with their number. The interval is normal over data: it accounts for finite data and for the
    noise of the importance samples, not for the bound's bias. That is estimated to first order as
    var(w) / 2 r mean(w)^2 over the blocks' mean weights w (Nowozin 2018, proposition 1): detail `bias`, what the value
    lacks of log p(x) or more (it cannot exceed 1/2), told in a note from 0.1 nats on. Detail `effective` is the median
    of the effective numbers; where it is poor, as `Estimate.poor` has it, a note says so: then that bias says little.
    Raises `DataError` where a datum has no density.
    """
    r, n = blocks.shape
    each = blocks.double().logsumexp(0) - math.log(r)
    bad = int((~each.isfinite()).sum())
    if bad or not n:
        raise errors.no_density(bad, n)
    details: dict[str, float] = {"particles": particles} if particles else {}
    notes: tuple[str, ...] = ()
    if effective is not None:
        details["effective"] = float(effective.median())
        if Estimate(each, particles, effective).poor:
            notes = (
                f"of {particles:,} particles {details['effective']:.2g} count in the median: the bound may be far off",
            )
    if r > 1:
        relative = (blocks.double() - each).exp()
        bias = float((relative.var(0) / (2 * r)).mean())
        details["bias"] = bias
        if bias > LOOSE:
            notes += (f"a loose bound, by about {bias:.2g} nats or more: take more --particles",)
    accounts = "normal: finite data" + (", noise of the particles; not the bound's bias" if particles else "")
    return Value(float(each.mean()), of_mean(each), accounts, data=n, details=details, notes=notes)
