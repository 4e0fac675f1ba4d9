"""The table of sources and builders is what `jointkl.sources` gives and what the emitted networks are."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import jointkl
from jointkl.semantics.catalogue import ACTIVATIONS, BUILDERS, PLANNED_SOURCES, SOURCES, Option
from jointkl.semantics.goals import FOR_A_PLAYER, FOR_EVERYONE, TRAIN
from jointkl.semantics.spaces import CONSTRAINT
from jointkl.sources.loaders import LIMITS, LOADERS, load

OPTIONS = [o for row in (*SOURCES.values(), *BUILDERS.values()) for o in row.options] + list(TRAIN)


def network(builder: str, given: str = "real[3]", taken: str = "real[2]") -> nn.Module:
    text = f"var x: {given}\nvar z: {taken}\nnet f = {builder}\np(z | x) = Normal(f(x), 1)\nq(z) = Normal(0, 1)\n"
    program = jointkl.compile(text + "minimize KL(data(x) * p(z|x) || data(x) * q(z))")
    return program.nets["f"]


def linear_sizes(net: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in net.modules() if isinstance(m, nn.Linear)]


# --- builders


@pytest.mark.parametrize("widths", [(), (5,), (5, 7)])
def test_an_mlp_has_a_linear_layer_more_than_widths(widths: tuple[int, ...]) -> None:
    sizes = (3, *widths, 2)
    net = network(f"mlp({', '.join(map(str, widths))})")
    assert linear_sizes(net) == list(pairwise(sizes))
    assert all(m.bias is not None for m in net.modules() if isinstance(m, nn.Linear))


def test_linear_is_one_layer_with_or_without_bias() -> None:
    assert linear_sizes(network("linear()")) == [(3, 2)]
    assert [p.shape for p in network("linear(bias=false)").parameters()] == [(2, 3)]


@pytest.mark.parametrize(("name", "module"), ACTIVATIONS.items())
def test_an_activation_stands_between_the_layers(name: str, module: str) -> None:
    kinds = [type(m).__name__ for m in network(f"mlp(4, 4, activation={name})").modules()]
    assert kinds.count(module) == 2
    assert isinstance(getattr(nn, module)()(torch.zeros(2)), Tensor)


@pytest.mark.parametrize(
    ("space", "width"), [("real", 1), ("real[3]", 3), ("unit[1,4,4]", 16), ("{0..4}", 5), ("{3, 5}", 2), ("binary", 1)]
)
def test_an_input_is_as_wide_as_its_space_says(space: str, width: int) -> None:
    assert linear_sizes(network("linear()", given=space)) == [(width, 2)]


# --- sources


def test_every_source_built_in_has_a_loader() -> None:
    assert {name for name, row in SOURCES.items() if row.columns is not None} == set(LOADERS)
    assert not set(SOURCES) & set(PLANNED_SOURCES)


@pytest.mark.parametrize("name", sorted(LOADERS))
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_a_source_gives_the_columns_of_its_row(name: str, threshold: float | None) -> None:
    row = SOURCES[name]
    given = {"n": 100} if any(o.name == "n" for o in row.options) else {}
    if threshold is not None and any(o.name == "threshold" for o in row.options):
        given["threshold"] = threshold
    assert row.columns is not None
    columns = load(name, given)
    spaces = row.columns(given)
    assert len(columns) == len(spaces)
    for column, space in zip(columns, spaces, strict=True):
        assert column.shape[1:] == space.shape
        if space.kind == "finite":
            assert set(column.tolist()) <= set(space.values)
        else:
            assert bool(getattr(torch.distributions.constraints, CONSTRAINT[space.kind]).check(column).all())


# --- options


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_default_lies_in_its_range(option: Option) -> None:
    assert not option.choices or option.default in option.choices
    if isinstance(option.default, int | float) and not isinstance(option.default, bool):
        assert option.least is None or option.default >= option.least
        assert option.most is None or option.default <= option.most
        assert option.below is None or option.default < option.below


def test_ranges_are_those_that_the_loaders_verify() -> None:
    for row in SOURCES.values():
        for option in row.options:
            low, high = LIMITS.get(option.name, (-math.inf, math.inf))
            assert (option.least if option.least is not None else -math.inf) == low
            assert option.name == "seed" or (option.most if option.most is not None else math.inf) == high


def test_train_has_every_option_once() -> None:
    names = [o.name for o in TRAIN]
    assert len(set(names)) == len(names)
    assert set(names) >= FOR_EVERYONE | FOR_A_PLAYER
