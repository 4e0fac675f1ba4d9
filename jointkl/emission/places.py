"""Where named dimensions stand: their order, which they get once for each function that is written.

A value is laid out with its discrete variables and copies in front, then the data's dimension, then the event's.
Dimensions are counted from the right: what has fewer in front is spread over what has more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from jointkl.objective import ir
from jointkl.objective.layout import NONE, Dims, Layout, Sizes, layouts
from jointkl.objective.walk import operands
from jointkl.semantics.shapes import Shape


class Rows(IntEnum):
    """The data's dimension: there is none, it is of size one, or it has one row for each datum."""

    NONE = 0
    ONE = 1
    EACH = 2


@dataclass(frozen=True, slots=True)
class Place:
    """`lead` dimensions in front of the data's, and the shape of the event behind it."""

    dims: Dims = NONE
    lead: int = 0
    rows: Rows = Rows.NONE
    shape: Shape = ()

    @property
    def in_front(self) -> bool:
        """Are there dimensions in front of the event's?"""
        return self.rows is not Rows.NONE

    @property
    def plain(self) -> bool:
        """One row for each datum, and nothing in front."""
        return self.rows is Rows.EACH and not self.lead


@dataclass(frozen=True, slots=True)
class Places:
    """The places of all nodes of a function. `order` counts the dimensions between a named one and the data's."""

    order: dict[ir.Dim, int]
    found: list[Place]

    @classmethod
    def of(cls, sizes: Sizes, nodes: Sequence[ir.Node]) -> Places:
        known = layouts(sizes, nodes)
        order = _ordered(known)
        found: list[Place] = []
        for node, layout in zip(nodes, known, strict=True):
            averaged = isinstance(node, ir.Over) and node.operation in ("mean", "variance")
            spread = not averaged and any(found[i].in_front for i in _spread(node))
            found.append(_place(order, layout, spread))
        return cls(order, found)

    def together(self, nodes: Iterable[ir.Id]) -> Place:
        """What values make together, each spread over what the others have in front."""
        parts = [self.found[i] for i in nodes]
        dims = NONE.union(*(p.dims for p in parts))
        return Place(dims, max((p.lead for p in parts), default=0), max((p.rows for p in parts), default=Rows.NONE))

    def axis(self, i: ir.Id, dim: ir.Dim) -> int:
        """A dimension of a node's value, counted from the front."""
        return self.found[i].lead - 1 - self.order[dim]

    def reduced(self, i: ir.Id, dims: Iterable[ir.Dim]) -> tuple[int, list[int]]:
        """How many dimensions in front of a node's value go with `dims`, and the axes of those that others stand in
        front of, which are kept at size one: the places of the others are the same."""
        place = self.found[i]
        gone = {self.order[dim] for dim in dims if dim != ir.DATA}
        kept = [self.order[dim] for dim in place.dims if dim != ir.DATA and self.order[dim] not in gone]
        lead = max(kept, default=-1) + 1
        inner = sorted(slot for slot in gone if slot < lead)
        return place.lead - lead, [lead - 1 - slot for slot in inner]


def _spread(node: ir.Node) -> tuple[ir.Id, ...]:
    return tuple(i for i, _ in node.leaves) if isinstance(node, ir.GradientNorm) else operands(node)


def _place(order: dict[ir.Dim, int], layout: Layout, spread: bool) -> Place:
    dims = layout.dims
    rows = Rows.EACH if ir.DATA in dims else Rows.ONE if dims or spread else Rows.NONE
    lead = max((order[dim] for dim in dims if dim != ir.DATA), default=-1) + 1
    return Place(dims, lead, rows, layout.shape)


def _ordered(known: Iterable[Layout]) -> dict[ir.Dim, int]:
    """Each dimension in the innermost place that none of those has which some value is along too: whichever comes
    first stands further in. Those that never meet may share a place."""
    beside: dict[ir.Dim, set[ir.Dim]] = {}
    seen: set[Dims] = set()
    for layout in known:
        if layout.dims not in seen:
            seen.add(layout.dims)
            for dim in sorted(layout.dims - {ir.DATA}, key=lambda dim: dim.name):
                beside.setdefault(dim, set()).update(layout.dims)
    order: dict[ir.Dim, int] = {}
    for dim, others in beside.items():
        taken = {order[other] for other in others if other in order and other != dim}
        order[dim] = next(k for k in range(len(taken) + 1) if k not in taken)
    return order
