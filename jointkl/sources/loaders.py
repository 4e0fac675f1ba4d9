"""The sources that are built in: the loader behind each row of `semantics.catalogue.SOURCES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from jointkl.semantics.catalogue import SOURCES, Option, OptionValue, Type
from jointkl.sources import colours, images, scikit, source_errors, synthetic, vision
from jointkl.sources.request import Loader, Request
from jointkl.sources.streams import Array, held

LOADERS: dict[str, Loader] = {
    "ring8": synthetic.ring8,
    "grid25": synthetic.grid25,
    "digits": scikit.digits,
    "iris": scikit.iris,
    "wine": scikit.wine,
    "mnist": vision.mnist,
    "fashion_mnist": vision.fashion_mnist,
    "cifar10": vision.cifar10,
    "svhn": vision.svhn,
    "celeba": vision.celeba,
    "colour_mnist": colours.colour_mnist,
    "images": images.images,
}


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TYPES: dict[Type, tuple[str, Callable[[object], bool]]] = {
    "integer": ("a whole number", _whole),
    "number": ("a finite number", lambda v: (isinstance(v, float) and math.isfinite(v)) or _whole(v)),
    "text": ("text", lambda v: isinstance(v, str)),
    "folder": ("text", lambda v: isinstance(v, str)),
    "flag": ("true or false", lambda v: isinstance(v, bool)),
    "size": (
        "a whole number or two, height and width",
        lambda v: _whole(v) or (isinstance(v, tuple | list) and len(v) == 2 and all(map(_whole, v))),
    ),
}


def load(
    source: str, options: Mapping[str, OptionValue], *, columns: Sequence[int] | None = None, download: bool = False
) -> tuple[Array, ...]:
    """The columns of a source built in, all or those wanted, each (N, *shape of its space in the catalogue).

    Numbers are float32; a finite column is int64 and holds the values themselves. Options left out take the
    catalogue's defaults. What is larger than `streams.LARGE` is a stream. Only with `download` is anything fetched.
    Raises `DataError` for a source or option that does not exist, a value it cannot have, or data that are not there.
    """
    row = SOURCES.get(source)
    whole = range(0 if row is None or row.columns is None else len(row.columns({})))
    wanted = tuple(whole if columns is None else columns)
    found = load_for(f"source `{source}`", source, options, wanted, download)
    return tuple(held(found[i]) for i in wanted)


def load_for(
    where: str, source: str, options: Mapping[str, OptionValue], columns: tuple[int, ...], download: bool = False
) -> tuple[Array, ...]:
    """`load` for these columns, its messages headed by `where`; small streams are left as they are."""
    if source not in LOADERS:
        raise source_errors.unknown_source(source, LOADERS)
    row = SOURCES[source]
    known = {option.name: option for option in row.options}
    for name, value in options.items():
        if name not in known:
            raise source_errors.unknown_option(where, name, list(known))
        _verify(where, known[name], value)
    if row.takes and row.takes not in options:
        raise source_errors.missing_option(where, known[row.takes])
    chosen = {name: options.get(name, option.default) for name, option in known.items()}
    return LOADERS[source](Request(source, where, chosen, columns, download))


def _verify(where: str, option: Option, value: OptionValue) -> None:
    if option.choices:
        if value not in option.choices:
            raise source_errors.wrong_option(where, option, ", ".join(option.choices), value)
        return
    expected, holds = TYPES[option.type]
    if not holds(value):
        raise source_errors.wrong_option(where, option, expected, value)
    low = -math.inf if option.least is None else option.least
    high = math.inf if option.most is None else option.most
    numbers = value if isinstance(value, tuple | list) else (value,)
    if any(isinstance(n, int | float) and not low <= n <= high for n in numbers):
        bounds = f"from {low} to {high}" if math.isfinite(high) else f"of at least {low}"
        raise source_errors.wrong_option(where, option, f"{expected} {bounds}", value)
