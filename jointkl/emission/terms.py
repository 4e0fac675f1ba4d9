"""Terms as formulas: sums, products, and what is done along dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from jointkl.emission import densities, values
from jointkl.emission.statements import Let, Row, Rows
from jointkl.emission.tree import (
    ATOM,
    Binary,
    Bracketed,
    Expression,
    Literal,
    Name,
    Scaled,
    Signed,
    call,
    listed,
    member,
    minus,
    number,
    string,
    summed,
)
from jointkl.emission.writer import Formula, N, Writer
from jointkl.objective import ir

LONG = 72
"""A weighted formula longer than this gets a line of its own."""
WIDE = 80
"""A sum that is longer has a line for each of its parts."""


def _total(w: Writer, i: ir.Id, node: ir.Total) -> Formula:
    """The sum of coefficient * node, each summed over its event; by its name, where it has one."""
    if not node.name:
        return Formula(_sum(w, node))
    found = w.names.of(("total", i), node.name)
    if ("total", i) not in w.assigned:
        w.assigned.add(("total", i))
        made = _sum(w, node)
        split = tuple(Row(before.lstrip(" "), shown) for before, shown in made.rows())
        w.statements.append(Let((found,), made) if len(made.text) <= WIDE else Rows(f"{found} = (", split, ")"))
    return Formula(Name(found))


def _sum(w: Writer, node: ir.Total) -> Signed:
    return Signed(tuple(_signed(w, coefficient, i) for coefficient, i in node.parts))


def _signed(w: Writer, coefficient: Fraction, i: ir.Id) -> tuple[bool, Expression]:
    """A weighted part, and whether it is subtracted."""
    found = w.formula(i)
    weight = coefficient * found.sign
    return weight < 0, scaled(weight, found.each())


def scaled(weight: Fraction, e: Expression) -> Expression:
    """An expression times the size of a weight."""
    return e if abs(weight) == 1 else Scaled(number(float(abs(weight))), e)


def _product(w: Writer, i: ir.Id, node: ir.Product) -> Formula:
    """Probabilities times a cost."""
    *weights, cost = node.factors
    probabilities = [w.text(j) for j in weights]
    inner = w.formula(cost)
    each = inner.each()
    if (w.several(cost) and w.terms[cost]) or len(each.text) > LONG:
        each = w.once(("weighted", cost), "each", each)
    if w.infinite[cost]:
        return Formula(Bracketed(call("counted", _times(probabilities), each)), inner.sign)
    return Formula(Bracketed(_times([*probabilities, each])), inner.sign)


def _times(factors: Sequence[Expression]) -> Expression:
    first, *others = (f if f.rank == ATOM else Bracketed(f) for f in factors)
    for other in others:
        first = first * other
    return first


def _over(w: Writer, i: ir.Id, node: ir.Over) -> Formula:
    """What is done along dimensions: the first ones of all, or by their axes."""
    inner = w.formula(node.node)
    made = inner.each()
    if node.operation == "advantage":
        return Formula(call("advantage", made))
    if not node.reduces:
        (dim,) = node.dims
        return Formula(made.do(node.operation, w.places.axis(node.node, dim)))
    count, kept = w.places.reduced(node.node, node.dims)
    masked = node.operation == "logsumexp" and w.infinite[node.node] and not kept
    for _ in range(count):
        made = call("log_total", made) if masked else made.do(node.operation, 0)
    for axis in kept:
        made = made.do(node.operation, axis, keepdim=True)
    return Formula(made, inner.sign)


def _applied(w: Writer, i: ir.Id, node: ir.Apply) -> Formula:
    """Arithmetic and functions of terms."""
    first = w.nodes[node.operands[0]]
    match node.operator:
        case "exp" if isinstance(first, ir.LogProb):
            return Formula(_probability(w, node.operands[0], first))
        case "logaddexp":
            added = "log_either" if w.infinite[i] else "torch.logaddexp"
            *others, last = map(w.text, node.operands)
            for each in reversed(others):
                last = call(added, each, last)
            return Formula(last)
        case "/" if isinstance(size := w.nodes[node.operands[1]], ir.DataSize):
            return Formula(over_n(w, w.text(node.operands[0]), size.sources))
        case _:
            return Formula(values.applied(w, i, node))


def _probability(w: Writer, i: ir.Id, node: ir.LogProb) -> Expression:
    bernoulli = node.density.family == "Bernoulli" and node.density.parameters[0][0] == "logits"
    if bernoulli and node.fixed is not None:
        logit = w.text(node.density.parameters[0][1])
        return (logit if node.fixed == 1 else minus(logit)).do("sigmoid")
    found = w.formula(i)
    each = found.each()
    return (each if found.sign > 0 else minus(each)).do("exp")


def _tap(w: Writer, i: ir.Id, node: ir.GradientTap) -> Formula:
    return Formula(w.text(node.node).do("detach"))


def _gradient_norm(w: Writer, i: ir.Id, node: ir.GradientNorm) -> Formula:
    """||gradient of the score in its inputs||^2, itself differentiable."""
    leaves = [w.text(j) for j, _ in node.leaves]
    slopes = tuple(w.names.of(("slope", node, k), "slope") for k in range(len(leaves)))
    score = w.text(node.score).do("sum")
    asked = call("torch.autograd.grad", score, listed(*leaves), create_graph=Literal("True"))
    last = (f"{slopes[0]},",) if len(slopes) == 1 else slopes
    w.statements.append(Let(last, asked))
    parts = [summed(Name(s).do("square"), n) for s, (_, n) in zip(slopes, node.leaves, strict=True)]
    return Formula(parts[0] if len(parts) == 1 else Signed(tuple((False, part) for part in parts)))


WITHOUT_EVIDENCE = "rows"
"""What the data of a spec without evidence are called: a batch carries their number under this key."""


def data_size(sources: Sequence[str]) -> Expression:
    """N, how many data the joint is over: the size of its sources; None where the batch is all of them."""
    known = [member("data_sizes")[string(law)] for law in sources or (WITHOUT_EVIDENCE,)]
    return known[0] if len(known) == 1 else call("agreed", *known)


def over_n(w: Writer, made: Expression, sources: Sequence[str]) -> Expression:
    """What counts 1/N for each datum. Of several sources a batch may hold more rows of one than of another."""
    rows: Expression = N
    given_by = w.objective.sources
    if len(given_by) > 1:
        keys = {key for law in sources for key in given_by[law]}
        given = (i for i, node in enumerate(w.nodes) if isinstance(node, ir.Given) and node.key in keys)
        rows = next((call("len", w.text(i)) for i in given), rows)
    return made / Binary("or", data_size(sources), rows)


FORMS: Mapping[type[ir.Node], Callable[[Writer, ir.Id, Any], Formula]] = {
    ir.LogProb: densities.log_prob,
    ir.KL: densities.divergence,
    ir.Total: _total,
    ir.Product: _product,
    ir.Over: _over,
    ir.Apply: _applied,
    ir.GradientTap: _tap,
    ir.GradientNorm: _gradient_norm,
}
