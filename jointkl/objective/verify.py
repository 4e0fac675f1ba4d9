"""What may stand in an objective after each pass: order, dimensions, shapes and spaces of every node.

What is wrong here is a mistake of ours, never of the spec: an assertion, which says where in the spec it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jointkl.diagnostics import NOWHERE, Span
from jointkl.objective import ir
from jointkl.objective.layout import EACH, Layout, Sizes, layouts
from jointkl.objective.walk import operands, upstream
from jointkl.semantics.families import FAMILIES, parameter_space
from jointkl.semantics.shapes import numbers
from jointkl.semantics.spaces import Space


def verify(objective: ir.Objective, after: str) -> ir.Objective:
    """The objective itself, as it is `after` a pass. Raises `AssertionError`."""
    for loss in (*objective.losses, objective.together, objective.in_turn):
        if loss is not None:
            verify_loss(objective, loss, after)
    for made in (*objective.solutions, *objective.steps):
        _verify_line(objective, made.nodes, f"{after}: the closed step of {made.player}", lambda i: NOWHERE)
    for law in objective.laws:
        _verify_line(objective, law.nodes, f"{after}: the law {law.key}", lambda i, span=law.law.span: span)
    return objective


def verify_loss(sizes: Sizes, loss: ir.Loss, after: str) -> ir.Loss:
    """The loss itself. Its terms have one number for each datum, or one for all."""
    where = f"{after}: the loss of {loss.player or 'all players'}"

    def term_of(i: ir.Id) -> Span:
        used = (t.span for t in loss.terms if i == t.node or i in upstream(loss.nodes, t.node))
        return next(used, NOWHERE)

    known = _verify_line(sizes, loss.nodes, where, term_of)
    for t in loss.terms:
        layout = known[t.node]
        if not layout.dims <= EACH or layout.shape:
            raise _mistake(where, loss.nodes, t.node, t.span, f"a term is along {_named(layout)}")
    for i, node in enumerate(loss.nodes):
        if isinstance(node, ir.Argument):
            raise _mistake(where, loss.nodes, i, term_of(i), "an argument in a loss")
    for r in loss.rescales:
        if not isinstance(node := loss.nodes[r.node], ir.GradientTap) or node.gradient != "rescaled":
            raise _mistake(where, loss.nodes, r.node, term_of(r.node), "a gradient is rescaled at no tap")
    return loss


def _verify_line(sizes: Sizes, nodes: Sequence[ir.Node], where: str, span: Callable[[ir.Id], Span]) -> Sequence[Layout]:
    for i, node in enumerate(nodes):
        if any(not 0 <= j < i for j in operands(node)):
            raise _mistake(where, nodes, i, NOWHERE, "it refers to what stands behind it")
    line = Line(sizes, nodes, layouts(sizes, nodes))
    for i, node in enumerate(nodes):
        check = CHECKS.get(type(node))
        for wrong in check(line, node) if check is not None else ():
            raise _mistake(where, nodes, i, span(i), wrong)
    return line.layouts


def _mistake(where: str, nodes: Sequence[ir.Node], i: ir.Id, span: Span, wrong: str) -> AssertionError:
    line = "" if span == NOWHERE else f", line {span.line} of the spec, `{span.source.line(span.line).strip()}`"
    return AssertionError(f"after {where}: node {i}{line}: {wrong}: {nodes[i]}")


def _named(layout: Layout) -> str:
    dims = ", ".join(sorted(dim.name for dim in layout.dims)) or "no dimension"
    return f"{dims} with an event of {layout.shape}"


# --- what is asked of each kind of node

Wrong = Iterator[str]


@dataclass(frozen=True, slots=True)
class Line:
    """Nodes with their layouts."""

    sizes: Sizes
    nodes: Sequence[ir.Node]
    layouts: Sequence[Layout]

    def space(self, i: ir.Id) -> Space | None:
        """The space of a value that is a variable's, or stands for it; None of one that is computed."""
        node = self.nodes[i]
        while isinstance(node, ir.GradientTap | ir.Shifted | ir.Value | ir.Part | ir.Concat):
            node = self.nodes[operands(node)[0]]
        if isinstance(node, ir.Draw):
            return None if node.noise else node.density.space
        return node.space if isinstance(node, ir.Given | ir.Argument | ir.Every) else None

    def is_finite(self, i: ir.Id) -> bool:
        space = self.space(i)
        return space is not None and space.kind == "finite"


def _density(line: Line, d: ir.Density) -> Wrong:
    """Parameters are called as the family's, and no larger than the variable's space has them."""
    family = FAMILIES[d.family]
    for place, (name, i) in enumerate(d.parameters):
        parameter, own = family.parameter(name), line.layouts[i].shape
        if parameter is None:
            yield f"{d.family} has no parameter {name}"
        elif d.ndim and d.ndim[place] != len(own):
            yield f"{name} has an event of {own}, not of {d.ndim[place]} dimensions"
        elif parameter.extent != "factor":  # whose last size is free
            full = parameter_space(family, parameter, d.space).shape
            if own and own != full[len(full) - len(own) :]:
                yield f"{name} has an event of {own} for one of {full}"


def _draw(line: Line, node: ir.Draw) -> Wrong:
    yield from _density(line, node.density)
    if node.noise and node.density.parameters:
        yield "standard noise has no parameters"
    if len(set(node.dims)) < len(node.dims):
        yield "a dimension twice"


def _net(line: Line, node: ir.Net) -> Wrong:
    net = line.sizes.nets[node.net]
    if len(node.inputs) != len(net.inputs):
        yield f"{len(node.inputs)} inputs for {len(net.inputs)}"
    for i, space in zip(node.inputs, net.inputs, strict=False):
        own = line.space(i)
        if line.layouts[i].shape not in (space.shape, ()):
            yield f"an input has an event of {line.layouts[i].shape}, not of {space.shape}"
        if own is not None and (own.kind == "finite") != (space.kind == "finite"):
            yield f"an input of {own} for one of {space}"


def _index(line: Line, node: ir.Index) -> Wrong:
    if len(node.indices) > len(line.layouts[node.node].shape):
        yield f"{len(node.indices)} indices for an event of {line.layouts[node.node].shape}"
    for i in node.indices:
        if not (line.is_finite(i) or isinstance(line.nodes[i], ir.Constant)):
            yield f"node {i} is no place"


def _apply(line: Line, node: ir.Apply) -> Wrong:
    shapes = [line.layouts[i].shape for i in node.operands]
    if node.ndim and any(n != len(shape) for n, shape in zip(node.ndim, shapes, strict=True)):
        yield f"events of {shapes}, said to have {node.ndim} dimensions"


def _log_prob(line: Line, node: ir.LogProb) -> Wrong:
    yield from _density(line, node.density)
    space = node.density.space
    if (node.value is None) == (node.fixed is None):
        yield "a value, or a place"
    elif node.value is None:
        if space.kind == "finite" and not 0 <= (node.fixed or 0) < len(space.values):
            yield f"place {node.fixed} in {space}"
    else:
        own, shape = line.space(node.value), line.layouts[node.value].shape
        if shape != space.shape:
            yield f"an event of {shape} for {space}"
        if own is not None and (own.kind == "finite") != (space.kind == "finite"):
            yield f"a value of {own} for {space}"


def _kl(line: Line, node: ir.KL) -> Wrong:
    yield from _density(line, node.left)
    yield from _density(line, node.right)
    if node.left.space.shape != node.right.space.shape:
        yield f"laws over {node.left.space} and {node.right.space}"


def _scalars(line: Line, node: ir.Total | ir.Product) -> Wrong:
    """Terms have no event: one is the sum over it."""
    for i in operands(node):
        if line.layouts[i].shape:
            yield f"node {i} has an event of {line.layouts[i].shape}"


def _over(line: Line, node: ir.Over) -> Wrong:
    own = line.layouts[node.node]
    if missing := [dim.name for dim in node.dims if dim not in own.dims]:
        yield f"nothing along {', '.join(missing)}: it has {_named(own)}"
    if not node.dims:
        yield "along no dimension"
    if node.reduces and ir.DATA in node.dims and node.operation in ("sum", "logsumexp"):
        yield "the data are not summed over within a loss"


def _concat(line: Line, node: ir.Concat) -> Wrong:
    for i in node.nodes:
        if not line.layouts[i].dims <= EACH:
            yield f"node {i} has {_named(line.layouts[i])}"
    if len({line.layouts[i].shape for i in node.nodes}) > 1:
        yield "events of several shapes"


def _part(line: Line, node: ir.Part) -> Wrong:
    if not 0 <= node.index < node.count:
        yield f"part {node.index} of {node.count}"


def _shifted(line: Line, node: ir.Shifted) -> Wrong:
    if line.layouts[node.node] != line.layouts[node.given]:
        yield f"{_named(line.layouts[node.node])} for {_named(line.layouts[node.given])}"


def _gradient_norm(line: Line, node: ir.GradientNorm) -> Wrong:
    for i, ndim in node.leaves:
        leaf = line.nodes[i]
        if not isinstance(leaf, ir.GradientTap) or leaf.gradient != "asked":
            yield f"node {i} is no leaf"
        if len(line.layouts[i].shape) != ndim:
            yield f"node {i} has an event of {line.layouts[i].shape}, not of {ndim} dimensions"


def _parameter(line: Line, node: ir.Parameter) -> Wrong:
    if node.name not in line.sizes.params:
        yield "no param is called so"


def _filled(line: Line, node: ir.Filled) -> Wrong:
    inner = line.nodes[node.node]
    shape = numbers(inner.value) if isinstance(inner, ir.Constant) else line.layouts[node.node].shape
    if shape:
        yield f"an event of {shape} to be filled with"


CHECKS: dict[type[ir.Node], Callable[[Line, Any], Wrong]] = {
    ir.Draw: _draw,
    ir.Net: _net,
    ir.Parameter: _parameter,
    ir.Apply: _apply,
    ir.Index: _index,
    ir.Filled: _filled,
    ir.Shifted: _shifted,
    ir.Concat: _concat,
    ir.Part: _part,
    ir.LogProb: _log_prob,
    ir.KL: _kl,
    ir.Total: _scalars,
    ir.Product: _scalars,
    ir.Over: _over,
    ir.GradientNorm: _gradient_norm,
}
"""Of kinds that may be wrong by more than their order, what is asked of them."""
