"""Refusals for a density that is needed and not known: one named constructor each, span first."""

from __future__ import annotations

from collections.abc import Sequence

from jointkl.diagnostics import Report, Span
from jointkl.semantics.wording import joined


def residual(
    span: Span, density: str, player: str, cause: Span | None, why: str, help: Sequence[str], *, missing: str
) -> Report:
    """The rule RESIDUAL: the reference density moves and cannot be evaluated. `help` ends in lines of code."""
    return Report(
        "E-RESIDUAL",
        "the reference density moves and cannot be evaluated",
        span,
        f"contains {density}, which {player} trains",
        ((cause, why),) if cause else (),
        notes=(f"without this term the gradient of {player} would miss {missing}",),
        help=tuple(help),
    )


def only_in_density(
    span: Span, density: str, player: str, cause: Span | None, why: str, direction: str, lines: Sequence[str]
) -> Report:
    """A player that moves nothing drawn here. `lines` are the goal the other way, where it can be written."""
    return Report(
        "E-DIRECTION",
        f"{player} enters only the density {density}, which nobody can evaluate",
        span,
        f"nothing that is drawn here moves with {player}",
        ((cause, why),) if cause else (),
        notes=(f"the average is taken over {direction}: a gradient for {player} needs a value of log {density}",),
        help=(f"the reverse KL derives, which draws from {density}{':' if lines else ''}", *lines),
    )


def dirac_density(
    span: Span, density: str, inputs: Sequence[str], output: str, cause: Span, line: str | None, *, noise: bool
) -> Report:
    """`line` is the law rewritten: with `noise` if it is drawn on the path, else with a density to stand in."""
    variables = tuple(dict.fromkeys((*inputs, output)))
    how = "add noise" if noise else "name a density to stand in for its own"
    drop = f"drop {' or '.join(variables)} from the head" if inputs else "integrate its input out"
    return Report(
        "E-DENSITY",
        f"the density of {density} is needed here, and a Dirac has none",
        span,
        f"{joined(variables)} both stand in the head" if len(variables) > 1 else f"{output} stands in the head",
        ((cause, "a Dirac: all its mass lies at one point"),),
        help=(f"{drop}, or {how}:", line) if line else (f"{drop}, or {how}",),
    )


def cross_entropy_density(span: Span, densities: Sequence[str], cause: Span | None, line: str | None) -> Report:
    return Report(
        "E-DENSITY",
        f"CE(P || Q) averages -log Q, and {joined(densities)} cannot be evaluated",
        span,
        "a cross-entropy takes no ratio",
        ((cause, "a Dirac: it has no density of its own"),) if cause and line else (),
        help=("name a density to stand in for it:", line)
        if line
        else ("take the KL between laws over the same variables, which learns a ratio, or keep what is hidden in P",),
    )


def hinge_value(span: Span, densities: Sequence[str]) -> Report:
    return Report(
        "E-HINGE",
        "a hinge compares the value of its divergence with a number, and this value is not known",
        span,
        f"{joined(densities)} cannot be evaluated, and counts even where it does not move",
        help=("take the divergence without the hinge, or a CE, whose value is known: max(0, m - CE(P || Q))",),
    )


def infinite(
    span: Span, kind: str, drawn: str, draws: str, against: str, allows: str, places: tuple[Span, Span]
) -> Report:
    return Report(
        "E-INFINITE",
        f"this {kind} is infinite: {drawn} draws values where {against} has no density",
        span,
        f"log {against} is minus infinity there",
        ((places[0], f"draws {draws}"), (places[1], f"allows {allows}")),
        help=(f"give {against} a family, bounds or probabilities that cover all that {drawn} draws",),
    )


def no_multiplier(span: Span, densities: Sequence[str], classifier: str | None, line: str | None) -> Report:
    """`line` is the goal against one of the branches, times the classifier."""
    what = f"the optimum of the classifier {classifier}" if classifier else "a ratio"
    help = "give the laws densities, or compare joints in which what cannot be evaluated cancels"
    these = "that" if len(densities) == 1 else "these"
    return Report(
        "E-DENSITY",
        f"{joined(densities)} cannot be evaluated, and {what} does not stand for {these}",
        span,
        "its optimum is the ratio of the two branches" if classifier else "a density is needed",
        help=("compare the branches with one of them, times the classifier:", line) if line else (help,),
    )


def marginal_over_global(span: Span, variable: str, cause: Span) -> Report:
    return Report(
        "E-GLOBAL",
        f"the density of a marginal over the global `{variable}` is not evaluated",
        span,
        causes=((cause, "one value for the whole data set"),),
        help=(f"keep {variable} in the heads of both joints",),
    )
