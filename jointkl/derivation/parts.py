"""What a derivation shows: the parts of a line, words and formulas, and the record of a rule that fired.

A formula is a value here, never text: `exposition` sets it, in every format alike, whatever the names in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from jointkl.derivation.expr import Atom, Body, Expectation, Label, LogFactor, Term
from jointkl.derivation.players import Player
from jointkl.semantics.model import Factor, Side

# --- formulas of atoms and terms


@dataclass(frozen=True, slots=True)
class Density:
    """An atom without its logarithm: `q(x|z)`."""

    atom: Atom


@dataclass(frozen=True, slots=True)
class Head:
    """weight * E path, as a line shows it, times the classifiers that weigh the sum."""

    weight: Fraction
    path: tuple[Factor, ...]
    weights: tuple[LogFactor, ...] = ()


@dataclass(frozen=True, slots=True)
class Braces:
    """{ sum of terms }"""

    terms: tuple[Term, ...]


# --- names, numbers and signs


@dataclass(frozen=True, slots=True)
class Name:
    """A variable, a net, a param or the label of a law by its name; in the law of a rule a letter, with its index."""

    name: str
    index: str = ""
    old: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A network applied to variables and values: `G(z)`."""

    net: str
    arguments: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Over:
    """A sum, an expectation and the like, and what it goes over: `sum_k`, `E_f`, or `E` alone."""

    operator: Literal["sum", "E", "mean", "argmin", "argmax"]
    index: str = ""


Sign = Literal[
    "=",
    ":=",
    "→",
    ">=",
    "+",
    "-",
    "neg",
    "x",
    " ",
    ",",
    "|",
    "||",
    "/",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "log",
    "log(",
    "exp(",
]
"""What stands between the parts of a formula; `neg` is a minus with nothing before it, ` ` what joins two factors."""

Symbol = (
    Density | Factor | Atom | Term | Head | Braces | Body | Expectation | Player | Side | Name | Call | Number | Over
)


@dataclass(frozen=True, slots=True)
class Formula:
    """Symbols and signs in a row: `x = G(z)`, `E_f{log f - log g}`."""

    pieces: tuple[Symbol | Sign, ...]


Part = str | Symbol | Formula
"""What a line of a derivation is made of: words and formulas."""

Line = tuple[Part, ...]


def formula(*pieces: Symbol | Sign) -> Formula:
    return Formula(pieces)


def spaced(symbols: Iterable[Symbol]) -> Formula:
    """Symbols side by side."""
    pieces: list[Symbol | Sign] = []
    for symbol in symbols:
        if pieces:
            pieces.append(" ")
        pieces.append(symbol)
    return Formula(tuple(pieces))


def listed(things: Iterable[Symbol | Formula], last: str = ", ") -> Line:
    """Formulas with commas between; before the last one stands `last`."""
    found = tuple(things)
    parts: list[Part] = []
    for i, thing in enumerate(found):
        between = () if i == 0 else (last,) if i == len(found) - 1 else (", ",)
        parts += (*between, thing)
    return tuple(parts)


# --- the record


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that fired: on which goal, for which player (None: for all), on which branch.

    `before` and `after` are the terms it changed; `cells` what a reader is told, each a run of words and formulas;
    `detail` further lines.
    """

    rule: str
    goal: int
    player: str | None = None
    label: Label | None = None
    cells: tuple[Line, ...] = ()
    detail: tuple[Line, ...] = ()
    before: tuple[Term, ...] = ()
    after: tuple[Term, ...] = ()
