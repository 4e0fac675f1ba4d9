"""The machinery: a rule is a row, its function says what becomes of an entry or that it does not apply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from jointkl.derivation.expr import Expectation, Labelled, Logit, Share, Term
from jointkl.derivation.facts import Facts
from jointkl.derivation.parts import Line, Step
from jointkl.derivation.players import Player
from jointkl.diagnostics import Report
from jointkl.semantics.model import Divergence, Goal


@dataclass(frozen=True, slots=True)
class Ratio:
    """One planned ratio l = log reference/moving: the terms it replaces, and the samples it is learned from.

    `moving` and `reference` are one term each, or for a ratio over the whole joint all of log a and all of log b.
    """

    logit: Logit
    moving: tuple[Term, ...]
    reference: tuple[Term, ...]
    moving_paths: tuple[Share, ...]
    reference_paths: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class RuleContext:
    """One player's view of one term of a goal. `counts`: the player moves the hinge or the function that it stands
    in, so that whatever has a value counts."""

    facts: Facts
    player: Player
    goal: Goal
    divergence: Divergence
    labelled: Labelled | None
    entries: tuple[Expectation, ...]
    ratio: Ratio | None = None
    counts: bool = False

    @property
    def is_judge(self) -> bool:
        """Is this term the player's own classification? (By `over` a classifier, or what shares a network with it, may
        be trained by other terms too, and by those as anybody is.)"""
        return self.labelled is not None and self.labelled.classifier.law in self.player.laws


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a rule made of an entry, and what it tells the reader: on its line, on further ones, as warnings."""

    entry: Expectation
    cells: tuple[Line, ...] = ()
    detail: tuple[Line, ...] = ()
    warnings: tuple[Report, ...] = ()


Apply = TypeVar("Apply", bound=Callable[..., object], covariant=True)


@dataclass(frozen=True, slots=True)
class Rule(Generic[Apply]):
    """A row: the name printed, the law it stands for in words and formulas, and the function, which gives None where it
    does not apply."""

    name: str
    law: Line
    apply: Apply


EntryRule = Rule[Callable[[RuleContext, Expectation], Rewrite | None]]
"""What is done to one entry for one player."""


def step(rule: Rule[Callable[..., object]], player: str | None, before: Expectation, made: Rewrite) -> Step:
    """The record of a rule that fired: only the terms it changed."""
    old, new = set(before.terms), set(made.entry.terms)
    return Step(
        rule.name,
        before.goal,
        player,
        before.label,
        made.cells,
        made.detail,
        tuple(t for t in before.terms if t not in new),
        tuple(t for t in made.entry.terms if t not in old),
    )
