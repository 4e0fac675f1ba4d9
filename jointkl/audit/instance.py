"""A finite instance of a spec: the same joints, goals, players and networks over spaces of a few values.

Every variable that is not finite becomes bits, `binary` or `binary[2]`: not enumerable by the rules, so that what the
spec cannot evaluate its instance cannot either, and yet summed over by the reference. Every law becomes a table of
logits: a network's value at each of its inputs, a param, a number for each given. A Dirac without `density=` becomes an
implicit law, drawn through a hidden bit. The instance is a text, compiled as any other.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from jointkl.semantics.model import (
    Constant,
    Dirac,
    Distribution,
    Free,
    Goal,
    Indexed,
    Joint,
    Law,
    Model,
    NetCall,
    Operation,
    ParameterRef,
    Value,
    VariableRef,
    base,
    law_key,
)
from jointkl.semantics.spaces import Space
from jointkl.syntax import nodes
from jointkl.syntax.parse import parse_text

MOST_VALUES = 4
"""A finite variable of more values has three in the instance, unless it is a mixture's label."""

MOST_WIDE = 2
"""Of so many variables that hold several numbers each has two bits; of more each has one."""

MOST_COPIES = 2
"""Importance-weighted copies in the instance."""

BINARY, PAIR = Space("binary"), Space("binary", (2,))


class NoInstance(Exception):
    """The spec has no finite instance: the reason."""


@dataclass(slots=True)
class Making:
    """An instance while it is made."""

    model: Model
    implicit: bool
    """Is a Dirac with `density=` an implicit law too, or the law of its density?"""
    spaces: dict[str, Space] = field(default_factory=dict[str, Space])
    trunks: set[str] = field(default_factory=set[str])
    """Networks that stand inside another's call, or give what several laws of different sizes need."""
    taken: set[str] = field(default_factory=set[str])

    def fresh(self, wanted: str) -> str:
        name = wanted
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def numbers(self, key: str, count: int) -> list[float]:
        return numbers(key, count)


def numbers(key: str, count: int) -> list[float]:
    """Numbers of no special value that depend on the key alone."""
    seed = int(hashlib.sha256(key.encode()).hexdigest()[:12], 16)
    chance = random.Random(seed)
    return [round(chance.uniform(0.2, 0.9) * chance.choice((-1, 1)), 3) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Instance:
    """The text of an instance, and its networks that pass on which input they saw."""

    text: str
    trunks: frozenset[str]


def instance(model: Model, *, implicit: bool = False) -> Instance:
    """A finite instance. Raises `NoInstance`."""
    making = Making(model, implicit)
    making.spaces = _spaces(model)
    making.trunks = _trunks(making)
    making.taken = _names(model)
    lines: list[str] = []
    for statement in parse_text(model.source.text, model.source.name).statements:
        lines += _statement(making, statement)
    return Instance("\n".join(lines) + "\n", frozenset(making.trunks))


def _names(model: Model) -> set[str]:
    labels = {law.label for law in model.laws.values()}
    return {*model.variables, *model.params, *model.nets, *labels, *(p.name for p in model.players), "data"}


# --- spaces


def _spaces(model: Model) -> dict[str, Space]:
    labels = {b.label for law in model.laws.values() if isinstance(law.body, Joint) for b in law.body.branches}
    wide = [v for v in model.variables.values() if v.space.kind != "finite" and v.space.shape]
    found: dict[str, Space] = {}
    for v in model.variables.values():
        if v.space.kind == "finite":
            keeps = len(v.space.values) <= MOST_VALUES or v.name in labels
            found[v.name] = v.space if keeps else Space("finite", (), (0, 1, 2))
        else:
            found[v.name] = PAIR if v.space.shape and len(wide) <= MOST_WIDE else BINARY
    return found


def points(space: Space) -> int:
    return len(space.values) if space.kind == "finite" else 2**space.size


# --- what values are made of


def calls(v: Value) -> Iterator[NetCall]:
    """The outermost applications of networks."""
    match v:
        case NetCall():
            yield v
        case Operation(operands=inner):
            for o in inner:
                yield from calls(o)
        case Indexed(value=inner, indices=indices):
            for o in (inner, *indices):
                yield from calls(o)
        case _:
            return


def plain(v: Value) -> Iterator[VariableRef | ParameterRef | Indexed]:
    """The variables, params and indexed params outside networks."""
    match v:
        case VariableRef() | ParameterRef():
            yield v
        case Indexed(value=ParameterRef()):
            yield v
        case Indexed(value=inner, indices=indices):
            for o in (inner, *indices):
                yield from plain(o)
        case Operation(operands=inner):
            for o in inner:
                yield from plain(o)
        case _:
            return


def parameters(law: Law) -> tuple[Value, ...]:
    """The values that a law's right side is made of."""
    match law.body:
        case Distribution(parameters=found):
            return tuple(v for _, v in found)
        case Dirac(value=value, density=density):
            return (value, *(v for _, v in (density.parameters if density else ())))
        case _:
            return ()


def _inputs(call: NetCall) -> list[VariableRef | ParameterRef | NetCall]:
    """What a network is applied to in the instance: arithmetic gives way to what it is made of."""
    found: list[VariableRef | ParameterRef | NetCall] = []
    for v in call.inputs:
        found += [v] if isinstance(v, VariableRef | ParameterRef | NetCall) else _parts(v)
    if not found:
        raise NoInstance(f"{call.net} is applied to numbers alone")
    return list(dict.fromkeys(found))


def _parts(v: Value) -> list[VariableRef | ParameterRef | NetCall]:
    found: list[VariableRef | ParameterRef | NetCall] = [*calls(v)]
    for o in plain(v):
        match o:
            case VariableRef() | ParameterRef():
                found.append(o)
            case Indexed(value=inner, indices=indices):
                found += [p for i in (inner, *indices) for p in _parts(i)]
    return found


# --- networks


def _every_call(model: Model) -> Iterator[tuple[NetCall, Law | None]]:
    """Every application of a network, with the law whose parameter it is; None for one inside another or a critic's."""
    pending: list[tuple[NetCall, Law | None]] = [
        (c, law) for law in model.laws.values() for v in parameters(law) for c in calls(v)
    ]
    for goal in model.goals:
        if goal.options.critic is not None and goal.options.critic[1]:
            pending.append((NetCall(*goal.options.critic), None))
    critics = {g.options.critic[0] for g in model.goals if g.options.critic}
    while pending:
        call, law = pending.pop(0)
        yield call, law if law is not None or call.net in critics else None
        pending += [(c, None) for v in call.inputs for c in calls(v)]


def _trunks(making: Making) -> set[str]:
    critics = {g.options.critic[0] for g in making.model.goals if g.options.critic}
    inside: set[str] = set()
    shapes: dict[str, set[object]] = {}
    for call, law in _every_call(making.model):
        if law is None:
            inside |= {call.net} - critics
            continue
        space = making.spaces[base(law.outputs[0])]
        family = isinstance(law.body, Distribution) and law.body.family == "Categorical"
        shapes.setdefault(call.net, set()).add((space.shape, len(space.values) if family else 0))
    return inside | {net for net, found in shapes.items() if len(found) > 1}


def combinations(making: Making, call: NetCall) -> int:
    """How many different inputs a network meets here."""
    count = 1
    for v in _inputs(call):
        match v:
            case VariableRef(name=name):
                count *= points(making.spaces[base(name)])
            case NetCall():
                count *= combinations(making, v)
            case ParameterRef():
                pass
    return count


def _width(making: Making, net: str) -> int:
    """Hidden units enough for all different inputs: of a critic whose inputs are derived, for its goal's variables."""
    counts = [combinations(making, c) for c, _ in _every_call(making.model) if c.net == net]
    for goal in making.model.goals:
        if goal.options.critic is not None and goal.options.critic[0] == net and not goal.options.critic[1]:
            counts += [_heads(making, goal)]
    if not counts:
        raise NoInstance(f"{net} is applied to nothing")
    return max(counts)


def _heads(making: Making, goal: Goal) -> int:
    from jointkl.reference.players import divergences

    most = 1
    for d in divergences(goal):
        count = 1
        for v in {*d.left.head, *(v for b in d.left.joint.branches for f in b.factors for v in f.variables)}:
            if base(v) in making.spaces:
                count *= points(making.spaces[base(v)])
        most = max(most, count)
    return most


# --- statements


def _statement(making: Making, node: nodes.Statement) -> list[str]:
    match node:
        case nodes.Var():
            shared = " global" if node.is_global else ""
            return [f"var {n.text}: {_space(making.spaces[n.text])}{shared}" for n in node.names]
        case nodes.Net(name=name):
            net = name.text
            if net not in making.model.nets:
                return []
            width = _width(making, net)
            out = f": real[{width}]" if net in making.trunks else ""
            return [f"net {net}{out} = mlp({width})"]
        case nodes.Definition():
            return _definition(making, node)
        case nodes.Train(player=None, keywords=keywords):
            kept = [k.span.text for k in keywords if k.name.text == "updates"]
            return [f"train({', '.join(kept)})"] if kept else []
        case nodes.Train():
            return []
        case nodes.Goal():
            return _goal(node)
        case nodes.Param() | nodes.Let() | nodes.Player():
            return [node.span.text]


def _space(space: Space) -> str:
    return str(space)


def _goal(node: nodes.Goal) -> list[str]:
    text = node.span.text
    parts = node.objective
    names = [d.name.text for d in _divergences(parts)]
    if set(names) == {"R1"}:
        return []
    if "R1" in names:
        raise NoInstance("a slope has no meaning among finitely many values")
    for option in node.options:
        if option.name.text == "importance":
            start, end = (place - node.span.start for place in (option.value.span.start, option.value.span.end))
            shown = option.value.span.text
            fewer = str(MOST_COPIES) if not shown.isdigit() or int(shown) > MOST_COPIES else shown
            text = text[:start] + fewer + text[end:]
    return [text]


def _divergences(part: nodes.Objective) -> Iterator[nodes.Divergence]:
    match part:
        case nodes.Divergence():
            yield part
        case nodes.Hinge(sum=inner) | nodes.Scaled(part=inner):
            yield from _divergences(inner)
        case nodes.Sum(terms=terms):
            for _, inner in terms:
                yield from _divergences(inner)
        case nodes.Weight():
            return


# --- laws


def _definition(making: Making, node: nodes.Definition) -> list[str]:
    outputs, givens = (tuple(n.text for n in names) for names in (node.law.outputs, node.law.givens))
    law = making.model.laws.get(law_key(node.law.label.text, outputs, givens))
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
    simple = nets.isdisjoint(making.trunks) and not any(_inside(c) for v in parameters(law) for c in calls(v))
    return body.family in ("Bernoulli", "Categorical") and same and simple


def _inside(call: NetCall) -> bool:
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
    return f"{call.net}({', '.join(_argument(making, v) for v in _inputs(call))})"


def _argument(making: Making, v: VariableRef | ParameterRef | NetCall) -> str:
    return _call(making, v) if isinstance(v, NetCall) else v.name


def _net_term(making: Making, law: Law, call: NetCall, shape: tuple[int, ...]) -> str:
    """A trunk's features are weighed by numbers; any other network gives the logits themselves."""
    written = _call(making, call)
    if call.net not in making.trunks:
        return written
    width = _width(making, call.net)
    key = f"{law.key} {call.net}"
    if not shape:
        return f"sum({written} * {making.numbers(key, width)})"
    rows = making.numbers(key, width * shape[0])
    matrix = [rows[i * shape[0] : (i + 1) * shape[0]] for i in range(width)]
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
