"""The record of a derivation as text: what fired, goal by goal, player by player. Nothing is said that no step says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from jointkl.derivation.expr import Entry, Label, Step
from jointkl.derivation.facts import Facts
from jointkl.derivation.notation import atom, factor, line, number, total
from jointkl.derivation.players import Player
from jointkl.semantics.model import Dirac, Divergence, Factor, Goal, Joint, Model, NetCall, Side

_RULE, _LABEL = 9, 6
"""Widths of the first two columns."""


def text(
    facts: Facts, steps: tuple[Step, ...], losses: Mapping[str, tuple[Entry, ...]], players: Sequence[Player]
) -> str:
    """The whole derivation, ending in each player's loss."""
    blocks: list[list[str]] = []
    for i, goal in enumerate(facts.model.goals):
        shared = [s for s in steps if s.goal == i and s.player is None]
        blocks.append([*_goal_header(facts.model, goal), "", *_rows(facts, shared)])
        for player in players:
            own = [s for s in steps if s.goal == i and s.player == player.name]
            if own:
                blocks.append([_player_header(facts, player), *_rows(facts, own)])
    if len(facts.model.goals) > 1:
        blocks.append(list(_summary(facts, losses, players)))
    return "\n\n".join("\n".join(b) for b in blocks)


def _goal_header(model: Model, goal: Goal) -> list[str]:
    words = (
        " ".join(goal.span.text.split("#", 1)[0].split()) if "\n" not in goal.span.text else _squeezed(goal.span.text)
    )
    place = f"{goal.span.source.name.rsplit('/', 1)[-1]}:{goal.span.line}"
    header = f"{words:<80} {place}"
    lines: dict[str, None] = {}
    for term in goal.terms:
        for divergence in term.terms if not isinstance(term, Divergence) else (term,):
            for side in (divergence.left, divergence.right):
                told = _side(model, side)
                if told:
                    lines[told] = None
    return [header, *(f"    {told}" for told in lines)]


def _squeezed(source: str) -> str:
    return " ".join(" ".join(part.split("#", 1)[0].split()) for part in source.split("\n")).strip()


def _side(model: Model, side: Side) -> str:
    """`q(x,y) = { y=1: 1/2 data(x);  y=0: 1/2 ∫ q(z) q(x|z) dz }`, for a side that has a name of its own."""
    joint = side.joint
    if joint.label is None:
        shown = product(joint.branches[0].factors, side.head)
        return f"{side.text} = {shown}" if shown != side.text else ""
    branches = [
        f"{b.label}={b.value}: {number(b.weight)} {product(b.factors, tuple(v for v in side.head if v != b.label))}"
        for b in joint.branches
    ]
    return f"{side.text} = {{ {';  '.join(branches)} }}"


def product(factors: tuple[Factor, ...], visible: tuple[str, ...]) -> str:
    hidden = [v for f in factors for v in f.outputs if v not in visible]
    shown = line(tuple(p for i, f in enumerate(factors) for p in ((" ", f) if i else (f,))))
    return f"∫ {shown}{''.join(f' d{v}' for v in hidden)}" if hidden else shown


def _player_header(facts: Facts, player: Player) -> str:
    if player.kind == "classifier":
        laws = ", ".join(facts.model.laws[k].text for k in player.laws)
        return f"player {player.name}, the classifier {laws}"
    if player.kind == "critic":
        return f"player {player.name}, the critic"
    own = [
        law.text for k, law in facts.model.laws.items() if not isinstance(law.body, Joint) and _feeds(facts, player, k)
    ]
    return f"player {player.name}, in {', '.join(own)}" if own else f"player {player.name}"


def _feeds(facts: Facts, player: Player, key: str) -> bool:
    return not facts.feeds[key].isdisjoint(player.members)


def _rows(facts: Facts, steps: Sequence[Step]) -> Iterator[str]:
    """Three columns: the rule, the label's value, what it did. A rule's name stands once for a run of its steps."""
    previous = ""
    aligned = _alignment(steps)
    for s in steps:
        name = s.rule if s.rule != previous else ""
        previous = s.rule
        told = [loss(facts, s)] if s.rule == "LOSS" else []
        if s.rule != "LOSS":
            if s.cells:
                told.append(
                    "  ".join(line(c).ljust(w) for c, w in zip(s.cells, aligned[s.rule], strict=False)).rstrip()
                )
            told += [line(d) for d in s.detail]
        label = _label(s.label)
        if len(name) > _RULE - 1:
            yield f"  {name}"
            name = ""
        for i, row in enumerate(told):
            first = f"  {name if not i else '':<{_RULE}}{label if not i else '':<{_LABEL}}"
            yield first + row


def _label(label: Label | None) -> str:
    return f"{label[0]}={label[1]}" if label is not None else ""


def _alignment(steps: Sequence[Step]) -> dict[str, list[int]]:
    """For each rule the width of each of its columns."""
    widths: dict[str, list[int]] = {}
    for s in steps:
        if s.rule == "LOSS":
            continue
        known = widths.setdefault(s.rule, [])
        for i, cell in enumerate(s.cells):
            width = len(line(cell))
            if i < len(known):
                known[i] = max(known[i], width)
            else:
                known.append(width)
    return widths


def loss(facts: Facts, s: Step) -> str:
    entries = [p for cell in s.cells for p in cell if isinstance(p, Entry)]
    return formula(facts, entries)


def formula(facts: Facts, entries: Sequence[Entry]) -> str:
    """A player's loss: `E data(x) {-log p(1|x)} + E q(z) q(x|z) {-log p(0|x)}`; a hinge holds its entries."""
    parts: list[tuple[bool, str]] = [(e.weight < 0, _expectation(facts, e)) for e in entries if e.hinge is None]
    hinges = dict.fromkeys(e.hinge for e in entries if e.hinge is not None)
    for hinge in hinges:
        inside = [(e.weight < 0, _expectation(facts, e)) for e in entries if e.hinge == hinge]
        size = f"{number(abs(hinge.weight))} " if abs(hinge.weight) != 1 else ""
        parts.append((hinge.weight < 0, f"{size}max(0, {number(hinge.margin)}{_signed(inside, first=False)})"))
    return _signed(parts, first=True)


def _signed(parts: Sequence[tuple[bool, str]], *, first: bool) -> str:
    text = ""
    for negative, shown in parts:
        joined = (" - " if negative else " + ") if text or not first else ("-" if negative else "")
        text += joined + shown
    return text


def _expectation(facts: Facts, e: Entry) -> str:
    """weight E path {terms}; a Dirac that the gradient goes through is written out: E q(z) {-log p(1|G(z))}."""
    if e.free is not None:
        return f"softmax_{e.free.outputs[0]}({total(tuple(replace(t, coefficient=-t.coefficient) for t in e.terms))})"
    through = _written_out(facts, e)
    path = tuple(f for f in e.path if f.outputs[0] not in through)
    inner = _bracketed(e)
    for v, written in through.items():
        inner = _substituted(inner, v, written)
    summed = [f for f in path if f.outputs[0] in e.enumerated]
    size = f"{number(abs(e.weight))} " if abs(e.weight) != 1 else ""
    words = [*(factor(f) for f in path if f not in summed)]
    words += [f"sum_{f.outputs[0]} {factor(f)}" for f in summed]
    words += [atom(w).removeprefix("log ") for w in e.weights]
    return " ".join([f"{size}E", *words, inner])


def _bracketed(e: Entry) -> str:
    if e.softmax is not None:
        odds = atom(e.softmax).removeprefix("log ")
        return f"sum_{e.importance} sg(softmax logit {odds}) {{{total(e.terms)}}}"
    if e.importance:
        negative = tuple(replace(t, coefficient=-t.coefficient) for t in e.terms)
        return f"{{-log mean_{e.importance} exp({total(negative)})}}"
    return f"{{{total(e.terms)}}}"


def _written_out(facts: Facts, e: Entry) -> dict[str, str]:
    """The variables shown as their network's output: Diracs of a net that every term's gradient goes through."""
    if not all(t.estimator == "pathwise" for t in e.terms):
        return {}
    through: dict[str, str] = {}
    for f in e.path:
        body = facts.model.laws[f.law].body
        if isinstance(body, Dirac) and isinstance(body.value, NetCall) and not f.old:
            arguments = ",".join(through.get(g, g) for g in f.givens)
            through[f.outputs[0]] = f"{body.value.net}({arguments})"
    return through


def _substituted(inner: str, variable: str, written: str) -> str:
    """The variable replaced where it stands as an argument."""
    found: list[str] = []
    word = ""
    for character in inner + "\0":
        if character.isalnum() or character in "_'":
            word += character
            continue
        found.append(written if word == variable and found and found[-1] in "(,|" else word)
        found.append(character)
        word = ""
    return "".join(found).removesuffix("\0")


def _summary(facts: Facts, losses: Mapping[str, tuple[Entry, ...]], players: Sequence[Player]) -> Iterator[str]:
    yield "in all"
    for player in players:
        if losses[player.name]:
            yield f"  {player.name + ':':<{_RULE}}{formula(facts, losses[player.name])}"
