"""Constants: what `let` names and what must be known before anything is trained. Exact, as fractions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import accumulate
from operator import add, mul, sub

from jointkl.diagnostics import Refused, Span
from jointkl.semantics import errors, law_errors
from jointkl.semantics.catalogue import Option, OptionValue
from jointkl.semantics.functions import Floats, applied
from jointkl.semantics.model import Numbers
from jointkl.semantics.scope import CONSTANT_FUNCTIONS, FUNCTIONS, Const, Scope
from jointkl.semantics.spaces import KINDS, Kind, Space
from jointkl.syntax import nodes

LARGEST = 2**31 - 1
"""Sizes beyond this are refused: nothing that large can be trained here, and it is most often a slip."""

MOST_VALUES = 100_000
"""A finite space holds no more values than this."""

MOST_POINTS = 10_000
"""A list holds no more numbers than this."""

MOST_DIMENSIONS = 16
"""A space has no more dimensions than this."""

GREATEST = Fraction(10) ** 100
"""Every number is smaller, and so has a float; one as small as its inverse is 0."""

MOST_DIGITS = 300
"""A number is written with no more characters than this."""

EXACT_BITS = 512
"""A result that needs more is rounded to the nearest float."""

_OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": add,
    "-": sub,
    "*": mul,
    "/": lambda a, b: a / b,
}


def settle(scope: Scope) -> None:
    """Every constant evaluated once, after those it is made of; `scope.constants` holds the values."""
    opened: dict[str, None] = {}
    for start in scope.lets.values():
        pending: list[tuple[nodes.Name, bool]] = [(start.name, False)]
        while pending:
            name, leaving = pending.pop()
            if leaving:
                del opened[name.text]
                _settle(scope, name.text)
            elif name.text in opened:
                cause = scope.lets[name.text].name.span
                scope.spoil(next(reversed(opened)), errors.circular_constant(name.span, name.text, cause))
            elif name.text not in scope.constants and name.text not in scope.broken:
                opened[name.text] = None
                pending.append((name, True))
                pending += [(n, False) for n in _names(scope.lets[name.text].value) if n.text in scope.lets]


def _settle(scope: Scope, name: str) -> None:
    if name in scope.broken:
        return
    try:
        scope.constants[name] = evaluate(scope, scope.lets[name].value)
    except Refused as refused:
        scope.spoil(name, refused.report)


def _names(expr: nodes.Expr) -> Iterator[nodes.Name]:
    pending: list[nodes.Expr | nodes.Keyword] = [expr]
    while pending:
        match pending.pop():
            case nodes.Name() as name:
                yield name
            case nodes.Items(items=inner) | nodes.Call(arguments=inner):
                pending += inner
            case nodes.Negative(operand=inner) | nodes.Keyword(value=inner):
                pending.append(inner)
            case nodes.Binary(left=left, right=right):
                pending += (left, right)
            case nodes.Subscript(value=inner, indices=indices):
                pending += (inner, *indices)
            case nodes.Number() | nodes.Text():
                pass


def evaluate(scope: Scope, expr: nodes.Expr, *, functions: bool = False) -> Const:
    """The value of a constant expression, the constants being settled. Raises `Refused` where it is none.

    `functions`: those of values, such as sqrt, may stand in it.
    """

    def inner(part: nodes.Expr) -> Const:
        return evaluate(scope, part, functions=functions)

    match expr:
        case nodes.Number(text=text, span=span):
            return _number(text, span)
        case nodes.Text(value=value):
            return value
        case nodes.Items(items=items, span=span):
            return _list(scope, [inner(item) for item in items], span)
        case nodes.Negative(operand=operand, span=span):
            return _apply(scope, sub, Fraction(0), inner(operand), span)
        case nodes.Binary(operator="@", span=span):
            raise Refused(errors.not_a_constant(span, "`@` multiplies trained matrices", "use + - * / and lists here"))
        case nodes.Binary(operator=operator, left=left, right=right, span=span):
            return _apply(scope, _OPERATORS[operator], inner(left), inner(right), span)
        case nodes.Name(text=name, span=span):
            return _constant(scope, name, span)
        case nodes.Call(name=name) if name.text in CONSTANT_FUNCTIONS and expr.givens is None:
            return _function(scope, expr)
        case nodes.Call(name=name, arguments=(argument,)) if functions and name.text in (*FUNCTIONS, "sum"):
            return _computed(name.text, inner(_unnamed(argument, name.text)), expr.span)
        case nodes.Call(name=name):
            why = f"`{name.text}` is no function of constants"
            raise Refused(errors.not_a_constant(name.span, why, "use + - * /, linspace(a, b, n) or cumprod(v)"))
        case nodes.Subscript(value=value, indices=indices):
            found = inner(value)
            for index in indices:
                place = natural(evaluate(scope, index), index.span)
                if not isinstance(found, tuple):
                    raise Refused(errors.bad_constant(index.span, "a number has no items", "leave the index out"))
                if place >= len(found):
                    why = f"there is no item {place}"
                    raise Refused(errors.bad_constant(index.span, why, f"items are counted from 0 to {len(found) - 1}"))
                found = found[place]
            return found


def _list(scope: Scope, items: list[Const], span: Span) -> Const:
    """Lists nest two deep, those in one are equally long, and hold `MOST_POINTS` numbers at most."""
    rows = [item for item in items if isinstance(item, tuple)]
    if any(isinstance(inner, tuple) for row in rows for inner in row):
        raise Refused(errors.bad_constant(span, "lists nest two deep at most", "[[1, 0], [0, 1]] is a matrix"))
    if rows and (len(rows) < len(items) or len({len(row) for row in rows}) > 1):
        why = "a list of lists holds lists of one length"
        raise Refused(errors.bad_constant(span, why, "[[1, 0], [0, 1]] is a matrix"))
    _make_room(scope, tuple(items), span)
    return tuple(items)


def _make_room(scope: Scope, items: tuple[Const, ...], span: Span) -> None:
    """A list like `items` may be made."""
    size = sum(len(item) if isinstance(item, tuple) else 1 for item in items)
    if size > MOST_POINTS:
        raise Refused(errors.too_large(span, "the list", MOST_POINTS))
    scope.spend("lists", size, span)


def _number(text: str, span: Span) -> Fraction:
    if len(text) > MOST_DIGITS or float(text) >= GREATEST:
        raise Refused(errors.out_of_reach(span))
    return Fraction(text) if float(text) * GREATEST > 1 else Fraction(0)


def _constant(scope: Scope, name: str, span: Span) -> Const:
    if name in scope.constants:
        return scope.constants[name]
    if name not in scope.broken and name in scope.params:
        help = f"write a number, or let {name} = 1 in place of the param"
        raise Refused(errors.not_a_constant(span, f"`{name}` is trained", help))
    if name not in scope.broken and name in scope.declared:
        raise Refused(
            errors.not_a_constant(span, f"`{name}` is a variable", "write a number, or a name that `let` gives")
        )
    raise scope.missing(name, lambda: errors.unknown(span, "constant", name, scope.lets))


def _apply(
    scope: Scope, operator: Callable[[Fraction, Fraction], Fraction], left: Const, right: Const, span: Span
) -> Const:
    """Arithmetic item by item; a number meets every item of a list."""
    for side in (left, right):
        if isinstance(side, tuple):
            _make_room(scope, side, span)
    match left, right:
        case Fraction(), Fraction():
            return _checked(operator, left, right, span)
        case tuple(), tuple() if len(left) == len(right):
            items = [_apply(scope, operator, a, b, span) for a, b in zip(left, right, strict=True)]
        case tuple(), Fraction():
            items = [_apply(scope, operator, a, right, span) for a in left]
        case Fraction(), tuple():
            items = [_apply(scope, operator, left, b, span) for b in right]
        case _:
            why = "arithmetic takes numbers, or lists of one length"
            raise Refused(errors.bad_constant(span, why, "write numbers, or lists that are equally long"))
    return _list(scope, items, span)


def _checked(
    operator: Callable[[Fraction, Fraction], Fraction], left: Fraction, right: Fraction, span: Span
) -> Fraction:
    try:
        value = operator(left, right)
    except ZeroDivisionError:
        raise Refused(errors.bad_constant(span, "this divides by zero", "divide by something else")) from None
    if abs(value) >= GREATEST:
        raise Refused(errors.out_of_reach(span))
    return _rounded(value)


def _rounded(value: Fraction) -> Fraction:
    """Exact as long as it is of sane length."""
    if value.numerator.bit_length() + value.denominator.bit_length() <= EXACT_BITS:
        return value
    return Fraction(float(value)) if abs(value) * GREATEST > 1 else Fraction(0)


def times(left: Fraction, right: Fraction, span: Span) -> Fraction:
    """The product of two weights."""
    return _checked(mul, left, right, span)


def _function(scope: Scope, call: nodes.Call) -> Const:
    values = [evaluate(scope, a) for a in call.arguments if not isinstance(a, nodes.Keyword)]
    match call.name.text, values:
        case "cumprod", [tuple() as items] if len(call.arguments) == 1:
            _make_room(scope, items, call.span)
            return _products([number(item, call.span) for item in items], call.span)
        case "linspace", [Fraction() as start, Fraction() as end, Fraction() as count] if len(call.arguments) == 3:
            n = natural(count, call.arguments[2].span, least=1)
            if n > MOST_POINTS:
                raise Refused(errors.too_large(call.arguments[2].span, "the number of points", MOST_POINTS))
            scope.spend("lists", n, call.span)
            return _points(start, end, n)
        case name, _:
            need = {"cumprod": "cumprod([a, b, ..])", "linspace": "linspace(start, end, count)"}[name]
            raise Refused(errors.bad_constant(call.span, f"`{name}` takes other arguments", f"write {need}"))


def _unnamed(argument: nodes.Expr | nodes.Keyword, function: str) -> nodes.Expr:
    if isinstance(argument, nodes.Keyword):
        raise Refused(law_errors.no_keywords(argument.span, function))
    return argument


def _computed(name: str, value: Const, span: Span) -> Const:
    """A function of values, such as sqrt, to the nearest floats."""
    try:
        return _fractions(applied(name, _floats(value, span)), span)
    except ValueError:
        why = f"`{span.text}` has no value"
        raise Refused(errors.bad_constant(span, why, f"`{name}` is not defined there")) from None
    except OverflowError:
        raise Refused(errors.out_of_reach(span)) from None


def _floats(value: Const, span: Span) -> Floats:
    return tuple(_floats(v, span) for v in value) if isinstance(value, tuple) else float(number(value, span))


def _fractions(value: Floats, span: Span) -> Const:
    if isinstance(value, tuple):
        return tuple(_fractions(v, span) for v in value)
    return _checked(add, Fraction(value), Fraction(0), span)


def _points(start: Fraction, end: Fraction, n: int) -> tuple[Fraction, ...]:
    """n numbers from start to end, all over one denominator until they are reduced."""
    gaps = max(1, n - 1)
    below = start.denominator * end.denominator * gaps
    first = start.numerator * end.denominator * gaps
    step = end.numerator * start.denominator - start.numerator * end.denominator
    return tuple(_rounded(Fraction(first + step * i, below)) for i in range(n))


def _products(numbers: Iterable[Fraction], span: Span) -> tuple[Fraction, ...]:
    return tuple(accumulate(numbers, lambda a, b: times(a, b, span)))


def number(value: Const, span: Span) -> Fraction:
    if isinstance(value, Fraction):
        return value
    raise Refused(errors.bad_number(span, "a number", "a text" if isinstance(value, str) else "a list"))


def natural(value: Const, span: Span, least: int = 0) -> int:
    """A whole number, `least` or more and not absurdly large."""
    found = number(value, span)
    if found.denominator != 1 or found < least:
        raise Refused(errors.bad_number(span, f"a whole number, {least} or more", f"{float(found):g}"))
    if found > LARGEST:
        raise Refused(errors.too_large(span, "this number", LARGEST))
    return int(found)


def space(scope: Scope, node: nodes.Space) -> Space:
    """The space that a declaration writes, its sizes evaluated."""
    match node.name.text:
        case "{}":
            return _listed(scope, node)
        case "{..}":
            first, last = (_integer(scope, d) for d in node.dims)
            if last < first:
                help = f"write the smaller number first: {{{last}..{first}}}"
                raise Refused(errors.bad_space(node.span, f"{{{first}..{last}}} is empty", help))
            if last - first >= MOST_VALUES:
                raise Refused(errors.too_large(node.span, "the number of values", MOST_VALUES))
            scope.spend("finite spaces", last - first, node.span)
            return Space("finite", (), tuple(range(first, last + 1)))
        case name:
            return _named_space(scope, node, name)


def _listed(scope: Scope, node: nodes.Space) -> Space:
    values: dict[int, None] = {}
    for expr in node.dims:
        value = _integer(scope, expr)
        if value in values:
            raise Refused(errors.bad_space(expr.span, f"a finite space lists {value} twice", "list each value once"))
        values[value] = None
    return Space("finite", (), tuple(values))


def _named_space(scope: Scope, node: nodes.Space, name: str) -> Space:
    kind: Kind | None = next((k for k in KINDS if k == name), None)
    if kind is None:
        raise Refused(errors.unknown_space(node.name.span, name, KINDS))
    if len(node.dims) > MOST_DIMENSIONS:
        raise Refused(errors.too_large(node.span, "the number of dimensions", MOST_DIMENSIONS))
    dims = tuple(natural(evaluate(scope, d), d.span, least=1) for d in node.dims)
    if kind in ("simplex", "cholesky") and not dims:
        raise Refused(errors.bad_space(node.span, f"{kind} needs its size", f"write {kind}[3]"))
    found = Space(kind, dims)
    if found.size > LARGEST:
        raise Refused(errors.too_large(node.span, "the size of one value", LARGEST))
    return found


def _integer(scope: Scope, expr: nodes.Expr) -> int:
    found = number(evaluate(scope, expr), expr.span)
    if found.denominator != 1:
        raise Refused(errors.bad_number(expr.span, "a whole number", f"{float(found):g}"))
    if abs(found) > LARGEST:
        raise Refused(errors.too_large(expr.span, "this number", LARGEST))
    return int(found)


# --- options

_TYPES = {
    "flag": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "text": "a text in quotes",
    "folder": "a text in quotes",
    "size": "a whole number, or [height, width]",
}


def options(
    scope: Scope, owner: str, rows: Iterable[Option], arguments: Iterable[nodes.Expr | nodes.Keyword]
) -> tuple[tuple[str, OptionValue], ...]:
    """The options that a source, a builder or a run is given by name. Notes every mistake, and raises the last."""
    known = {row.name: row for row in rows}
    found: dict[str, tuple[OptionValue | None, Span]] = {}
    wrong: Refused | None = None
    for argument in arguments:
        try:
            if not isinstance(argument, nodes.Keyword):
                raise Refused(errors.option_unnamed(argument.span, owner, [n for n in known if n not in found]))
            name = argument.name.text
            if name not in known:
                raise Refused(errors.option_unknown(argument.name.span, owner, name, known))
            if name in found:
                raise Refused(errors.option_twice(argument.name.span, owner, name, found[name][1]))
            found[name] = (None, argument.name.span)
            found[name] = (option(scope, known[name], argument.value), argument.name.span)
        except Refused as refused:
            scope.refuse(refused.report)
            wrong = refused
    if wrong is not None:
        raise wrong
    return tuple((name, value) for name, (value, _) in found.items() if value is not None)


def option(scope: Scope, row: Option, expr: nodes.Expr) -> OptionValue:
    """The value of an option of a source, a builder or a run, checked against its row of the table."""
    if isinstance(expr, nodes.Name) and expr.text not in scope.lets:
        value: Const | bool = {"true": True, "false": False}.get(expr.text, expr.text)
    else:
        value = evaluate(scope, expr)
    match row.type, value:
        case "flag", bool():
            return value
        case "text" | "folder", str() if not row.choices or value in row.choices:
            return value
        case "integer" | "size", Fraction() if value.denominator == 1:
            return int(within(row, value, expr.span))
        case "size", (Fraction() as height, Fraction() as width) if height.denominator == width.denominator == 1:
            return int(within(row, height, expr.span)), int(within(row, width, expr.span))
        case "number", Fraction():
            return float(within(row, value, expr.span))
        case _:
            need = f"one of {', '.join(row.choices)}" if row.choices else _TYPES[row.type]
            raise Refused(errors.option_value(expr.span, row.name, need, f"`{expr.span.text}`", row.choices))


def within(row: Option, value: Fraction, span: Span) -> Fraction:
    """Raises `Refused` where a number lies outside the option's range."""
    most = LARGEST if row.type == "integer" and row.most is None else row.most
    if (row.least is not None and value < row.least) or (row.below is not None and value >= row.below):
        raise Refused(errors.option_value(span, row.name, _range(row), f"{float(value):g}"))
    if most is not None and value > most:
        raise Refused(errors.option_value(span, row.name, f"{most:,} or less", f"{float(value):g}"))
    return value


def _range(row: Option) -> str:
    least = f"{row.least:g} or more" if row.least is not None else ""
    return ", ".join(filter(None, (least, f"below {row.below:g}" if row.below is not None else "")))


# --- floats


def floats(scope: Scope, value: Const, span: Span) -> Numbers:
    """A constant as floats: a number, a list, or a list of equally long lists."""
    match value:
        case Fraction():
            return float(value)
        case str():
            raise Refused(errors.bad_number(span, "a number", "a text"))
        case _:
            scope.spend("lists", sum(len(item) if isinstance(item, tuple) else 1 for item in value), span)
    rows = tuple(tuple(float(number(x, span)) for x in item) for item in value if isinstance(item, tuple))
    return rows or tuple(float(number(item, span)) for item in value)
