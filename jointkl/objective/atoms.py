"""Atoms as nodes: log-densities, divergences in closed form, critics, penalties, and Free laws at their optimum."""

from __future__ import annotations

import math
from fractions import Fraction

from jointkl.derivation.expr import (
    ClosedCE,
    ClosedKL,
    Expectation,
    LogFactor,
    Logit,
    LogMarginal,
    LogSigmoid,
    LogWeight,
    Moments,
    OldDistance,
    Penalty,
)
from jointkl.derivation.expr import Term as AtomTerm
from jointkl.objective import ir
from jointkl.objective.builder import Builder, Scope, ordered
from jointkl.objective.walk import upstream
from jointkl.semantics.model import Factor, Free, VariableRef
from jointkl.semantics.spaces import Space

ONE = Fraction(1)
BINARY = Space("finite", (), (0, 1))
MOMENTS: tuple[ir.Operation, ir.Operation] = ("mean", "variance")


def probability(b: Builder, f: Factor, variable: str, scope: Scope) -> ir.Id:
    """Of what an entry draws, or of each value that it enumerates."""
    if isinstance(b.model.laws[f.law].body, Free):
        return responsibility(b, b.free[f.law], scope)
    return b.exp(b.add(ir.LogProb(b.density_of(f, scope), scope.drawn[variable])))


def responsibility(b: Builder, entry: Expectation, scope: Scope, *, log: bool = False) -> ir.Id:
    """A Free law at its optimum: softmax of -(its terms), which is taken without gradient; or its logarithm."""
    assert entry.solved is not None
    logits = scores(b, entry, scope)
    dims = ordered(b.dims(b.variable(entry.solved.outputs[0], scope)))
    return b.stopped(b.add(ir.Over("log_softmax" if log else "softmax", logits, dims)))


def scores(b: Builder, entry: Expectation, scope: Scope) -> ir.Id:
    """-(its terms), the logits of a Free law."""
    return b.add(ir.Total(tuple((-t.coefficient, atom(b, t, scope)) for t in entry.terms), "score"))


def atom(b: Builder, t: AtomTerm, scope: Scope) -> ir.Id:
    match t.atom:
        case LogFactor(factor=f) if isinstance(b.model.laws[f.law].body, Free):
            return responsibility(b, b.free[f.law], scope, log=True)
        case LogFactor(factor=f, value=value):
            return _log_factor(b, t, f, value, scope)
        case ClosedKL(left=left, right=right):
            return b.add(ir.KL(b.density_of(left, scope), b.density_of(right, scope)))
        case ClosedCE(left=left, right=right):
            return b.add(ir.KL(b.density_of(left, scope), b.density_of(right, scope), cross=True))
        case OldDistance(factor=f):
            law = b.model.laws[f.law]
            new, before = (b.point(law, f, scope, old) for old in (False, True))
            n = len(b.model.space(f.outputs[0]).shape)
            apart = b.add(ir.Apply("-", (new, before), (n, n)))
            return b.add(ir.Apply("sum", (b.add(ir.Apply("square", (apart,), (n,))),), (n,)))
        case Logit():
            return _logit(b, t.atom, scope)
        case LogSigmoid(logit=logit, up=up):
            drawn = _detached(b, scope) if t.detached else scope
            label = ir.Density("Bernoulli", (("logits", _logit(b, logit, drawn)),), BINARY, (0,))
            return b.add(ir.LogProb(label, None, int(up)))
        case Moments(variable=v):
            return _moments(b, b.variable(v, scope), b.model.space(v))
        case Penalty(factor=f):
            return _penalty(b, f, scope)
        case LogMarginal():
            return _log_marginal(b, t.atom, _detached(b, scope) if t.detached else scope)
        case LogWeight(share=share):
            return b.number(math.log(share))


def _moments(b: Builder, i: ir.Id, space: Space) -> ir.Id:
    """KL of the Gaussian with the batch's moments, each number by itself, from N(0, 1)."""
    mean, variance = (b.add(ir.Over(what, i, (ir.DATA,))) for what in MOMENTS)
    n = len(space.shape)
    scale = b.add(ir.Apply("sqrt", (variance,), (n,)))
    fitted = ir.Density("Normal", (("loc", mean), ("scale", scale)), space, (n, n))
    standard = (("loc", b.number(0.0)), ("scale", b.number(1.0)))
    return b.add(ir.KL(fitted, ir.Density("Normal", standard, space, (0, 0))))


def _penalty(b: Builder, f: Factor, scope: Scope) -> ir.Id:
    """The classifier's logit at leaves, and its gradient there: at every value of what is enumerated beside."""
    space = b.model.space
    givens = {v: b.variable(v, scope) for v in f.givens}
    beside = [i for v, i in givens.items() if not space(v).shape and b.dims(i) - {ir.DATA}]
    leaves: dict[str, ir.Id] = {}
    for v, i in givens.items():
        if space(v).kind != "finite":
            n = len(space(v).shape)
            for j in beside if not b.dims(i) - {ir.DATA} else ():
                i = b.add(ir.Apply("+", (i, b.add(ir.Apply("*", (b.number(0.0), j), (0, 0)))), (n, 0)))
            leaves[v] = b.add(ir.GradientTap(i, "asked"))
    inner = Scope(scope.entry, {**scope.drawn, **leaves}, scope.makers)
    logit = log_odds(b, b.density_of(f, inner))
    reached = upstream(b.nodes, logit)
    sizes = tuple((i, len(space(v).shape)) for v, i in leaves.items() if i in reached)
    return b.add(ir.GradientNorm(logit, sizes)) if sizes else b.number(0.0)


def log_odds(b: Builder, d: ir.Density) -> ir.Id:
    """The logit of a classifier of two labels: log p(second) - log p(first)."""
    ((name, given),) = d.parameters
    if d.family == "Categorical":
        second, first = (b.add(ir.Index(given, (b.number(place),))) for place in (1.0, 0.0))
    elif name == "logits":
        return given
    else:
        second, first = given, b.applied("-", (b.number(1.0), given), (0, 0))
    if name == "probs":
        second, first = (b.applied("log", (i,), (0,)) for i in (second, first))
    return b.applied("-", (second, first), (0, 0))


def _logit(b: Builder, logit: Logit, scope: Scope) -> ir.Id:
    values = logit.values or tuple(VariableRef(v) for v in logit.inputs)
    names: dict[str, str | int] = {v: v for v in logit.inputs}
    return b.add(ir.Net(logit.critic, tuple(b.value(v, names, scope, old=False) for v in values)))


def _log_marginal(b: Builder, m: LogMarginal, scope: Scope) -> ir.Id:
    """A marginal over finite variables, or a mixture of such: log of the sum of share * branch."""
    branches = [(share, _log_sum(b, m, factors, scope)) for share, factors in m.branches]
    if len(branches) == 1:
        return branches[0][1]
    named = [(share, b.add(ir.Total(((ONE, i),), "log_branch"))) for share, i in branches]
    logs = [b.add(ir.Total(((ONE, b.log(float(share))), (ONE, i)))) for share, i in named]
    return b.add(ir.Apply("logaddexp", tuple(logs), (0,) * len(logs)))


def _log_sum(b: Builder, m: LogMarginal, factors: tuple[Factor, ...], scope: Scope) -> ir.Id:
    """A product summed over its hidden variables, each along a dimension of its own."""
    hidden = sorted(v for f in factors for v in f.outputs if v in m.hidden)
    every = {v: b.every(v, scope.entry.enumerated) for v in hidden}
    inner = Scope(scope.entry, {**scope.drawn, **every}, scope.makers)
    terms = tuple(_log_factor(b, AtomTerm(ONE, LogFactor(f)), f, None, inner) for f in factors)
    if len(terms) == 1 and not hidden:
        return terms[0]
    product = b.add(ir.Total(tuple((ONE, i) for i in terms)))
    return b.add(ir.Over("logsumexp", product, ordered(b.dims(*every.values())))) if hidden else product


def _log_factor(b: Builder, t: AtomTerm, f: Factor, value: int | None, scope: Scope) -> ir.Id:
    if t.detached:
        scope = _detached(b, scope)
    density = b.density_of(f, scope)
    if value is not None:
        place = b.model.space(f.outputs[0]).values.index(value)
        return b.add(ir.LogProb(density, None, place))
    drawn = b.variable(f.outputs[0], scope)
    known = b.constant(drawn)
    return b.add(ir.LogProb(density, drawn) if known is None else ir.LogProb(density, None, int(known)))


def _detached(b: Builder, scope: Scope) -> Scope:
    """The same draws without gradient: sg."""
    drawn = {v: i if _is_still(b, i) else b.stopped(i) for v, i in scope.drawn.items()}
    return Scope(scope.entry, drawn, scope.makers)


def _is_still(b: Builder, i: ir.Id) -> bool:
    node = b.nodes[i]
    return isinstance(node, ir.Given) or (isinstance(node, ir.Draw) and node.given)
