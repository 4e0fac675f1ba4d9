"""The laws of a finite instance: tables of logits that are sums over what each law of the spec is made of."""

from __future__ import annotations

from fractions import Fraction

from jointkl.audit.making import BINARY, Making, NoInstance, calls, defined, inputs, parameters, plain, width
from jointkl.semantics.model import (
    Constant,
    Dirac,
    Distribution,
    Free,
    Indexed,
    Joint,
    Law,
    NetCall,
    ParameterRef,
    Value,
    VariableRef,
    base,
)
from jointkl.semantics.spaces import Space
from jointkl.syntax import nodes


def definition(making: Making, node: nodes.Definition) -> list[str]:
    law = defined(making.model, node)
    left = node.law.span.text
    if law is None:
        return []
    match law.body:
        case Free() | Joint():
            return [node.span.text]
        case Distribution():
            return [node.span.text if _is_kept(making, law) else f"{left} = {_table(making, law)}"]
        case Dirac(density=density):
            if density is not None and not making.implicit:
                return [f"{left} = {_table(making, law)}"]
            return _implicit(making, law, left)
        case _:
            return [f"{left} = evidence()"]


def _is_kept(making: Making, law: Law) -> bool:
    """A law that is finite already stays as it is written, unless a network of it gives what others need too."""
    body = law.body
    assert isinstance(body, Distribution)
    same = all(making.spaces[base(v)] == making.model.space(v) for v in (*law.outputs, *law.givens))
    nets = {c.net for v in parameters(law) for c in calls(v)}
    simple = nets.isdisjoint(making.trunks) and not any(has_inside(c) for v in parameters(law) for c in calls(v))
    return body.family in ("Bernoulli", "Categorical") and same and simple


def has_inside(call: NetCall) -> bool:
    return any(not isinstance(v, VariableRef) for v in call.inputs)


def _implicit(making: Making, law: Law, left: str) -> list[str]:
    """A law through a hidden bit: drawn, and not evaluated."""
    hidden, root, inner = (making.fresh(w) for w in (f"hidden_{base(law.outputs[0])}", "bit", f"{law.label}_of_bit"))
    outputs = ",".join(law.outputs)
    givens = (*law.givens, hidden)
    making.spaces[hidden] = BINARY
    (share,) = making.numbers(f"{law.key} bit", 1)
    weight = making.numbers(f"{law.key} hidden", 1)[0]
    return [
        f"var {hidden}: binary",
        f"{root}({hidden}) = Bernoulli({abs(share)})",
        f"{inner}({outputs} | {','.join(givens)}) = {_table(making, law, f'{weight} * {hidden}')}",
        f"{left} = {root}({hidden}) * {inner}({outputs} | {','.join(givens)})",
    ]


def _table(making: Making, law: Law, more: str = "") -> str:
    """A family of the output's space whose logits are a sum over what the law is made of."""
    space = making.spaces[base(law.outputs[0])]
    categorical = space.kind == "finite" and (space.values != (0, 1) or _family(law) == "Categorical")
    family = "Categorical" if categorical else "Bernoulli"
    shape = (len(space.values),) if categorical else space.shape
    found = list(dict.fromkeys(c for v in parameters(law) for c in calls(v)))
    others = list(dict.fromkeys(o for v in parameters(law) for o in plain(v)))
    if not found and not others and not more:
        return _constant(making, law, family, shape)
    if len(found) == 1 and not others and not more and found[0].net not in making.trunks:
        return f"{family}({_call(making, found[0])})"
    terms = [_net_term(making, law, c, shape) for c in found]
    terms += [t for o in others if (t := _plain_term(making, law, o, shape))]
    terms += [_filled(making, law, more, shape)] if more else []
    offset = making.numbers(law.key, 1)[0]
    terms.append(_filled(making, law, str(offset), shape) if not found else str(offset))
    return f"{family}(logits = {' + '.join(terms)})"


def _family(law: Law) -> str:
    return law.body.family if isinstance(law.body, Distribution) else ""


def _constant(making: Making, law: Law, family: str, shape: tuple[int, ...]) -> str:
    if family == "Categorical":
        if isinstance(law.body, Distribution) and not law.body.parameters:
            return "Categorical()"
        n = shape[0]
        weights = [abs(Fraction(str(x))) for x in making.numbers(law.key, n)]
        shares = [w / sum(weights) for w in weights]
        return f"Categorical([{', '.join(f'{w.numerator}/{w.denominator}' for w in shares)}])"
    shares = [abs(x) for x in making.numbers(law.key, shape[0] if shape else 1)]
    return f"Bernoulli({shares if shape else shares[0]})"


def _call(making: Making, call: NetCall) -> str:
    return f"{call.net}({', '.join(_argument(making, v) for v in inputs(call))})"


def _argument(making: Making, v: VariableRef | ParameterRef | NetCall) -> str:
    return _call(making, v) if isinstance(v, NetCall) else v.name


def _net_term(making: Making, law: Law, call: NetCall, shape: tuple[int, ...]) -> str:
    """A trunk's features are weighed by numbers; any other network gives the logits themselves."""
    written = _call(making, call)
    if call.net not in making.trunks:
        return written
    columns = width(making, call.net)
    key = f"{law.key} {call.net}"
    if not shape:
        return f"sum({written} * {making.numbers(key, columns)})"
    rows = making.numbers(key, columns * shape[0])
    matrix = [rows[i * shape[0] : (i + 1) * shape[0]] for i in range(columns)]
    return f"{written} @ {matrix}"


def _plain_term(
    making: Making, law: Law, v: VariableRef | ParameterRef | Indexed, shape: tuple[int, ...]
) -> str | None:
    match v:
        case VariableRef(name=name):
            return _given_term(making, law, name, shape)
        case ParameterRef(name=name):
            return _filled(making, law, _one(making.model.params[name].space, name), shape, name)
        case Indexed(value=ParameterRef(name=name), indices=indices):
            return _indexed_term(making, law, name, indices, shape)
        case _:
            return None


def _one(space: Space, name: str) -> str:
    """A number of a param: its first."""
    return f"{name}[{','.join('0' for _ in space.shape)}]" if space.shape else name


def _indexed_term(
    making: Making, law: Law, name: str, indices: tuple[Value, ...], shape: tuple[int, ...]
) -> str | None:
    """A param indexed by finite variables of the same size stays so, its first number at each."""
    space = making.model.params[name].space
    written: list[str] = []
    for i in indices:
        if isinstance(i, Constant):
            written.append(str(int(i.number or 0)))
        elif isinstance(i, VariableRef) and making.spaces[base(i.name)] == making.model.space(i.name):
            written.append(i.name)
        else:
            return _filled(making, law, _one(space, name), shape, name)
    written += ["0"] * (len(space.shape) - len(indices))
    return _filled(making, law, f"{name}[{','.join(written)}]", shape, name)


def _given_term(making: Making, law: Law, name: str, shape: tuple[int, ...]) -> str:
    space = making.spaces[base(name)]
    key = f"{law.key} {name}"
    if space.kind == "finite":
        n = len(space.values)
        if space.values != tuple(range(n)):
            raise NoInstance(f"{name} is known by its place among {space}")
        weights = making.numbers(key, n)
        slope = round((weights[1] - weights[0]), 3) or 0.5
        return _filled(making, law, f"{slope} * {name}", shape, key)
    weights = making.numbers(key, space.size)
    number = f"sum({name} * {weights})" if space.shape else f"{weights[0]} * {name}"
    return _filled(making, law, number, shape, key)


def _filled(making: Making, law: Law, number: str, shape: tuple[int, ...], key: str = "") -> str:
    """A number spread over the logits by other numbers."""
    if not shape:
        return number
    return f"({number}) * {making.numbers(f'{law.key} {key} spread', shape[0])}"
