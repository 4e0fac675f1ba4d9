"""Refusals about who is optimised together: one named constructor each, span first."""

from __future__ import annotations

from collections.abc import Sequence

from jointkl.diagnostics import Report, Span
from jointkl.semantics.wording import joined


def partly_named(
    span: Span, player: str, named: Sequence[str], left_out: Sequence[str], stated: Span, line: str
) -> Report:
    """A goal that names only some of those that a `player` statement groups, and that moves the others too. `line` is
    the goal with all of them."""
    return Report(
        "E-PLAYER",
        f"this goal's `over` names {joined(named)} of the player {player}, and would train {joined(left_out)} too",
        span,
        f"moves with {joined(left_out)}",
        ((stated, f"optimised together with {joined(named)}"),),
        notes=("a player steps as a whole: whatever a goal trains of it, it trains all of it",),
        help=(f"leave {joined(left_out)} out of the player {player}, or name all of it:", line),
    )


def mixed_player(span: Span, player: str, judge: Sequence[str], others: Sequence[str], laws: str) -> Report:
    """A `player` statement that puts a classifier's or critic's nets together with those that play against it."""
    return Report(
        "E-PLAYER",
        f"{joined(judge)} cannot be of one player with {joined(others)}",
        span,
        f"holds {laws}",
        notes=("a classifier or critic steps by itself, before those that are trained by it",),
        help=(f"leave {joined(judge)} out:", f"player {player} = {', '.join(others)}"),
    )


def split_classifier(span: Span, members: Sequence[str], name: str, first: Span) -> Report:
    """Two `player` statements that name parts of one classifier or critic."""
    return Report(
        "E-PLAYER",
        f"{joined(members)} are one player, and two statements name it",
        span,
        "the second",
        ((first, "the first"),),
        notes=("a classifier or critic steps with all its networks; those that share one step together",),
        help=("name it once:", f"player {name} = {', '.join(members)}"),
    )
