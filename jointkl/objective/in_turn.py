"""All losses of a round as one line, for players that step one after the other.

In its turn a player finds the others as their last steps left them. What two of them make of the data by networks that
stand still from the one's turn to the other's is the same for both and computed once: with a graph, if one of them
trains it, and cut off for the other. Draws are each turn's own, so that the numbers are those of the losses apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from jointkl.objective.ir import (
    Draw,
    GradientTap,
    Id,
    Loss,
    Net,
    Node,
    Objective,
    Parameter,
    Term,
)
from jointkl.objective.walk import Line, are_terms, mapped, needed, operands, reached, renumbered
from jointkl.semantics.layers import is_function


def in_turn(objective: Objective) -> Loss | None:
    """The losses in the order of the phases, terms marked by player. None where no network's values serve two of them,
    and with old copies, closed steps, importance-weighted copies and hinges."""
    losses = {loss.player: loss for loss in objective.losses}
    order = [phase.player for phase in objective.phases if phase.player in losses]
    plain = not any(loss.copied or loss.hinges for loss in objective.losses)
    if not plain or objective.solutions or objective.steps or objective.old_nets or objective.old_params:
        return None
    line = Line()
    terms: list[Term] = []
    still: dict[str, int] = {}
    for turn, player in enumerate(order):
        moved: dict[Id, Id] = {}
        for i, node in enumerate(losses[player].nodes):
            moved[i] = line.add(_of_turn(mapped(node, moved.__getitem__), turn, still, objective))
        terms += [replace(t, node=moved[t.node], player=player) for t in losses[player].terms]
        still |= dict.fromkeys(_members(objective, player), turn + 1)
    whole = Loss("", (), tuple(line.nodes), tuple(terms))
    every = Counter(i for player in order for i in needed(whole, player))
    return whole if any(isinstance(whole.nodes[i], Net) for i, count in every.items() if count > 1) else None


def _of_turn(node: Node, turn: int, still: Mapping[str, int], objective: Objective) -> Node:
    match node:
        case Net(net=name) if is_function(objective.nets[name]):
            return replace(node, version=still.get(name, 0))
        case Parameter(name=name):
            return replace(node, version=still.get(name, 0))
        case Net() | Draw():
            return replace(node, version=turn)
        case _:
            return node


def _members(objective: Objective, player: str) -> frozenset[str]:
    return frozenset(next(p.members for p in objective.players if p.name == player))


def turns(loss: Loss) -> tuple[str, ...]:
    """The players, in the order of their turns."""
    return tuple(dict.fromkeys(t.player for t in loss.terms))


def first_turns(loss: Loss) -> dict[Id, int]:
    """By node the first turn that needs it."""
    found: dict[Id, int] = {}
    for turn, player in enumerate(turns(loss)):
        found = dict.fromkeys(needed(loss, player), turn) | found
    return found


def parts(loss: Loss, objective: Objective) -> dict[Id, tuple[int, str | None]]:
    """By node when it is first needed, and whose gradient goes through it."""
    own = owners(loss, objective)
    return {i: (turn, own.get(i)) for i, turn in first_turns(loss).items()}


def owners(loss: Loss, objective: Objective) -> dict[Id, str]:
    """By node the player whose gradient goes through it: one alone, since its step makes another node of it."""
    found: dict[Id, str] = {}
    for player in turns(loss):
        moving = reached(loss.nodes, _members(objective, player))
        found |= {i: player for i in needed(loss, player) if i in moving}
    return found


def cut(loss: Loss, objective: Objective) -> Loss:
    """The line in which what a player's gradient goes through sees others' values without their graph."""
    own, terms = owners(loss, objective), are_terms(loss.nodes)
    line = Line()
    moved: dict[Id, Id] = {}
    for i, node in enumerate(loss.nodes):

        def operand(j: Id, player: str | None = own.get(i)) -> Id:
            if player is None or own.get(j, player) == player:
                return moved[j]
            if terms[j]:  # no value of its own: written where it is used
                return line.add(mapped(loss.nodes[j], operand))
            return line.add(GradientTap(moved[j]))

        moved[i] = line.add(mapped(node, operand))
    return renumbered(loss, line, moved)


def unmoved(loss: Loss, objective: Objective) -> frozenset[Id]:
    """The nodes without a graph, but for what is made of values cut off: those have none anyway."""
    own = owners(loss, objective)
    found: set[Id] = set()
    for i, node in enumerate(loss.nodes):
        cut = isinstance(node, GradientTap) and node.gradient != "rescaled"
        if i not in own and not cut and all(j in found or j in own for j in operands(node)):
            found.add(i)
    return frozenset(found)
