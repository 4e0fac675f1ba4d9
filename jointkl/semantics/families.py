"""What is known of each family of distributions: Pyro's name, parameters, support and what can be done with it.

A table, because the front end does not import torch; `tests/semantics/test_families.py` holds it against
`pyro.distributions` and `torch.distributions.kl`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jointkl.semantics.spaces import Kind, Space

Extent = Literal["scalar", "vector", "short", "matrix", "factor", "classes", "event", "whole", "count"]
"""What one parameter is for an event: one number per number of the event; a vector over its last dimension, or one
shorter; a matrix over it, or one with as many rows; one number per value of a finite space; one number for each event of
the family; one number for all data, without net or variable; a whole number that is written in the spec."""

FILLED: frozenset[Extent] = frozenset({"scalar", "vector", "short", "event", "whole"})
"""Parameters that one number may fill."""

FIXED: frozenset[Extent] = frozenset({"whole", "count"})
"""Parameters that are the same for all data."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """`instead`: the parameter that an alternative stands for."""

    name: str
    space: Kind
    extent: Extent = "scalar"
    default: float | None = None
    instead: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """One row.

    `event` is the number of dimensions that the family itself makes dependent (MultivariateNormal: 1); the others of
    a variable are made one event by `to_event`. `alternatives` are parameters that Pyro takes instead of others, by
    name; `heads` are the parameters that a bare net supplies, None where that makes no sense; `tensors`: Pyro's class
    takes no plain numbers, and parameters by name.
    """

    name: str
    parameters: tuple[Parameter, ...]
    support: Kind
    event: int = 0
    reparameterised: bool = False
    alternatives: tuple[Parameter, ...] = ()
    heads: tuple[str, ...] | None = ()
    location: str | None = None
    tensors: bool = False

    def parameter(self, name: str) -> Parameter | None:
        return next((p for p in (*self.parameters, *self.alternatives) if p.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in (*self.parameters, *self.alternatives))


def parameter_space(family: Family, parameter: Parameter, space: Space) -> Space:
    """The space of a whole parameter of a family over `space`."""
    match parameter.extent:
        case "scalar" | "vector":
            return Space(parameter.space, space.shape)
        case "short":
            return Space(parameter.space, (*space.shape[:-1], space.shape[-1] - 1))
        case "matrix" if parameter.space == "cholesky":
            return Space("cholesky", space.shape)
        case "matrix" | "factor":
            return Space(parameter.space, (*space.shape, space.shape[-1]))
        case "classes":
            return Space(parameter.space, (len(space.values),))
        case "event":
            return Space(parameter.space, space.shape[: len(space.shape) - family.event])
        case "whole" | "count":
            return Space(parameter.space)


def _real(name: str) -> Parameter:
    return Parameter(name, "real")


def _positive(name: str, default: float | None = None) -> Parameter:
    return Parameter(name, "positive", default=default)


def _instead(name: str, space: Kind, instead: str, extent: Extent = "scalar") -> Parameter:
    return Parameter(name, space, extent, instead=instead)


_LOC, _SCALE = _real("loc"), _positive("scale")
_PROBS, _LOGITS = Parameter("probs", "unit"), _instead("logits", "real", "probs")
_CLASS_PROBS, _CLASS_LOGITS = Parameter("probs", "simplex", "classes"), _instead("logits", "real", "probs", "classes")
_ROW_PROBS, _ROW_LOGITS = Parameter("probs", "simplex", "vector"), _instead("logits", "real", "probs", "vector")
_GATE, _GATE_LOGITS = Parameter("gate", "unit"), _instead("gate_logits", "real", "gate")
_TEMPERATURE = Parameter("temperature", "positive", "whole")
_VECTOR, _TRIL = Parameter("loc", "real", "vector"), Parameter("scale_tril", "cholesky", "matrix")
_COVARIANCE = Parameter("covariance_matrix", "real", "matrix")
_MATRICES = (
    _instead("precision_matrix", "real", "covariance_matrix", "matrix"),
    _instead("scale_tril", "cholesky", "covariance_matrix", "matrix"),
)

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
        Family("MultivariateNormal", (_VECTOR, _COVARIANCE), "real", 1, True, _MATRICES,
               heads=("loc", "scale_tril"), location="loc", tensors=True),
        Family("Dirichlet", (Parameter("concentration", "positive", "vector"),), "simplex", 1, True, heads=("concentration",),
               tensors=True),

        Family("Logistic", (_LOC, _SCALE), "real", 0, True, heads=("loc", "scale"), location="loc"),
        Family("SoftLaplace", (_LOC, _SCALE), "real", 0, True, heads=("loc", "scale"), location="loc"),
        Family("AsymmetricLaplace", (_LOC, _SCALE, _positive("asymmetry")), "real", 0, True,
               heads=("loc", "scale", "asymmetry"), location="loc"),
        Family("SkewLogistic", (_LOC, _SCALE, _positive("asymmetry")), "real", 0, True,
               heads=("loc", "scale", "asymmetry"), location="loc"),
        Family("VonMises", (_LOC, _positive("concentration")), "real", 0, False, heads=("loc", "concentration")),
        Family("AffineBeta", (_positive("concentration1"), _positive("concentration0"), _LOC, _SCALE), "real", 0, True,
               heads=None),
        Family("Chi2", (_positive("df"),), "positive", 0, True, heads=("df",)),
        Family("InverseGamma", (_positive("concentration"), _positive("rate")), "positive", 0, True,
               heads=("concentration", "rate")),
        Family("Weibull", (_SCALE, _positive("concentration")), "positive", 0, True, heads=("scale", "concentration")),
        Family("FisherSnedecor", (_positive("df1"), _positive("df2")), "positive", 0, True, heads=("df1", "df2")),
        Family("Pareto", (_SCALE, _positive("alpha")), "positive", 0, True, heads=None),
        Family("Kumaraswamy", (_positive("concentration1"), _positive("concentration0")), "unit", 0, True,
               heads=("concentration1", "concentration0")),
        Family("RelaxedBernoulli", (_TEMPERATURE, _PROBS), "unit", 0, True, (_LOGITS,), heads=None, tensors=True),
        Family("GammaPoisson", (_positive("concentration"), _positive("rate")), "natural", 0, False,
               heads=("concentration", "rate")),
        Family("BetaBinomial", (_positive("concentration1"), _positive("concentration0"), Parameter("total_count", "natural", default=1.0)),
               "natural", 0, False, heads=None),
        Family("ZeroInflatedPoisson", (_positive("rate"), _GATE), "natural", 0, False, (_GATE_LOGITS,),
               heads=("rate", "gate_logits"), tensors=True),
        Family("ZeroInflatedNegativeBinomial", (_positive("total_count"), _PROBS, _GATE), "natural", 0, False,
               (_LOGITS, _GATE_LOGITS), heads=("total_count", "logits", "gate_logits"), tensors=True),
        Family("Multinomial", (Parameter("total_count", "natural", "count"), _ROW_PROBS), "natural", 1, False, (_ROW_LOGITS,),
               heads=None, tensors=True),
        Family("DirichletMultinomial", (Parameter("concentration", "positive", "vector"),
               Parameter("total_count", "natural", "event", 1.0)), "natural", 1, False, heads=None, tensors=True),
        Family("LowRankMultivariateNormal", (_VECTOR, Parameter("cov_factor", "real", "factor"),
               Parameter("cov_diag", "positive", "vector")), "real", 1, True, heads=None, location="loc", tensors=True),
        Family("MultivariateStudentT", (Parameter("df", "positive", "event"), _VECTOR, _TRIL), "real", 1, True,
               heads=("df", "loc", "scale_tril"), location="loc", tensors=True),
        Family("LogisticNormal", (Parameter("loc", "real", "short"), Parameter("scale", "positive", "short")), "simplex", 1, True,
               heads=("loc", "scale"), tensors=True),
        Family("RelaxedOneHotCategorical", (_TEMPERATURE, _ROW_PROBS), "simplex", 1, True, (_ROW_LOGITS,), heads=None, tensors=True),
        Family("LKJCholesky", (Parameter("dim", "natural", "count"), Parameter("concentration", "positive", "event", 1.0)),
               "cholesky", 2, False, heads=None, tensors=True),
    )
}  # fmt: skip


def covers(family: Family, space: Space) -> bool:
    """Are the family's values those of the space? Of some their parameters decide: a Uniform's bounds, a count."""
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
    "MultivariateT": "MultivariateStudentT",
    "Discrete": "Categorical",
}
"""What else families are called, each with its name here."""

_WRAPPER = "a wrapper of other distributions"
_SERIES = "a model of a whole series"
_MIXTURE = "a mixture: write it as a joint over a finite variable"
_SPHERE = "over a sphere or torus, which is no space of the language"
_MISSING = "a family with missing values"

REFUSED: dict[str, str] = {
    **dict.fromkeys("ExpandedDistribution FoldedDistribution Independent MaskedDistribution Rejector SineSkewed".split(), _WRAPPER),
    **dict.fromkeys("TransformedDistribution ZeroInflatedDistribution ExponentialFamily TorchDistribution".split(), _WRAPPER),
    **dict.fromkeys("DiscreteHMM GammaGaussianHMM GaussianHMM GaussianMRF IndependentHMM LinearHMM".split(), _SERIES),
    **dict.fromkeys("CoalescentTimes CoalescentTimesWithRate".split(), _SERIES),
    **dict.fromkeys("MaskedMixture MixtureSameFamily GaussianScaleMixture MixtureOfDiagNormals".split(), _MIXTURE),
    "MixtureOfDiagNormalsSharedCovariance": _MIXTURE,
    **dict.fromkeys("ProjectedNormal VonMises3D SineBivariateVonMises".split(), _SPHERE),
    **dict.fromkeys("NanMaskedNormal NanMaskedMultivariateNormal".split(), _MISSING),
    **dict.fromkeys("AVFMultivariateNormal OMTMultivariateNormal".split(), "MultivariateNormal with another gradient"),
    **dict.fromkeys(("RelaxedBernoulliStraightThrough", "RelaxedOneHotCategoricalStraightThrough", "OneHotCategoricalStraightThrough"),
                    "its gradient is not that of its samples"),
    **dict.fromkeys(("OneHotCategorical",), "Categorical over a finite variable, which enters a net one-hot"),
    **dict.fromkeys(("OneOneMatching", "OneTwoMatching", "SpanningTree"), "over matchings or trees, which are no space of the language"),
    **dict.fromkeys(("LKJ", "Wishart"), "over symmetric matrices, which are no space of the language; LKJCholesky is over factors"),
    "LKJCorrCholesky": "an older name of LKJCholesky",
    "OrderedLogistic": "its cutpoints increase, and no space of the language is ordered",
    **dict.fromkeys(("Stable", "StableWithLogProb"), "its parameters lie in intervals that are no space of the language"),
    "SoftAsymmetricLaplace": "Pyro cannot expand it to a batch",
    "GeneralizedPareto": "torch evaluates it in single precision alone",
    "LogNormalNegativeBinomial": "it cannot be sampled",
    "TruncatedPolyaGamma": "it has no parameters and lies between 0 and 2.5, which is no space of the language",
    "GroupedNormalNormal": "a posterior of groups: write its joint",
    "Empirical": "data: bind them, as data(x) = evidence()",
    "ImproperUniform": "it has no density",
    "Unit": "it has no values",
    **dict.fromkeys(("ExtendedBinomial", "ExtendedBetaBinomial"), "it takes negative counts"),
}  # fmt: skip
"""Pyro's other distributions, and why each is no family here."""

NOT_FAMILIES = ("Delta", "Free")
"""What may stand where a family does, with rules of its own."""

CLOSED_FORM: frozenset[tuple[str, str]] = frozenset(
    {
        *((name, name) for name in ("Normal", "Laplace", "Gumbel", "LogNormal", "Exponential", "Gamma", "Beta", "HalfNormal")),
        *((name, name) for name in ("Bernoulli", "Categorical", "Poisson", "Geometric", "Dirichlet", "MultivariateNormal")),
        *((name, name) for name in ("ContinuousBernoulli", "Cauchy")),
        ("Beta", "ContinuousBernoulli"),
        *((name, name) for name in ("InverseGamma", "Chi2", "LogisticNormal", "LowRankMultivariateNormal")),
        ("Exponential", "Gamma"), ("Gamma", "Exponential"),
        ("Chi2", "Gamma"), ("Gamma", "Chi2"), ("Chi2", "Exponential"), ("Exponential", "Chi2"),
        ("MultivariateNormal", "LowRankMultivariateNormal"), ("LowRankMultivariateNormal", "MultivariateNormal"),
        ("Gumbel", "Normal"), ("Normal", "Gumbel"),
        ("Laplace", "Normal"), ("Normal", "Laplace"),
        ("Uniform", "Normal"), ("Uniform", "Gumbel"),
    }
)  # fmt: skip
"""Pairs (f, g) over one space for which `torch.distributions.kl_divergence(f, g)` is an exact formula, never infinite."""

CROSS_ENTROPY: frozenset[str] = frozenset({"Normal", "Bernoulli", "Categorical"})
"""Families f whose cross-entropy E_f{-log g} = KL[f || g] + H[f] is taken in closed form, wherever the divergence is."""
