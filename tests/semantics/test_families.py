"""The table of families is what Pyro and torch say of themselves."""

from __future__ import annotations

import inspect
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints, transform_to
from torch.distributions.kl import kl_divergence

from jointkl.semantics.distributions import parameter_space
from jointkl.semantics.families import CLOSED_FORM, FAMILIES, Family, Parameter, covers
from jointkl.semantics.spaces import CONSTRAINT, Space
from jointkl.syntax.stop import RESERVED

SPACES = (
    *(Space(kind, (2,)) for kind in ("real", "positive", "unit", "binary", "natural")),
    Space("simplex", (3,)),
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
    ("Binomial", "Binomial"): "for equal counts only",
    ("Poisson", "Binomial"): "infinite: wider",
    ("HalfCauchy", "HalfCauchy"): "that of the Cauchy that it folds",
}
"""Pairs that torch registers and the table leaves out, with the reason."""


def space_of(family: Family) -> Space:
    return next(space for space in SPACES if covers(family, space))


def drawn(family: Family, parameter: Parameter, space: Space) -> torch.Tensor:
    """A random value of a parameter, in the space that the table gives it."""
    need = parameter_space(parameter, space)
    match parameter.name:
        case "covariance_matrix":
            root = torch.randn(need.shape, dtype=torch.float64)
            return root @ root.mT + torch.eye(need.shape[-1], dtype=torch.float64)
        case "total_count":
            return torch.full(need.shape, 3.0, dtype=torch.float64)
        case "low":
            return torch.rand(need.shape, dtype=torch.float64) * 0.4
        case "high":
            return 0.5 + torch.rand(need.shape, dtype=torch.float64) * 0.4
        case "df":
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
    signature = inspect.signature(getattr(dist, family.name).__init__).parameters
    names = [name for name in signature if name not in ("self", "validate_args")]
    assert names[: len(family.parameters)] == [p.name for p in family.parameters]
    assert {p.name for p in family.alternatives} <= set(names)
    for parameter in family.parameters:
        default = signature[parameter.name].default
        if parameter.default is not None:
            assert default == parameter.default


@FAMILY
def test_a_parameter_lies_where_pyro_wants_it(family: Family) -> None:
    space = space_of(family)
    instead = {p.name: [*family.parameters[:-1], p] for p in family.alternatives}
    for parameters in (family.parameters, *instead.values()):
        found = made(family, space, tuple(parameters))
        for parameter in parameters:
            held = found.arg_constraints[parameter.name]
            assert bool(held.check(getattr(found, parameter.name)).all())


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
