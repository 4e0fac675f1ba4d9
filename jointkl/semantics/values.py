"""Values: what the parameters of a law are made of, with their shapes.

Sizes of networks follow from where they are applied: every application met here is noted as a `NetUse`, and
`jointkl.semantics.networks` makes one network of all its uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from jointkl.diagnostics import Span
from jointkl.semantics import constants, errors
from jointkl.semantics.model import (
    Constant,
    Head,
    Indexed,
    NetCall,
    Operation,
    ParameterRef,
    Value,
    VariableRef,
)
from jointkl.semantics.scope import CONSTANT_FUNCTIONS, FUNCTIONS, Refused, Scope
from jointkl.semantics.shapes import Shape, numbers
from jointkl.semantics.spaces import Space
from jointkl.syntax import nodes


@dataclass(frozen=True, slots=True)
class NetUse:
    """One application of a network: what it is applied to, and what it must give.

    `dirac` marks the output of a Delta: its space is the network's own wherever else it is used.
    """

    net: str
    inputs: tuple[Space, ...]
    heads: tuple[Head, ...]
    dirac: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Context:
    """The law that a value stands in: its variables by the names written there."""

    scope: Scope
    givens: tuple[str, ...]
    uses: list[NetUse]

    def variable(self, name: nodes.Name) -> Space | None:
        """The space of `name` if it is a variable; it must be a given of the law."""
        known = self.scope.variables.get(name.text.rstrip("'"))
        if known is None:
            return None
        if name.text not in self.givens:
            raise Refused(errors.not_given(name.span, name.text, self.givens))
        return known.space


def contains_net(scope: Scope, expr: nodes.Expr) -> bool:
    match expr:
        case nodes.Call(name=name, arguments=arguments):
            return name.text in scope.nets or any(
                not isinstance(a, nodes.Keyword) and contains_net(scope, a) for a in arguments
            )
        case nodes.Negative(operand=operand):
            return contains_net(scope, operand)
        case nodes.Binary(left=left, right=right):
            return contains_net(scope, left) or contains_net(scope, right)
        case nodes.Subscript(value=value):
            return contains_net(scope, value)
        case _:
            return False


def is_net_call(scope: Scope, expr: nodes.Expr) -> bool:
    return isinstance(expr, nodes.Call) and expr.name.text in scope.nets


def value(context: Context, expr: nodes.Expr, expected: Shape | None) -> tuple[Value, Shape]:
    """The value and its shape; `expected` is what a network without a stated output gives here, if that follows."""
    match expr:
        case nodes.Number():
            return Constant(constants.floats(constants.evaluate(context.scope, expr), expr.span)), ()
        case nodes.Items():
            return _constant(context, expr)
        case nodes.Text(span=span):
            raise Refused(errors.bad_number(span, "a number", "a text"))
        case nodes.Name(text=name, span=span):
            return _named(context, expr, name, span)
        case nodes.Negative(operand=operand):
            inner, shape = value(context, operand, expected)
            return Operation("neg", (inner,)), shape
        case nodes.Binary():
            return _binary(context, expr, expected)
        case nodes.Subscript():
            return _subscript(context, expr, expected)
        case nodes.Call(name=name, span=span) if expr.givens is not None:
            raise Refused(errors.law_argument(span, expr.span.text))
        case nodes.Call(name=name) if name.text in context.scope.nets:
            return _net_value(context, expr, expected)
        case nodes.Call(name=name) if name.text in FUNCTIONS or name.text == "sum":
            return _function(context, expr, expected)
        case nodes.Call(name=name) if name.text in CONSTANT_FUNCTIONS:
            return _constant(context, expr)
        case nodes.Call(name=name):
            known = (*context.scope.nets, *FUNCTIONS)
            raise Refused(errors.unknown(name.span, "net or function", name.text, known))


def _constant(context: Context, expr: nodes.Expr) -> tuple[Value, Shape]:
    found = constants.floats(constants.evaluate(context.scope, expr), expr.span)
    return Constant(found), numbers(found)


def _named(context: Context, expr: nodes.Expr, name: str, span: Span) -> tuple[Value, Shape]:
    if name in context.scope.lets:
        return _constant(context, expr)
    if name in context.scope.params:
        node, _ = context.scope.params[name]
        return ParameterRef(name), constants.space(context.scope, node.space).shape
    found = context.variable(nodes.Name(name, span=span))
    if found is not None:
        return VariableRef(name), found.shape
    if name in context.scope.nets:
        raise Refused(errors.argument_count(span, name, "its inputs in brackets", 0))
    known = (*context.scope.lets, *context.scope.params, *context.givens)
    raise Refused(errors.unknown(span, "variable, param or constant", name, known))


def _binary(context: Context, expr: nodes.Binary, expected: Shape | None) -> tuple[Value, Shape]:
    inside = None if expr.operator == "@" else expected
    left, left_shape = value(context, expr.left, inside)
    right, right_shape = value(context, expr.right, inside)
    match expr.operator:
        case "@":
            shape = _matmul(left_shape, right_shape, expr.span)
        case _:
            shape = _broadcast(left_shape, right_shape, expr.span)
    return Operation(expr.operator, (left, right)), shape


def _broadcast(left: Shape, right: Shape, span: Span) -> Shape:
    n = max(len(left), len(right))
    shape: list[int] = []
    for a, b in zip((1,) * (n - len(left)) + left, (1,) * (n - len(right)) + right, strict=True):
        if a != b and 1 not in (a, b):
            raise Refused(errors.bad_operands(span, f"shapes {list(left)} and {list(right)} do not go together"))
        shape.append(max(a, b))
    return tuple(shape)


def _matmul(left: Shape, right: Shape, span: Span) -> Shape:
    if 1 <= len(left) <= 2 and 1 <= len(right) <= 2 and left[-1:] == right[:1]:
        return (*left[:-1], *right[1:])
    raise Refused(errors.bad_operands(span, f"`@` needs matching sizes, not {list(left)} and {list(right)}"))


def _subscript(context: Context, expr: nodes.Subscript, expected: Shape | None) -> tuple[Value, Shape]:
    spaces = [_index_space(context, i) for i in expr.indices]
    counts = [len(s.values) if s else None for _, s in spaces]
    outer = None if expected is None or None in counts else (*(c for c in counts if c is not None), *expected)
    inner, shape = value(context, expr.value, outer)
    if len(shape) < len(expr.indices):
        raise Refused(errors.bad_operands(expr.span, f"shape {list(shape)} has fewer dimensions than indices"))
    for (index, _), count, size, node in zip(spaces, counts, shape, expr.indices, strict=False):
        if count is not None and count != size:
            raise Refused(errors.bad_operands(node.span, f"the index has {count} values, the dimension {size}"))
        if isinstance(index, Constant) and not 0 <= (index.number or 0) < size:
            raise Refused(errors.bad_operands(node.span, f"the index lies outside 0..{size - 1}"))
    return Indexed(inner, tuple(i for i, _ in spaces)), shape[len(expr.indices) :]


def _index_space(context: Context, expr: nodes.Expr) -> tuple[Value, Space | None]:
    if isinstance(expr, nodes.Name):
        found = context.variable(expr)
        if found is not None:
            if found.kind != "finite":
                raise Refused(
                    errors.bad_operands(expr.span, f"an index is a finite variable, and `{expr.text}` is {found}")
                )
            return VariableRef(expr.text), found
    place = constants.natural(constants.evaluate(context.scope, expr), expr.span)
    return Constant(float(place)), None


def _function(context: Context, expr: nodes.Call, expected: Shape | None) -> tuple[Value, Shape]:
    if len(expr.arguments) != 1 or isinstance(expr.arguments[0], nodes.Keyword):
        raise Refused(errors.argument_count(expr.span, expr.name.text, "one argument", len(expr.arguments)))
    inner, shape = value(context, expr.arguments[0], None if expr.name.text == "sum" else expected)
    if expr.name.text == "softmax" and not shape:
        raise Refused(errors.bad_operands(expr.span, "softmax needs a vector"))
    return Operation(expr.name.text, (inner,)), () if expr.name.text == "sum" else shape


def _net_value(context: Context, expr: nodes.Call, expected: Shape | None) -> tuple[Value, Shape]:
    """A network inside an expression gives its stated output, or the shape that is needed there."""
    stated = context.scope.nets[expr.name.text].output
    if stated is not None:
        space = constants.space(context.scope, stated)
    elif expected is not None:
        space = Space("real", expected)
    else:
        raise Refused(errors.needs_output(expr.span, expr.name.text, context.scope.nets[expr.name.text].name.span))
    return net_call(context, expr, (Head("value", space),)), space.shape


def net_call(context: Context, expr: nodes.Call, heads: tuple[Head, ...], *, dirac: bool = False) -> NetCall:
    """A network applied, to give `heads`; which of several is meant, its caller says."""
    inputs = [_net_input(context, a) for a in expr.arguments]
    if not inputs:
        raise Refused(errors.argument_count(expr.span, expr.name.text, "at least one input", 0))
    spaces = tuple(space for _, space in inputs)
    context.uses.append(NetUse(expr.name.text, spaces, heads, dirac, expr.span))
    return NetCall(expr.name.text, tuple(v for v, _ in inputs))


def _net_input(context: Context, argument: nodes.Expr | nodes.Keyword) -> tuple[Value, Space]:
    if isinstance(argument, nodes.Keyword):
        raise Refused(errors.argument_count(argument.span, argument.name.text, "no keyword here: a net's inputs", 1))
    if isinstance(argument, nodes.Name):
        space = context.variable(argument)
        if space is not None:
            return VariableRef(argument.text), space
    inner, shape = value(context, argument, None)
    return inner, Space("real", shape)
