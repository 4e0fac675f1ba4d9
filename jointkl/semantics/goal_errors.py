"""Mistakes in goals: divergences, who is trained, options. One named constructor each, span first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jointkl.diagnostics import Report, Span
from jointkl.semantics.divergences import DIVERGENCES, DivergenceRow
from jointkl.semantics.wording import line, listed, meant, words


def unknown_divergence(span: Span, name: str) -> Report:
    *first, last = (row.written for row in DIVERGENCES.values())
    help = meant(name, DIVERGENCES)
    if name.upper() in ("JSD", "JS"):
        help = ("twice the JSD of two branches is minimize KL(q(x,y) || p(x,y)) with game=minimax",)
    return Report(
        "E-GOAL",
        f"no divergence is called `{name}`",
        span,
        "unknown",
        help=help or (f"{', '.join(first)} or {last}",),
    )


def different_variables(span: Span, left: Sequence[str], right: Sequence[str], completed: str | None) -> Report:
    """`completed` is the side that lacks variables, times laws that generate them."""
    only_left = [v for v in left if v not in set(right)]
    only_right = [v for v in right if v not in set(left)]
    sides = ((only_left, "left"), (only_right, "right"))
    help = "leave what stands on one side alone out of its head, or generate it on the other side too"
    return Report(
        "E-GOAL",
        "the joints are over different variables",
        span,
        "; ".join(f"{listed(names)} only on the {side}" for names, side in sides if names),
        help=(f"generate {words(only_left or only_right)} there too: {completed}" if completed else help,),
    )


def cross_entropy_variables(span: Span, row: DivergenceRow, names: Sequence[str], completed: str | None) -> Report:
    """`completed` is the left side times laws that generate what it lacks."""
    help = f"generate {words(names)} on the left, in its head, or leave it out on the right"
    return Report(
        "E-GOAL",
        f"{row.name}(P || Q) {row.takes} under P, and P's head has no {listed(names)}",
        span,
        "not generated on the left",
        help=(f"generate it on the left: {row.name}({completed} || ..)" if completed else help,),
    )


def penalty_classifier(span: Span, text: str) -> Report:
    return Report(
        "E-GOAL",
        "R1(P || c) takes one classifier, a law of a finite label, on the right",
        span,
        f"`{line(text, 30)}` is none",
        help=("R1(data(x) || p(y|x)), p(y|x) the classifier",),
    )


def constant_term(span: Span) -> Report:
    return Report(
        "E-GOAL",
        "a number alone is no term of a goal",
        span,
        "moves nothing",
        help=("scale a term with it: 2 * KL(..)",),
    )


def hinge_floor(span: Span) -> Report:
    return Report("E-GOAL", "a hinge starts at 0", span, "not 0", help=("max(0, m - KL(..))",))


def hinge_empty(span: Span) -> Report:
    return Report("E-GOAL", "this hinge holds no divergence", span, "a constant", help=("max(0, m - KL(..))",))


def hinge_nested(span: Span) -> Report:
    return Report(
        "E-GOAL", "a hinge stands in another", span, "the inner one", help=("add them up: max(..) + max(..)",)
    )


def target_unknown(span: Span, name: str, known: Iterable[str]) -> Report:
    known = tuple(known)
    is_name = name.isidentifier()
    help = f"nets, params and Free laws are trained, here {words(known, 12)}"
    if not known:
        help = f"declare it: net {name} = mlp(128)" if is_name else f"define it: {name} = Free"
    return Report(
        "E-NAME",
        f"`{name}` is nothing that can be trained",
        span,
        "unknown",
        help=meant(name, known) or (help,),
    )


def not_free(span: Span, text: str, cause: Span, inside: Sequence[str]) -> Report:
    """`inside` are the nets and params of the law."""
    return Report(
        "E-NAME",
        f"`{text}` is not Free: what is trained of it are its nets and params",
        span,
        causes=((cause, "its law"),),
        help=(f"name {words(inside, 8)}" if inside else "name a net or a param",),
    )


def in_two_players(span: Span, name: str, first: Span) -> Report:
    return Report(
        "E-PLAYER",
        f"`{name}` is in two players",
        span,
        "again here",
        ((first, "first here"),),
        help=("leave it in one of them",),
    )


def bad_option(span: Span, name: str, need: str, example: str, known: Iterable[str] = ()) -> Report:
    found = line(span.text, 30)
    help = meant(found, known) or (f"{name}={example}",)
    return Report("E-OPTION", f"`{name}` takes {need}", span, f"not `{found}`", help=help)


def options_clash(span: Span, name: str, other: str, cause: Span) -> Report:
    return Report(
        "E-OPTION",
        f"`{name}` and `{other}` do not go together: both say what becomes of the derived terms",
        span,
        f"`{name}`",
        ((cause, f"`{other}`"),),
        help=("leave one of them out",),
    )


def steps_and_epochs(span: Span, first: Span) -> Report:
    return Report(
        "E-OPTION",
        "`steps` and `epochs` both say how long the run is",
        span,
        "once more",
        ((first, "said here"),),
        help=("leave one of them out",),
    )
