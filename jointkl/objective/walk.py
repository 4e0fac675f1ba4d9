"""Ways through a loss: what a node refers to, and the node with its references renumbered.

Both are read off the fields' types: an `Id` is a reference, wherever in a field it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from jointkl.objective.ir import (
    KL,
    Apply,
    GradientNorm,
    GradientTap,
    Id,
    LogProb,
    Loss,
    Net,
    Node,
    Over,
    Parameter,
    Product,
    Rescale,
    Term,
    Total,
)

Renumber = Callable[[Id], Id]
Refers = TypeVar("Refers", bound=Node | Term | Rescale)


@dataclass(frozen=True, slots=True)
class References:
    """The references within values of one type: all of them in order, and the value with each renumbered."""

    of: Callable[[Any], tuple[Id, ...]]
    mapped: Callable[[Any, Renumber], Any]


@cache
def references(kind: Any) -> References | None:
    """Of a type as it is annotated; None where its values hold no reference."""
    if kind == Id:
        return References(lambda value: (value,), lambda value, f: f(value))
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _optional(arguments)
    if origin is tuple:
        return _repeated(arguments[0]) if arguments[1:] == (...,) else _fixed(arguments)
    return _fields(kind) if is_dataclass(kind) else None


def _optional(kinds: tuple[Any, ...]) -> References | None:
    """`Id | None`; no other union holds references."""
    inner = next((found for kind in kinds if (found := references(kind)) is not None), None)
    if inner is None:
        return None
    assert type(None) in kinds, f"references in a union: {kinds}"
    of, mapped = inner.of, inner.mapped
    return References(
        lambda value: () if value is None else of(value),
        lambda value, f: None if value is None else mapped(value, f),
    )


def _repeated(kind: Any) -> References | None:
    """`tuple[kind, ...]`."""
    if kind == Id:
        return References(tuple, lambda values, f: tuple(map(f, values)))
    inner = references(kind)
    if inner is None:
        return None
    of, mapped = inner.of, inner.mapped
    return References(
        lambda values: tuple(i for value in values for i in of(value)),
        lambda values, f: tuple(mapped(value, f) for value in values),
    )


def _fixed(kinds: tuple[Any, ...]) -> References | None:
    """`tuple[kind, kind]`."""
    places = [(i, found) for i, kind in enumerate(kinds) if (found := references(kind)) is not None]
    if not places:
        return None

    def mapped(values: tuple[Any, ...], f: Renumber) -> tuple[Any, ...]:
        moved = list(values)
        for i, inner in places:
            moved[i] = inner.mapped(moved[i], f)
        return tuple(moved)

    return References(lambda values: tuple(j for i, inner in places for j in inner.of(values[i])), mapped)


def _fields(kind: Any) -> References | None:
    """A dataclass, by its fields."""
    hints = get_type_hints(kind, include_extras=True)
    held = [(name, found) for name, hint in hints.items() if (found := references(hint)) is not None]
    if not held:
        return None
    if len(held) == 1:
        ((only, inner),) = held
        return References(
            lambda value: inner.of(getattr(value, only)),
            lambda value, f: replace(value, **{only: inner.mapped(getattr(value, only), f)}),
        )
    return References(
        lambda value: tuple(i for name, inner in held for i in inner.of(getattr(value, name))),
        lambda value, f: replace(value, **{name: inner.mapped(getattr(value, name), f) for name, inner in held}),
    )


def operands(node: Node | Term | Rescale) -> tuple[Id, ...]:
    """The nodes that a node refers to."""
    found = references(type(node))
    return () if found is None else found.of(node)


def mapped(node: Refers, f: Renumber) -> Refers:
    """The node with every reference renumbered by `f`."""
    found = references(type(node))
    return node if found is None else found.mapped(node, f)


def upstream(nodes: Sequence[Node], i: Id) -> set[Id]:
    """The nodes that a node is made of, itself left out."""
    return reaching(nodes, operands(nodes[i]))


def reaching(nodes: Sequence[Node], roots: Iterable[Id]) -> set[Id]:
    """Nodes, and those that they are made of."""
    seen: set[Id] = set()
    pending = list(roots)
    while pending:
        j = pending.pop()
        if j not in seen:
            seen.add(j)
            pending += operands(nodes[j])
    return seen


def needed(loss: Loss, player: str | None = None) -> list[Id]:
    """The nodes that a loss's terms, or one player's, and rescaled gradients are made of, in order."""
    roots = [t.node for t in loss.terms if player in (None, t.player)]
    roots += [i for r in loss.rescales for i in operands(r)]
    return sorted(reaching(loss.nodes, roots))


def reached(nodes: Sequence[Node], members: frozenset[str]) -> frozenset[Id]:
    """The nodes that a gradient of the members' parameters goes through."""
    found: set[Id] = set()
    for i, node in enumerate(nodes):
        match node:
            case Net(net=name, old=False) | Parameter(name=name, old=False) if name in members:
                found.add(i)
            case GradientTap(gradient="stopped" | "asked"):
                pass
            case _ if not found.isdisjoint(operands(node)):
                found.add(i)
            case _:
                pass
    return frozenset(found)


def are_terms(nodes: Sequence[Node]) -> list[bool]:
    """Which nodes are numbers made of densities, or along dimensions. A softmax that no gradient goes through is a
    value: the probabilities of a Free law."""
    found: list[bool] = []
    for node in nodes:
        match node:
            case LogProb() | KL() | Total() | Product() | GradientNorm():
                found.append(True)
            case Over(operation=operation):
                found.append(operation not in ("mean", "variance"))
            case GradientTap(node=i):
                inner = nodes[i]
                solved = isinstance(inner, Over) and inner.operation in ("softmax", "log_softmax")
                found.append(found[i] and not solved)
            case Apply(operands=ids):
                found.append(any(found[i] for i in ids))
            case _:
                found.append(False)
    return found


class Line:
    """Nodes in order, equal ones once."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.places: dict[Node, Id] = {}

    def add(self, node: Node) -> Id:
        if node not in self.places:
            self.places[node] = len(self.nodes)
            self.nodes.append(node)
        return self.places[node]


def renumbered(loss: Loss, line: Line, moved: Mapping[Id, Id]) -> Loss:
    """The loss upon another line, each node of its own being `moved` there."""
    terms = tuple(mapped(t, moved.__getitem__) for t in loss.terms)
    rescales = tuple(mapped(r, moved.__getitem__) for r in loss.rescales)
    return replace(loss, nodes=tuple(line.nodes), terms=terms, rescales=rescales)
