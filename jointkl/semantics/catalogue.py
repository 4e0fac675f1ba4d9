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
    """A builder of networks: its `options`, and what stands before them in brackets.

    `takes`: any widths, at least one, none, or the text that names a class. What a class is given by
    name it takes as it is.
    """

    name: str
    about: str
    takes: Literal["widths", "one width or more", "nothing", "class"]
    options: tuple[Option, ...] = ()


NORMS = ("none", "batch", "layer", "spectral")
"""Normalisations. `batch` takes its statistics over all rows of one call: data, copies and enumerated values alike."""

_ACTIVATION = Option("activation", "text", "relu", "between the layers", tuple(ACTIVATIONS))
_NORM = Option("norm", "text", "none", "before each activation; spectral: of every layer's weights", NORMS)
_DROPOUT = Option("dropout", "number", 0.0, "share of numbers left out behind each activation", least=0, below=1)
_KERNEL = Option("kernel", "integer", 4, "height and width of each kernel", least=1)
_STRIDE = Option("stride", "integer", 2, "each width makes the image so many times smaller", least=1)
_HIDDEN = Option("hidden", "integer", None, "one more linear layer, before the last", least=1)

BUILDERS: dict[str, BuilderRow] = {
    row.name: row
    for row in (
        BuilderRow(
            "mlp",
            "linear layers of the widths given, an activation after each, and a last linear one",
            "widths",
            (_ACTIVATION, _NORM, _DROPOUT),
        ),
        BuilderRow(
            "linear",
            "one linear layer",
            "nothing",
            (Option("bias", "flag", True, "add a bias"), Option("norm", "text", "none", "of it", ("none", "spectral"))),
        ),
        BuilderRow(
            "conv",
            "an image through convolutions with the channels given, then linear; further inputs join behind the image",
            "one width or more",
            (_ACTIVATION, _NORM, _DROPOUT, _KERNEL, _STRIDE, _HIDDEN),
        ),
        BuilderRow(
            "deconv",
            "linear to a small map, then transposed convolutions from the channels given up to an image",
            "one width or more",
            (_ACTIVATION, _NORM, _DROPOUT, _KERNEL, _STRIDE),
        ),
        BuilderRow(
            "resnet",
            "residual blocks of the widths given, convolutional on an image, linear on anything else; then linear",
            "one width or more",
            (
                _ACTIVATION,
                _NORM,
                _DROPOUT,
                Option("blocks", "integer", 1, "residual blocks of each width", least=1, most=64),
                _STRIDE,
                _HIDDEN,
            ),
        ),
        BuilderRow(
            "python",
            'your own torch.nn.Module, named "package.module:Class" and made by Class(inputs, outputs, **options)',
            "class",
        ),
    )
}
"""Builders by name.

A class named in `python("package.module:Class", hidden=64)` is made by `Class(inputs, outputs, hidden=64)`. It maps a
tensor (N, *inputs) to (N, *outputs): `inputs` is (C, H, W) for an image alone, else (n,), all inputs side by side;
`outputs` is (C, H, W) for an image, several heads being its channels, else (n,).
"""

PLANNED_SOURCES = ("mnist", "fashion_mnist", "cifar10", "celeba", "svhn", "images")
"""Sources of the language that are not built yet."""
