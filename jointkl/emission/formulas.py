"""Terms as formulas: densities, divergences, and what weighs, bounds or estimates them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from jointkl.emission import cross_entropies, densities, values
from jointkl.emission.densities import Formula
from jointkl.emission.text import ATOM, PRODUCT, SUM, Text, number, quoted
from jointkl.objective import ir

if TYPE_CHECKING:
    from jointkl.emission.lines import Lines

LONG = 72
"""A weighted formula longer than this gets a line of its own."""

Parts = Sequence[tuple[Fraction, ir.Id]]


def formula(lines: Lines, i: ir.Id) -> Formula:
    """The formula of a term's node; lines that it needs first are appended."""
    node = lines.nodes[i]
    w = lines.writer
    match node:
        case ir.LogProb():
            return densities.log_prob(node, w)
        case ir.KL(cross=True):
            return cross_entropies.formula(lines, i, node)
        case ir.KL():
            return densities.kl(node, w)
        case ir.Total(name=""):
            return Formula(total(lines, node.parts))
        case ir.Total():
            return Formula(Text(_assigned(lines, i, node), ATOM))
        case ir.Product():
            return _product(lines, node)
        case ir.Over():
            return _over(lines, node)
        case ir.GradientNorm():
            return _gradient_norm(lines, node)
        case ir.Apply(operator="sum", operands=(inner,), ndim=(n,)) if not lines.terms[inner]:
            return Formula(lines.text(inner), ndim=n)
        case ir.Apply() if lines.terms[i]:
            return Formula(_applied(lines, node))
        case ir.GradientTap(node=inner) if lines.terms[i]:
            return Formula(Text(f"{lines.text(inner).atom}.detach()", ATOM))
        case _:
            return Formula(lines.text(i))


def _assigned(lines: Lines, i: ir.Id, node: ir.Total) -> str:
    """The name that a sum is assigned to, once; a part a line where it is long."""
    found = lines.names.of(("assigned", i), node.name)
    if ("assigned", i) in lines.assigned:
        return found
    lines.assigned.add(("assigned", i))
    rows = [total(lines, [part]).text for part in node.parts]
    joined = rows[0] + "".join(f" - {r[1:]}" if r.startswith("-") else f" + {r}" for r in rows[1:])
    if len(joined) <= 80:
        lines.lines.append(f"{found} = {joined}")
    else:
        split = [rows[0], *(f"- {r[1:]}" if r.startswith("-") else f"+ {r}" for r in rows[1:])]
        lines.lines += [f"{found} = (", *(f"    {r}" for r in split), ")"]
    return found


def total(lines: Lines, parts: Parts) -> Text:
    """The sum of coefficient * node, each summed over its event."""
    text = ""
    for coefficient, i in parts:
        found = formula(lines, i)
        weight = coefficient * found.sign
        made = found.each()
        size = abs(weight)
        shown = made if size == 1 else Text(f"{number(float(size))} * {made.factor}", PRODUCT)
        body = shown.first if weight > 0 or shown.rank > SUM else f"({shown.text})"
        text += (" - " if weight < 0 else " + ") + body if text else ("-" if weight < 0 else "") + body
    return Text(text, SUM)


def _product(lines: Lines, node: ir.Product) -> Formula:
    """Probabilities times a cost."""
    *weights, cost = node.factors
    probabilities = [lines.text(i).atom for i in weights]
    inner = formula(lines, cost)
    each = inner.each()
    if (lines.uses.get(cost, 0) > 1 and lines.terms[cost]) or len(each.text) > LONG:
        key = ("weighted", cost)
        name = lines.names.of(key, "each")
        if key not in lines.assigned:
            lines.assigned.add(key)
            lines.lines.append(f"{name} = {each.text}")
        each = Text(name, ATOM)
    text = " * ".join([*probabilities, each.atom])
    if densities.may_be_infinite(lines.nodes, cost):
        text = f"counted({' * '.join(probabilities)}, {each.text})"
    return Formula(Text(f"({text})", ATOM), inner.sign)


def _over(lines: Lines, node: ir.Over) -> Formula:
    """What is done along dimensions: the first ones of all, or by their axes."""
    inner = formula(lines, node.node)
    if node.operation == "advantage":
        return Formula(Text(f"advantage({inner.each().text})", ATOM))
    if not node.reduces:
        (dim,) = node.dims
        return Formula(Text(f"{inner.each().atom}.{node.operation}({lines.laid.axis(node.node, dim)})", ATOM))
    made, (count, kept) = inner.each(), lines.laid.reduced(node.node, node.dims)
    if node.operation == "logsumexp" and densities.may_be_infinite(lines.nodes, node.node) and not kept:
        return Formula(Text(f"{'log_total(' * count}{made.text}{')' * count}", ATOM))
    called = "".join(f".{node.operation}({axis}, keepdim=True)" for axis in kept)
    return Formula(Text(f"{made.atom}{f'.{node.operation}(0)' * count}{called}", ATOM), inner.sign)


def _applied(lines: Lines, node: ir.Apply) -> Text:
    """Arithmetic and functions of terms."""
    first = lines.nodes[node.operands[0]]
    match node.operator:
        case "exp" if isinstance(first, ir.LogProb):
            return _probability(lines, node.operands[0], first)
        case "logaddexp":
            infinite = any(densities.may_be_infinite(lines.nodes, i) for i in node.operands)
            added = "log_either" if infinite else "torch.logaddexp"
            *others, last = (lines.text(i).text for i in node.operands)
            for each in reversed(others):
                last = f"{added}({each}, {last})"
            return Text(last, ATOM)
        case "/" if isinstance(size := lines.nodes[node.operands[1]], ir.DataSize):
            return Text(over_n(lines, lines.text(node.operands[0]), size.sources), PRODUCT)
        case _:
            return values.applied(lines, node)


def _probability(lines: Lines, i: ir.Id, node: ir.LogProb) -> Text:
    bernoulli = node.density.family == "Bernoulli" and node.density.parameters[0][0] == "logits"
    if bernoulli and node.fixed is not None:
        logit = lines.text(node.density.parameters[0][1])
        return Text(f"{logit.atom}.sigmoid()" if node.fixed == 1 else f"(-{logit.atom}).sigmoid()", ATOM)
    found = formula(lines, i)
    each = found.each()
    return Text(f"{each.atom}.exp()" if found.sign > 0 else f"(-{each.atom}).exp()", ATOM)


WITHOUT_EVIDENCE = "rows"
"""What the data of a spec without evidence are called: a batch carries their number under this key."""


def data_size(sources: Sequence[str]) -> str:
    """N, how many data the joint is over: the size of its sources; None where the batch is all of them."""
    known = [f"self.data_sizes[{quoted(law)}]" for law in sources or (WITHOUT_EVIDENCE,)]
    return known[0] if len(known) == 1 else f"agreed({', '.join(known)})"


def over_n(lines: Lines, made: Text, sources: Sequence[str]) -> str:
    """What counts 1/N for each datum. Of several sources a batch may hold more rows of one than of another."""
    given_by = lines.objective.sources
    rows = "n"
    if len(given_by) > 1:
        keys = {key for law in sources for key in given_by[law]}
        given = (i for i, node in enumerate(lines.nodes) if isinstance(node, ir.Given) and node.key in keys)
        rows = next((f"len({lines.text(i).text})" for i in given), rows)
    return f"{made.factor} / ({data_size(sources)} or {rows})"


def _gradient_norm(lines: Lines, node: ir.GradientNorm) -> Formula:
    """||gradient of the score in its inputs||^2, itself differentiable."""
    leaves = [lines.text(i).text for i, _ in node.leaves]
    names = [lines.names.of(("slope", node, k), "slope") for k in range(len(leaves))]
    score = lines.text(node.score).atom
    asked = f"torch.autograd.grad({score}.sum(), [{', '.join(leaves)}], create_graph=True)"
    lines.lines.append(f"{', '.join(names)}{',' if len(names) == 1 else ''} = {asked}")
    parts = [
        f"{name}.square()" + (f".flatten({-n}).sum(-1)" if n > 1 else ".sum(-1)" if n else "")
        for name, (_, n) in zip(names, node.leaves, strict=True)
    ]
    return Formula(Text(" + ".join(parts), SUM if len(parts) > 1 else ATOM))
