"""Draws as functions of standard noise: what noise a distribution takes, and the value that it makes of it.

Knowledge of families; `tests/exports/test_noise.py` holds it against the table of families and against their own
distribution functions and samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Independent, TransformedDistribution
from torch.distributions.utils import clamp_probs

Noise = Literal["normal", "uniform"]
"""Standard normal, or uniform on [0, 1)."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """One row: `value` of a distribution and noise that knows nothing of it, (N, *noise shape) to (N, *shape).

    `shape` is that of the noise of one value, of the distribution and the value's own.
    """

    noise: Noise
    value: Callable[[Any, Tensor], Tensor]
    shape: Callable[[Any, Shape], Shape] = lambda _, shape: shape


def _quantile(d: Any, u: Tensor) -> Tensor:
    """F^-1(u), u kept from 0 and 1, where it may be infinite, as torch's own draws keep it."""
    return d.icdf(clamp_probs(u))


def _asymmetric_laplace(d: Any, u: Tensor) -> Tensor:
    """F^-1: an exponential tail on each side of the mode, which has the share l / (l + r) below it."""
    u = clamp_probs(u)
    left, right = d.left_scale, d.right_scale
    below = left / (left + right)
    return d.loc + torch.where(u < below, left * (u / below).log(), -right * ((1 - u) / (1 - below)).log())


def _low_rank(d: Any, e: Tensor) -> Tensor:
    """loc + W e_1 + sqrt(D) e_2, whose covariance is W W^T + D."""
    size = d.event_shape[0]
    factor, diagonal = e[..., size:], e[..., :size]
    spread = (d._unbroadcasted_cov_factor @ factor.unsqueeze(-1)).squeeze(-1)
    return d.loc + spread + d._unbroadcasted_cov_diag.sqrt() * diagonal


def _gumbel_softmax(d: Any, u: Tensor) -> Tensor:
    """The logarithm of softmax((logits + g) / T), g standard Gumbel."""
    scores = (d.logits - (-clamp_probs(u).log()).log()) / d.temperature
    return scores - scores.logsumexp(-1, keepdim=True)


def _categorical(d: Any, u: Tensor) -> Tensor:
    """F^-1: the number of values that lie wholly below u."""
    return (u.unsqueeze(-1) >= d.probs.cumsum(-1)[..., :-1]).sum(-1)


def _multinomial(d: Any, u: Tensor) -> Tensor:
    """As many categorical draws as its count, each by its own u, counted."""
    up_to = (u.unsqueeze(-1) < d.probs.cumsum(-1)[..., None, :-1]).sum(-2)
    return F.pad(F.pad(up_to, (1, 0)), (0, 1), value=d.total_count).diff(dim=-1).to(u.dtype)


DRAWS: Mapping[str, Draw] = {
    "Normal": Draw("normal", lambda d, e: d.loc + d.scale * e),
    "MultivariateNormal": Draw(
        "normal", lambda d, e: d.loc + (d._unbroadcasted_scale_tril @ e.unsqueeze(-1)).squeeze(-1)
    ),
    "LowRankMultivariateNormal": Draw(
        "normal", _low_rank, lambda d, shape: (*shape[:-1], shape[-1] + d.cov_factor.shape[-1])
    ),
    "Bernoulli": Draw("uniform", lambda d, u: (u < d.probs).to(u.dtype)),
    "Categorical": Draw("uniform", _categorical),
    "Multinomial": Draw("uniform", _multinomial, lambda d, shape: (*shape[:-1], d.total_count)),
    "Geometric": Draw("uniform", lambda d, u: (torch.log1p(-u) / torch.log1p(-d.probs)).floor()),
    "LogitRelaxedBernoulli": Draw("uniform", lambda d, u: (d.logits + clamp_probs(u).logit()) / d.temperature),
    "ExpRelaxedCategorical": Draw("uniform", _gumbel_softmax),
    "AsymmetricLaplace": Draw("uniform", _asymmetric_laplace),
    **dict.fromkeys(
        "Uniform Exponential Laplace Cauchy Logistic SoftLaplace SkewLogistic ContinuousBernoulli".split(),
        Draw("uniform", _quantile),
    ),
}
"""By the name of a distribution's class. What torch makes by transforming one of these (a LogNormal, a Weibull, a
LogisticNormal) is drawn as that one and transformed."""


def needed(d: Any, shape: Shape) -> tuple[Noise, Shape] | None:
    """The noise of one value of `shape`; None where no simple function of it draws the distribution, as a Gamma."""
    match d:
        case Independent():
            return needed(d.base_dist, shape)
        case TransformedDistribution():
            for transform in reversed(d.transforms):
                shape = _before(transform, shape)
            return needed(d.base_dist, shape)
        case _:
            row = DRAWS.get(type(d).__name__)
            return row and (row.noise, tuple(row.shape(d, shape)))


def _before(transform: Any, shape: Shape) -> Shape:
    """The shape of one value that a transform makes one of `shape` of. Its own parameters may have the batch's
    dimensions, and torch spreads every shape to theirs."""
    found: Shape = tuple(transform.inverse_shape(shape))
    keeps = transform.domain.event_dim == transform.codomain.event_dim
    return found[len(found) - len(shape) :] if keeps else found


def drawn(d: Any, noise: Tensor) -> Tensor:
    """The value that the noise makes, (N, *shape)."""
    return made(d, lambda inner: DRAWS[type(inner).__name__].value(inner, noise))


def made(d: Any, draw: Callable[[Any], Tensor]) -> Tensor:
    """A draw of the distribution that this one is made of, and what makes it this one's."""
    match d:
        case Independent():
            return made(d.base_dist, draw)
        case TransformedDistribution():
            value = made(d.base_dist, draw)
            for transform in d.transforms:
                value: Any = transform(value)
            return value
        case _:
            return draw(d)
