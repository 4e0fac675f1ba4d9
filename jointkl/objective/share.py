"""Passes over a loss that leave its value and gradient as they are and save work. Each can be switched off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from jointkl.derivation.facts import Facts
from jointkl.objective.ir import (
    Concat,
    Detach,
    Enumerate,
    Id,
    Leaf,
    Loss,
    Net,
    Node,
    Noise,
    Objective,
    Parameter,
    Part,
    Responsibility,
    Root,
    Sample,
)
from jointkl.objective.walk import mapped, operands
from jointkl.semantics.layers import is_rowwise


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
        losses = tuple(loss if loss.copied else _one_forward(loss, nets) for loss in losses)
    if passes.frozen:
        losses = tuple(replace(loss, frozen=_unmoved(loss, facts)) for loss in losses)
    return replace(objective, losses=losses)


def _classifier_nets(facts: Facts) -> frozenset[str]:
    """The networks of classifiers and critics that may see their branches as one batch."""
    members = {m for p in facts.players if p.kind in ("classifier", "critic") for m in p.members}
    return frozenset(name for name, net in facts.model.nets.items() if name in members and is_rowwise(net))


# --- one forward for both branches


def _one_forward(loss: Loss, nets: frozenset[str]) -> Loss:
    """Applications of one classifier's network that do not depend on each other become one, on the joined batches."""
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
        ids = [i for i in ids if not any(isinstance(loss.nodes[j], Leaf) for j in _upstream(loss.nodes, i))]
        above = [_upstream(loss.nodes, i) for i in ids]
        plain = not any(_has_leading(loss.nodes[j]) for up in above for j in up)
        if len(ids) > 1 and plain and not any(up & set(ids) for up in above):
            return net, ids
    return None


def _has_leading(node: Node) -> bool:
    """Does the node bring a dimension in front of the batch's?"""
    return isinstance(node, Enumerate) or (isinstance(node, Root | Noise | Sample) and node.copies > 0)


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
                moved[j] = add(mapped(loss.nodes[j], moved.__getitem__))
        elif i not in delayed:
            moved[i] = add(mapped(node, moved.__getitem__))
    terms = tuple(replace(t, node=moved[t.node]) for t in loss.terms)
    return replace(loss, nodes=tuple(nodes), terms=terms)


def _concatenated(nodes: list[Node], inputs: tuple[Id, ...], add: Callable[[Node], Id]) -> Id:
    """Parts of one whole, in order, are that whole; anything else is joined."""
    parts = [nodes[i] for i in inputs]
    first = parts[0]
    if isinstance(first, Part) and parts == [Part(first.node, k, len(inputs)) for k in range(first.count)]:
        return first.node
    return add(Concat(inputs))


# --- what needs no graph


def _unmoved(loss: Loss, facts: Facts) -> frozenset[Id]:
    """The nodes that do not depend on anything the player trains."""
    player = next(p for p in facts.players if p.name == loss.player)
    moving: set[Id] = set()
    for i, node in enumerate(loss.nodes):
        match node:
            case Net(net=net, old=False) if net in player.members:
                moving.add(i)
            case Leaf():
                moving.add(i)  # a gradient is asked for at it
            case Parameter(name=name, old=False) if name in player.members:
                moving.add(i)
            case Detach() | Responsibility():
                pass
            case _ if any(j in moving for j in operands(node)):
                moving.add(i)
            case _:
                pass
    return frozenset(
        i for i in range(len(loss.nodes)) if i not in moving and not isinstance(loss.nodes[i], Detach | Responsibility)
    )
