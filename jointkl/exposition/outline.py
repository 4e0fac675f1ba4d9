"""The record of a derivation put in order: goal by goal, player by player, the steps of a rule together.

Every format is written from an `Outline`, and an outline from the recorded steps alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import cast

from jointkl.derivation import parts
from jointkl.derivation.derive import table
from jointkl.derivation.expr import Expectation, Label, Sum, Term
from jointkl.derivation.facts import Facts
from jointkl.derivation.parts import Formula, Line, Name, Step
from jointkl.derivation.players import Player, round_order
from jointkl.derivation.record import Derivation
from jointkl.diagnostics import Report, printable
from jointkl.semantics.model import Divergence, Factor, Goal, Joint, Law, Target


@dataclass(frozen=True, slots=True)
class Row:
    """One step: where (the label's value), what is told, what became of the terms; a LOSS has its entries."""

    label: Label | None
    cells: tuple[Line, ...]
    detail: tuple[Line, ...]
    change: Line
    entries: tuple[Expectation, ...] = ()

    @property
    def told(self) -> tuple[Line, ...]:
        """The lines of the step: its cells as one, and the details."""
        if len(self.cells) < 2:
            return (*self.cells, *self.detail)
        columns = (p for cell in self.cells for p in cell if not isinstance(p, str | Formula))
        return ((parts.spaced(columns),), *self.detail)


@dataclass(frozen=True, slots=True)
class Group:
    """Steps in a row by the same rule, and its law where the section has not said it yet."""

    rule: str
    law: Line
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The steps for one player, or for all: `player` None. `role` is what follows the name: `, the critic`."""

    player: Player | None
    role: Line
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Chapter:
    """A goal: its words, where they stand, the joints that it names."""

    goal: str
    place: str
    sides: tuple[Formula, ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Outline:
    """A derivation in the order that it is read in: `losses` of those that have one, `laws` of the rules that fired."""

    name: str
    facts: Facts
    players: tuple[Player, ...]
    chapters: tuple[Chapter, ...]
    losses: tuple[tuple[Player, tuple[Expectation, ...]], ...]
    laws: tuple[tuple[str, Line], ...]
    warnings: tuple[Report, ...]

    @property
    def title(self) -> str:
        """The file's name without its folders."""
        return _last(self.name)

    def entries(self, player: Player) -> tuple[Expectation, ...]:
        return next((entries for p, entries in self.losses if p.name == player.name), ())


def outline(derivation: Derivation) -> Outline:
    """The record in the order that it is read in."""
    facts, steps, losses = derivation.facts, derivation.steps, derivation.losses
    known = {rule.name: rule.law for rule in table()}
    players = {p.name: (i, p) for i, p in enumerate(round_order(facts.players))}
    fed: dict[Target, list[Law]] = {}
    for law in facts.model.laws.values():
        for target in facts.feeds[law.key]:
            fed.setdefault(target, []).append(law)
    by_goal: list[list[Step]] = [[] for _ in facts.model.goals]
    for s in steps:
        by_goal[s.goal].append(s)
    chapters = tuple(
        Chapter(
            _words(goal), _place(goal), _sides(facts, goal), tuple(_sections(facts, by_goal[i], players, fed, known))
        )
        for i, goal in enumerate(facts.model.goals)
    )
    used = tuple(dict.fromkeys(s.rule for s in steps))
    return Outline(
        printable(facts.model.source.name),
        facts,
        tuple(p for _, p in players.values()),
        chapters,
        tuple((p, losses[p.name]) for _, p in players.values() if losses[p.name]),
        tuple((rule, known[rule]) for rule in used),
        derivation.warnings,
    )


def _sections(
    facts: Facts,
    steps: Sequence[Step],
    players: Mapping[str, tuple[int, Player]],
    fed: Mapping[Target, Sequence[Law]],
    laws: Mapping[str, Line],
) -> Iterator[Section]:
    """The steps of a goal: those for all, then each player's."""
    own: dict[str, list[Step]] = {}
    for s in steps:
        own.setdefault(s.player or "", []).append(s)
    yield Section(None, (), _groups(own.pop("", []), laws))
    for _, player in sorted((players[name] for name in own), key=lambda ranked: ranked[0]):
        yield Section(player, _role(facts, player, fed), _groups(own[player.name], laws))


def _groups(steps: Sequence[Step], laws: Mapping[str, Line]) -> tuple[Group, ...]:
    groups: list[Group] = []
    unsaid = dict(laws)
    for rule, run in groupby(steps, lambda step: step.rule):
        groups.append(Group(rule, unsaid.pop(rule, ()), tuple(map(_row, run))))
    return tuple(groups)


def _row(step: Step) -> Row:
    entries = tuple(p for cell in step.cells for p in cell if isinstance(p, Expectation))
    if entries:
        return Row(step.label, (), (), (), entries)
    return Row(step.label, step.cells, step.detail, _change(step))


def _change(step: Step) -> Line:
    """`before → after`; where only estimators were chosen, those. What starts from nothing is told by its step."""
    if not step.before:
        return ()
    if _plain(step.before) != _plain(step.after):
        if not step.after:
            return (parts.formula(Sum(step.before), "→"), " nothing")
        return (parts.formula(Sum(step.before), "→", Sum(step.after)),)
    told: list[parts.Part] = []
    for t in step.after:
        told += ["; " if told else "", t, f": {t.estimator}"]
    return tuple(told)


def _plain(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    return tuple(replace(t, estimator=None) for t in terms)


def said(warning: Report) -> Line:
    """A warning's message, in parts where it holds formulas."""
    return cast(Line, warning.said) or (warning.message,)


# --- headings


def _words(goal: Goal) -> str:
    """The goal as the spec writes it, on one line and without comments."""
    words = " ".join(line.split("#", 1)[0] for line in goal.span.text.split("\n")).split()
    return printable(" ".join(words))


def _place(goal: Goal) -> str:
    return f"{_last(printable(goal.span.source.name))}:{goal.span.line}"


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _sides(facts: Facts, goal: Goal) -> tuple[Formula, ...]:
    """The sides of a goal's divergences that have a name of their own, each once, with what they are."""
    named = {law.text: law for law in facts.model.laws.values() if isinstance(law.body, Joint)}
    found: list[Formula] = []
    for term in goal.terms:
        for divergence in (term,) if isinstance(term, Divergence) else term.terms:
            for side in (divergence.left, divergence.right):
                if side.text in named:
                    law = named[side.text]
                    found.append(parts.formula(Factor(law.key, law.outputs, law.givens), "=", side))
    return tuple(dict.fromkeys(found))


def _role(facts: Facts, player: Player, fed: Mapping[Target, Sequence[Law]]) -> Line:
    if player.kind == "critic":
        return (", the critic",)
    laws = facts.model.laws
    members = {law.key: law for m in player.members for law in fed.get(m, ())}
    own = sorted(members.values(), key=lambda law: law.span.start)
    shown = [laws[key] for key in player.laws] if player.kind == "classifier" else own
    factors = [Factor(law.key, law.outputs, law.givens) for law in shown if not isinstance(law.body, Joint)]
    word = ", the classifier " if player.kind == "classifier" else ", in "
    critics = (", and the critic ", *parts.listed(map(Name, player.critics))) if player.critics else ()
    return (*((word, *parts.listed(factors)) if factors else ()), *critics)
