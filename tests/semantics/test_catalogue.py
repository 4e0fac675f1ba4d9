"""The table of sources and builders is what `jointkl.sources` gives and what the emitted networks are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import jointkl
from jointkl.semantics.catalogue import ACTIVATIONS, BUILDERS, SOURCES, Open, Option, OptionValue
from jointkl.semantics.goals import FOR_A_PLAYER, FOR_EVERYONE, TRAIN
from jointkl.semantics.spaces import CONSTRAINT, Space
from jointkl.sources.loaders import LOADERS, load
from tests import layouts

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


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        layouts.everything(root, patch)
        yield root


@pytest.mark.parametrize("name", sorted(LOADERS))
@pytest.mark.parametrize("options", [{}, {"threshold": 0.5}, {"size": 16}, {"size": (7, 9)}, {"grey": True}], ids=str)
def test_a_source_gives_the_columns_of_its_row(name: str, options: dict[str, OptionValue], data_sets: Path) -> None:
    row = SOURCES[name]
    known = {o.name for o in row.options}
    given: dict[str, OptionValue] = {"n": 100} if "n" in known else {}
    given |= {row.takes: str(data_sets / "faces")} if row.takes else {}
    given |= {key: value for key, value in options.items() if key in known}
    assert row.columns is not None
    columns = load(name, given)
    spaces = row.columns(given)
    assert len(columns) == len(spaces)
    for column, space in zip(columns, spaces, strict=True):
        assert isinstance(column, Tensor)
        shape = space.example.shape if isinstance(space, Open) else space.shape
        assert column.dim() == 1 + len(shape)
        assert isinstance(space, Open) or column.shape[1:] == shape
        if isinstance(space, Open) and space.kind == "finite":
            assert set(column.tolist()) == {0, 1}
        elif isinstance(space, Space) and space.kind == "finite":
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


def test_train_has_every_option_once() -> None:
    names = [o.name for o in TRAIN]
    assert len(set(names)) == len(names)
    assert set(names) >= FOR_EVERYONE | FOR_A_PLAYER
