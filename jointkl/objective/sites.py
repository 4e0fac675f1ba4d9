"""What Pyro programs draw: sites, evidence, and mixtures of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jointkl.semantics.model import Law
from jointkl.semantics.spaces import Space


@dataclass(frozen=True, slots=True)
class Site:
    """One variable drawn from a function at values of variables, or at a label's place. A Dirac has no `family`;
    `density` is the function that it is observed by, if that is another.

    `summed`: it is finite, and enumerated. `shared`: a global.
    """

    variable: str
    space: Space
    function: str
    arguments: tuple[str | float, ...]
    density: str = ""
    family: str = ""
    summed: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Supplied:
    """What is taken from evidence: for each variable the key of a batch."""

    keys: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Mixture:
    """A mixture among what is drawn: its label with its values in order and their shares, each branch under its value,
    and the outputs, with their event dimensions, that take their values from the branches."""

    label: str
    values: tuple[int, ...]
    shares: tuple[float, ...]
    outputs: tuple[tuple[str, int], ...]
    branches: tuple[tuple[int, tuple[Drawn, ...]], ...]


Drawn = Site | Supplied | Mixture
"""What stands in a product, in sampling order."""


@dataclass(frozen=True, slots=True)
class Passed:
    """An argument of a program, by its key: a given, evidence, or a value that may have been observed."""

    key: str
    required: bool
    shared: bool


@dataclass(frozen=True, slots=True)
class Program:
    """What a joint or a law draws, and what of it is returned. `branch` is the label's value where it is one branch of
    the mixture `law`.

    `sources` are the evidence laws whose size is N for its globals, None without globals; `local`: it has variables
    for each datum.
    """

    law: Law
    key: str
    told: str
    arguments: tuple[Passed, ...]
    drawn: tuple[Drawn, ...]
    head: tuple[str, ...]
    branch: int | None = None
    sources: tuple[str, ...] | None = None
    local: bool = True


def every(drawn: Iterable[Drawn]) -> Iterator[Site | Supplied]:
    """All that is drawn, mixtures' branches included."""
    for d in drawn:
        if isinstance(d, Mixture):
            for _, inner in d.branches:
                yield from every(inner)
        else:
            yield d
