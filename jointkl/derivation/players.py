"""Who is optimised: classifiers, Free laws, and the others by the goals that name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
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
    Target,
    Value,
    VariableRef,
)

Kind = Literal["free", "classifier", "critic", "other"]


@dataclass(frozen=True, slots=True)
class Player:
    """Members are optimised together; `laws` are the classifiers of a classifier, the law of a Free one; `critics` the
    nets of its density ratios, which a classifier has too if it shares a net with them. `title` is what its name is
    made of: a Free law, or names that a plus joins."""

    name: str
    members: tuple[Target, ...]
    kind: Kind
    laws: tuple[str, ...] = ()
    critics: tuple[str, ...] = ()
    title: Factor | tuple[str, ...] = ()


def trainables(value: Value) -> Iterator[Target]:
    """The nets and params that a value is made of."""
    match value:
        case Constant() | VariableRef():
            return
        case ParameterRef(name=name):
            yield name
        case NetCall(net=net, inputs=inputs):
            yield net
            for v in inputs:
                yield from trainables(v)
        case Operation(operands=operands):
            for v in operands:
                yield from trainables(v)
        case Indexed(value=inner, indices=indices):
            for v in (inner, *indices):
                yield from trainables(v)


def law_trainables(model: Model) -> dict[str, frozenset[Target]]:
    """For each law the nets, params and Free laws that feed it; for a joint those of all its factors, whose laws stand
    before it."""
    found: dict[str, frozenset[Target]] = {}
    for start in model.laws:
        stack = [start]
        while stack:
            key = stack[-1]
            body = model.laws[key].body
            inner = [f.law for b in body.branches for f in b.factors] if isinstance(body, Joint) else []
            waiting = [k for k in inner if k not in found]
            if waiting and key not in found:
                stack += waiting
                continue
            stack.pop()
            found.setdefault(key, _own(model, key) | frozenset(t for k in inner for t in found[k]))
    return found


def _own(model: Model, key: str) -> frozenset[Target]:
    match model.laws[key].body:
        case Distribution(parameters=parameters):
            return frozenset(t for _, v in parameters for t in trainables(v))
        case Dirac(value=value, density=density):
            more = density.parameters if density else ()
            return frozenset((*trainables(value), *(t for _, v in more for t in trainables(v))))
        case Free():
            return frozenset({key})
        case _:
            return frozenset()


def divergences(goal: Goal) -> Iterator[Divergence]:
    for term in goal.terms:
        if isinstance(term, Hinge):
            yield from term.terms
        else:
            yield term


def classifier(model: Model, divergence: Divergence) -> Factor | None:
    """Where log P - log Q is averaged, the finite law c(y|v) that is a factor of Q, y being the label of the mixture P
    in both heads."""
    label = divergence.left.joint.label
    if not divergence.row.log_ratio or label is None or divergence.right.joint.label is not None:
        return None
    if label not in divergence.left.head or label not in divergence.right.head:
        return None
    factors = divergence.right.joint.branches[0].factors
    return next(
        (f for f in factors if f.outputs == (label,) and isinstance(model.laws[f.law].body, Distribution)), None
    )


def critic_members(goal: Goal) -> set[Target]:
    """The net of a goal's density ratio, and what its inputs are made of."""
    if goal.options.critic is None:
        return set()
    name, values = goal.options.critic
    return {name, *(t for v in values for t in trainables(v))}


def variables_in(value: Value) -> Iterator[str]:
    """The variables that a value is made of."""
    match value:
        case Constant() | ParameterRef():
            return
        case VariableRef(name=name):
            yield name
        case NetCall(inputs=inner) | Operation(operands=inner):
            for v in inner:
                yield from variables_in(v)
        case Indexed(value=inner, indices=indices):
            for v in (inner, *indices):
                yield from variables_in(v)


def players(model: Model, feeds: Mapping[str, frozenset[Target]]) -> tuple[Player, ...]:
    """Every player, by the place of its first member's declaration; `feeds` is `law_trainables(model)`."""
    order = {name: i for i, name in enumerate(model.declared)}
    groups = [*_classifiers(model, feeds), *_free(model)]
    placed = {m for g in groups for m in g.members}
    stated = {t: g.name for g in model.players for t in g.targets}
    named: dict[Target, list[int]] = {}
    for i, g in enumerate(model.goals):
        for name in dict.fromkeys(g.over or ()):
            named.setdefault(name, []).append(i)
    others: dict[object, list[Target]] = {}
    for name in model.declared:
        if name in placed or not (name in model.nets or name in model.params):
            continue
        signature = tuple(named.get(name, ()))  # a goal without `over` names all of them alike
        others.setdefault(("stated", stated[name]) if name in stated else signature, []).append(name)
    groups += [Player("", tuple(members), "other") for members in others.values()]
    found = [_named(model, stated, g, order) for g in groups if g.members]
    return tuple(sorted(found, key=lambda g: order[g.members[0]]))


def round_order(players: Iterable[Player]) -> tuple[Player, ...]:
    """Free laws, classifiers and critics, the others; each group in order of declaration."""
    rank = {"free": 0, "classifier": 1, "critic": 1, "other": 2}
    return tuple(sorted(players, key=lambda p: rank[p.kind]))


def _named(model: Model, stated: Mapping[Target, str], group: Player, order: Mapping[str, int]) -> Player:
    """A Free law that is stated together with others is a player beside theirs, under its own name."""
    members = tuple(sorted(group.members, key=lambda m: order[m]))
    alone = group.kind != "free" or list(stated.values()).count(stated.get(members[0], "")) == 1
    name = next((stated[m] for m in members if m in stated and alone), None)
    if name is not None:
        return replace(group, name=name, members=members, title=(name,))
    law = model.laws.get(members[0]) if group.kind == "free" else None
    title = Factor(law.key, law.outputs, law.givens) if law is not None else members
    return replace(group, name="+".join(members), members=members, title=title)


def _free(model: Model) -> list[Player]:
    return [Player("", (key,), "free", (key,)) for key, law in model.laws.items() if isinstance(law.body, Free)]


def _classifiers(model: Model, feeds: Mapping[str, frozenset[Target]]) -> list[Player]:
    """Classifiers with all their nets; those that share one are one player. Critics likewise."""
    groups: list[tuple[set[Target], tuple[str, ...], tuple[str, ...]]] = []
    for goal in model.goals:
        for divergence in divergences(goal):
            c = classifier(model, divergence)
            if c is not None:
                groups.append((set(feeds[c.law]), (c.law,), ()))
        if goal.options.critic is not None:
            groups.append((critic_members(goal), (), (goal.options.critic[0],)))
    merged: list[tuple[set[Target], tuple[str, ...], tuple[str, ...]]] = []
    for members, laws, critics in groups:
        touching = [g for g in merged if g[0] & members]
        merged = [g for g in merged if g not in touching]
        for g in touching:
            members |= g[0]
            laws = tuple(dict.fromkeys((*g[1], *laws)))
            critics = tuple(dict.fromkeys((*g[2], *critics)))
        merged.append((members, laws, critics))
    return [
        Player("", tuple(members), "classifier" if laws else "critic", laws, critics)
        for members, laws, critics in merged
    ]


def judges(player: Player, goal: Goal, labels: Factor | None) -> bool:
    """Is a term of this goal, labelled by the classifier `labels` if by any, the player's own classification or ratio?
    By `over` it may be trained by other terms too, and those as anybody is."""
    critic = goal.options.critic
    return (labels is not None and labels.law in player.laws) or (critic is not None and critic[0] in player.members)


def trains(model: Model, player: Player, goal: Goal, divergence: Divergence) -> bool:
    """Does this term of this goal train this player?

    A classifier is trained by the term it labels, unless `over` leaves it out, and by another term only if `over` names
    it; the others by what `over` names, or by everything.
    """
    named = goal.over is not None and any(m in goal.over for m in player.members)
    if divergence.row.penalty:
        penalised = divergence.right.joint.branches[0].factors[0].law
        return penalised in player.laws and (named or goal.over is None)
    if player.kind in ("classifier", "critic"):
        c = classifier(model, divergence)
        labels = c is not None and c.law in player.laws
        return named or (labels and goal.over is None)
    return goal.over is None or named
