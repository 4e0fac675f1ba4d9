"""Terms as formulas: densities, divergences, and what weighs, bounds or estimates them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from jointkl.emission import cross_entropies, densities
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
        case ir.Distance():
            return densities.distance(node, w)
        case ir.Score(node=inner):
            return Formula(lines.text(inner))
        case ir.Weighted():
            return _weighted(lines, node)
        case ir.Bound(terms=terms, copies=copies):
            made = assigned(lines, "log_w", terms, -1)
            return Formula(Text(f"math.log({copies}) - {made}.logsumexp(0)", SUM))
        case ir.Softmaxed(node=inner, logit=logit, up=up):
            odds = lines.text(logit).atom if up else f"(-{lines.text(logit).atom})"
            each = formula(lines, inner)
            return Formula(Text(f"({odds}.detach().softmax(0) * {each.each().atom}).sum(0)", ATOM), each.sign)
        case ir.LogSumExp(terms=ids, dims=dims):
            made = total(lines, [(Fraction(1), j) for j in ids], 1)
            if dims and densities.may_be_infinite(lines.nodes, i):
                return Formula(Text(f"{'log_total(' * dims}{made.text}{')' * dims}", ATOM))
            return Formula(Text(f"({made.text}){'.logsumexp(0)' * dims}", ATOM) if dims else made)
        case ir.LogMixture(branches=branches):
            logs = [assigned(lines, "log_branch", [(Fraction(1), j)], 1) for _, j in branches]
            *first, last = (f"math.log({number(float(w))}) + {log}" for (w, _), log in zip(branches, logs, strict=True))
            added = "log_either" if densities.may_be_infinite(lines.nodes, i) else "torch.logaddexp"
            for each in reversed(first):
                last = f"{added}({each}, {last})"
            return Formula(Text(last, ATOM))
        case ir.ScoreFunction():
            return _score_function(lines, node)
        case ir.MomentKL():
            return _moments(lines, node)
        case ir.GradientNorm():
            return _gradient_norm(lines, node)
        case _:
            raise AssertionError(f"no term is a {type(node).__name__}")


def assigned(lines: Lines, name: str, parts: Parts, sign: int) -> str:
    """The name that sign * (sum of parts) is assigned to, once; a part a line where it is long."""
    key = (name, tuple(parts))
    found = lines.names.of(key, name)
    if key in lines.assigned:
        return found
    lines.assigned.add(key)
    rows = [total(lines, [part], sign).text for part in parts]
    joined = rows[0] + "".join(f" - {r[1:]}" if r.startswith("-") else f" + {r}" for r in rows[1:])
    if len(joined) <= 80:
        lines.lines.append(f"{found} = {joined}")
    else:
        split = [rows[0], *(f"- {r[1:]}" if r.startswith("-") else f"+ {r}" for r in rows[1:])]
        lines.lines += [f"{found} = (", *(f"    {r}" for r in split), ")"]
    return found


def total(lines: Lines, parts: Parts, sign: int) -> Text:
    """sign * (sum of coefficient * node), each summed over its event."""
    text = ""
    for coefficient, i in parts:
        found = formula(lines, i)
        weight = sign * coefficient * found.sign
        made = found.each()
        size = abs(weight)
        shown = made if size == 1 else Text(f"{number(float(size))} * {made.factor}", PRODUCT)
        body = shown.first if weight > 0 or shown.rank > SUM else f"({shown.text})"
        text += (" - " if weight < 0 else " + ") + body if text else ("-" if weight < 0 else "") + body
    return Text(text, SUM)


def _weighted(lines: Lines, node: ir.Weighted) -> Formula:
    """Probabilities times a formula, summed over the leading dimensions they enumerate."""
    sg = ".detach()" if node.detached else ""
    probabilities = [probability(lines, i) + sg for i in node.probabilities]
    inner = formula(lines, node.node)
    each = inner.each()
    shared = lines.uses.get(node.node, 0) > 1 and not isinstance(lines.nodes[node.node], ir.Score)
    if shared or len(each.text) > LONG:
        key = ("weighted", node.node)
        name = lines.names.of(key, "each")
        if key not in lines.assigned:
            lines.assigned.add(key)
            lines.lines.append(f"{name} = {each.text}")
        each = Text(name, ATOM)
    text = " * ".join([*probabilities, each.atom])
    if densities.may_be_infinite(lines.nodes, node.node):
        text = f"counted({' * '.join(probabilities)}, {each.text})"
    return Formula(Text(f"({text}){'.sum(0)' * node.sums}", ATOM), inner.sign)


def probability(lines: Lines, i: ir.Id) -> str:
    node = lines.nodes[i]
    if isinstance(node, ir.Responsibility):
        return lines.text(i).atom
    assert isinstance(node, ir.LogProb)
    bernoulli = node.density.family == "Bernoulli" and node.density.parameters[0][0] == "logits"
    if bernoulli and node.fixed is not None:
        logit = lines.text(node.density.parameters[0][1])
        return f"{logit.atom}.sigmoid()" if node.fixed == 1 else f"(-{logit.atom}).sigmoid()"
    found = formula(lines, i)
    each = found.each()
    return f"{each.atom}.exp()" if found.sign > 0 else f"(-{each.atom}).exp()"


def _score_function(lines: Lines, node: ir.ScoreFunction) -> Formula:
    """cost + (log p - sg log p) sg(cost - baseline): its value, the score function's gradient (Williams 1992).

    Without baseline for a global: what the other data cost hangs on the same draw.
    """
    one = Fraction(1)
    cost = assigned(lines, "cost", node.terms, 1) if node.terms else ""
    if node.over_n:
        shared = over_n(lines, Text(assigned(lines, "cost_once", node.over_n, 1), ATOM), node.sources)
        whole = lines.names.of(("whole", node), "whole_cost")
        lines.lines.append(f"{whole} = {cost} + {shared}" if cost else f"{whole} = {shared}")
        cost = whole
    text = cost
    if node.log_probs:
        log_p = assigned(lines, "log_p", [(one, i) for i in node.log_probs], 1)
        text += f" + ({log_p} - {log_p}.detach()) * advantage({cost}.detach())"
    if node.once:
        log_p = assigned(lines, "log_p_once", [(one, i) for i in node.once], 1)
        text += f" + ({log_p} - {log_p}.detach()) * {cost}.detach()"
    return Formula(Text(text, SUM))


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


def _moments(lines: Lines, node: ir.MomentKL) -> Formula:
    """KL[N(mean, var) || N(0, 1)] = sum of (mean^2 + var - 1 - log var)/2 over the batch's own moments."""
    z = lines.text(node.node)
    var, mean = (lines.names.of((word, node), f"{z.text}_{word}") for word in ("var", "mean"))
    lines.lines.append(f"{var}, {mean} = moments({z.text})")
    inner = f"0.5 * ({mean}.square() + {var} - 1 - {var}.log())"
    return Formula(Text(inner, PRODUCT), ndim=len(node.space.shape), whole=True)


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
