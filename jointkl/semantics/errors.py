"""Mistakes in declarations: names, constants, spaces, options and sources. One named constructor each, span first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jointkl.diagnostics import Report, Span
from jointkl.semantics.catalogue import Column
from jointkl.semantics.spaces import Space
from jointkl.semantics.wording import dims, line, meant, words

# --- names


DECLARED_BY = {
    "variable": "var {}: real",
    "constant": "let {} = 1",
    "net": "net {} = mlp(128)",
}
"""The statement that declares a name."""


def unknown(span: Span, what: str, name: str, known: Iterable[str], declare: str = "") -> Report:
    """`declare` is the statement that would declare it, where it is not the usual one."""
    known = sorted(set(known))
    help = meant(name, known)
    if not help and what in DECLARED_BY:
        help = (f"declare it: {declare or DECLARED_BY[what].format(name)}",)
    if not help:
        help = (f"known here: {words(known)}",)
    label = "not declared" if what in DECLARED_BY else "unknown"
    return Report("E-NAME", f"no {what} is called `{name}`", span, label, help=help)


def unknown_space(span: Span, name: str, known: Iterable[str]) -> Report:
    known = tuple(known)
    help = (*meant(name, known), f"spaces: {', '.join(known)}, each with sizes as in real[2], and the finite {{0..9}}")
    return Report("E-NAME", f"no space is called `{name}`", span, "unknown", help=help)


def unknown_value(span: Span, name: str, known: Iterable[str]) -> Report:
    help = meant(name, known) or (
        f"declare it: let {name} = 1, param {name}: real, or var {name}: real after the bar of its law",
    )
    return Report("E-NAME", f"no variable, param or constant is called `{name}`", span, "not declared", help=help)


def declared_twice(span: Span, what: str, name: str, first: Span) -> Report:
    return Report(
        "E-NAME",
        f"the {what} `{name}` is declared twice",
        span,
        "here again",
        ((first, "first here"),),
        help=("remove one, or rename it",),
    )


def primed_declaration(span: Span, what: str) -> Report:
    return Report(
        "E-NAME",
        f"the name of a {what} bears a prime",
        span,
        "a prime marks the copy of a variable",
        help=(f"declare `{span.text.rstrip(chr(39))}`",),
    )


def lone_copy(span: Span, name: str, written: str) -> Report:
    return Report(
        "E-LAW",
        f"a law is defined for its variables, and `{name}` is a copy of one",
        span,
        "copies stand where the law is applied",
        help=(f"{written} = ...",),
    )


def name_clash(span: Span, name: str, what: str, other: str, first: Span | None) -> Report:
    return Report(
        "E-CLASH",
        f"`{name}` names a {what} and a {other}",
        span,
        f"the {what}",
        ((first, f"the {other}"),) if first else (),
        () if first else (f"the {other} `{name}` is built in",),
        help=("labels, nets, params, constants, players and what is built in share one namespace: rename this one",),
    )


# --- constants and spaces


def not_a_constant(span: Span, why: str, help: str) -> Report:
    return Report("E-CONSTANT", f"this must be a constant: {why}", span, help=(help,))


def bad_number(span: Span, need: str, found: str) -> Report:
    return Report("E-NUMBER", f"this must be {need}", span, f"this is {found}", help=(f"write {need}",))


def circular_constant(span: Span, name: str, cause: Span) -> Report:
    return Report(
        "E-CONSTANT",
        f"the constant `{name}` is defined by itself",
        span,
        f"needs `{name}`",
        () if cause == span else ((cause, "the constant"),),
        help=(f"let {name} = 1",),
    )


def too_large(span: Span, what: str, limit: int) -> Report:
    return Report("E-NUMBER", f"{what} is larger than {limit:,}", span, "too large", help=("take a smaller one",))


def out_of_reach(span: Span) -> Report:
    return Report(
        "E-NUMBER",
        "this number cannot be computed with",
        span,
        "longer than 300 digits, or beyond 1e100",
        help=("write a smaller one, as in 1e6",),
    )


def unknown_override(span: Span, name: str, known: Iterable[str]) -> Report:
    known = tuple(known)
    help = meant(name, known) or (f"its constants are {words(known)}" if known else "it has no constants",)
    return Report("E-NAME", f"--let names `{name}`, which is no constant of this spec", span, help=help)


def bad_override(span: Span, name: str) -> Report:
    return Report(
        "E-CONSTANT",
        f"--let gives `{name}` something that is no expression",
        span,
        help=(f"--let {name}=3, or any expression of constants",),
    )


def bad_space(span: Span, why: str, help: str) -> Report:
    return Report("E-SPACE", why, span, help=(help,))


def not_trainable(span: Span, name: str, space: Space) -> Report:
    return Report(
        "E-SPACE",
        f"the param `{name}` cannot be trained: its values are {space}, and a gradient moves none of them",
        span,
        help=(f"param {name}: real{dims(space)}, or a constant: let {name} = ...",),
    )


# --- options and sources


def option_unknown(span: Span, owner: str, name: str, known: Iterable[str]) -> Report:
    known = tuple(known)
    listed = f"its options are {', '.join(known)}" if len(known) > 1 else f"its only option is {', '.join(known)}"
    help = meant(name, known) or (listed if known else f"it takes none: {owner}()",)
    return Report("E-OPTION", f"`{owner}` has no option `{line(name, 30)}`", span, "unknown", help=help)


def option_unnamed(span: Span, owner: str, known: Iterable[str]) -> Report:
    known = tuple(known)
    help = f"as in {owner}({known[0]}=..); its options are {', '.join(known)}" if known else f"{owner}()"
    return Report("E-OPTION", f"`{owner}` takes options by name", span, "no name", help=(help,))


def option_missing(span: Span, owner: str, name: str, written: str) -> Report:
    return Report(
        "E-OPTION",
        f"`{owner}` needs its {name}",
        span,
        f"no {name}",
        help=(f"it stands first in the brackets: {written}",),
    )


def option_elsewhere(span: Span, owner: str, name: str, where: str) -> Report:
    """`where` is how the statement begins that the option belongs to."""
    whose = "a player" if where != "train" else "the whole run"
    return Report(
        "E-OPTION",
        f"`{name}` belongs to {whose}, not to `{owner}`",
        span,
        f"of {whose}",
        help=(f"{where}({name}=..)",),
    )


def option_twice(span: Span, owner: str, name: str, first: Span) -> Report:
    return Report(
        "E-OPTION",
        f"the option `{name}` of `{owner}` is given twice",
        span,
        "again here",
        ((first, "first here"),),
        help=("remove one",),
    )


def option_value(span: Span, name: str, need: str, found: str, known: Iterable[str] = ()) -> Report:
    return Report(
        "E-OPTION",
        f"`{name}` must be {need}",
        span,
        f"this is {line(found, 30)}",
        help=meant(found.strip("`"), known) or (f"give {need}",),
    )


def too_many_columns(span: Span, source: str, columns: Sequence[Column], outputs: int) -> Report:
    return Report(
        "E-SOURCE",
        f"`{source}` gives {len(columns)} column{'s'[: len(columns) != 1]}, and {outputs} variables are bound to it",
        span,
        "no column for it",
        help=(f"its columns are, by position: {', '.join(map(str, columns))}",),
    )


def column_space(span: Span, source: str, column: Column, name: str, space: Space, cause: Span, help: str) -> Report:
    return Report(
        "E-SOURCE",
        f"`{source}` gives {column}, which does not fit `{name}`: {space}",
        span,
        f"gives {column}",
        ((cause, f"`{name}` is {space}"),),
        help=(help,),
    )


def source_with_givens(span: Span, source: str, written: str) -> Report:
    return Report(
        "E-SOURCE",
        f"the source `{source}` gives draws of its variables together, with no givens",
        span,
        "after the bar",
        help=(f"write all variables before the bar: {written} = {source}(..)",),
    )


def no_goal(span: Span) -> Report:
    return Report(
        "E-GOAL",
        "the spec has no goal: nothing to derive",
        span,
        help=("minimize KL(p(x,z) || q(x,z))",),
    )


def bad_constant(span: Span, why: str, help: str) -> Report:
    return Report("E-CONSTANT", why, span, help=(help,))


def no_sizes(span: Span, builder: str) -> Report:
    return Report(
        "E-VALUE",
        f"`{builder}` has no hidden layers, and takes no sizes",
        span,
        "a size",
        help=(f"{builder}(), or mlp({span.text})",),
    )
