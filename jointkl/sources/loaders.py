"""The sources that are built in: the loader behind each row of `semantics.catalogue.SOURCES`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from jointkl.semantics.catalogue import PLANNED_SOURCES, SOURCES, Option, OptionValue, Type
from jointkl.sources import errors, scikit, synthetic

Options = Mapping[str, OptionValue | None]
Loader = Callable[[Options], tuple[Tensor, ...]]

LOADERS: dict[str, Loader] = {
    "ring8": synthetic.ring8,
    "grid25": synthetic.grid25,
    "digits": scikit.digits,
    "iris": scikit.iris,
    "wine": scikit.wine,
}

TYPES: dict[Type, tuple[str, Callable[[object], bool]]] = {
    "integer": ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "number": (
        "a finite number",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v),
    ),
    "text": ("text", lambda v: isinstance(v, str)),
    "flag": ("true or false", lambda v: isinstance(v, bool)),
}

LIMITS: dict[str, tuple[float, float]] = {
    "n": (1, 100_000_000),
    "std": (0, math.inf),
    "seed": (0, 2**63 - 1),
}
"""Smallest and largest value of an option, whichever source has it."""


def load(source: str, options: Mapping[str, OptionValue]) -> tuple[Tensor, ...]:
    """The columns of a source built in, all its rows, each (N, *shape of its space in the catalogue).

    Numbers are float32; a finite column is int64 and holds the values themselves. Options left out take the
    catalogue's defaults. Raises `DataError` for a source or option that does not exist, or a value it cannot have.
    """
    return load_for(f"source `{source}`", source, options)


def load_for(where: str, source: str, options: Mapping[str, OptionValue]) -> tuple[Tensor, ...]:
    """`load`, its messages headed by `where`."""
    if source not in LOADERS:
        raise errors.unknown_source(source, LOADERS, PLANNED_SOURCES)
    known = {option.name: option for option in SOURCES[source].options}
    for name, value in options.items():
        if name not in known:
            raise errors.unknown_option(where, name, list(known))
        _verify(where, known[name], value)
    return LOADERS[source]({name: options.get(name, option.default) for name, option in known.items()})


def _verify(where: str, option: Option, value: OptionValue) -> None:
    if option.choices:
        if value not in option.choices:
            raise errors.wrong_option(where, option, ", ".join(option.choices), value)
        return
    expected, holds = TYPES[option.type]
    if not holds(value):
        raise errors.wrong_option(where, option, expected, value)
    low, high = LIMITS.get(option.name, (-math.inf, math.inf))
    if isinstance(value, int | float) and not low <= value <= high:
        bounds = f"from {low} to {high}" if math.isfinite(high) else f"of at least {low}"
        raise errors.wrong_option(where, option, f"{expected} {bounds}", value)
