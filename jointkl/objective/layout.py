"""The dimensions of each node's value: copies and enumerated values in front, then the batch's, then the event's.

Every value is laid out so, and its dimensions are counted from the right: what has fewer in front is spread over what
has more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol, assert_never

from jointkl.objective import ir
from jointkl.objective.walk import operands
from jointkl.semantics.model import Net, Param
from jointkl.semantics.shapes import Shape, broadcast, numbers


class Rows(IntEnum):
    """The batch's dimension: there is none, it is of size one, or it has one row for each datum."""

    NONE = 0
    ONE = 1
    EACH = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """`lead` dimensions, the batch's, and those of `shape`, the event's; a term has none of the last."""

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


class Sizes(Protocol):
    """The nets and params of a spec, with their sizes."""

    @property
    def nets(self) -> Mapping[str, Net]: ...

    @property
    def params(self) -> Mapping[str, Param]: ...


def layouts(sizes: Sizes, nodes: Sequence[ir.Node]) -> list[Layout]:
    """Of all nodes, in their order."""
    found: list[Layout] = []
    extend(sizes, nodes, found)
    return found


def extend(sizes: Sizes, nodes: Sequence[ir.Node], known: list[Layout]) -> None:
    """Append those of the nodes whose layouts are not `known`; operands stand before what uses them."""
    for i in range(len(known), len(nodes)):
        known.append(_layout(sizes, nodes, nodes[i], known))


def joined(parts: Iterable[Layout]) -> Layout:
    """What values make together, each spread over what the others have in front."""
    lead, rows = 0, Rows.NONE
    for part in parts:
        lead, rows = max(lead, part.lead), max(rows, part.rows)
    return Layout(lead, rows)


def _layout(sizes: Sizes, nodes: Sequence[ir.Node], node: ir.Node, known: Sequence[Layout]) -> Layout:
    together = joined(known[i] for i in operands(node))
    match node:
        case ir.Given(space=space) | ir.Argument(space=space):
            return Layout(0, Rows.EACH, space.shape)
        case ir.Root() | ir.Noise() | ir.Sample():
            own = Layout(int(node.copies > 0), Rows.NONE if node.once else Rows.EACH)
            space = node.space if isinstance(node, ir.Noise) else node.density.space
            return replace(joined((own, together)), shape=space.shape)
        case ir.Enumerate(space=space, after=after):
            return Layout(after + 1, Rows.ONE, space.shape)
        case ir.Parameter(name=name):
            return Layout(shape=sizes.params[name].space.shape)
        case ir.Constant(value=value):
            return Layout(shape=numbers(value))
        case ir.Filled(shape=shape):
            return replace(together, shape=shape)
        case ir.Net(net=net):
            return replace(together, shape=sizes.nets[net].heads[0].space.shape)
        case ir.Pick(node=call, head=head):
            return replace(together, shape=_head(sizes, nodes, call, head))
        case ir.Apply():
            return replace(together, shape=_applied(node, [known[i].shape for i in node.operands]))
        case ir.Index(node=inner, indices=indices):
            return replace(together, shape=known[inner].shape[len(indices) :])
        case ir.Drawn(node=i) | ir.Detach(node=i) | ir.Leaf(node=i) | ir.Played(node=i) | ir.Score(node=i):
            return known[i]
        case ir.Shifted(node=i) | ir.Part(node=i):
            return known[i]
        case ir.Concat(nodes=parts):
            return Layout(0, Rows.EACH, known[parts[0]].shape)
        case ir.LogProb() | ir.KL() | ir.Distance() | ir.LogMixture() | ir.ScoreFunction() | ir.Responsibility():
            return together
        case ir.GradientNorm(leaves=leaves):
            return joined(known[i] for i, _ in leaves)
        case ir.Weighted(sums=dims) | ir.LogSumExp(dims=dims):
            return replace(together, lead=together.lead - dims)
        case ir.Bound() | ir.Softmaxed():
            return replace(together, lead=max(together.lead - 1, 0))
        case ir.MomentKL():
            return Layout()
    assert_never(node)


def _head(sizes: Sizes, nodes: Sequence[ir.Node], call: ir.Id, head: str) -> Shape:
    node = nodes[call]
    while isinstance(node, ir.Part):
        node = nodes[node.node]
    assert isinstance(node, ir.Net)
    return next(h.space.shape for h in sizes.nets[node.net].heads if h.name == head)


def _applied(node: ir.Apply, shapes: list[Shape]) -> Shape:
    match node.operator:
        case "sum":
            return ()
        case "@":
            left, right = shapes
            return (*left[:-1], *right[1:])
        case _:
            return broadcast(shapes)
