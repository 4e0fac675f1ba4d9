"""What is known of each family of distributions: Pyro's name, parameters, support and what can be done with it.

A table, because the front end does not import torch; `tests/semantics/test_families.py` holds it against
`pyro.distributions` and `torch.distributions.kl`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jointkl.semantics.spaces import Kind, Space

Extent = Literal["scalar", "vector", "matrix", "classes"]
"""What one parameter is for an event: one number per number of the event; a vector or a matrix over its last
dimension; one number per value of a finite space."""


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    space: Kind
    extent: Extent = "scalar"
    default: float | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """One row.

    `event` is the number of dimensions that the family itself makes dependent (MultivariateNormal: 1); the others of
    a variable are made one event by `to_event`. `alternatives` are parameters that Pyro takes instead of the first
    ones, by name; `heads` are the parameters that a bare net supplies, None where that makes no sense.
    """

    name: str
    parameters: tuple[Parameter, ...]
    support: Kind
    event: int = 0
    reparameterised: bool = False
    alternatives: tuple[Parameter, ...] = ()
    heads: tuple[str, ...] | None = ()
    location: str | None = None

    def parameter(self, name: str) -> Parameter | None:
        return next((p for p in (*self.parameters, *self.alternatives) if p.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in (*self.parameters, *self.alternatives))


def _real(name: str) -> Parameter:
    return Parameter(name, "real")


def _positive(name: str, default: float | None = None) -> Parameter:
    return Parameter(name, "positive", default=default)


_LOC, _SCALE = _real("loc"), _positive("scale")
_PROBS, _LOGITS = Parameter("probs", "unit"), Parameter("logits", "real")
_CLASS_PROBS, _CLASS_LOGITS = Parameter("probs", "simplex", "classes"), Parameter("logits", "real", "classes")

FAMILIES: dict[str, Family] = {
    row.name: row
    for row in (
        Family("Normal", (_LOC, _SCALE), "real", 0, True, heads=("loc", "scale"), location="loc"),
        Family("Laplace", (_LOC, _SCALE), "real", 0, True, heads=("loc", "scale"), location="loc"),
        Family("Cauchy", (_LOC, _SCALE), "real", 0, True, heads=("loc", "scale"), location="loc"),
        Family("Gumbel", (_LOC, _SCALE), "real", 0, True, heads=("loc", "scale"), location="loc"),
        Family("LogNormal", (_LOC, _SCALE), "positive", 0, True, heads=("loc", "scale")),
        Family("HalfNormal", (_SCALE,), "positive", 0, True, heads=("scale",)),
        Family("HalfCauchy", (_SCALE,), "positive", 0, True, heads=("scale",)),
        Family("Exponential", (_positive("rate"),), "positive", 0, True, heads=("rate",)),
        Family("Gamma", (_positive("concentration"), _positive("rate")), "positive", 0, True, heads=("concentration", "rate")),
        Family("Beta", (_positive("concentration1"), _positive("concentration0")), "unit", 0, True,
               heads=("concentration1", "concentration0")),
        Family("Uniform", (_real("low"), _real("high")), "real", 0, True, heads=None),
        Family("StudentT", (_positive("df"), Parameter("loc", "real", default=0.0), _positive("scale", 1.0)), "real", 0, True,
               heads=("df", "loc", "scale"), location="loc"),
        Family("ContinuousBernoulli", (_PROBS,), "unit", 0, True, (_LOGITS,), heads=("logits",)),
        Family("Bernoulli", (_PROBS,), "binary", 0, False, (_LOGITS,), heads=("logits",)),
        Family("Categorical", (_CLASS_PROBS,), "finite", 0, False, (_CLASS_LOGITS,), heads=("logits",)),
        Family("Poisson", (_positive("rate"),), "natural", 0, False, heads=("rate",)),
        Family("Geometric", (_PROBS,), "natural", 0, False, (_LOGITS,), heads=("logits",)),
        Family("Binomial", (Parameter("total_count", "natural"), _PROBS), "natural", 0, False, (_LOGITS,), heads=None),
        Family("NegativeBinomial", (Parameter("total_count", "positive"), _PROBS), "natural", 0, False, (_LOGITS,), heads=None),
        Family("MultivariateNormal", (Parameter("loc", "real", "vector"), Parameter("covariance_matrix", "real", "matrix")),
               "real", 1, True, (Parameter("scale_tril", "cholesky", "matrix"),), heads=("loc", "scale_tril"), location="loc"),
        Family("Dirichlet", (Parameter("concentration", "positive", "vector"),), "simplex", 1, True, heads=("concentration",)),
    )
}  # fmt: skip


def covers(family: Family, space: Space) -> bool:
    """Are the family's values those of the space, neither fewer nor more? Of a Uniform its bounds decide."""
    if len(space.shape) < family.event:
        return False
    if space.kind == "finite":
        return family.support == "finite" or (family.support == "binary" and space.values == (0, 1))
    return family.support == space.kind or (family.name == "Uniform" and space.kind in ("unit", "positive"))


OTHER_NAMES: dict[str, str] = {
    "Gaussian": "Normal",
    "N": "Normal",
    "MVN": "MultivariateNormal",
    "Dirac": "Delta",
    "Multinomial": "Categorical",
    "Discrete": "Categorical",
}
"""What else families are called, each with its name here."""

NOT_FAMILIES = ("Delta", "Free")
"""What may stand where a family does, with rules of its own."""

CLOSED_FORM: frozenset[tuple[str, str]] = frozenset(
    {
        *((name, name) for name in ("Normal", "Laplace", "Gumbel", "LogNormal", "Exponential", "Gamma", "Beta", "HalfNormal")),
        *((name, name) for name in ("Bernoulli", "Categorical", "Poisson", "Geometric", "Dirichlet", "MultivariateNormal")),
        *((name, name) for name in ("ContinuousBernoulli", "Cauchy")),
        ("Beta", "ContinuousBernoulli"),
        ("Exponential", "Gamma"), ("Gamma", "Exponential"),
        ("Gumbel", "Normal"), ("Normal", "Gumbel"),
        ("Laplace", "Normal"), ("Normal", "Laplace"),
        ("Uniform", "Normal"), ("Uniform", "Gumbel"),
    }
)  # fmt: skip
"""Pairs (f, g) over one space for which `torch.distributions.kl_divergence(f, g)` is an exact formula, never infinite."""
