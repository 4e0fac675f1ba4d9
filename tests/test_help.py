"""What a message tells to write can be written: put in its place, the mistake is gone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from jointkl.diagnostics import JklError, Report, Span
from jointkl.semantics.model import law_key
from jointkl.syntax import nodes
from jointkl.syntax.parse import parse_text
from tests import mistakes
from tests.mistakes import Mistake
from tests.test_bad import CHECKS

NOT_ALONE = {
    "no_goal": "the line is an example: what to minimise is the reader's to say",
    "useless_critic": "the critic's net is to be removed as well, as the words before the line say",
    "useless_critic_evaluable": "likewise",
    "player_split": "the second statement is to go as well",
    "family_without_brackets": "the parameters' names stand for the reader's values",
    "label_not_finite": "the law that made it real has to go too",
    "net_stated_finite": "the law that uses the net is written for classes",
    "unknown_player_member": "the nearest name is already in the list",
    "unknown_variable": "the declared name is the misspelt one: every law says z",
}
"""Specs in which something is left to do once the help is taken, with the reason. Its own mistake is gone."""


def found(m: Mistake, text: str) -> tuple[Report, ...]:
    try:
        CHECKS[m.stage](text, f"{m.name}.jkl")
    except JklError as error:
        return error.reports
    return ()


def statements(report: Report) -> Iterator[nodes.Statement]:
    """The whole statements among the lines of help, also behind a colon."""
    for line in report.help:
        for words in (line, line.split(": ", 1)[-1]):
            spec = parsed(words)
            if spec is not None and spec.statements:
                yield from spec.statements
                break


def parsed(text: str) -> nodes.Spec | None:
    try:
        return parse_text(text)
    except JklError:
        return None


def name_of(statement: nodes.Statement) -> object:
    """Two statements of one name cannot stand in one spec."""
    match statement:
        case nodes.Var(names=names) | nodes.Param(names=names):
            return names[0].text
        case nodes.Net(name=name) | nodes.Let(name=name) | nodes.Player(name=name):
            return name.text
        case nodes.Definition(law=law):
            return law_key(law.label.text, tuple(n.text for n in law.outputs), tuple(n.text for n in law.givens))
        case nodes.Train(player=player):
            return ("train", player and player.text)
        case nodes.Goal():
            return None


def place(spec: nodes.Spec, statement: nodes.Statement, report: Report) -> Span | None:
    """What a suggested statement stands in place of: the one of its name, or of its kind where the mistake is."""
    same = [s for s in spec.statements if type(s) is type(statement)]
    named = [s for s in same if name_of(s) == name_of(statement) is not None]
    here = [s for s in same if s.span.start <= report.span.start and report.span.end <= s.span.end]
    only = same if isinstance(statement, nodes.Goal) and len(same) == 1 else []
    return next((s.span for s in (*named, *here, *only)), None)


def mended(text: str, report: Report) -> str | None:
    """The spec with the help taken; None where the help is in words."""
    guess = re.fullmatch(r"did you mean `([^`]*)`\?", report.help[0])
    if guess:
        return text[: report.span.start] + guess[1] + text[report.span.end :]
    spec, lines = parsed(text), list(statements(report))
    if not lines:
        return None
    if spec is None:
        rows = text.split("\n")
        rows[report.span.line - 1] = "\n".join(s.span.text for s in lines)
        return "\n".join(rows)
    placed = [(place(spec, s, report), s.span.text) for s in lines]
    for old, written in sorted(((p, w) for p, w in placed if p), key=lambda item: -item[0].start):
        text = text[: old.start] + written + text[old.end :]
    return "\n".join([text, *(written for old, written in placed if old is None)])


PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_the_help_can_be_taken(part: int) -> None:
    """Where it is whole statements or the name that was meant; the help of other specs is in words."""
    assert sum(helped(m) for m in mistakes.every()[part::PARTS]) > 10


def helped(m: Mistake) -> bool:
    """Does its help say what to write? That can be written."""
    offered = False
    for report in found(m, m.spec):
        taken = mended(m.spec, report)
        if taken is None:
            continue
        offered, left = True, found(m, taken)
        same = {(r.code, r.message, r.span.line) for r in left}
        assert (report.code, report.message, report.span.line) not in same, m.name
        if m.code != mistakes.SEVERAL:
            assert bool(left) == (m.name in NOT_ALONE), f"{m.name}:\n{taken}"
    return offered
