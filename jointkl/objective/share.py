"""Passes over a loss that leave its value and gradient as they are and save work. Each can be switched off."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from jointkl.objective import in_turn as turns
from jointkl.objective.ir import (
    Concat,
    Given,
    GradientTap,
    Id,
    Loss,
    Net,
    Node,
    Objective,
    Parameter,
    Part,
    Player,
    Shifted,
    Value,
)
from jointkl.objective.layout import Layout, layouts
from jointkl.objective.together import together
from jointkl.objective.verify import verify_loss
from jointkl.objective.walk import Line, mapped, operands, renumbered, upstream
from jointkl.semantics.layers import is_rowwise


@dataclass(frozen=True, slots=True)
class Passes:
    """Which passes run: `branches` puts the applications of one network into one forward; `frozen` computes without
    graph what the player's gradient does not go through; `copies` takes a network's values for shifted rows of the
    minibatch from those for the minibatch; `in_turn` makes one line of all losses, for steps one after the other, where
    players share what networks make of the data; `together` one loss, for simultaneous steps."""

    branches: bool = True
    frozen: bool = True
    together: bool = False
    copies: bool = True
    in_turn: bool = True


def share(objective: Objective, passes: Passes) -> Objective:
    judges = _rowwise(objective, (p for p in objective.players if p.kind in ("classifier", "critic")))
    players = {p.name: (p,) for p in objective.players}

    def passed(loss: Loss) -> Loss:
        if passes.copies and not loss.copied:
            loss = verify_loss(objective, _shifted(loss, objective), "moving rows")
        if passes.branches and not loss.copied:
            own = _rowwise(objective, players.get(loss.player, objective.players))
            nets = judges | own | _without_graph(loss, objective, movers(loss))
            loss = verify_loss(objective, _one_forward(loss, objective, nets), "joining batches")
        return replace(loss, frozen=_unmoved(loss, movers(loss))) if passes.frozen else loss

    def movers(loss: Loss) -> frozenset[str]:
        return frozenset(m for p in players.get(loss.player, objective.players) for m in p.members)

    def in_parts(loss: Loss) -> Loss:
        moved = _shifted(loss, objective) if passes.copies else loss
        loss = verify_loss(objective, turns.cut(moved, objective), "cutting turns apart")
        if passes.branches:
            nets = _rowwise(objective, objective.players)
            loss = _one_forward(loss, objective, nets, lambda loss: turns.parts(loss, objective))
            verify_loss(objective, loss, "joining batches of turns")
        return replace(loss, frozen=turns.unmoved(loss, objective))

    whole = together(objective) if passes.together else None
    line = turns.in_turn(objective) if passes.in_turn and passes.frozen and not passes.together else None
    return replace(
        objective,
        losses=tuple(map(passed, objective.losses)),
        together=whole and passed(verify_loss(objective, whole, "together")),
        in_turn=line and in_parts(line),
    )


def _rowwise(objective: Objective, players: Iterable[Player]) -> frozenset[str]:
    """The networks of players that may be applied to several batches as one."""
    members = {m for p in players for m in p.members if m in objective.nets}
    return frozenset(m for m in members if is_rowwise(objective.nets[m]))


def _without_graph(loss: Loss, objective: Objective, members: frozenset[str]) -> frozenset[str]:
    """The networks that may be applied to several batches as one, and no call of which needs a graph."""
    unmoved = _unmoved(loss, members)
    called = {(node.net, i in unmoved) for i, node in enumerate(loss.nodes) if isinstance(node, Net)}
    return frozenset(net for net, _ in called if (net, False) not in called and is_rowwise(objective.nets[net]))


# --- shifted rows of the minibatch


def _shifted(loss: Loss, objective: Objective) -> Loss:
    """A network's values at a draw that is the minibatch, moved by some rows, are its values there, moved likewise."""
    known = set(loss.nodes)
    places = {node: i for i, node in enumerate(loss.nodes)}
    twins: dict[Id, Id] = {}
    sources: dict[Id, Given] = {}
    moved: dict[Id, Id] = {}
    line = Line()
    add = line.add

    def placed(i: Id) -> Id:
        if i not in moved:
            moved[i] = add(mapped(loss.nodes[i], placed))
        return moved[i]

    columns = {node.key: node for node in loss.nodes if isinstance(node, Given) and not node.shift}
    for i, node in enumerate(loss.nodes):
        twin = _twin(node, twins, columns)
        if twin is None or twin not in known:
            placed(i)
            continue
        twins[i] = places[twin]
        sources[i] = node if isinstance(node, Given) else sources[operands(node)[0]]
        moved[i] = add(mapped(node, moved.__getitem__))
        if isinstance(node, Net) and is_rowwise(objective.nets[node.net]) and len(objective.nets[node.net].heads) == 1:
            moved[i] = add(Shifted(placed(twins[i]), moved[i], sources[i]))
    return renumbered(loss, line, moved)


def _twin(node: Node, twins: Mapping[Id, Id], columns: Mapping[str, Given]) -> Node | None:
    """What the node would be for the minibatch in place of its shifted rows."""
    match node:
        case Given(shift=shift) if shift:
            return columns.get(node.column)
        case Net(inputs=(i,)) | Value(node=i) if i in twins:
            return mapped(node, twins.__getitem__)
        case _:
            return None


# --- one forward for several batches


Parts = Callable[[Loss], Mapping[Id, Hashable]]
"""The parts of a line whose calls are not joined with those of others."""


def _one_forward(loss: Loss, objective: Objective, nets: frozenset[str], parts: Parts = lambda loss: {}) -> Loss:
    """Applications of one network that do not depend on each other become one, on the joined batches.

    So are those of classifiers and critics, of the networks that the player trains, and of those that need no graph at
    all: of another network some calls may need one.
    """
    done: set[Hashable] = set()
    while True:
        laid = layouts(objective, loss.nodes)
        calls = _mergeable(loss, nets, laid, parts(loss), done)
        if calls is None:
            return loss
        joined, ids = calls
        done.add(joined)
        loss = _merged(loss, ids, laid)


def _mergeable(
    loss: Loss, nets: frozenset[str], laid: Sequence[Layout], parts: Mapping[Id, Hashable], done: Set[Hashable]
) -> tuple[Hashable, list[Id]] | None:
    """The first network with several independent calls in one part of the line, inner ones first.

    What it makes of params, constants and globals alone has no batch to join.
    """
    calls: dict[Hashable, list[Id]] = {}
    conditional = {node.given for node in loss.nodes if isinstance(node, Shifted)}
    for i, node in enumerate(loss.nodes):
        if isinstance(node, Net) and node.net in nets and not node.old and laid[i].dims and i not in conditional:
            calls.setdefault((node.net, node.version, parts.get(i)), []).append(i)
    for key, ids in calls.items():
        if key in done or len(ids) < 2:
            continue
        ids = [i for i in ids if not any(_is_leaf(loss.nodes[j]) for j in upstream(loss.nodes, i))]
        above = [upstream(loss.nodes, i) for i in ids]
        plain = all(laid[i].plain for i in ids)
        if len(ids) > 1 and plain and not any(up & set(ids) for up in above):
            return key, ids
    return None


def _is_leaf(node: Node) -> bool:
    return isinstance(node, GradientTap) and node.gradient == "asked"


def _merged(loss: Loss, ids: list[Id], laid: Sequence[Layout]) -> Loss:
    """The calls replaced by parts of one call, placed where the last of them stood."""
    last, count = ids[-1], len(ids)
    delayed = {i for i in range(ids[0], last) if i in ids or set(ids) & upstream(loss.nodes, i)}
    moved: dict[Id, Id] = {}
    line = Line()
    add = line.add
    for i, node in enumerate(loss.nodes):
        if i == last:
            calls = [c for c in (loss.nodes[j] for j in ids) if isinstance(c, Net)]
            inputs = [[c.inputs[k] for c in calls] for k in range(len(calls[0].inputs))]
            one = [len(set(places)) == 1 and not laid[places[0]].dims for places in inputs]
            found = [tuple(moved[j] for j in places) for places in inputs]
            joined = tuple(p[0] if o else _concatenated(line, p) for p, o in zip(found, one, strict=True))
            called = add(replace(calls[0], inputs=joined))
            for place, j in enumerate(ids):
                moved[j] = add(Part(called, place, count))
            for j in sorted(delayed - set(ids)):
                moved[j] = add(mapped(loss.nodes[j], moved.__getitem__))
        elif i not in delayed:
            moved[i] = add(mapped(node, moved.__getitem__))
    return renumbered(loss, line, moved)


def _concatenated(line: Line, inputs: tuple[Id, ...]) -> Id:
    """Parts of one whole, in order, are that whole; anything else is joined."""
    parts = [line.nodes[i] for i in inputs]
    first = parts[0]
    if isinstance(first, Part) and parts == [Part(first.node, k, len(inputs)) for k in range(first.count)]:
        return first.node
    return line.add(Concat(inputs))


# --- what needs no graph


def _unmoved(loss: Loss, members: frozenset[str]) -> frozenset[Id]:
    """The nodes that do not depend on any of the members, be it by a detached value: that one is made of what
    moves, with a graph."""
    moved: set[Id] = set()
    for i, node in enumerate(loss.nodes):
        match node:
            case Net(net=name, old=False) | Parameter(name=name, old=False) if name in members:
                moved.add(i)
            case GradientTap(gradient="stopped" | "asked"):
                moved.add(i)  # a leaf is asked for its gradient; the others are cut off where they are used
            case _ if any(j in moved for j in operands(node)):
                moved.add(i)
            case _:
                pass
    return frozenset(range(len(loss.nodes))) - moved
