"""Variables by what they are: one that the spec declares, or a copy of it, which is written with primes."""

from __future__ import annotations

from dataclasses import dataclass

from jointkl.semantics.model import base


@dataclass(frozen=True, slots=True, order=True)
class Variable:
    """A declared variable, or its `copy`-th copy: `x''` is Variable("x", 2)."""

    name: str
    copy: int = 0

    def __str__(self) -> str:
        return self.name + "'" * self.copy

    def further(self, copies: int) -> Variable:
        """The copy that comes so many after this one."""
        return Variable(self.name, self.copy + copies)


def variable(text: str) -> Variable:
    """What a name in a factor stands for."""
    name = base(text)
    return Variable(name, len(text) - len(name))


def fresh(name: str, taken: set[str]) -> str:
    """The first of `name` and its copies that is not taken; it is taken from then on."""
    found = variable(name)
    while str(found) in taken:
        found = found.further(1)
    taken.add(str(found))
    return str(found)
