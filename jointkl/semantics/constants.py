"""Constants: what `let` names and what must be known before anything is trained. Exact, as fractions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from operator import add, mul, sub

from jointkl.diagnostics import Span
from jointkl.semantics import errors
from jointkl.semantics.catalogue import Option, OptionValue
from jointkl.semantics.model import Numbers
from jointkl.semantics.scope import CONSTANT_FUNCTIONS, Refused, Scope
from jointkl.semantics.spaces import KINDS, Kind, Space
from jointkl.syntax import nodes

Const = Fraction | str | tuple["Const", ...]

LARGEST = 2**31 - 1
"""Sizes beyond this are refused: nothing that large can be trained here, and it is most often a slip."""

MOST_VALUES = 100_000
"""A finite space or a list holds no more values than this."""

_OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": lambda a, b: a / b,
}


def evaluate(scope: Scope, expr: nodes.Expr, seen: tuple[str, ...] = ()) -> Const:
    """The value of a constant expression. Raises `Refused` where it is none."""
    match expr:
        case nodes.Number(text=text, span=span):
            return _number(text, span)
        case nodes.Text(value=value):
            return value
        case nodes.Items(items=items):
            return tuple(evaluate(scope, item, seen) for item in items)
        case nodes.Negative(operand=operand, span=span):
            return _apply(lambda a, b: b - a, evaluate(scope, operand, seen), Fraction(0), span)
        case nodes.Binary(operator="@", span=span):
            raise Refused(errors.not_a_constant(span, "`@` multiplies trained matrices"))
        case nodes.Binary(operator=operator, left=left, right=right, span=span):
            return _apply(_OPERATORS[operator], evaluate(scope, left, seen), evaluate(scope, right, seen), span)
        case nodes.Name(text=name, span=span):
            return _constant(scope, name, span, seen)
        case nodes.Call(name=name) if name.text in CONSTANT_FUNCTIONS and expr.givens is None:
            return _function(scope, expr, seen)
        case nodes.Call(span=span):
            raise Refused(errors.not_a_constant(span, f"`{expr.name.text}` is no function of constants"))
        case nodes.Subscript(value=value, indices=indices, span=span):
            found = evaluate(scope, value, seen)
            for index in indices:
                place = natural(evaluate(scope, index, seen), index.span)
                if not isinstance(found, tuple) or place >= len(found):
                    raise Refused(errors.not_a_constant(span, f"there is no item {place}"))
                found = found[place]
            return found


def _number(text: str, span: Span) -> Fraction:
    if len(text) > 300 or math.isinf(float(text)):
        raise Refused(errors.too_large(span, "this number", LARGEST))
    return Fraction(text) if abs(float(text)) > 1e-300 else Fraction(0)


def _constant(scope: Scope, name: str, span: Span, seen: tuple[str, ...]) -> Const:
    if name not in scope.lets:
        if name in scope.params or name in scope.variables:
            raise Refused(errors.not_a_constant(span, f"`{name}` is trained or drawn"))
        raise Refused(errors.unknown(span, "constant", name, scope.lets))
    if name in seen:
        raise Refused(errors.circular_constant(span, name))
    if len(seen) > 200:
        raise Refused(errors.not_a_constant(span, "the constants refer to one another more than 200 deep"))
    if name in scope.overrides:
        return _override(scope.overrides[name], scope.lets[name].value.span)
    return evaluate(scope, scope.lets[name].value, (*seen, name))


def _override(text: str, span: Span) -> Const:
    try:
        if len(text) <= 300 and math.isfinite(float(text)):
            return Fraction(text.strip())
    except ValueError:
        pass
    raise Refused(errors.bad_number(span, "a number", f"`{text[:40]}`, given by --let"))


def _apply(operator: Callable[[Fraction, Fraction], Fraction], left: Const, right: Const, span: Span) -> Const:
    """Arithmetic item by item; a number meets every item of a list."""
    match left, right:
        case Fraction(), Fraction():
            try:
                value = operator(left, right)
            except ZeroDivisionError:
                raise Refused(errors.not_a_constant(span, "it divides by zero")) from None
            if value.numerator.bit_length() + value.denominator.bit_length() > 4096:
                return Fraction(float(value)) if abs(value) < Fraction(10) ** 300 else _overflow(span)
            return value
        case tuple(), tuple() if len(left) == len(right):
            return tuple(_apply(operator, a, b, span) for a, b in zip(left, right, strict=True))
        case tuple(), Fraction():
            return tuple(_apply(operator, a, right, span) for a in left)
        case Fraction(), tuple():
            return tuple(_apply(operator, left, b, span) for b in right)
        case _:
            raise Refused(errors.not_a_constant(span, "arithmetic takes numbers, or lists of one length"))


def _overflow(span: Span) -> Const:
    raise Refused(errors.too_large(span, "this number", LARGEST))


def _function(scope: Scope, call: nodes.Call, seen: tuple[str, ...]) -> Const:
    values = [evaluate(scope, a, seen) for a in call.arguments if not isinstance(a, nodes.Keyword)]
    match call.name.text, values:
        case "cumprod", [tuple() as items]:
            numbers = [number(item, call.span) for item in items]
            return tuple(accumulate(numbers, mul))
        case "linspace", [Fraction() as start, Fraction() as end, Fraction() as count]:
            n = natural(count, call.span, least=1)
            if n > MOST_VALUES:
                raise Refused(errors.too_large(call.span, "the number of points", MOST_VALUES))
            return tuple(start + (end - start) * i / max(1, n - 1) for i in range(n))
        case name, _:
            need = {"cumprod": "cumprod([a, b, ..])", "linspace": "linspace(start, end, count)"}[name]
            raise Refused(errors.not_a_constant(call.span, f"write {need}"))


def number(value: Const, span: Span) -> Fraction:
    if isinstance(value, Fraction):
        return value
    raise Refused(errors.bad_number(span, "a number", "a text" if isinstance(value, str) else "a list"))


def natural(value: Const, span: Span, least: int = 0) -> int:
    """A whole number, `least` or more and not absurdly large."""
    found = number(value, span)
    if found.denominator != 1 or found < least:
        raise Refused(errors.bad_number(span, f"a whole number, {least} or more,", f"{float(found):g}"))
    if found > LARGEST:
        raise Refused(errors.too_large(span, "this number", LARGEST))
    return int(found)


def space(scope: Scope, node: nodes.Space) -> Space:
    """The space that a declaration writes, its sizes evaluated."""
    match node.name.text:
        case "{}":
            values = tuple(_integer(scope, d) for d in node.dims)
            if len(set(values)) != len(values):
                raise Refused(errors.bad_space(node.span, "a finite space lists a value twice", "list each value once"))
            return Space("finite", (), values)
        case "{..}":
            first, last = (_integer(scope, d) for d in node.dims)
            if last < first:
                raise Refused(
                    errors.bad_space(node.span, f"{{{first}..{last}}} is empty", "write the smaller number first")
                )
            if last - first >= MOST_VALUES:
                raise Refused(errors.too_large(node.span, "the number of values", MOST_VALUES))
            return Space("finite", (), tuple(range(first, last + 1)))
        case name:
            return _named_space(scope, node, name)


def _named_space(scope: Scope, node: nodes.Space, name: str) -> Space:
    kind: Kind | None = next((k for k in KINDS if k == name), None)
    if kind is None:
        raise Refused(errors.unknown(node.name.span, "space", name, (*KINDS, "finite")))
    dims = tuple(natural(evaluate(scope, d), d.span, least=1) for d in node.dims)
    if kind in ("simplex", "cholesky") and not dims:
        raise Refused(errors.bad_space(node.span, f"{kind} needs its size", f"write {kind}[3]"))
    found = Space(kind, dims)
    if found.size > LARGEST:
        raise Refused(errors.too_large(node.span, "the space", LARGEST))
    return found


def _integer(scope: Scope, expr: nodes.Expr) -> int:
    found = number(evaluate(scope, expr), expr.span)
    if found.denominator != 1 or abs(found) > LARGEST:
        raise Refused(errors.bad_number(expr.span, "a whole number", f"{float(found):g}"))
    return int(found)


def option(scope: Scope, row: Option, expr: nodes.Expr) -> OptionValue:
    """The value of an option of a source, a builder or a run, checked against its row of the table."""
    if isinstance(expr, nodes.Name) and expr.text not in scope.lets:
        value: Const | bool = {"true": True, "false": False}.get(expr.text, expr.text)
    else:
        value = evaluate(scope, expr)
    match row.type, value:
        case "flag", bool():
            return value
        case "text", str() if not row.choices or value in row.choices:
            return value
        case "integer", Fraction() if value.denominator == 1 and abs(value) <= LARGEST:
            return int(value)
        case "number", Fraction():
            return float(value)
        case _:
            need = {"flag": "true or false", "integer": "a whole number", "number": "a number", "text": "a text"}[
                row.type
            ]
            need = f"one of {', '.join(row.choices)}" if row.choices else need
            raise Refused(errors.option_value(expr.span, row.name, need, f"`{expr.span.text or value}`"))


def floats(value: Const, span: Span) -> Numbers:
    """A constant as floats: a number, a list, or a list of equally long lists."""
    match value:
        case Fraction():
            return float(value)
        case str():
            raise Refused(errors.bad_number(span, "a number", "a text"))
        case _:
            rows = [floats(item, span) for item in value]
            if all(isinstance(r, float) for r in rows):
                return tuple(r for r in rows if isinstance(r, float))
            lists = [r for r in rows if isinstance(r, tuple)]
            flat = [tuple(x for x in r if isinstance(x, float)) for r in lists]
            if len(lists) != len(rows) or any(len(a) != len(b) for a, b in zip(lists, flat, strict=True)):
                raise Refused(
                    errors.not_a_constant(span, "lists nest two deep at most, and not with numbers among them")
                )
            if len({len(r) for r in flat}) != 1:
                raise Refused(errors.not_a_constant(span, "the lists in a list must have one length"))
            return tuple(flat)
