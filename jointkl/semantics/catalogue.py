"""Sources of evidence and builders of networks: their options, columns and spaces.

A table without torch; `tests/semantics/test_catalogue.py` holds it against `jointkl.sources` and the emitted networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from jointkl.semantics.spaces import Space

OptionValue = int | float | str | bool | tuple[float, ...]
Type = Literal["integer", "number", "text", "flag"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: a number lies between `least` and `most`, and below `below`."""

    name: str
    type: Type
    default: OptionValue | None
    about: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    below: float | None = None


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source: what it is, its options, and the columns it gives, which may depend on the options.

    A source whose columns are None takes its spaces from the variables it is bound to.
    """

    name: str
    about: str
    options: tuple[Option, ...]
    columns: Callable[[Mapping[str, OptionValue]], tuple[Space, ...]] | None


def _columns(*spaces: Space) -> Callable[[Mapping[str, OptionValue]], tuple[Space, ...]]:
    return lambda options: spaces


def _digits(options: Mapping[str, OptionValue]) -> tuple[Space, ...]:
    kind = "unit" if options.get("threshold") is None else "binary"
    return (Space(kind, (1, 8, 8)), Space("finite", (), tuple(range(10))))


_N = Option("n", "integer", 100_000, "number of points", least=1, most=100_000_000)
_SEED = Option("seed", "integer", 0, "seed of the points", least=0)

SOURCES: dict[str, SourceRow] = {
    row.name: row
    for row in (
        SourceRow(
            "ring8",
            "eight Gaussians on a circle of radius 1",
            (Option("std", "number", 0.01, "standard deviation of each", least=0), _N, _SEED),
            _columns(Space("real", (2,)), Space("finite", (), tuple(range(8)))),
        ),
        SourceRow(
            "grid25",
            "twenty-five Gaussians on the grid {-4,-2,0,2,4} x {-4,-2,0,2,4}",
            (Option("std", "number", 0.05, "standard deviation of each", least=0), _N, _SEED),
            _columns(Space("real", (2,)), Space("finite", (), tuple(range(25)))),
        ),
        SourceRow(
            "digits",
            "1,797 handwritten digits, 8 x 8 pixels (scikit-learn's), and their classes",
            (
                Option("split", "text", "train", "which part", ("train", "test", "all")),
                Option("threshold", "number", None, "pixels above it are 1, the others 0"),
                Option("invert", "flag", False, "swap ink and paper"),
                Option("rotate", "number", 0.0, "turn by so many degrees"),
            ),
            _digits,
        ),
        SourceRow(
            "iris",
            "150 flowers, four measurements in cm (scikit-learn's), and their species",
            (),
            _columns(Space("real", (4,)), Space("finite", (), (0, 1, 2))),
        ),
        SourceRow(
            "wine",
            "178 wines, thirteen measurements (scikit-learn's), and their growers",
            (),
            _columns(Space("real", (13,)), Space("finite", (), (0, 1, 2))),
        ),
        SourceRow(
            "evidence",
            "supplied at run time: --data LABEL=FILE (.npy, .npz, .csv), or a tensor or Dataset from Python",
            (),
            None,
        ),
    )
}

ACTIVATIONS: dict[str, str] = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "softplus": "Softplus",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
}
"""Activations by name, each with its module of `torch.nn`."""


@dataclass(frozen=True, slots=True)
class BuilderRow:
    """A builder of networks: `widths` says whether it takes hidden sizes in brackets."""

    name: str
    about: str
    widths: bool
    options: tuple[Option, ...] = ()


_ACTIVATION = Option("activation", "text", "relu", "between the layers", tuple(ACTIVATIONS))

BUILDERS: dict[str, BuilderRow] = {
    row.name: row
    for row in (
        BuilderRow(
            "mlp",
            "linear layers of the widths given, an activation after each, and a last linear one",
            True,
            (_ACTIVATION,),
        ),
        BuilderRow("linear", "one linear layer", False, (Option("bias", "flag", True, "add a bias"),)),
    )
}

PLANNED_SOURCES = ("mnist", "fashion_mnist", "cifar10", "celeba", "svhn", "images")
"""Sources of the language that are not built yet."""

PLANNED_BUILDERS = ("conv", "deconv", "resnet", "python")
"""Builders of the language that are not built yet."""
