"""The right side of a law: a family with its parameters, or a Dirac."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from jointkl.diagnostics import Refused, Span
from jointkl.semantics import errors, law_errors
from jointkl.semantics.families import FAMILIES, FILLED, FIXED, Family, Parameter, covers, parameter_space
from jointkl.semantics.model import (
    Constant,
    Dirac,
    Distribution,
    Head,
    Indexed,
    NetCall,
    Numbers,
    Operation,
    ParameterRef,
    Value,
    Variable,
    VariableRef,
)
from jointkl.semantics.shapes import Shape
from jointkl.semantics.spaces import DISCRETE, Kind, Space, contains, fits
from jointkl.semantics.values import Context, contains_net, is_net_call, net_call, param_space, value, verify_call
from jointkl.semantics.wording import dims
from jointkl.syntax import nodes


def dirac(context: Context, call: nodes.Call, variable: Variable) -> Dirac:
    """`Delta(e)` or `Delta(e, density=Laplace(1))`."""
    plain = [a for a in call.arguments if not isinstance(a, nodes.Keyword)]
    named = [a for a in call.arguments if isinstance(a, nodes.Keyword)]
    for i, keyword in enumerate(named):
        if keyword.name.text != "density":
            raise Refused(errors.option_unknown(keyword.name.span, "Delta", keyword.name.text, ("density",)))
        if i:
            raise Refused(errors.option_twice(keyword.name.span, "Delta", "density", named[0].name.span))
    if len(plain) != 1:
        place = plain[1].span if plain else call.span
        raise Refused(law_errors.argument_count(place, "Delta", "one value", len(plain), "Delta(G(z))"))
    at = _point(context, plain[0], variable)
    return Dirac(at, _density(context, named[0].value, at, variable.space) if named else None)


def _point(context: Context, expr: nodes.Expr, variable: Variable) -> Value:
    """Where a Dirac stands; a network alone is mapped into the variable's space."""
    space = variable.space
    if is_net_call(context.scope, expr) and isinstance(expr, nodes.Call):
        if space.kind in DISCRETE:
            family = {"binary": "Bernoulli", "finite": "Categorical"}.get(space.kind, "Poisson")
            help = f"give it a family: {family}({expr.span.text})"
            raise Refused(law_errors.no_map(expr.span, expr.name.text, space, variable.span, help))
        return net_call(context, expr, (Head("value", space),), dirac=True)
    at, shape = _copied(context, expr) or value(context, expr, space.shape)
    _verify_fills(context, expr, "value", at, shape, space)
    found = _space_of(context, at)
    if found is not None and not fits(space, found[0]):
        mapped = f"Delta({_MAPS[space.kind]}({expr.span.text})), or " if space.kind in _MAPS else ""
        other = found[0] if found[0].kind == "finite" else Space(found[0].kind, space.dims)
        help = f"{mapped}declare var {variable.name}: {other}"
        what = "the value of a Delta"
        raise Refused(law_errors.parameter_space(expr.span, what, space, found[0], found[1], help))
    _verify_numbers(expr.span, "the value of a Delta", space, at)
    if space.kind == "finite" and isinstance(at, Constant):
        return Constant(float(space.values.index(int(at.number or 0))))
    return at


def _copied(context: Context, expr: nodes.Expr) -> tuple[Value, Shape] | None:
    """A finite variable as it is: its values are known by their place."""
    found = context.variable(expr) if isinstance(expr, nodes.Name) else None
    return (VariableRef(expr.text), ()) if isinstance(expr, nodes.Name) and found and found.kind == "finite" else None


_MAPS: dict[Kind, str] = {"unit": "sigmoid", "positive": "exp", "simplex": "softmax"}
"""Functions into a space."""


def _density(context: Context, expr: nodes.Expr, at: Value, space: Space) -> Distribution:
    """The family named by `density=`, its location the Dirac's value and its other parameters as written."""
    located = [
        f.name for f in FAMILIES.values() if f.location and len(f.parameters) == 2 and f.event <= len(space.shape)
    ]
    if not isinstance(expr, nodes.Call) or expr.name.text not in located or expr.givens is not None:
        raise Refused(law_errors.density_family(expr.span, located))
    family = FAMILIES[expr.name.text]
    other = next(p for p in family.parameters if p.name != family.location)
    assert family.location is not None
    argument = expr.arguments[0] if expr.arguments else None
    written = argument.value if isinstance(argument, nodes.Keyword) else argument
    parameter = family.parameter(argument.name.text) if isinstance(argument, nodes.Keyword) else other
    if written is None or len(expr.arguments) > 1 or parameter is None or parameter.name == family.location:
        raise Refused(law_errors.density_arguments(expr.span, family.name, family.location, other.name))
    spread = _parameter(context, family, parameter, written, space)
    return Distribution(family.name, ((family.location, at), (parameter.name, spread)))


def distribution(context: Context, call: nodes.Call, variable: Variable) -> Distribution:
    """A family over the variable's space, its parameters checked for number, name, shape and value."""
    family, space = FAMILIES[call.name.text], variable.space
    _verify_covers(call, family, variable)
    bare = call.arguments[0] if len(call.arguments) == 1 else None
    if isinstance(bare, nodes.Call) and is_net_call(context.scope, bare):
        return _headed(context, call, bare, family, space)
    if isinstance(bare, nodes.Call):
        verify_call(context.scope, bare)
    if not call.arguments and family.name == "Categorical":
        context.scope.spend("finite spaces", len(space.values), call.span)
        return Distribution(family.name, (("probs", Constant((1.0 / len(space.values),) * len(space.values))),))
    given = _match(call, family)
    logits = {p.instead: p.name for p in family.alternatives if p.name.endswith("logits")}
    for argument, (parameter, _) in zip(call.arguments, given, strict=True):
        unnamed = not isinstance(argument, nodes.Keyword)
        if unnamed and parameter.name in logits and contains_net(context.scope, argument):
            ways = (logits[parameter.name], parameter.name)
            raise Refused(law_errors.needs_keyword(argument.span, family.name, argument.span.text, ways))
    found = [(p.name, _parameter(context, family, p, expr, space)) for p, expr in given]
    if family.name == "Uniform":
        _verify_interval(call, dict(found), dict((p.name, e.span) for p, e in given), variable)
    return Distribution(family.name, tuple(found))


def _verify_covers(call: nodes.Call, family: Family, variable: Variable) -> None:
    space = variable.space
    if not covers(family, space):
        fits = [f.name for f in FAMILIES.values() if covers(f, space)]
        dims = space.dims or ((2,) if family.event else ())
        support = Space("finite", (), tuple(range(10))) if family.support == "finite" else Space(family.support, dims)
        raise Refused(
            law_errors.not_covered(
                call.name.span,
                family.name,
                family.event > 0,
                support,
                variable.name,
                space,
                variable.span,
                (*fits, "Delta"),
            )
        )


def _headed(context: Context, call: nodes.Call, bare: nodes.Call, family: Family, space: Space) -> Distribution:
    """A bare net call supplies every parameter by one head each."""
    if family.heads is None:
        raise Refused(law_errors.no_heads(call.span, family.name, [p.name for p in family.parameters]))
    parameters = [p for n in family.heads if (p := family.parameter(n)) is not None]
    heads = tuple(Head(p.name, parameter_space(family, p, space)) for p in parameters)
    found = net_call(context, bare, heads)
    many = len(heads) > 1
    picked = [(h.name, NetCall(found.net, found.inputs, h.name if many else None)) for h in heads]
    return Distribution(family.name, tuple(picked))


def _match(call: nodes.Call, family: Family) -> list[tuple[Parameter, nodes.Expr]]:
    """Each argument with its parameter: by position in Pyro's order, or by name."""
    found: dict[str, tuple[Parameter, nodes.Expr]] = {}
    names = [p.name for p in family.parameters]
    for place, argument in enumerate(call.arguments):
        if isinstance(argument, nodes.Keyword):
            name, expr = argument.name, argument.value
            parameter = family.parameter(name.text)
            if parameter is None:
                raise Refused(law_errors.parameter_unknown(name.span, family.name, name.text, family.names))
        else:
            if place >= len(names):
                raise Refused(law_errors.too_many_parameters(argument.span, family.name, names))
            parameter, expr = family.parameters[place], argument
        if parameter.name in found:
            raise Refused(law_errors.parameter_twice(argument.span, family.name, parameter.name))
        found[parameter.name] = (parameter, expr)
    replaced: dict[str, str] = {}
    for p in family.alternatives:
        if p.name in found:
            other = p.instead if p.instead in found else replaced.get(p.instead)
            if other is not None:
                raise Refused(law_errors.parameter_alternatives(found[p.name][1].span, family.name, other, p.name))
            replaced[p.instead] = p.name
    for parameter in family.parameters:
        if parameter.name not in found and parameter.default is None and parameter.name not in replaced:
            raise Refused(law_errors.parameter_missing(call.span, family.name, parameter.name, names))
    return list(found.values())


# --- parameters


def _parameter(context: Context, family: Family, parameter: Parameter, expr: nodes.Expr, space: Space) -> Value:
    need = parameter_space(family, parameter, space)
    if is_net_call(context.scope, expr) and isinstance(expr, nodes.Call) and parameter.extent not in FIXED:
        return net_call(context, expr, (Head(parameter.name, need),))
    found, shape = value(context, expr, need.shape)
    if parameter.extent == "factor" and shape[:-1] == space.shape:
        need = replace(need, dims=shape)
    _verify_fills(
        context,
        expr,
        parameter.name,
        found,
        shape,
        need,
        fillable=parameter.extent in FILLED and need.kind != "simplex",
    )
    _verify_fixed(family, parameter, expr, found, space)
    _verify_space(context, family, parameter, expr, found, need)
    _verify_numbers(expr.span, f"`{parameter.name}` of {family.name}", need, found)
    return found


def _verify_fixed(family: Family, parameter: Parameter, expr: nodes.Expr, found: Value, space: Space) -> None:
    """What is one number for all data is a number or a param; a count is written."""
    count = parameter.extent == "count"
    if parameter.extent in FIXED and (_varies(found) or (count and not isinstance(found, Constant))):
        raise Refused(law_errors.one_for_all(expr.span, family.name, parameter.name, count))
    if parameter.name == "dim" and isinstance(found, Constant) and found.number != space.shape[-1]:
        what = f"`dim` of {family.name}"
        raise Refused(
            law_errors.parameter_value(expr.span, what, f"{space.shape[-1]}, as in {space}", found.number or 0.0)
        )


def _varies(found: Value) -> bool:
    """Does a value depend on a variable?"""
    match found:
        case VariableRef() | NetCall():
            return True
        case Operation(operands=parts):
            return any(map(_varies, parts))
        case Indexed(value=inner, indices=indices):
            return any(map(_varies, (inner, *indices)))
        case Constant() | ParameterRef():
            return False


def _verify_fills(
    context: Context, expr: nodes.Expr, name: str, found: Value, shape: Shape, need: Space, *, fillable: bool = True
) -> None:
    """A number fills a shape, but for that of a matrix or of probabilities."""
    if shape == need.shape or (shape == () and fillable):
        return
    declared = (found.name, context.scope.params[found.name][1]) if isinstance(found, ParameterRef) else None
    raise Refused(law_errors.parameter_shape(expr.span, name, shape, need, declared, fillable))


def _space_of(context: Context, found: Value) -> tuple[Space, Span] | None:
    """The space of a param or a variable, or an item of one, with the place of its declaration."""
    scope = context.scope
    match found:
        case ParameterRef(name=name):
            return param_space(scope, name), scope.params[name][1]
        case VariableRef(name=name):
            variable = scope.variables[name.rstrip("'")]
            return variable.space, variable.span
        case Indexed(value=inner, indices=indices):
            whole = _space_of(context, inner)
            if whole is None or (whole[0].kind == "cholesky" and len(indices) >= len(whole[0].dims)):
                return None
            left = whole[0].dims[len(indices) :]
            kind = "unit" if whole[0].kind == "simplex" and not left else whole[0].kind
            return Space(kind, left), whole[1]
        case _:
            return None


def _verify_space(
    context: Context, family: Family, parameter: Parameter, expr: nodes.Expr, found: Value, need: Space
) -> None:
    """A param or a variable that stands for a parameter has all its values in the parameter's space."""
    known = _space_of(context, found)
    if known is None or contains(need, known[0].kind) or (need.kind == "real" and known[0].kind == "finite"):
        return
    space, cause = known
    mapped = f"{_MAPS[need.kind]}({expr.span.text}), or " if need.kind in _MAPS else ""
    help = f"{mapped}declare it {need.kind}{dims(space)}"
    if space.kind == "cholesky":
        help = f"scale_tril={expr.span.text}"
    elif isinstance(found, ParameterRef):
        help = f"param {found.name}: {need.kind}{dims(space)}"
    what = f"`{parameter.name}` of {family.name}"
    raise Refused(law_errors.parameter_space(expr.span, what, need, space, cause, help))


def _verify_numbers(span: Span, what: str, need: Space, found: Value) -> None:
    """Constants lie in the space."""
    if not isinstance(found, Constant):
        return
    flat = _flat(found.value)
    for number in flat:
        if not _lies_in(need, number):
            wanted = _WANTED.get(need.kind, f"one of {need}")
            raise Refused(law_errors.parameter_value(span, what, wanted, number))
    if need.kind == "simplex" and abs(math.fsum(flat) - 1) > 1e-6:
        raise Refused(law_errors.probabilities_sum(span, math.fsum(flat)))
    if isinstance(found.value, tuple) and isinstance(found.value[0], tuple):
        _verify_matrix(span, what, need, found.value)


_WANTED: dict[Kind, str] = {
    "positive": "positive",
    "unit": "between 0 and 1",
    "simplex": "between 0 and 1",
    "binary": "0 or 1",
    "natural": "a whole number, 0 or more",
}


def _lies_in(space: Space, number: float) -> bool:
    match space.kind:
        case "positive":
            return number > 0
        case "unit" | "simplex":
            return 0 <= number <= 1
        case "binary":
            return number in (0, 1)
        case "natural":
            return number >= 0 and number == int(number)
        case "finite":
            return number in space.values
        case "real" | "cholesky":
            return True


def _verify_matrix(span: Span, what: str, need: Space, rows: tuple[Any, ...]) -> None:
    """A constant scale_tril, or a covariance."""
    lower = need.kind == "cholesky"
    wanted = "lower triangular, its diagonal positive" if lower else "symmetric, its diagonal positive"
    if what.startswith("`covariance_matrix`") or lower:
        for i, row in enumerate(rows):
            for j in range(i, len(row)):
                if row[j] <= 0 if i == j else row[j] != (0 if lower else rows[j][i]):
                    raise Refused(law_errors.parameter_value(span, what, wanted, row[j]))


def _flat(items: Numbers) -> list[float]:
    if not isinstance(items, tuple):
        return [items]
    return [x for item in items for x in (item if isinstance(item, tuple) else (item,))]


def _verify_interval(call: nodes.Call, found: dict[str, Value], spans: dict[str, Span], variable: Variable) -> None:
    """A Uniform's bounds: low below high, and within a space that is bounded itself."""
    low, high = (v.value if isinstance(v, Constant) else None for v in (found["low"], found["high"]))
    if isinstance(low, float) and isinstance(high, float) and low >= high:
        raise Refused(law_errors.empty_interval(spans["high"], low, high))
    kind = variable.space.kind
    for name, bound in (("low", low), ("high", high)):
        inside = bound is not None and all(x >= 0 and (kind == "positive" or x <= 1) for x in _flat(bound))
        if kind != "real" and not inside:
            raise Refused(law_errors.beyond_space(spans[name], variable.name, variable.space, variable.span))
