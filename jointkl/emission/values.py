"""Values as text: arithmetic and functions, entries, numbers that fill an event, rows of a joined batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jointkl.emission import densities
from jointkl.emission.text import ATOM, PRODUCT, SUM, Text, dims, number
from jointkl.objective import ir

if TYPE_CHECKING:
    from jointkl.emission.lines import Lines


def row(lines: Lines, i: ir.Id) -> str:
    """A value with one row for each datum."""
    node, known = lines.nodes[i], lines.layout(i)
    if isinstance(node, ir.Constant) and node.number is not None:
        return f"self.full({node.number!r}, n)"
    made = lines.text(i)
    return made.text if known.in_front else f"{made.atom}.expand({dims(('n', *known.shape))})"


def indexed(lines: Lines, node: ir.Index) -> str:
    """The dimensions of an index are counted from the right where there are others in front."""
    found, known = lines.text(node.node).atom, lines.layout(node.node)
    if not known.in_front:
        return f"{found}[{', '.join(_index(lines, j) for j in node.indices)}]"
    for place, i in enumerate(node.indices, 1):
        behind = len(known.shape) - place
        if isinstance(lines.nodes[i], ir.Constant):
            found = f"{found}[{dims(['...', _index(lines, i), *[':'] * behind])}]"
        else:
            found = f"pick({found}, {_index(lines, i)}{f', {behind}' if behind else ''})"
    return found


def filled(lines: Lines, i: ir.Id, shape: tuple[int, ...]) -> Text:
    """One number as each of an event's."""
    made = lines.text(i)
    node = lines.nodes[i]
    if isinstance(node, ir.Constant) and node.number is not None:
        return Text(f"self.full({dims((repr(node.number), *shape))})", ATOM)
    if not lines.layout(i).in_front:
        return Text(f"{made.atom}.expand({dims(shape)})", ATOM)
    return Text(f"{made.atom}[{dims(['...', *['None'] * len(shape)])}] + self.full({dims((0.0, *shape))})", SUM)


def _index(lines: Lines, i: ir.Id) -> str:
    node = lines.nodes[i]
    if isinstance(node, ir.Constant) and node.number is not None:
        return str(int(node.number))
    drawn = lines.text(i)
    return drawn.text if isinstance(node, ir.Every) else f"{drawn.atom}.long()"  # what is passed may be floats


def _counts(lines: Lines, i: ir.Id) -> bool:
    """Is a value the place of a finite variable, an integer where nothing else says so?"""
    node = lines.nodes[i]
    while isinstance(node, ir.Value | ir.Shifted) or (isinstance(node, ir.GradientTap) and node.gradient != "asked"):
        node = lines.nodes[node.node]
    if isinstance(node, ir.Draw):
        return node.density.space.kind == "finite" and not node.noise
    return isinstance(node, ir.Given | ir.Argument | ir.Every) and node.space.kind == "finite"


def _numbers(lines: Lines, node: ir.Apply) -> list[Text]:
    """The operands of an operation; one of places alone would be in integers, or of torch's own precision."""
    texts = [lines.text(i) for i in node.operands]
    if not all(_counts(lines, i) or isinstance(lines.nodes[i], ir.Constant) for i in node.operands):
        return texts
    return [
        Text(f"{t.atom}.to(self.anchor.dtype)", ATOM) if _counts(lines, i) else t
        for i, t in zip(node.operands, texts, strict=True)
    ]


def applied(lines: Lines, node: ir.Apply) -> Text:
    """Arithmetic or a function."""
    first = lines.nodes[node.operands[0]]
    if node.operator == "log" and isinstance(first, ir.Constant) and first.number is not None:
        return Text(f"math.log({number(first.number)})", ATOM)
    texts = _numbers(lines, node)
    if node.operator in densities.FUNCTIONS:
        return Text(densities.FUNCTIONS[node.operator].format(texts[0].atom), ATOM)
    if node.operator == "sum":
        n = node.ndim[0]
        return (
            texts[0]
            if n == 0
            else Text(f"{texts[0].atom}.flatten({-n}).sum(-1)" if n > 1 else f"{texts[0].atom}.sum(-1)", ATOM)
        )
    if node.operator == "neg":
        return Text(f"-{texts[0].factor}", PRODUCT)
    if node.operator == "@":
        return _matmul(lines, node, texts)
    left, right = _aligned(lines, node, texts)
    if node.operator in "+-":
        right_text = right.summand if node.operator == "+" else right.factor
        return Text(f"{left.first} {node.operator} {right_text}", SUM)
    return Text(f"{left.factor} {node.operator} {right.atom}", PRODUCT)


def _aligned(lines: Lines, node: ir.Apply, texts: list[Text]) -> list[Text]:
    """Operands with fewer event dimensions get the missing ones in front of their own, behind the batch's."""
    n = max(node.ndim)
    found: list[Text] = []
    for i, made, own in zip(node.operands, texts, node.ndim, strict=True):
        if own < n and lines.layout(i).in_front:
            made = Text(
                made.atom
                + (
                    f"[{', '.join(['...', *['None'] * (n - own)])}]"
                    if own == 0
                    else f".unsqueeze({-own - 1})" * (n - own)
                ),
                ATOM,
            )
        found.append(made)
    return found


def _matmul(lines: Lines, node: ir.Apply, texts: list[Text]) -> Text:
    left, right = texts
    match node.ndim:
        case (2, 1):
            return Text(f"({left.atom} @ {right.atom}.unsqueeze(-1)).squeeze(-1)", ATOM)
        case (1, 2):
            return Text(f"({left.atom}.unsqueeze(-2) @ {right.atom}).squeeze(-2)", ATOM)
        case (1, 1):
            return Text(f"({left.factor} * {right.atom}).sum(-1)", ATOM)
        case _:
            return Text(f"{left.atom} @ {right.atom}", PRODUCT)


def moment(lines: Lines, node: ir.Over) -> Text:
    """The batch's mean or variance, both taken at once."""
    z = lines.text(node.node)
    var, mean = (lines.names.of((word, node.node), f"{z.text}_{word}") for word in ("var", "mean"))
    if (key := ("moments", node.node)) not in lines.assigned:
        lines.assigned.add(key)
        lines.lines.append(f"{var}, {mean} = moments({z.text})")
    return Text(mean if node.operation == "mean" else var, ATOM)
