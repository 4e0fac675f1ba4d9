"""The dimensions of each node's value: named ones, and the event's behind them.

Values made of others are spread over the named dimensions of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from jointkl.objective import ir
from jointkl.objective.walk import operands
from jointkl.semantics.model import Net, Param
from jointkl.semantics.shapes import Shape, broadcast, numbers

Dims = frozenset[ir.Dim]
NONE: Dims = frozenset()
EACH: Dims = frozenset((ir.DATA,))


@dataclass(frozen=True, slots=True)
class Layout:
    """The dimensions of a value by name, and the shape of its event; a term has none of the last."""

    dims: Dims = NONE
    shape: Shape = ()

    @property
    def plain(self) -> bool:
        """One row for each datum, and nothing else."""
        return self.dims == EACH


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
        node = nodes[i]
        known.append(Layout(_dims(node, known), _shape(sizes, nodes, node, known)))


def _dims(node: ir.Node, known: Sequence[Layout]) -> Dims:
    match node:
        case ir.Given() | ir.Argument() | ir.Concat():
            return EACH
        case ir.Every(dim=dim):
            return frozenset((dim,))
        case ir.GradientNorm(leaves=leaves):
            return NONE.union(*(known[i].dims for i, _ in leaves))
        case _:
            pass
    inner = operands(node)
    together = known[inner[0]].dims if len(inner) == 1 else NONE.union(*(known[i].dims for i in inner))
    if isinstance(node, ir.Draw):
        return together.union(node.dims)
    return together.difference(node.dims) if isinstance(node, ir.Over) and node.reduces else together


def _shape(sizes: Sizes, nodes: Sequence[ir.Node], node: ir.Node, known: Sequence[Layout]) -> Shape:
    match node:
        case ir.Given(space=space) | ir.Argument(space=space) | ir.Every(space=space):
            return space.shape
        case ir.Draw(density=density):
            return density.space.shape
        case ir.Parameter(name=name):
            return sizes.params[name].space.shape
        case ir.Constant(value=value):
            return numbers(value)
        case ir.Filled(shape=shape):
            return shape
        case ir.Net(net=net):
            return sizes.nets[net].heads[0].space.shape
        case ir.Head(node=call, head=head):
            return _head(sizes, nodes, call, head)
        case ir.Apply():
            return _applied(node, [known[i].shape for i in node.operands])
        case ir.Index(node=inner, indices=indices):
            return known[inner].shape[len(indices) :]
        case ir.Value(node=i) | ir.GradientTap(node=i) | ir.Shifted(node=i) | ir.Part(node=i) | ir.Over(node=i):
            return known[i].shape
        case ir.Concat(nodes=parts):
            return known[parts[0]].shape
        case ir.LogProb() | ir.KL() | ir.Total() | ir.Product() | ir.DataSize() | ir.GradientNorm():
            return ()
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
