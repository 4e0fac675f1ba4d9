"""Values: what the parameters of a law are made of, with their shapes.

Sizes of networks follow from where they are applied: every application met here is noted as a `NetUse`, and
`jointkl.semantics.networks` makes one network of all its uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from jointkl.diagnostics import Refused, Span
from jointkl.semantics import constants, errors, law_errors
from jointkl.semantics.families import FAMILIES, NOT_FAMILIES
from jointkl.semantics.model import (
    Constant,
    Head,
    Indexed,
    NetCall,
    Operation,
    ParameterRef,
    Value,
    VariableRef,
    base,
    law_text,
)
from jointkl.semantics.scope import CONSTANT_FUNCTIONS, FUNCTIONS, NetUse, Scope
from jointkl.semantics.shapes import Shape, numbers
from jointkl.semantics.spaces import DISCRETE, Space
from jointkl.syntax import nodes


@dataclass(frozen=True, slots=True)
class Context:
    """The law that a value stands in; uses of networks are noted in the scope."""

    scope: Scope
    law: nodes.Law

    @property
    def givens(self) -> tuple[str, ...]:
        return tuple(n.text for n in self.law.givens)

    def variable(self, name: nodes.Name) -> Space | None:
        """The space of `name` if it is a variable; it must be a given of the law."""
        if base(name.text) not in self.scope.declared:
            return None
        variable = self.scope.variable(name)
        if name.text not in self.givens:
            self._refuse(name)
        return variable.space

    def _refuse(self, name: nodes.Name) -> None:
        outputs = tuple(n.text for n in self.law.outputs)
        added = f"{name.text}'" if name.text in outputs else name.text
        written = law_text(self.law.label.text, outputs, (*self.givens, added))
        if name.text in outputs:
            raise Refused(law_errors.its_own_output(name.span, name.text, written))
        raise Refused(law_errors.not_given(name.span, name.text, self.givens, written))


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
    return isinstance(expr, nodes.Call) and expr.name.text in scope.nets and expr.givens is None


def _is_constant(scope: Scope, expr: nodes.Expr | nodes.Keyword) -> bool:
    """Made of numbers, lists and what `let` names alone."""
    match expr:
        case nodes.Number() | nodes.Text() | nodes.Items():
            return True
        case nodes.Name(text=name):
            return name in scope.lets
        case nodes.Negative(operand=operand):
            return _is_constant(scope, operand)
        case nodes.Binary(operator=operator, left=left, right=right):
            return operator != "@" and _is_constant(scope, left) and _is_constant(scope, right)
        case nodes.Subscript(value=inner, indices=indices):
            return _is_constant(scope, inner) and all(_is_constant(scope, i) for i in indices)
        case nodes.Call(name=name, givens=None) if name.text in CONSTANT_FUNCTIONS:
            return True
        case nodes.Call(name=name, arguments=(only,), givens=None) if name.text in (*FUNCTIONS, "sum"):
            return _is_constant(scope, only)
        case nodes.Call():
            return False
        case nodes.Keyword():
            return False


def value(context: Context, expr: nodes.Expr, expected: Shape | None) -> tuple[Value, Shape]:
    """The value and its shape; `expected` is what a network without a stated output gives here, if that follows."""
    if _is_constant(context.scope, expr):
        found = constants.evaluate(context.scope, expr, functions=True)
        found = constants.floats(context.scope, found, expr.span)
        return Constant(found), numbers(found)
    match expr:
        case nodes.Number() | nodes.Items() | nodes.Text():
            raise AssertionError(f"{expr} is constant")
        case nodes.Name():
            return _named(context, expr)
        case nodes.Negative(operand=operand):
            inner, shape = value(context, operand, expected)
            return Operation("neg", (inner,)), shape
        case nodes.Binary():
            return _binary(context, expr, expected)
        case nodes.Subscript():
            return _subscript(context, expr, expected)
        case nodes.Call():
            return _call(context, expr, expected)


def _call(context: Context, expr: nodes.Call, expected: Shape | None) -> tuple[Value, Shape]:
    verify_call(context.scope, expr)
    return (_net_value if is_net_call(context.scope, expr) else _function)(context, expr, expected)


def verify_call(scope: Scope, expr: nodes.Call) -> None:
    """Only networks and functions are applied in values."""
    name = expr.name
    if name.text in scope.labels or name.text == "data" or expr.givens is not None:
        raise Refused(law_errors.law_in_value(expr.span, "law", expr.span.text))
    if name.text in FAMILIES or name.text in NOT_FAMILIES:
        raise Refused(law_errors.law_in_value(expr.span, "family", expr.span.text))
    known = (*scope.nets, *FUNCTIONS, *CONSTANT_FUNCTIONS, "sum")
    if name.text not in known:
        raise scope.missing(name.text, lambda: errors.unknown(name.span, "net or function", name.text, known))


def _named(context: Context, expr: nodes.Name) -> tuple[Value, Shape]:
    scope, name = context.scope, expr.text
    if name in scope.params:
        return ParameterRef(name), param_space(scope, name).shape
    found = context.variable(expr)
    if found is not None and found.kind == "finite" and found.values != tuple(range(len(found.values))):
        why = f"`{name}` is known by its place among {found}, and is no number"
        raise Refused(
            law_errors.bad_operands(expr.span, why, f"index a param by it, or declare {{0..{len(found.values) - 1}}}")
        )
    if found is not None:
        return VariableRef(name), found.shape
    if name in scope.nets:
        raise Refused(law_errors.net_without_inputs(expr.span, name, context.givens))
    known = (*scope.lets, *scope.params, *context.givens)
    raise scope.missing(base(name), lambda: errors.unknown_value(expr.span, name, known))


def param_space(scope: Scope, name: str) -> Space:
    """The space of a param: one that gradients can move in."""
    declared = scope.params[name][0].space
    if name in scope.broken:
        raise Refused(scope.broken[name])
    found = constants.space(scope, declared)
    if found.kind in DISCRETE:
        raise Refused(errors.not_trainable(declared.span, name, found))
    return found


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
            why = f"shapes {list(left)} and {list(right)} do not go together"
            raise Refused(law_errors.bad_operands(span, why, "make them equal, or one of them a number"))
        shape.append(max(a, b))
    return tuple(shape)


def _matmul(left: Shape, right: Shape, span: Span) -> Shape:
    if 1 <= len(left) <= 2 and 1 <= len(right) <= 2 and left[-1:] == right[:1]:
        return (*left[:-1], *right[1:])
    why = f"`@` needs matching sizes, not {list(left)} and {list(right)}"
    raise Refused(law_errors.bad_operands(span, why, "[n,m] @ [m] is [n], [n,m] @ [m,k] is [n,k]"))


def _subscript(context: Context, expr: nodes.Subscript, expected: Shape | None) -> tuple[Value, Shape]:
    spaces = [_index_space(context, i) for i in expr.indices]
    counts = [len(s.values) if s else None for _, s in spaces]
    outer = None if expected is None or None in counts else (*(c for c in counts if c is not None), *expected)
    inner, shape = value(context, expr.value, outer)
    if len(shape) < len(expr.indices):
        why = f"{len(expr.indices)} indices into shape {list(shape)}"
        raise Refused(law_errors.bad_operands(expr.span, why, f"give {len(shape)} at most"))
    for (index, _), count, size, node in zip(spaces, counts, shape, expr.indices, strict=False):
        if count is not None and count != size:
            why = f"the index has {count} values, and the dimension {size}"
            help = f"declare var {node.span.text}: {{0..{size - 1}}}, or make the dimension {count}"
            raise Refused(law_errors.bad_operands(node.span, why, help))
        if isinstance(index, Constant) and not 0 <= (index.number or 0) < size:
            why = f"the index lies outside 0..{size - 1}"
            raise Refused(law_errors.bad_operands(node.span, why, "indices count from 0"))
    return Indexed(inner, tuple(i for i, _ in spaces)), shape[len(expr.indices) :]


def _index_space(context: Context, expr: nodes.Expr) -> tuple[Value, Space | None]:
    if isinstance(expr, nodes.Name) and expr.text not in context.scope.lets:
        found = context.variable(expr)
        if found is not None:
            if found.kind != "finite":
                why = f"an index is a finite variable, and `{expr.text}` is {found}"
                raise Refused(law_errors.bad_operands(expr.span, why, f"declare var {expr.text}: {{0..9}}"))
            return VariableRef(expr.text), found
    place = constants.natural(constants.evaluate(context.scope, expr), expr.span)
    return Constant(float(place)), None


def _function(context: Context, expr: nodes.Call, expected: Shape | None) -> tuple[Value, Shape]:
    name = expr.name.text
    for i, argument in enumerate(expr.arguments):
        if isinstance(argument, nodes.Keyword):
            raise Refused(law_errors.no_keywords(argument.span, name))
        if i:
            raise Refused(
                law_errors.argument_count(argument.span, name, "one value", len(expr.arguments), f"{name}(..)")
            )
    if not expr.arguments or isinstance(expr.arguments[0], nodes.Keyword):
        raise Refused(law_errors.argument_count(expr.span, name, "one value", 0, f"{name}(..)"))
    inner, shape = value(context, expr.arguments[0], None if name == "sum" else expected)
    if name == "softmax" and not shape:
        raise Refused(law_errors.bad_operands(expr.span, "softmax needs a vector", "sigmoid maps one number to 0..1"))
    return Operation(name, (inner,)), () if name == "sum" else shape


def _net_value(context: Context, expr: nodes.Call, expected: Shape | None) -> tuple[Value, Shape]:
    """A network inside an expression gives its stated output, or the shape that is needed there."""
    net = context.scope.nets[expr.name.text]
    if net.output is not None:
        space = constants.space(context.scope, net.output)
    elif expected is not None:
        space = Space("real", expected)
    else:
        raise Refused(law_errors.needs_output(expr.span, net.name.text, net.name.span, net.builder.span.text))
    return net_call(context, expr, (Head("value", space),)), space.shape


def net_call(context: Context, expr: nodes.Call, heads: tuple[Head, ...], *, dirac: bool = False) -> NetCall:
    """A network applied, to give `heads`; which of several is meant, its caller says."""
    inputs = [_net_input(context, expr, a) for a in expr.arguments]
    if not inputs:
        raise Refused(law_errors.net_without_inputs(expr.span, expr.name.text, context.givens))
    spaces = tuple(space for _, space in inputs)
    local = tuple(_is_local(context, v) for v, _ in inputs)
    context.scope.uses.append(NetUse(expr.name.text, spaces, local, heads, dirac, expr.span))
    return NetCall(expr.name.text, tuple(v for v, _ in inputs))


def _is_local(context: Context, found: Value) -> bool:
    """Has the value one for each datum, or one for all?"""
    match found:
        case VariableRef(name=name):
            return not context.scope.variables[base(name)].is_global
        case NetCall(inputs=parts) | Operation(operands=parts):
            return any(_is_local(context, v) for v in parts)
        case Indexed(value=inner, indices=indices):
            return any(_is_local(context, v) for v in (inner, *indices))
        case Constant() | ParameterRef():
            return False


def _net_input(context: Context, call: nodes.Call, argument: nodes.Expr | nodes.Keyword) -> tuple[Value, Space]:
    if isinstance(argument, nodes.Keyword):
        raise Refused(law_errors.no_keywords(argument.span, call.name.text))
    if isinstance(argument, nodes.Name) and argument.text not in context.scope.lets:
        space = context.variable(argument)
        if space is not None:
            return VariableRef(argument.text), space
    inner, shape = value(context, argument, None)
    return inner, Space("real", shape)
