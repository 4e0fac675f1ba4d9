"""Who is trained by what, read off a checked model as docs/language.md, "Players", says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jointkl.semantics.model import (
    Constant,
    Dirac,
    Distribution,
    Divergence,
    Factor,
    Free,
    Goal,
    Hinge,
    Indexed,
    Joint,
    Model,
    NetCall,
    Operation,
    ParameterRef,
    Side,
    Value,
    VariableRef,
)

Kind = Literal["free", "referee", "other"]
"""A Free law; a classifier or critic with all its nets; everybody else."""


@dataclass(frozen=True, slots=True)
class Player:
    """`classifiers` are the laws, and `critics` the nets, that a referee stands for."""

    members: frozenset[str]
    kind: Kind
    classifiers: frozenset[str] = frozenset()
    critics: frozenset[str] = frozenset()


def parts(v: Value) -> Iterator[str]:
    """The nets and params that a value is made of."""
    match v:
        case Constant() | VariableRef():
            return
        case ParameterRef(name=name):
            yield name
        case NetCall(net=net, inputs=inputs):
            yield net
            for i in inputs:
                yield from parts(i)
        case Operation(operands=operands):
            for o in operands:
                yield from parts(o)
        case Indexed(value=inner, indices=indices):
            for i in (inner, *indices):
                yield from parts(i)


def trainables(model: Model, law: str) -> frozenset[str]:
    """The nets, params and Free laws that a law is made of, through joints too."""
    body = model.laws[law].body
    match body:
        case Free():
            return frozenset({law})
        case Distribution(parameters=parameters):
            return frozenset(t for _, v in parameters for t in parts(v))
        case Dirac(value=value, density=density):
            more = density.parameters if density else ()
            return frozenset((*parts(value), *(t for _, v in more for t in parts(v))))
        case Joint(branches=branches):
            return frozenset(t for b in branches for f in b.factors for t in trainables(model, f.law))
        case _:
            return frozenset()


def divergences(goal: Goal) -> Iterator[Divergence]:
    for term in goal.terms:
        if isinstance(term, Hinge):
            yield from term.terms
        else:
            yield term


def label(model: Model, side: Side) -> str | None:
    """The label of the mixture that a side is, or that one of its factors is, if the head shows it."""
    if side.joint.label is not None:
        return side.joint.label if side.joint.label in side.head else None
    pending = list(side.joint.branches[0].factors)
    while pending:
        f = pending.pop()
        law = model.laws[f.law]
        if not isinstance(law.body, Joint):
            continue
        if law.body.label is None:
            bound = law.bound(f)
            inner = law.body.branches[0].factors
            pending += [g.applied(bound) for g in inner]
        elif law.body.label in law.outputs:
            shown = law.bound(f)[law.body.label]
            if shown in side.head:
                return str(shown)
    return None


def labels(model: Model, d: Divergence) -> int:
    """How many labels the mixture on the left shows; 1 if it shows none."""
    shown = label(model, d.left)
    return len(model.space(shown).values) if shown is not None and d.name == "KL" else 1


def classifier(model: Model, d: Divergence) -> Factor | None:
    """In KL(P || Q), the finite law c(y|v) that is a factor of Q, y being the label of the mixture P and in both
    heads."""
    shown = label(model, d.left)
    if d.name != "KL" or shown is None or shown not in d.right.head or len(d.right.joint.branches) != 1:
        return None
    for f in d.right.joint.branches[-1].factors:
        if f.outputs == (shown,) and isinstance(model.laws[f.law].body, Distribution):
            return f
    return None


def players(model: Model) -> tuple[Player, ...]:
    referees = _referees(model)
    held = frozenset(m for p in referees for m in p.members)
    free = [Player(frozenset({k}), "free") for k, law in model.laws.items() if isinstance(law.body, Free)]
    rest = [m for m in (*model.nets, *model.params) if m not in held]
    groups: dict[object, set[str]] = {}
    stated = {m: p.name for p in model.players for m in p.targets}
    for m in rest:
        named = tuple(i for i, g in enumerate(model.goals) if g.over is None or m in g.over)
        groups.setdefault(stated.get(m, named), set()).add(m)
    return (*free, *referees, *(Player(frozenset(g), "other") for g in groups.values()))


def _referees(model: Model) -> list[Player]:
    """Classifiers and critics with all their nets; those that share one are one."""
    found: list[Player] = []
    for goal in model.goals:
        for d in divergences(goal):
            c = classifier(model, d)
            if c is not None:
                found.append(Player(trainables(model, c.law), "referee", frozenset({c.law})))
        if goal.options.critic is not None:
            net, inputs = goal.options.critic
            members = frozenset((net, *(t for v in inputs for t in parts(v))))
            found.append(Player(members, "referee", critics=frozenset({net})))
    merged: list[Player] = []
    for p in (p for p in found if p.members):
        for other in [m for m in merged if m.members & p.members]:
            merged.remove(other)
            p = Player(
                p.members | other.members, "referee", p.classifiers | other.classifiers, p.critics | other.critics
            )
        merged.append(p)
    return merged


def trains(model: Model, player: Player, goal: Goal, d: Divergence) -> bool:
    """Does this term train this player?

    A classifier is trained by every goal whose KL it labels, if `over` is absent or names it; it and a critic by
    another term only if `over` names them; R1 trains its classifier alone; all others what `over` names, or all.
    """
    named = goal.over is not None and bool(player.members & set(goal.over))
    if d.name == "R1":
        penalised = d.right.joint.branches[0].factors[0].law
        return penalised in player.classifiers and (named or goal.over is None)
    if player.kind == "referee":
        c = classifier(model, d)
        return named or (goal.over is None and c is not None and c.law in player.classifiers)
    return goal.over is None or named
