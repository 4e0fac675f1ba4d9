"""An entry's terms as nodes: weighed, enumerated, bounded by copies or scored."""

from __future__ import annotations

from fractions import Fraction

from jointkl.derivation.expr import Apply, Expectation, LogFactor, Scale, layers
from jointkl.derivation.expr import Term as AtomTerm
from jointkl.exposition.notation import total
from jointkl.objective import ir
from jointkl.objective.atoms import atom, log_odds, probability
from jointkl.objective.builder import Builder, Scope, ordered

ONE = Fraction(1)


def terms_of(b: Builder, entry: Expectation) -> list[ir.Term]:
    """An entry's terms: each by itself, or together where they are bounded, weighted by copies or scored."""
    scope = b.scope(entry)
    hinge = entry.hinge.index if entry.hinge else None
    if entry.copies and entry.odds is None:
        return _bound(b, entry, scope, hinge)
    if not entry.linear:
        return [_function(b, entry, scope, hinge)]
    scored = tuple(t for t in entry.terms if t.estimator == "score function")
    made = [_term(b, entry, t, scope, hinge) for t in entry.terms if t not in scored]
    if scored:
        node = _score_function(b, entry, scored, scope)
        made.append(ir.Term(entry.weight, node, total(scored), hinge=hinge, span=scored[0].span))
    return made


def _function(b: Builder, entry: Expectation, scope: Scope, hinge: int | None) -> ir.Term:
    """What is taken of the sum of all terms, from the inside out."""
    node, factor = b.add(ir.Total(tuple((t.coefficient, atom(b, t, scope)) for t in entry.terms))), ONE
    for part in reversed(tuple(layers(entry.body))):
        if isinstance(part, Apply):
            node = b.applied(part.function, (node,), (0,))
        elif isinstance(part, Scale):
            factor *= part.by
    node = _weighed(b, entry, node, scope)
    return ir.Term(entry.weight * factor, node, total(entry.terms), hinge=hinge, span=entry.span)


def _term(b: Builder, entry: Expectation, t: AtomTerm, scope: Scope, hinge: int | None) -> ir.Term:
    node = atom(b, t, scope)
    if entry.odds is not None:
        node = _weighed_copies(b, node, entry.odds, entry.copies, scope)
    node = _weighed(b, entry, node, scope, t.detached)
    sources = entry.sources if t.over_n else ()
    return ir.Term(entry.weight * t.coefficient, node, total((t,)), t.over_n, sources, hinge, span=t.span)


def _weighed(b: Builder, entry: Expectation, node: ir.Id, scope: Scope, detached: bool = False) -> ir.Id:
    """A node times the classifiers that weigh it, summed over what is enumerated."""
    weighing = [b.exp(atom(b, AtomTerm(ONE, w), scope)) for w in entry.weights]
    reached = b.dims(node, *weighing)
    probabilities: list[ir.Id] = []
    for v in reversed(entry.enumerated):  # a probability depends on what its variable is given
        if v in scope.drawn and b.dims(scope.drawn[v]) <= reached:
            probabilities.append(probability(b, scope.makers[v], v, scope))
            reached |= b.dims(probabilities[-1])
    probabilities += weighing
    if not probabilities:
        return node
    weights = map(b.stopped, probabilities) if detached else probabilities
    return _expected(b, (*weights, node))


def _expected(b: Builder, factors: tuple[ir.Id, ...]) -> ir.Id:
    """A product summed over all but the data."""
    product = b.add(ir.Product(factors))
    summed = b.dims(product) - {ir.DATA}
    return b.add(ir.Over("sum", product, ordered(summed))) if summed else product


def _weighed_copies(b: Builder, node: ir.Id, weighing: LogFactor, count: int, scope: Scope) -> ir.Id:
    """A node weighed over its copies by the softmax of a classifier's log odds."""
    odds = log_odds(b, b.density_of(weighing.factor, scope))
    if weighing.value != b.model.space(weighing.factor.outputs[0]).values[1]:
        odds = b.add(ir.Apply("neg", (odds,), (0,)))
    copies = (ir.copies(count),)
    weights = b.add(ir.Over("softmax", b.stopped(odds), copies))
    return b.add(ir.Over("sum", b.add(ir.Product((weights, node))), copies))


def _bound(b: Builder, entry: Expectation, scope: Scope, hinge: int | None) -> list[ir.Term]:
    """-log mean_K exp(-sum); a term of globals, of which there are no copies, stands beside it."""
    inside = tuple(t for t in entry.terms if not t.over_n)
    weights = b.add(ir.Total(tuple((-t.coefficient, atom(b, t, scope)) for t in inside), "log_w"))
    summed = b.add(ir.Over("logsumexp", weights, (ir.copies(entry.copies),)))
    bound = b.add(ir.Total(((ONE, b.log(float(entry.copies))), (-ONE, summed))))
    text = f"-log mean_{entry.copies} exp(-({total(inside)}))"
    beside = [_term(b, entry, t, scope, hinge) for t in entry.terms if t.over_n]
    return [ir.Term(entry.weight, bound, text, hinge=hinge, span=inside[0].span), *beside]


def _score_function(b: Builder, entry: Expectation, scored: tuple[AtomTerm, ...], scope: Scope) -> ir.Id:
    """cost + (log p - sg log p) sg(cost - baseline): its value, the score function's gradient (Williams 1992), with
    the mean of the other data's costs as baseline.

    Without baseline for a global: what the other data cost hangs on the same draw.
    """
    local, over_n = (tuple(t for t in scored if t.over_n is o) for o in (False, True))
    cost = _cost(b, local, scope, "cost") if local else None
    if over_n:
        counted = b.add(ir.DataSize(entry.sources))
        shared = b.add(ir.Apply("/", (_cost(b, over_n, scope, "cost_once"), counted), (0, 0)))
        whole = (shared,) if cost is None else (cost, shared)
        cost = b.add(ir.Total(tuple((ONE, i) for i in whole), "whole_cost"))
    assert cost is not None
    drawn = [f for f in entry.path if not set(f.outputs).isdisjoint(entry.scored)]
    logs = [(f, b.add(ir.LogProb(b.density_of(f, scope), scope.drawn[f.outputs[0]]))) for f in drawn]
    is_global = {f: b.model.variable(f.outputs[0]).is_global for f in drawn}
    parts = [cost]
    for name, once in (("log_p", False), ("log_p_once", True)):
        if own := tuple((ONE, i) for f, i in logs if is_global[f] is once):
            log_p = b.add(ir.Total(own, name))
            change = b.add(ir.Total(((ONE, log_p), (-ONE, b.stopped(log_p)))))
            paid = b.stopped(cost)
            paid = paid if once else b.add(ir.Over("advantage", paid, (ir.DATA,)))
            parts.append(b.add(ir.Apply("*", (change, paid), (0, 0))))
    return b.add(ir.Total(tuple((ONE, i) for i in parts)))


def _cost(b: Builder, terms: tuple[AtomTerm, ...], scope: Scope, name: str) -> ir.Id:
    return b.add(ir.Total(tuple((t.coefficient, atom(b, t, scope)) for t in terms), name))
