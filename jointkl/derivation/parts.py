"""What a derivation shows: the parts of a line, words and formulas, and the record of a rule that fired.

A formula is a value here, never text: `exposition` sets it, in every format alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from jointkl.derivation.expr import Atom, Entry, Label, LogFactor, Term
from jointkl.semantics.model import Factor


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


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of terms without brackets."""

    terms: tuple[Term, ...]


Part = str | Factor | Atom | Term | Head | Braces | Sum | Entry
"""What a line of a derivation is made of: words and formulas."""


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
    cells: tuple[tuple[Part, ...], ...] = ()
    detail: tuple[tuple[Part, ...], ...] = ()
    before: tuple[Term, ...] = ()
    after: tuple[Term, ...] = ()
