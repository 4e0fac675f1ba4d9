"""Spaces of values, as `torch.distributions.constraints` names them, without importing torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["real", "positive", "unit", "binary", "natural", "simplex", "cholesky", "finite"]

KINDS: tuple[Kind, ...] = ("real", "positive", "unit", "binary", "natural", "simplex", "cholesky")
"""The spaces that a spec names; a finite one is written by its values."""

WITHIN: dict[Kind, frozenset[Kind]] = {
    "real": frozenset({"real"}),
    "positive": frozenset({"positive", "real"}),
    "unit": frozenset({"unit", "real"}),
    "binary": frozenset({"binary", "unit", "natural", "real"}),
    "natural": frozenset({"natural", "real"}),
    "simplex": frozenset({"simplex", "unit", "real"}),
    "cholesky": frozenset({"cholesky"}),
    "finite": frozenset({"finite"}),
}
"""Each kind with the kinds whose values include its own."""

CONSTRAINT: dict[Kind, str] = {
    "real": "real",
    "positive": "positive",
    "unit": "unit_interval",
    "binary": "boolean",
    "natural": "nonnegative_integer",
    "simplex": "simplex",
    "cholesky": "lower_cholesky",
}
"""The name of each kind among `torch.distributions.constraints`."""

DISCRETE: frozenset[Kind] = frozenset({"binary", "natural", "finite"})


@dataclass(frozen=True, slots=True)
class Space:
    """`real[2,3]` is `Space("real", (2, 3))`; `{0..9}` is `Space("finite", (), (0, ..., 9))`."""

    kind: Kind
    dims: tuple[int, ...] = ()
    values: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one value: `cholesky[.., n]` holds n x n matrices."""
        return (*self.dims, self.dims[-1]) if self.kind == "cholesky" and self.dims else self.dims

    @property
    def size(self) -> int:
        """Numbers in one value."""
        return math.prod(self.shape)

    @property
    def width(self) -> int:
        """Numbers that a network sees of one value: a finite one enters one-hot."""
        return len(self.values) if self.kind == "finite" else self.size

    @property
    def discrete(self) -> bool:
        return self.kind in DISCRETE

    @property
    def support(self) -> int | None:
        """How many values there are, or None if they cannot be counted, or nobody would."""
        match self.kind:
            case "finite":
                return len(self.values)
            case "binary" if self.size < 64:
                return 2**self.size
            case _:
                return None

    def __str__(self) -> str:
        if self.kind == "finite":
            first, last = self.values[0], self.values[-1]
            consecutive = last - first + 1 == len(self.values) > 2 and self.values == tuple(range(first, last + 1))
            inner = f"{first}..{last}" if consecutive else ", ".join(map(str, self.values))
            return "{" + inner + "}"
        return self.kind + (f"[{','.join(map(str, self.dims))}]" if self.dims else "")


def contains(space: Space, kind: Kind) -> bool:
    """Do values of `kind` lie in `space`? A finite `{0, 1}` takes binary ones and the reverse."""
    if space.kind == "finite":
        return kind == "finite" or (kind == "binary" and space.values == (0, 1))
    return space.kind in WITHIN[kind]


def fits(space: Space, other: Space) -> bool:
    """Do all values of `other` lie in `space`, their shapes aside? Finite values are known by their place."""
    return contains(space, other.kind) and (other.kind != "finite" or space.values == other.values)
