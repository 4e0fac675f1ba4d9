"""Sources of evidence and builders of networks: their options, columns and spaces.

A table without torch; `tests/semantics/test_catalogue.py` holds it against `jointkl.sources` and the emitted networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from jointkl.semantics.spaces import Kind, Space

OptionValue = int | float | str | bool | tuple[float, ...]
Type = Literal["integer", "number", "text", "folder", "flag", "size"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: a number lies between `least` and `most`, and below `below`. A size is a whole number, or two of
    them, (height, width); a folder is a path on this machine."""

    name: str
    type: Type
    default: OptionValue | None
    about: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    below: float | None = None


@dataclass(frozen=True, slots=True)
class Open:
    """A column whose sizes are known only when it is read: its kind, what is said of it, and a space of that kind."""

    kind: Kind
    about: str
    example: Space

    def __str__(self) -> str:
        return self.about


Column = Space | Open


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source: what it is, its options, and the columns it gives, which may depend on the options.

    A source whose columns are None takes its spaces from the variables it is bound to. `takes` is the option that must
    be given, and stands first in the brackets, its name left out or not.
    """

    name: str
    about: str
    options: tuple[Option, ...]
    columns: Callable[[Mapping[str, OptionValue]], tuple[Column, ...]] | None
    takes: str = ""


def _columns(*columns: Column) -> Callable[[Mapping[str, OptionValue]], tuple[Column, ...]]:
    return lambda options: columns


def shape_of(size: OptionValue) -> tuple[int, int]:
    """Height and width that an option of type `size` says."""
    match size:
        case int():
            return size, size
        case (int() as height, int() as width):
            return height, width
        case _:
            raise ValueError(f"no size: {size!r}")


def _pictures(
    channels: int, height: int, width: int, *others: Column
) -> Callable[[Mapping[str, OptionValue]], tuple[Column, ...]]:
    """Images, before what else a source gives. They obey `size`, and `grey` or `threshold` where there is one."""

    def columns(options: Mapping[str, OptionValue]) -> tuple[Column, ...]:
        kind = "unit" if options.get("threshold") is None else "binary"
        size = shape_of(options["size"]) if "size" in options else (height, width)
        return (Space(kind, (1 if options.get("grey") else channels, *size)), *others)

    return columns


def _folder(options: Mapping[str, OptionValue]) -> tuple[Column, ...]:
    channels = 1 if options.get("grey") else 3
    if "size" in options:
        image: Column = Space("unit", (channels, *shape_of(options["size"])))
    else:
        image = Open("unit", f"unit[{channels},H,W]", Space("unit", (channels, 64, 64)))
    return (image, Open("finite", "{0..K-1}", _classes(10)))


def _coloured(options: Mapping[str, OptionValue]) -> tuple[Column, ...]:
    side = 8 if options.get("of") == "digits" else 28
    size = shape_of(options["size"]) if "size" in options else (side, side)
    colours = options.get("colours", COLOURS)
    assert isinstance(colours, int)
    return (Space("unit", (3, *size)), _classes(10), _classes(colours), Space("unit", (3,)))


def _classes(count: int) -> Space:
    return Space("finite", (), tuple(range(count)))


COLOURS = 10
"""How many colours `colour_mnist` has if nothing else is said."""

_N = Option("n", "integer", 100_000, "number of points", least=1, most=100_000_000)
_SEED = Option("seed", "integer", 0, "seed of the points", least=0, most=2**63 - 1)
_SPLIT = Option("split", "text", "train", "which part", ("train", "test", "all"))
_THRESHOLD = Option("threshold", "number", None, "pixels above it are 1, the others 0")
_SIZE = Option("size", "size", None, "scaled to so many pixels a side, or to [height, width]", least=1, most=4096)
_CROP = Option(
    "crop", "size", None, "first cut to so many pixels a side, or [height, width], centred", least=1, most=2**16
)
_GREY = Option("grey", "flag", False, "brightness alone: one channel")
_CACHE = Option("cache", "flag", False, "keep the decoded images in a file: disk for time, where memory is too small")
_ROOT = Option("root", "folder", None, "the folder it lies in; left out: $JOINTKL_DATA, else ~/.cache/jointkl")

SOURCES: dict[str, SourceRow] = {
    row.name: row
    for row in (
        SourceRow(
            "ring8",
            "eight Gaussians on a circle of radius 1",
            (Option("std", "number", 0.01, "standard deviation of each", least=0), _N, _SEED),
            _columns(Space("real", (2,)), _classes(8)),
        ),
        SourceRow(
            "grid25",
            "twenty-five Gaussians on the grid {-4,-2,0,2,4} x {-4,-2,0,2,4}",
            (Option("std", "number", 0.05, "standard deviation of each", least=0), _N, _SEED),
            _columns(Space("real", (2,)), _classes(25)),
        ),
        SourceRow(
            "digits",
            "1,797 handwritten digits, 8 x 8 pixels (scikit-learn's), and their classes",
            (
                _SPLIT,
                _THRESHOLD,
                Option("invert", "flag", False, "swap ink and paper"),
                Option("rotate", "number", 0.0, "turn by so many degrees"),
            ),
            _pictures(1, 8, 8, _classes(10)),
        ),
        SourceRow(
            "iris",
            "150 flowers, four measurements in cm (scikit-learn's), and their species",
            (),
            _columns(Space("real", (4,)), _classes(3)),
        ),
        SourceRow(
            "wine",
            "178 wines, thirteen measurements (scikit-learn's), and their growers",
            (),
            _columns(Space("real", (13,)), _classes(3)),
        ),
        SourceRow(
            "mnist",
            "70,000 handwritten digits, 60,000 of them to train (torchvision's), and their classes",
            (_SPLIT, _SIZE, _THRESHOLD, _ROOT),
            _pictures(1, 28, 28, _classes(10)),
        ),
        SourceRow(
            "fashion_mnist",
            "70,000 pieces of clothing, 60,000 of them to train (torchvision's), and their classes",
            (_SPLIT, _SIZE, _THRESHOLD, _ROOT),
            _pictures(1, 28, 28, _classes(10)),
        ),
        SourceRow(
            "cifar10",
            "60,000 photographs, 50,000 of them to train (torchvision's), and their classes",
            (_SPLIT, _SIZE, _GREY, _ROOT),
            _pictures(3, 32, 32, _classes(10)),
        ),
        SourceRow(
            "svhn",
            "99,289 house numbers, 73,257 of them to train, and 531,131 more (torchvision's), and their digits",
            (replace(_SPLIT, choices=("train", "test", "extra")), _SIZE, _GREY, _ROOT),
            _pictures(3, 32, 32, _classes(10)),
        ),
        SourceRow(
            "celeba",
            "202,599 faces, 162,770 of them to train (torchvision's), and their forty attributes, in its order",
            (
                replace(_SPLIT, choices=("train", "valid", "test", "all")),
                replace(_CROP, default=148),
                replace(_SIZE, default=64),
                _GREY,
                _CACHE,
                _ROOT,
            ),
            _pictures(3, 64, 64, Space("binary", (40,))),
        ),
        SourceRow(
            "colour_mnist",
            "digits in colour, their classes, their colours k, of hue k / colours (0 red, 1/3 green, 2/3 blue), and "
            "these as red, green and blue",
            (
                Option("of", "text", "mnist", "which digits are coloured", ("mnist", "digits")),
                Option("colours", "integer", COLOURS, "number of colours", least=1, most=256),
                Option(
                    "match",
                    "number",
                    0.0,
                    "share coloured by class, k = class * colours // 10; others: by chance",
                    least=0,
                    most=1,
                ),
                Option(
                    "spread",
                    "number",
                    0.0,
                    "how far hues vary about a colour's: 1 reaches the next ones",
                    least=0,
                    most=1,
                ),
                Option("paint", "text", "ink", "what is coloured, the rest being black", ("ink", "paper")),
                replace(_SEED, about="seed of the colours"),
                _SPLIT,
                _SIZE,
                _ROOT,
            ),
            _coloured,
        ),
        SourceRow(
            "images",
            "the images in a folder and below it, all of one size or scaled to one; the folders in it are classes",
            (Option("folder", "folder", None, "where they lie"), _SIZE, _CROP, _GREY, _CACHE),
            _folder,
            takes="folder",
        ),
        SourceRow(
            "evidence",
            "supplied at run time: --data LABEL=FILE (.npy, .npz, .csv, .parquet), or a tensor or Dataset from Python",
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
