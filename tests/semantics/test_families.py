"""The table of families is what Pyro and torch say of themselves."""

from __future__ import annotations

import inspect
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints, transform_to
from torch.distributions.kl import kl_divergence

from jointkl.semantics.families import (
    CLOSED_FORM,
    FAMILIES,
    NOT_FAMILIES,
    REFUSED,
    Family,
    Parameter,
    covers,
    parameter_space,
)
from jointkl.semantics.spaces import CONSTRAINT, Kind, Space
from jointkl.syntax.stop import RESERVED

SPACES = (
    *(Space(kind, (2,)) for kind in ("real", "positive", "unit", "binary", "natural")),
    Space("simplex", (3,)),
    Space("cholesky", (3,)),
    Space("finite", (), (0, 1, 2)),
    Space("finite", (), (0, 1)),
    Space("real"),
)

UNREGISTERED_OR_INFINITE = {
    **dict.fromkeys((("Normal", "Uniform"), ("Laplace", "Uniform"), ("Gumbel", "Uniform")), "infinite: wider"),
    **dict.fromkeys((("Exponential", "Uniform"), ("Gamma", "Uniform"), ("Beta", "Uniform")), "infinite unless inside"),
    ("ContinuousBernoulli", "Uniform"): "infinite unless inside",
    ("Uniform", "Uniform"): "infinite unless inside",
    ("Uniform", "Exponential"): "infinite below 0",
    ("Uniform", "Gamma"): "infinite below 0",
    ("Uniform", "Beta"): "infinite unless inside",
    ("Uniform", "ContinuousBernoulli"): "infinite unless inside",
    ("Chi2", "Uniform"): "infinite: wider",
    ("Uniform", "Chi2"): "infinite below 0",
    **dict.fromkeys(((f, "Pareto") for f in ("Exponential", "Gamma", "Chi2", "Uniform")), "infinite below the scale"),
    **dict.fromkeys((("Pareto", g) for g in ("Exponential", "Gamma", "Chi2")), "infinite where alpha is 1 or less"),
    **dict.fromkeys((("Pareto", g) for g in ("Pareto", "Uniform")), "infinite unless inside"),
    ("Binomial", "Binomial"): "for equal counts only",
    ("Poisson", "Binomial"): "infinite: wider",
    ("HalfCauchy", "HalfCauchy"): "that of the Cauchy that it folds",
}
"""Pairs that torch registers and the table leaves out, with the reason."""


def space_of(family: Family) -> Space:
    return next(space for space in SPACES if covers(family, space))


COUNT = 7.0


def drawn(family: Family, parameter: Parameter, space: Space) -> Any:
    """A random value of a parameter, in the space that the table gives it."""
    need = parameter_space(family, parameter, space)
    match parameter.name:
        case "covariance_matrix" | "precision_matrix":
            root = torch.randn(need.shape, dtype=torch.float64)
            return root @ root.mT + torch.eye(need.shape[-1], dtype=torch.float64)
        case "dim":
            return space.shape[-1]
        case "total_count" if parameter.extent == "count":
            return int(COUNT)
        case "total_count" if parameter.space == "natural":
            return torch.full(need.shape, COUNT, dtype=torch.float64)
        case "low":
            return torch.rand(need.shape, dtype=torch.float64) * 0.4
        case "high":
            return 0.5 + torch.rand(need.shape, dtype=torch.float64) * 0.4
        case "df" | "df1" | "df2":
            return 3 + torch.rand(need.shape, dtype=torch.float64)
        case _:
            free = 0.5 * torch.randn(need.shape, dtype=torch.float64)
            return transform_to(getattr(constraints, CONSTRAINT[need.kind]))(free)


def made(family: Family, space: Space, parameters: tuple[Parameter, ...] | None = None) -> Any:
    given = {p.name: drawn(family, p, space) for p in (family.parameters if parameters is None else parameters)}
    return getattr(dist, family.name)(**given)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)


@FAMILY
def test_its_parameters_are_pyros_in_pyros_order(family: Family) -> None:
    """Pyro's alternatives stand between them, and its options behind."""
    signature = inspect.signature(getattr(dist, family.name).__init__).parameters
    instead = {p.name for p in family.alternatives}
    names = [name for name in signature if name not in ("self", "validate_args") and name not in instead]
    assert names[: len(family.parameters)] == [p.name for p in family.parameters]
    assert instead <= set(signature)
    assert {p.instead for p in family.alternatives} <= {p.name for p in family.parameters}
    for parameter in family.parameters:
        default = signature[parameter.name].default
        if parameter.default is not None:
            assert default == parameter.default
    others = set(names[len(family.parameters) :])
    assert others <= {"lims", "is_sparse"}  # what is left are options, not parameters


def versions(family: Family) -> list[tuple[Parameter, ...]]:
    """The parameters, and the same with each alternative in place."""
    swapped = [tuple(p if q.name == p.instead else q for q in family.parameters) for p in family.alternatives]
    return [family.parameters, *swapped]


INSIDE: dict[Kind, tuple[type, ...]] = {
    "real": (type(constraints.real),),
    "positive": (type(constraints.positive), type(constraints.nonnegative)),
    "unit": (type(constraints.unit_interval), type(constraints.half_open_interval(0, 1))),
    "natural": (type(constraints.nonnegative_integer),),
    "binary": (type(constraints.boolean),),
    "simplex": (type(constraints.simplex),),
    "cholesky": (type(constraints.lower_cholesky),),
}
"""Each kind with what Pyro calls it."""

LOOSE = {
    ("MultivariateNormal", "covariance_matrix"): "symmetric and positive definite, which no space says",
    ("Uniform", "low"): "below `high`",
    ("Uniform", "high"): "above `low`",
    ("MultivariateNormal", "precision_matrix"): "symmetric and positive definite, which no space says",
}


def flat(constraint: Any) -> Any:
    return flat(constraint.base_constraint) if isinstance(constraint, constraints.independent) else constraint


@FAMILY
def test_a_parameter_lies_where_pyro_wants_it(family: Family) -> None:
    space = space_of(family)
    for parameters in versions(family):
        found = made(family, space, parameters)
        for parameter in parameters:
            if parameter.name not in found.arg_constraints:
                assert parameter.extent in ("whole", "count")
                continue
            held = found.arg_constraints[parameter.name]
            assert bool(held.check(torch.as_tensor(getattr(found, parameter.name))).all())
            if (family.name, parameter.name) not in LOOSE:
                assert isinstance(flat(held), INSIDE[parameter.space])


NARROWER = {
    "Uniform": "its bounds",
    "Pareto": "its scale and above",
    "AffineBeta": "its location and as far as its scale",
    "Binomial": "its count and below",
    "BetaBinomial": "its count and below",
    "Multinomial": "sums to its count",
    "DirichletMultinomial": "sums to its count",
    "Categorical": "as many as its probabilities",
    "LKJCholesky": "rows of length one",
}
"""Families whose parameters decide what part of the space their values fill."""


@FAMILY
def test_its_support_is_the_space(family: Family) -> None:
    support = flat(made(family, space_of(family)).support)
    if family.name not in NARROWER:
        assert isinstance(support, INSIDE[family.support])


def distributions() -> dict[str, type]:
    """Every distribution class that Pyro has."""
    found = {name: getattr(dist, name) for name in dir(dist) if not name.startswith("_")}
    base = torch.distributions.Distribution
    return {name: c for name, c in found.items() if inspect.isclass(c) and issubclass(c, base)}


def test_no_distribution_of_pyro_is_unknown() -> None:
    """Each is a family, or is refused with a reason."""
    known = set(distributions())
    assert known == set(FAMILIES) | set(REFUSED) | {"Delta"}
    assert not set(FAMILIES) & set(REFUSED)
    assert not set(NOT_FAMILIES) & set(REFUSED)


def test_what_is_said_of_the_refused() -> None:
    """The reasons that can be tried."""
    one, two = torch.tensor(1.0), torch.tensor([2.0], dtype=torch.float64)
    assert dist.ImproperUniform(constraints.real, (), ()).log_prob(one) == 0
    with pytest.raises(NotImplementedError):
        dist.LogNormalNegativeBinomial(one, logits=one, multiplicative_noise_scale=one).sample()
    with pytest.raises(NotImplementedError, match="expand"):
        dist.SoftAsymmetricLaplace(one, one, one).expand((2,))
    with pytest.raises(RuntimeError, match="Double did not match Float"):
        dist.GeneralizedPareto(0 * two, two, two).log_prob(two)


@FAMILY
def test_its_values_are_those_of_the_space(family: Family) -> None:
    for space in SPACES:
        if not covers(family, space):
            continue
        found = made(family, space)
        sample = found.sample((50,))
        assert len(found.event_shape) == family.event
        if space.kind == "finite":
            assert sample.shape == (50,)
            assert set(sample.long().tolist()) <= set(range(len(space.values)))
        else:
            assert sample.shape == (50, *space.shape)
            assert bool(getattr(constraints, CONSTRAINT[space.kind]).check(sample).all())
            assert family.support != "natural" or bool((sample >= 0).all())
        assert bool(found.log_prob(sample).isfinite().all())


@FAMILY
def test_it_is_reparameterised_as_pyro_says(family: Family) -> None:
    assert made(family, space_of(family)).has_rsample == family.reparameterised


@FAMILY
def test_a_net_supplies_every_parameter(family: Family) -> None:
    if family.heads is None:
        return
    heads = tuple(p for name in family.heads if (p := family.parameter(name)))
    assert len(heads) == len(family.heads)
    space = space_of(family)
    found = made(family, space, heads)
    assert found.sample().shape == (() if space.kind == "finite" else space.shape)


@FAMILY
def test_a_location_moves_the_whole(family: Family) -> None:
    if family.location is None:
        return
    space = space_of(family)
    given = {p.name: drawn(family, p, space) for p in family.parameters}
    value, shift = torch.randn(space.shape, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    here = getattr(dist, family.name)(**given).log_prob(value)
    there = getattr(dist, family.name)(**given | {family.location: given[family.location] + shift})
    torch.testing.assert_close(there.log_prob(value + shift), here)


def test_no_family_has_a_reserved_name() -> None:
    assert not set(FAMILIES) & RESERVED


# --- closed forms


def shared_space(left: str, right: str) -> Space:
    return next(s for s in SPACES if covers(FAMILIES[left], s) and covers(FAMILIES[right], s))


@pytest.mark.parametrize(("left", "right"), sorted(CLOSED_FORM))
def test_a_closed_form_is_the_mean_of_the_log_ratio(left: str, right: str) -> None:
    space = shared_space(left, right)
    f, g = made(FAMILIES[left], space), made(FAMILIES[right], space)
    exact = kl_divergence(f, g)
    assert bool(exact.isfinite().all())
    assert bool((exact >= 0).all())
    sample = f.sample((40_000,))
    ratio = f.log_prob(sample) - g.log_prob(sample)
    error = ratio.std(0) / 200
    assert bool(((ratio.mean(0) - exact).abs() <= 5 * error + 1e-9).all())


def test_what_torch_knows_beyond_the_table_is_no_formula_for_all_parameters() -> None:
    known: set[tuple[str, str]] = set()
    for left in FAMILIES.values():
        for right in FAMILIES.values():
            space = next((s for s in SPACES if covers(left, s) and covers(right, s)), None)
            if space is not None:
                try:
                    kl_divergence(made(left, space), made(right, space))
                except NotImplementedError:
                    continue
                known.add((left.name, right.name))
    assert known - CLOSED_FORM == set(UNREGISTERED_OR_INFINITE)
    assert known >= CLOSED_FORM
