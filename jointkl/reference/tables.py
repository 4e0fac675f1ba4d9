"""Functions of named variables over finite spaces: one dimension for each name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_STATES = 2_000_000
"""A table with more entries than this is not made."""


class TooLarge(Exception):
    """A joint has more states than can be summed over."""


@dataclass(frozen=True, slots=True)
class Table:
    """`values[i, j, ..]` is the function at the i-th value of the first name, the j-th of the second, .."""

    names: tuple[str, ...]
    values: Tensor

    def over(self, names: Sequence[str]) -> Tensor:
        """The values with dimensions in the order of `names`, of size one for names that the table lacks."""
        present = [n for n in names if n in self.names]
        if len(present) != len(self.names):
            raise ValueError(f"{self.names} are not all among {tuple(names)}")
        ordered = self.values.permute([self.names.index(n) for n in present])
        return ordered[tuple(slice(None) if n in self.names else None for n in names)]

    def summed(self, keep: Iterable[str]) -> Table:
        """All names but those of `keep` summed out."""
        wanted = set(keep)
        gone = [i for i, n in enumerate(self.names) if n not in wanted]
        return Table(tuple(n for n in self.names if n in wanted), self.values.sum(gone) if gone else self.values)

    def at(self, name: str, place: int) -> Table:
        """The function with one variable fixed at its value number `place`."""
        i = self.names.index(name)
        return Table(self.names[:i] + self.names[i + 1 :], self.values.select(i, place))

    def renamed(self, names: Mapping[str, str]) -> Table:
        return Table(tuple(names[n] for n in self.names), self.values)

    def times(self, number: float) -> Table:
        return Table(self.names, self.values * number)

    def detached(self) -> Table:
        return Table(self.names, self.values.detach())


ONE = Table((), torch.ones((), dtype=torch.float64))


def product(tables: Iterable[Table]) -> Table:
    """The product, a function of all the names. Raises `TooLarge`."""
    found = ONE
    for t in tables:
        names = (*found.names, *(n for n in t.names if n not in found.names))
        a, b = found.over(names), t.over(names)
        if math.prod(max(s, u) for s, u in zip(a.shape, b.shape, strict=True)) > MOST_STATES:
            raise TooLarge
        found = Table(names, a * b)
    return found


def total(tables: Sequence[Table]) -> Table:
    """The sum, a function of all the names."""
    names = tuple(dict.fromkeys(n for t in tables for n in t.names))
    values = torch.zeros((), dtype=torch.float64)
    for t in tables:
        values = values + t.over(names)
    return Table(names, values)


def mean(density: Table, f: Table) -> Tensor:
    """sum of density * f, where the density is positive: what has no mass has no say, be f infinite there."""
    p = density.summed(f.names)
    values = f.over(p.names)
    return torch.where(p.values > 0, p.values * torch.where(p.values > 0, values, 0.0), 0.0).sum()
