"""Passes over a loss that leave its value and gradient as they are and save work. Each can be switched off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from jointkl.derivation.facts import Facts
from jointkl.objective.ir import (
    KL,
    Apply,
    Concat,
    Density,
    Detach,
    Distance,
    Drawn,
    Id,
    Index,
    LogProb,
    Loss,
    Net,
    Node,
    Objective,
    Parameter,
    Part,
    Pick,
    Root,
    Sample,
    operands,
)


@dataclass(frozen=True, slots=True)
class Passes:
    """Which passes run: `branches` puts the branches of one classifier into one forward; `frozen` computes without
    graph what the player's gradient does not go through."""

    branches: bool = True
    frozen: bool = True


def share(objective: Objective, facts: Facts, passes: Passes) -> Objective:
    losses = objective.losses
    if passes.branches:
        nets = _classifier_nets(facts)
        losses = tuple(_one_forward(loss, nets) for loss in losses)
    if passes.frozen:
        losses = tuple(replace(loss, frozen=_unmoved(loss, facts)) for loss in losses)
    return replace(objective, losses=losses)


def _classifier_nets(facts: Facts) -> frozenset[str]:
    members = {m for p in facts.players if p.kind in ("classifier", "critic") for m in p.members}
    return frozenset(n for n in facts.model.nets if n in members)


# --- one forward for both branches


def _one_forward(loss: Loss, nets: frozenset[str]) -> Loss:
    """Applications of one classifier's network that do not depend on each other become one, on the joined batches.

    Nothing here uses batch statistics; a network that does must be left out.
    """
    done: set[str] = set()
    while True:
        calls = _mergeable(loss, nets - done)
        if calls is None:
            return loss
        net, ids = calls
        done.add(net)
        loss = _merged(loss, ids)


def _mergeable(loss: Loss, nets: frozenset[str]) -> tuple[str, list[Id]] | None:
    """The first network with several independent calls, inner ones first."""
    calls: dict[str, list[Id]] = {}
    for i, node in enumerate(loss.nodes):
        if isinstance(node, Net) and node.net in nets and not node.old:
            calls.setdefault(node.net, []).append(i)
    for net, ids in calls.items():
        if len(ids) > 1 and not any(set(_upstream(loss.nodes, i)) & set(ids) for i in ids):
            return net, ids
    return None


def _upstream(nodes: tuple[Node, ...], i: Id) -> set[Id]:
    seen: set[Id] = set()
    pending = list(operands(nodes[i]))
    while pending:
        j = pending.pop()
        if j not in seen:
            seen.add(j)
            pending += operands(nodes[j])
    return seen


def _merged(loss: Loss, ids: list[Id]) -> Loss:
    """The calls replaced by parts of one call, placed where the last of them stood."""
    last, count = ids[-1], len(ids)
    delayed = {i for i in range(ids[0], last) if i in ids or set(ids) & _upstream(loss.nodes, i)}
    moved: dict[Id, Id] = {}
    nodes: list[Node] = []
    known: dict[Node, Id] = {}

    def add(node: Node) -> Id:
        if node not in known:
            known[node] = len(nodes)
            nodes.append(node)
        return known[node]

    for i, node in enumerate(loss.nodes):
        if i == last:
            calls = [c for c in (loss.nodes[j] for j in ids) if isinstance(c, Net)]
            joined = tuple(
                _concatenated(nodes, tuple(moved[c.inputs[k]] for c in calls), add) for k in range(len(calls[0].inputs))
            )
            called = add(Net(calls[0].net, joined))
            for place, j in enumerate(ids):
                moved[j] = add(Part(called, place, count))
            for j in sorted(delayed - set(ids)):
                moved[j] = add(_renumbered(loss.nodes[j], moved))
        elif i not in delayed:
            moved[i] = add(_renumbered(node, moved))
    terms = tuple(replace(t, node=moved[t.node]) for t in loss.terms)
    return replace(loss, nodes=tuple(nodes), terms=terms)


def _concatenated(nodes: list[Node], inputs: tuple[Id, ...], add: Callable[[Node], Id]) -> Id:
    """Parts of one whole, in order, are that whole; anything else is joined."""
    parts = [nodes[i] for i in inputs]
    first = parts[0]
    if isinstance(first, Part) and parts == [Part(first.node, k, len(inputs)) for k in range(first.count)]:
        return first.node
    return add(Concat(inputs))


def _renumbered(node: Node, moved: Mapping[Id, Id]) -> Node:
    def density(d: Density) -> Density:
        return replace(d, parameters=tuple((n, moved[i]) for n, i in d.parameters))

    match node:
        case Root() | Sample():
            return replace(node, density=density(node.density))
        case Net():
            return replace(node, inputs=tuple(moved[i] for i in node.inputs))
        case Concat():
            return Concat(tuple(moved[i] for i in node.nodes))
        case Apply():
            return replace(node, operands=tuple(moved[i] for i in node.operands))
        case Pick() | Detach() | Part() | Drawn():
            return replace(node, node=moved[node.node])
        case Index():
            return Index(moved[node.node], tuple(moved[i] for i in node.indices))
        case LogProb():
            return replace(node, density=density(node.density), value=None if node.value is None else moved[node.value])
        case KL():
            return KL(density(node.left), density(node.right))
        case Distance():
            return replace(node, left=moved[node.left], right=moved[node.right])
        case _:
            return node


# --- what needs no graph


def _unmoved(loss: Loss, facts: Facts) -> frozenset[Id]:
    """The nodes that do not depend on anything the player trains."""
    player = next(p for p in facts.players if p.name == loss.player)
    moving: set[Id] = set()
    for i, node in enumerate(loss.nodes):
        match node:
            case Net(net=net, old=False) if net in player.members:
                moving.add(i)
            case Parameter(name=name, old=False) if name in player.members:
                moving.add(i)
            case Detach():
                pass
            case _ if any(j in moving for j in operands(node)):
                moving.add(i)
            case _:
                pass
    return frozenset(i for i in range(len(loss.nodes)) if i not in moving and not isinstance(loss.nodes[i], Detach))
