"""The right side of a law: a family with its parameters, a Dirac, or a source."""

from __future__ import annotations

from collections.abc import Mapping

from jointkl.diagnostics import Span
from jointkl.semantics import constants, errors
from jointkl.semantics.catalogue import PLANNED_SOURCES, SOURCES, OptionValue
from jointkl.semantics.families import FAMILIES, Family, Parameter
from jointkl.semantics.model import (
    Constant,
    Dirac,
    Distribution,
    Evidence,
    Head,
    NetCall,
    Value,
    law_key,
)
from jointkl.semantics.scope import Refused
from jointkl.semantics.spaces import Space, contains
from jointkl.semantics.values import Context, Shape, contains_net, is_net_call, net_call, value
from jointkl.syntax import nodes


def dirac(context: Context, call: nodes.Call, space: Space, name: str) -> Dirac:
    """`Delta(e)` or `Delta(e, density=Laplace(1))`."""
    plain = [a for a in call.arguments if not isinstance(a, nodes.Keyword)]
    named = {a.name.text: a for a in call.arguments if isinstance(a, nodes.Keyword)}
    for keyword in named.values():
        if keyword.name.text != "density":
            raise Refused(errors.option_unknown(keyword.name.span, "Delta", keyword.name.text, ("density",)))
    if len(plain) != 1:
        raise Refused(errors.argument_count(call.span, "Delta", "one value, as in Delta(G(z))", len(plain)))
    at: Value
    if is_net_call(context.scope, plain[0]) and isinstance(plain[0], nodes.Call):
        at = net_call(context, plain[0], (Head("value", space),), dirac=True)
    else:
        at, shape = value(context, plain[0], space.shape)
        _verify_fills(plain[0].span, name, shape, space.shape)
    density = named.get("density")
    return Dirac(at, None if density is None else _density(context, density.value, at, space))


def _density(context: Context, expr: nodes.Expr, at: Value, space: Space) -> Distribution:
    """The family named by `density=`, its location the Dirac's value and its other parameters as written."""
    if not isinstance(expr, nodes.Call) or expr.name.text not in FAMILIES:
        located = [f.name for f in FAMILIES.values() if f.location]
        raise Refused(errors.bad_option(expr.span, "density", f"one of {', '.join(located)}, as in density=Normal(1)"))
    family = FAMILIES[expr.name.text]
    rest = [p for p in family.parameters if p.name != family.location]
    if family.location is None or len(rest) != 1 or expr.givens is not None:
        located = [f.name for f in FAMILIES.values() if f.location and len(f.parameters) == 2]
        raise Refused(errors.bad_option(expr.span, "density", f"one of {', '.join(located)}, as in density=Normal(1)"))
    if len(expr.arguments) != 1:
        raise Refused(
            errors.argument_count(expr.span, family.name, f"its {rest[0].name} alone here", len(expr.arguments))
        )
    argument = expr.arguments[0]
    written = argument.value if isinstance(argument, nodes.Keyword) else argument
    parameter = family.parameter(argument.name.text) if isinstance(argument, nodes.Keyword) else rest[0]
    if parameter is None or parameter.name == family.location:
        raise Refused(errors.parameter_unknown(argument.span, family.name, argument.span.text, [rest[0].name]))
    other = _parameter(context, family, parameter, written, space)
    return Distribution(family.name, ((family.location, at), (parameter.name, other)))


def distribution(context: Context, call: nodes.Call, space: Space, name: str, cause: Span) -> Distribution:
    """A family over `space`, its parameters checked for number, name, shape and value."""
    family = FAMILIES[call.name.text]
    _verify_support(call, family, space, name, cause)
    bare = call.arguments[0] if len(call.arguments) == 1 else None
    if isinstance(bare, nodes.Call) and is_net_call(context.scope, bare):
        return _headed(context, call, bare, family, space)
    if not call.arguments and family.name == "Categorical":
        n = len(space.values)
        return Distribution(family.name, (("probs", Constant((1.0 / n,) * n)),))
    given = _match(call, family)
    for argument in call.arguments:
        unnamed = not isinstance(argument, nodes.Keyword)
        if unnamed and family.parameter("logits") and contains_net(context.scope, argument):
            raise Refused(errors.needs_keyword(argument.span, family.name, argument.span.text))
    found = [(p.name, _parameter(context, family, p, expr, space)) for p, expr in given]
    return Distribution(family.name, tuple(found))


def _verify_support(call: nodes.Call, family: Family, space: Space, name: str, cause: Span) -> None:
    covered = contains(space, family.support)
    if family.name == "Uniform":
        covered = covered or space.kind in ("unit", "positive")
    if not covered or len(space.shape) < family.event:
        fits = [f.name for f in FAMILIES.values() if contains(space, f.support) and len(space.shape) >= f.event]
        support = f"{family.support} vectors" if family.event else family.support
        raise Refused(errors.not_covered(call.name.span, family.name, support, name, space, cause, (*fits, "Delta")))


def _headed(context: Context, call: nodes.Call, bare: nodes.Call, family: Family, space: Space) -> Distribution:
    """A bare net call supplies every parameter by one head each."""
    if family.heads is None:
        raise Refused(errors.no_heads(call.span, family.name))
    parameters = [p for n in family.heads if (p := family.parameter(n)) is not None]
    heads = tuple(Head(p.name, parameter_space(p, space)) for p in parameters)
    found = net_call(context, bare, heads)
    many = len(heads) > 1
    picked = [(h.name, NetCall(found.net, found.inputs, h.name if many else None)) for h in heads]
    return Distribution(family.name, tuple(picked))


def _match(call: nodes.Call, family: Family) -> list[tuple[Parameter, nodes.Expr]]:
    """Each argument with its parameter: by position in Pyro's order, or by name."""
    found: dict[str, tuple[Parameter, nodes.Expr]] = {}
    for place, argument in enumerate(call.arguments):
        if isinstance(argument, nodes.Keyword):
            parameter = family.parameter(argument.name.text)
            if parameter is None:
                raise Refused(
                    errors.parameter_unknown(argument.name.span, family.name, argument.name.text, family.names)
                )
            expr: nodes.Expr = argument.value
        else:
            if place >= len(family.parameters):
                raise Refused(
                    errors.too_many_parameters(argument.span, family.name, [p.name for p in family.parameters])
                )
            parameter, expr = family.parameters[place], argument
        if parameter.name in found:
            raise Refused(errors.parameter_twice(argument.span, family.name, parameter.name))
        found[parameter.name] = (parameter, expr)
    replaced = sum(p.name in found for p in family.alternatives)
    for parameter in family.parameters:
        if parameter.name not in found and parameter.default is None:
            if replaced and parameter is family.parameters[-1]:
                continue
            names = [p.name for p in family.parameters]
            raise Refused(errors.parameter_missing(call.span, family.name, parameter.name, names))
    if replaced and family.parameters[-1].name in found:
        extra = next(p for p in family.alternatives if p.name in found)
        raise Refused(errors.parameter_twice(call.span, family.name, f"{family.parameters[-1].name}` / `{extra.name}"))
    return list(found.values())


def _parameter(context: Context, family: Family, parameter: Parameter, expr: nodes.Expr, space: Space) -> Value:
    need = parameter_space(parameter, space)
    if is_net_call(context.scope, expr) and isinstance(expr, nodes.Call):
        return net_call(context, expr, (Head(parameter.name, need),))
    found, shape = value(context, expr, need.shape)
    _verify_fills(expr.span, parameter.name, shape, need.shape)
    _verify_values(expr.span, family, parameter, found, shape)
    return found


def parameter_space(parameter: Parameter, space: Space) -> Space:
    """The space of a whole parameter of a family over `space`."""
    match parameter.extent:
        case "scalar" | "vector":
            return Space(parameter.space, space.shape)
        case "matrix" if parameter.space == "cholesky":
            return Space("cholesky", space.shape)
        case "matrix":
            return Space(parameter.space, (*space.shape, space.shape[-1]))
        case "classes":
            return Space(parameter.space, (len(space.values),))


def _verify_fills(span: Span, name: str, found: Shape, need: Shape) -> None:
    if found not in ((), need):
        raise Refused(errors.parameter_shape(span, name, found, need))


_RANGES: dict[str, tuple[str, float, float]] = {
    "positive": ("positive", 5e-324, float("inf")),
    "unit": ("between 0 and 1", 0.0, 1.0),
    "simplex": ("between 0 and 1", 0.0, 1.0),
}


def _verify_values(span: Span, family: Family, parameter: Parameter, found: Value, shape: Shape) -> None:
    """Constant parameters lie in their space."""
    if not isinstance(found, Constant):
        return
    flat = list(_flat(found.value)) if isinstance(found.value, tuple) else [found.value]
    if parameter.space in _RANGES:
        need, low, high = _RANGES[parameter.space]
        for number in flat:
            if not low <= number <= high:
                raise Refused(errors.parameter_value(span, family.name, parameter.name, need, number))
    if parameter.space == "simplex" and (shape == () or abs(sum(flat) - 1) > 1e-6):
        raise Refused(errors.probabilities_sum(span, sum(flat)))


def _flat(items: tuple[float, ...] | tuple[tuple[float, ...], ...]) -> list[float]:
    return [x for item in items for x in (item if isinstance(item, tuple) else (item,))]


# --- sources


def evidence(context: Context, call: nodes.Call, law: nodes.Law) -> Evidence:
    """A source bound to the outputs of `law`, by position."""
    row = SOURCES[call.name.text]
    if law.givens:
        raise Refused(errors.source_with_givens(law.span, row.name))
    options: list[tuple[str, OptionValue]] = []
    for argument in call.arguments:
        if not isinstance(argument, nodes.Keyword):
            raise Refused(
                errors.option_unknown(argument.span, row.name, argument.span.text, [o.name for o in row.options])
            )
        option = next((o for o in row.options if o.name == argument.name.text), None)
        if option is None:
            known = [o.name for o in row.options]
            raise Refused(errors.option_unknown(argument.name.span, row.name, argument.name.text, known))
        options.append((option.name, constants.option(context.scope, option, argument.value)))
    if row.columns is not None:
        _verify_columns(context, call, law, row.columns(dict(options)), dict(options))
    names = tuple(n.text for n in law.outputs)
    key = law_key(law.label.text, names, ())
    return Evidence(row.name, tuple(options), tuple(range(len(names))), key)


def _verify_columns(
    context: Context, call: nodes.Call, law: nodes.Law, columns: tuple[Space, ...], options: Mapping[str, OptionValue]
) -> None:
    if len(law.outputs) > len(columns):
        raise Refused(errors.too_many_columns(call.span, call.name.text, [str(c) for c in columns], len(law.outputs)))
    for name, column in zip(law.outputs, columns, strict=False):
        variable = context.scope.variable(name)
        space = variable.space
        same_size = space.size == column.size and (column.kind != "finite" or space.values == column.values)
        if not (contains(space, column.kind) and same_size):
            row = SOURCES[call.name.text]
            can_threshold = space.kind == "binary" and any(o.name == "threshold" for o in row.options)
            help = f"{row.name}(threshold=0.5)" if can_threshold and same_size else f"var {variable.name}: {column}"
            raise Refused(errors.column_space(call.span, call.name.text, column, name.text, space, variable.span, help))


def is_planned_source(call: nodes.Call) -> bool:
    return call.name.text in PLANNED_SOURCES
