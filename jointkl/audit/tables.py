"""Tables over named variables: products, sums and slices of finite densities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_STATES = 2_000_000
"""A joint of more states than this is not summed over."""


@dataclass(frozen=True, slots=True)
class Table:
    """A function of named variables: one dimension for each name."""

    names: tuple[str, ...]
    values: Tensor


class TooLarge(Exception):
    """The joint has more states than can be summed over."""


def product(tables: Iterable[Table]) -> Table:
    """The product over the union of the names."""
    found: Table | None = None
    for t in tables:
        if found is None:
            found = t
            continue
        names = (*found.names, *(n for n in t.names if n not in found.names))
        if 2 ** len(names) > MOST_STATES:
            raise TooLarge
        a, b = _broadcast(found, names), _broadcast(t, names)
        if math.prod(max(s, u) for s, u in zip(a.shape, b.shape, strict=True)) > MOST_STATES:
            raise TooLarge
        found = Table(names, a * b)
    return found or Table((), torch.ones((), dtype=torch.float64))


def _broadcast(t: Table, names: Sequence[str]) -> Tensor:
    """The values with a dimension of size one for each name that the table lacks."""
    present = [n for n in names if n in t.names]
    values = t.values.permute([t.names.index(n) for n in present])
    shape = [values.shape[present.index(n)] if n in t.names else 1 for n in names]
    return values.reshape(shape)


def summed(t: Table, keep: set[str]) -> Table:
    """All names but `keep` summed out."""
    gone = [i for i, n in enumerate(t.names) if n not in keep]
    names = tuple(n for n in t.names if n in keep)
    return Table(names, t.values.sum(gone) if gone else t.values)


def aligned(t: Table, names: Sequence[str]) -> Table:
    """The same table with its names in this order."""
    return Table(tuple(names), t.values.permute([t.names.index(n) for n in names]))


def spread(t: Table, names: Sequence[str], size: Callable[[str], int]) -> Table:
    """The table with further names that it does not depend on."""
    missing = [n for n in names if n not in t.names]
    shape = [size(n) for n in missing]
    values = t.values.reshape(*[1] * len(missing), *t.values.shape).expand(*shape, *t.values.shape)
    return Table((*missing, *t.names), values)


def scaled(t: Table, factor: float) -> Table:
    return Table(t.names, t.values * factor)


def added(tables: Sequence[Table]) -> Table:
    """The sum of tables over the same names in the same order."""
    total = tables[0].values
    for t in tables[1:]:
        total = total + aligned(t, tables[0].names).values
    return Table(tables[0].names, total)


def added_all(tables: Sequence[Table]) -> Table:
    """The sum of tables over the union of their names."""
    names = tuple(dict.fromkeys(n for t in tables for n in t.names))
    total: Tensor | None = None
    for t in tables:
        total = _broadcast(t, names) if total is None else total + _broadcast(t, names)
    assert total is not None
    return Table(names, total)


def fixed(t: Table, name: str, place: int) -> Table:
    """The table at one value of a name."""
    i = t.names.index(name)
    return Table(tuple(n for n in t.names if n != name), t.values.select(i, place))


def detached(t: Table) -> Table:
    return Table(t.names, t.values.detach())
