"""Spaces: sizes, text, and which values lie in which."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import constraints, transform_to

import jointkl
from jointkl.semantics.spaces import CONSTRAINT, DISCRETE, KINDS, WITHIN, Kind, Space, contains

DIMS = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
FINITE = st.lists(st.integers(-20, 20), min_size=1, max_size=8, unique=True).map(tuple)


def parsed(text: str) -> Space:
    return jointkl.parse(f"var x: {text}").space("x")


@given(st.sampled_from(KINDS), DIMS)
def test_a_space_is_written_as_it_is_read(kind: Kind, dims: tuple[int, ...]) -> None:
    space = Space(kind, dims)
    assert parsed(str(space)) == space


@given(FINITE)
def test_a_finite_space_keeps_its_values_in_order(values: tuple[int, ...]) -> None:
    space = parsed("{" + ", ".join(map(str, values)) + "}")
    assert space.values == values
    assert parsed(str(space)) == space
    assert (space.width, space.size, space.support) == (len(values), 1, len(values))


@given(st.integers(-50, 50), st.integers(0, 50))
def test_a_range_has_both_ends(first: int, more: int) -> None:
    space = parsed(f"{{{first}..{first + more}}}")
    assert space.values == tuple(range(first, first + more + 1))
    assert parsed(str(space)) == space


@pytest.mark.parametrize("kind", KINDS)
def test_a_constraint_is_torchs(kind: Kind) -> None:
    constraint = getattr(constraints, CONSTRAINT[kind])
    assert constraint.is_discrete == (kind in DISCRETE)
    assert bool(constraint.check(value_of(Space(kind, (3,)))).all())


def value_of(space: Space) -> torch.Tensor:
    """A value of a space."""
    free = torch.randn(space.shape, generator=torch.Generator().manual_seed(0))
    if space.discrete:
        return (free > 0).float()
    return transform_to(getattr(constraints, CONSTRAINT[space.kind]))(free)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_within_passes_the_constraint(kind: Kind) -> None:
    value = value_of(Space(kind, (3,)))
    for wider in WITHIN[kind]:
        assert bool(getattr(constraints, CONSTRAINT[wider]).check(value).all())
        assert contains(Space(wider, (3,)), kind)


@pytest.mark.parametrize(
    ("text", "shape", "size", "width"),
    [
        ("real", (), 1, 1),
        ("real[2,3]", (2, 3), 6, 6),
        ("simplex[3]", (3,), 3, 3),
        ("simplex[2,3]", (2, 3), 6, 6),
        ("cholesky[3]", (3, 3), 9, 9),
        ("cholesky[2,3]", (2, 3, 3), 18, 18),
        ("{0..9}", (), 1, 10),
    ],
)
def test_a_shape_is_that_of_one_value(text: str, shape: tuple[int, ...], size: int, width: int) -> None:
    space = parsed(text)
    assert (space.shape, space.size, space.width) == (shape, size, width)


def test_sizes_are_constants() -> None:
    model = jointkl.parse("let K = 3\nvar x: real[K, 2 * K - 1]\nvar k: {0..K-1}\nparam w: simplex[K + 1]")
    assert model.space("x") == Space("real", (3, 5))
    assert model.space("k") == Space("finite", (), (0, 1, 2))
    assert model.params["w"].space == Space("simplex", (4,))


def test_binary_values_are_counted_as_far_as_anybody_would() -> None:
    assert Space("binary", (3,)).support == 8
    assert Space("binary", (2**30,)).support is None
    assert Space("real").support is None


def test_values_far_apart_are_shown_without_those_between() -> None:
    assert str(Space("finite", (), (0, 1, 2**62))) == "{0, 1, 4611686018427387904}"
    assert str(Space("finite", (), (0, 2, 1))) == "{0, 2, 1}"
    assert str(Space("finite", (), (0, 1, 2))) == "{0..2}"


def test_zero_and_one_are_binary() -> None:
    assert contains(Space("finite", (), (0, 1)), "binary")
    assert not contains(Space("finite", (), (1, 0)), "binary")
    assert not contains(Space("binary"), "finite")
