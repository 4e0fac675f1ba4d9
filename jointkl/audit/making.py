"""What an instance is made from: the spec, the spaces of its variables, what values and networks are made of."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from jointkl.reference.players import divergences
from jointkl.semantics.model import (
    Dirac,
    Distribution,
    Goal,
    Indexed,
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


def inputs(call: NetCall) -> list[VariableRef | ParameterRef | NetCall]:
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


def every_call(model: Model) -> Iterator[tuple[NetCall, Law | None]]:
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


def trunks(making: Making) -> set[str]:
    critics = {g.options.critic[0] for g in making.model.goals if g.options.critic}
    inside: set[str] = set()
    shapes: dict[str, set[object]] = {}
    for call, law in every_call(making.model):
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
    for v in inputs(call):
        match v:
            case VariableRef(name=name):
                count *= points(making.spaces[base(name)])
            case NetCall():
                count *= combinations(making, v)
            case ParameterRef():
                pass
    return count


def width(making: Making, net: str) -> int:
    """Hidden units enough for all different inputs: of a critic whose inputs are derived, for its goal's variables."""
    counts = [combinations(making, c) for c, _ in every_call(making.model) if c.net == net]
    for goal in making.model.goals:
        if goal.options.critic is not None and goal.options.critic[0] == net and not goal.options.critic[1]:
            counts += [_heads(making, goal)]
    if not counts:
        raise NoInstance(f"{net} is applied to nothing")
    return max(counts)


def _heads(making: Making, goal: Goal) -> int:
    most = 1
    for d in divergences(goal):
        count = 1
        for v in {*d.left.head, *(v for b in d.left.joint.branches for f in b.factors for v in f.variables)}:
            if base(v) in making.spaces:
                count *= points(making.spaces[base(v)])
        most = max(most, count)
    return most


# --- statements that every instance writes alike


def defined(model: Model, node: nodes.Definition) -> Law | None:
    """The law of a definition."""
    outputs, givens = (tuple(n.text for n in names) for names in (node.law.outputs, node.law.givens))
    return model.laws.get(law_key(node.law.label.text, outputs, givens))


def trained(node: nodes.Train) -> list[str]:
    """Of how a spec is trained only whether all step at once."""
    kept = [k.span.text for k in node.keywords if k.name.text == "updates" and node.player is None]
    return [f"train({', '.join(kept)})"] if kept else []
