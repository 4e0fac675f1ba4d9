"""What was read, shared out among the variables of a law."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from jointkl.semantics.spaces import Space
from jointkl.sources import errors
from jointkl.sources.checks import stored
from jointkl.sources.streams import Array, each


@dataclass(frozen=True, slots=True)
class Named:
    """Arrays by name: an .npz file, a dict."""

    arrays: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Listed:
    """Arrays in the order of the variables, or a single one for all of them."""

    arrays: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table (N, columns) whose columns have names."""

    header: tuple[str, ...]
    values: Array


Rows = Named | Listed | Table


def assign(rows: Rows, place: errors.Place) -> tuple[Array, ...]:
    """One checked column per variable of the law, as `Bound.columns` holds them, all of one length."""
    parts = shared(rows, place)
    columns = tuple(
        stored(_fitted(part, space, place.of(name)), space, place.of(name))
        for part, (name, space) in zip(parts, place.outputs, strict=True)
    )
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise errors.unequal_lengths(place, zip(place.names, lengths, strict=True))
    return columns


def shared(rows: Rows, place: errors.Place) -> Sequence[Array]:
    """One array per variable of the law, as it was read."""
    match rows:
        case Named(arrays):
            return _by_position([arrays[name] for name in place.chosen(arrays)], place)
        case Listed(arrays):
            return _by_position(arrays, place)
        case Table(header, values):
            return _by_header(header, values, place)


def _by_position(arrays: Sequence[Array], place: errors.Place) -> Sequence[Array]:
    if len(arrays) == len(place.outputs):
        return arrays
    if len(arrays) == 1:
        return _split(arrays[0], place)
    raise errors.wrong_count(place, len(arrays))


def _split(array: Array, place: errors.Place) -> Sequence[Array]:
    """The columns of one array, as many for each variable as it is wide."""
    sizes = [space.size for _, space in place.outputs]
    if not array.shape or not array.shape[0]:
        raise errors.no_rows(place, array.shape)
    if len(array.shape) != 2 or array.shape[1] != sum(sizes):
        raise errors.wrong_total(place, array.shape)
    edges = pairwise(accumulate(sizes, initial=0))
    return [_taken(array, range(start, end)) for start, end in edges]


def _taken(array: Array, columns: Sequence[int]) -> Array:
    """These columns of a table (N, width)."""
    which = slice(columns.start, columns.stop) if isinstance(columns, range) else list(columns)
    return each(array, (len(columns),), lambda rows: rows[:, which])


def _by_header(header: Sequence[str], values: Array, place: errors.Place) -> Sequence[Array]:
    """By name if every variable has as many columns of its name as it is wide, else by position.

    By position no column may go to another variable than the one it is named after, or before one of a lower number.
    """
    columns = {name: _columns(name, header, place.names) for name in place.names}
    if _named(columns, place):
        return [_taken(values, columns[name]) for name in place.names]
    edges = list(accumulate((space.size for _, space in place.outputs), initial=0))
    for (start, end), taker in zip(pairwise(edges), place.names, strict=True):
        for index, cell in enumerate(header[start:end], start):
            if any(index in columns[owner] for owner in place.names if owner != taker):
                raise errors.clashing_header(place, cell, taker)
        for index, right in zip(sorted(columns[taker]), columns[taker], strict=True):
            if index != right:
                raise errors.clashing_header(place, header[index], header[right])
    return _by_position((values,), place)


def needed(header: Sequence[str], place: errors.Place) -> tuple[str, ...]:
    """The columns of a table that the law takes, each once: those named as its variables, or all if they do not do."""
    columns = {name: _columns(name, header, place.names) for name in place.names}
    taken = [header[i] for name in place.names for i in columns[name]] if _named(columns, place) else header
    return tuple(dict.fromkeys(taken))


def _named(columns: Mapping[str, Sequence[int]], place: errors.Place) -> bool:
    """Has every variable as many columns of its name as it is wide?"""
    return all(len(columns[name]) == space.size for name, space in place.outputs)


def _columns(name: str, header: Sequence[str], names: Sequence[str]) -> list[int]:
    """The columns headed `x`; if there are none, those headed `x0`, `x_1`, `x.2` or `x[3]`, by their number."""
    exact = [i for i, cell in enumerate(header) if cell == name]
    numbered = re.compile(re.escape(name) + r"[_.\[]?(\d+)\]?")
    found = [(int(m[1]), i) for i, cell in enumerate(header) if cell not in names and (m := numbered.fullmatch(cell))]
    return exact or [i for _, i in sorted(found)]


def _fitted(array: Array, space: Space, place: errors.Place) -> Array:
    """An array reshaped to (N, *space.shape), if its rows have as many numbers."""
    shape = tuple(array.shape)
    if not shape or not shape[0]:
        raise errors.no_rows(place, shape)
    width = math.prod(shape[1:])
    if width != space.size:
        raise errors.wrong_width(place, space, shape, width)
    given, wanted = ([n for n in axes if n > 1] for axes in (shape[1:], space.shape))
    if given != wanted and sorted(given) == sorted(wanted):
        raise errors.moved_axes(place, space, shape)
    return each(array, space.shape, lambda rows: rows.reshape(len(rows), *space.shape))
