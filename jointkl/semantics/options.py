"""The options of a goal, one function each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from jointkl.diagnostics import Refused
from jointkl.semantics import constants, errors, goal_errors
from jointkl.semantics.joints import factor
from jointkl.semantics.model import Estimate, GoalOptions, Head, Value, base
from jointkl.semantics.scope import Scope
from jointkl.semantics.spaces import Space
from jointkl.semantics.values import Context, net_call
from jointkl.syntax import nodes

MOST_COPIES = 1_000_000
"""`importance` takes no more copies than this."""

ESTIMATES: tuple[Estimate, ...] = ("monte_carlo", "score", "moments", "gradient")

REPEATED = ("drop", "estimate")
"""Options that may stand more than once."""


def goal_options(scope: Scope, node: nodes.Goal) -> GoalOptions:
    """What stands after `with`. Every mistake is noted; the option that has one is left out."""
    found = GoalOptions(spans=tuple((o.name.text, o.span) for o in node.options))
    seen: dict[str, nodes.Option] = {}
    for option in node.options:
        name = option.name
        try:
            if name.text not in OPTIONS:
                raise Refused(errors.option_unknown(name.span, "with", name.text, OPTIONS))
            if name.text in seen and name.text not in REPEATED:
                raise Refused(errors.option_twice(name.span, "with", name.text, seen[name.text].name.span))
            for other in seen:
                if {name.text, other} in ({"game", "proximal"}, {"game", "drop"}):
                    raise Refused(goal_errors.options_clash(option.span, name.text, other, seen[other].span))
            seen[name.text] = option
            found = OPTIONS[name.text](scope, found, option)
        except Refused as refused:
            scope.refuse(refused.report)
    return found


def _word(option: nodes.Option, words: tuple[str, ...]) -> str:
    if isinstance(option.value, nodes.Name) and option.value.text in words:
        return option.value.text
    raise Refused(
        goal_errors.bad_option(option.value.span, option.name.text, f"one of {', '.join(words)}", words[0], words)
    )


def _proximal(scope: Scope, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    value = node.value
    if isinstance(value, nodes.Call) and value.name.text == "dirac" and len(value.arguments) == 1:
        argument = value.arguments[0]
        inner = argument.value if isinstance(argument, nodes.Keyword) else argument
        weight = constants.number(constants.evaluate(scope, inner), inner.span)
        if weight < 0:
            raise Refused(errors.bad_number(inner.span, "a number, 0 or more", f"{float(weight):g}"))
        return replace(options, proximal="dirac", dirac=weight)
    if isinstance(value, nodes.Name) and value.text in ("none", "kl"):
        return replace(options, proximal="none" if value.text == "none" else "kl")
    need, words = "one of none, kl, dirac(lam)", ("none", "kl", "dirac(1)")
    raise Refused(goal_errors.bad_option(value.span, "proximal", need, "kl", words))


def _game(scope: Scope, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    word = _word(node, ("minimax", "nonsaturating"))
    return replace(options, game="minimax" if word == "minimax" else "nonsaturating")


def _drop(scope: Scope, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    if isinstance(node.value, nodes.Call):
        dropped = factor(scope, nodes.Factor(node.value, span=node.value.span))
        return replace(options, drop=(*options.drop, dropped.law))
    raise Refused(goal_errors.bad_option(node.value.span, "drop", "a law", "p(z|x)"))


def _critic(scope: Scope, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    value = node.value
    name = value.name if isinstance(value, nodes.Call) else value
    if not isinstance(name, nodes.Name):
        raise Refused(goal_errors.bad_option(value.span, "critic", "a net", next(iter(scope.nets), "T"), scope.nets))
    if name.text not in scope.nets:
        raise scope.missing(name.text, lambda: errors.unknown(name.span, "net", name.text, scope.nets))
    inputs: tuple[Value, ...] = ()
    if isinstance(value, nodes.Call):
        if value.givens is not None:
            written = f"{name.text}({', '.join(part.span.text for part in (*value.arguments, *value.givens))})"
            raise Refused(goal_errors.bad_option(value.span, "critic", "a net, applied to values", written, scope.nets))
        law = nodes.Law(name, (), tuple(_variables(scope, value)), span=value.span)
        inputs = net_call(Context(scope, law), value, (Head("logits", Space("real")),)).inputs
    return replace(options, critic=(name.text, inputs))


def _variables(scope: Scope, expr: nodes.Expr | nodes.Keyword) -> Iterator[nodes.Name]:
    """The variables that an expression names: a critic may see any."""
    match expr:
        case nodes.Name(text=name):
            if base(name) in scope.declared:
                yield expr
        case nodes.Call(arguments=inner) | nodes.Items(items=inner):
            for part in inner:
                yield from _variables(scope, part)
        case nodes.Binary(left=left, right=right):
            yield from _variables(scope, left)
            yield from _variables(scope, right)
        case nodes.Negative(operand=operand):
            yield from _variables(scope, operand)
        case nodes.Subscript(value=value, indices=indices):
            for part in (value, *indices):
                yield from _variables(scope, part)
        case nodes.Keyword(value=value):
            yield from _variables(scope, value)
        case nodes.Number() | nodes.Text():
            return


def _importance(scope: Scope, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    copies = constants.natural(constants.evaluate(scope, node.value), node.value.span, least=1)
    if copies > MOST_COPIES:
        raise Refused(errors.too_large(node.value.span, "the number of copies", MOST_COPIES))
    return replace(options, importance=copies)


def _estimate(scope: Scope, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    word = _word(node, ESTIMATES)
    return replace(options, estimate=(*options.estimate, *(e for e in ESTIMATES if e == word)))


OPTIONS: dict[str, Callable[[Scope, GoalOptions, nodes.Option], GoalOptions]] = {
    "proximal": _proximal,
    "game": _game,
    "drop": _drop,
    "critic": _critic,
    "importance": _importance,
    "estimate": _estimate,
}
