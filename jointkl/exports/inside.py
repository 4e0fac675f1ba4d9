"""Draws that no simple function of standard noise makes: an exported graph takes them from torch's generator.

They are made of the draws that `torch.export` can trace: standard gamma, Poisson, normal and uniform ones.
`tests/exports/test_noise.py` holds each against the family's own samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from jointkl.exports.noise import made


def _gamma(concentration: Tensor) -> Tensor:
    """Standard gamma draws, positive also where the concentration is so small that they vanish."""
    return torch.ops.aten._standard_gamma(concentration).clamp(min=torch.finfo(concentration.dtype).tiny)


def _chi2(df: Tensor) -> Tensor:
    return 2 * _gamma(df / 2)


def _beta(a: Tensor, b: Tensor) -> Tensor:
    """X / (X + Y) of two gamma draws; in double precision, where neither vanishes first."""
    x, y = _gamma(a.double()), _gamma(b.double())
    return (x / (x + y)).to(a.dtype)


def _dirichlet(d: Any) -> Tensor:
    x = _gamma(d.concentration.double())
    return (x / x.sum(-1, keepdim=True)).to(d.concentration.dtype)


def _multivariate_t(d: Any) -> Tensor:
    """loc + L e / sqrt(X / df), X chi-squared."""
    spread = (d._unbroadcasted_scale_tril @ torch.randn_like(d.loc).unsqueeze(-1)).squeeze(-1)
    return d.loc + spread * (_chi2(d.df) / d.df).rsqrt().unsqueeze(-1)


def _zero_inflated(d: Any) -> Tensor:
    value = drawn(d.base_dist)
    return torch.where(torch.rand_like(value) < d.gate, torch.zeros_like(value), value)


def _lkj(d: Any) -> Tensor:
    """Rows of length one: a direction among the earlier ones, its share of the length by a Beta draw (the onion method,
    Lewandowski et al. 2009, 3.2)."""
    direction = torch.randn_like(d.concentration[..., None, None].expand(*d.batch_shape, d.dim, d.dim)).tril(-1)
    length = direction.norm(dim=-1, keepdim=True)
    below = direction / torch.where(length > 0, length, torch.ones_like(length))
    share = _beta(d._beta.concentration1, d._beta.concentration0).unsqueeze(-1).sqrt()
    rows = share * below
    diagonal = (1 - rows.square().sum(-1)).clamp(min=torch.finfo(rows.dtype).tiny).sqrt()
    return rows + torch.diag_embed(diagonal)


INSIDE: Mapping[str, Callable[[Any], Tensor]] = {
    "Gamma": lambda d: _gamma(d.concentration) / d.rate,
    "Chi2": lambda d: _chi2(d.df),
    "Beta": lambda d: _beta(d.concentration1, d.concentration0),
    "Dirichlet": _dirichlet,
    "StudentT": lambda d: d.loc + d.scale * torch.randn_like(d.loc) * (_chi2(d.df) / d.df).rsqrt(),
    "MultivariateStudentT": _multivariate_t,
    "FisherSnedecor": lambda d: (_chi2(d.df1) / d.df1) / (_chi2(d.df2) / d.df2),
    "Poisson": lambda d: torch.poisson(d.rate),
    "GammaPoisson": lambda d: torch.poisson(_gamma(d.concentration) / d.rate),
    "NegativeBinomial": lambda d: torch.poisson(_gamma(d.total_count) * d.logits.exp()),
    "ZeroInflatedPoisson": _zero_inflated,
    "ZeroInflatedNegativeBinomial": _zero_inflated,
    "LKJCholesky": _lkj,
}
"""By the name of a distribution's class, expanded to all its rows."""

_COUNT = "a graph cannot draw as many trials as a tensor says"

UNTRACEABLE: Mapping[str, str] = {
    "VonMises": "its draws are rejected until all are accepted, and a graph has no such loop",
    "Binomial": _COUNT,
    "BetaBinomial": _COUNT,
    "DirichletMultinomial": _COUNT,
}
"""Families that can be drawn, but not by an exported graph, and why."""


def drawn(d: Any) -> Tensor:
    """A draw of a distribution that is not made of one in `noise.DRAWS`, of its batch's shape and its own."""
    return made(d, lambda inner: INSIDE[type(inner).__name__](inner))
