"""An entry's atoms as nodes: draws, densities and values, each written once.

Equal nodes are one node: a draw or a network's output that several terms use is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from jointkl.derivation.expr import (
    Apply,
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
    Scale,
    Sum,
    layers,
)
from jointkl.derivation.expr import Term as AtomTerm
from jointkl.derivation.facts import ancestors
from jointkl.derivation.shifts import keys
from jointkl.exposition.notation import total
from jointkl.objective import ir
from jointkl.objective.layout import NONE, Dims, Layout, extend
from jointkl.objective.walk import Line, upstream
from jointkl.semantics.functions import of_numbers
from jointkl.semantics.model import (
    Constant,
    Dirac,
    Distribution,
    Evidence,
    Factor,
    Free,
    Indexed,
    Joint,
    Law,
    Model,
    NetCall,
    Operation,
    ParameterRef,
    Value,
    VariableRef,
    base,
)
from jointkl.semantics.shapes import Shape, shape
from jointkl.semantics.spaces import Space

LOCATION_SCALE: frozenset[str] = frozenset(
    {"Normal", "Laplace", "Gumbel", "Cauchy", "Logistic", "SoftLaplace", "LogNormal"}
)
"""Families drawn as location + scale * standard noise (LogNormal: its exponential)."""


Solutions = Mapping[str, Expectation]
"""What determines each Free law, by its key."""


@dataclass(frozen=True, slots=True)
class Scope:
    """An entry's variables while its terms are built: drawn when first asked for, its label a constant."""

    entry: Expectation
    drawn: dict[str, ir.Id]
    makers: Mapping[str, Factor]


BINARY = Space("finite", (), (0, 1))
ONE = Fraction(1)
MOMENTS: tuple[ir.Operation, ir.Operation] = ("mean", "variance")

LAW = Expectation(Fraction(1), (), Sum(()))
"""The entry of a law taken by itself: its variables are arguments."""


@dataclass(slots=True)
class Builder:
    """Appends nodes; an equal node is not appended twice."""

    model: Model
    free: Solutions = field(default_factory=dict[str, Expectation])
    line: Line = field(default_factory=Line)
    laid: list[Layout] = field(default_factory=list[Layout])

    def dims(self, *nodes: ir.Id) -> Dims:
        """The dimensions of several nodes' values together."""
        extend(self.model, self.nodes, self.laid)
        return NONE.union(*(self.laid[i].dims for i in nodes))

    def shape(self, i: ir.Id) -> Shape:
        """Of a value's event."""
        extend(self.model, self.nodes, self.laid)
        return self.laid[i].shape

    @property
    def nodes(self) -> list[ir.Node]:
        return self.line.nodes

    def add(self, node: ir.Node) -> ir.Id:
        return self.line.add(node)

    def scope(self, entry: Expectation) -> Scope:
        """The scope of an entry, its path drawn in sampling order as far as its terms need it."""
        scope = Scope(entry, {}, {v: f for f in entry.path for v in f.outputs})
        used = {v for t in entry.terms for v in t.atom.variables}
        needed = [(f, v) for f in ancestors(entry.path, used) for v in f.outputs]
        for v in reversed(entry.enumerated):  # the last of them innermost, whatever is drawn first
            if any(v == drawn for _, drawn in needed):
                scope.drawn[v] = self.every(v)
        for f, v in needed:
            if v not in scope.drawn:
                scope.drawn[v] = self.draw(f, v, scope)
        return scope

    def every(self, variable: str, beside: Collection[str] = ()) -> ir.Id:
        """All values of a discrete variable, along a dimension called as it, but for names that are taken `beside`."""
        space = self.model.space(variable)
        count = len(space.values) if space.kind == "finite" else 2**space.size
        name = variable
        while name in beside:
            name += "'"
        return self.add(ir.Every(variable, space, ir.Dim(name, count)))

    # --- terms

    def terms(self, entry: Expectation) -> list[ir.Term]:
        """An entry's terms: each by itself, or together where they are bounded, weighted by copies or scored."""
        scope = self.scope(entry)
        hinge = entry.hinge.index if entry.hinge else None
        if entry.copies and entry.odds is None:
            return self._bound(entry, scope, hinge)
        if not entry.linear:
            return [self._function(entry, scope, hinge)]
        scored = tuple(t for t in entry.terms if t.estimator == "score function")
        made = [self._term(entry, t, scope, hinge) for t in entry.terms if t not in scored]
        if scored:
            node = self._score_function(entry, scored, scope)
            made.append(ir.Term(entry.weight, node, total(scored), hinge=hinge, span=scored[0].span))
        return made

    def _function(self, entry: Expectation, scope: Scope, hinge: int | None) -> ir.Term:
        """What is taken of the sum of all terms, from the inside out."""
        node, factor = self.add(ir.Total(tuple((t.coefficient, self.atom(t, scope)) for t in entry.terms))), ONE
        for part in reversed(tuple(layers(entry.body))):
            if isinstance(part, Apply):
                node = self._applied(part.function, (node,), (0,))
            elif isinstance(part, Scale):
                factor *= part.by
        node = self._weighed(entry, node, scope)
        return ir.Term(entry.weight * factor, node, total(entry.terms), hinge=hinge, span=entry.span)

    def _term(self, entry: Expectation, t: AtomTerm, scope: Scope, hinge: int | None) -> ir.Term:
        node = self.atom(t, scope)
        if entry.odds is not None:
            node = self._weighed_copies(node, entry.odds, entry.copies, scope)
        node = self._weighed(entry, node, scope, t.detached)
        sources = entry.sources if t.over_n else ()
        return ir.Term(entry.weight * t.coefficient, node, total((t,)), t.over_n, sources, hinge, span=t.span)

    def _weighed(self, entry: Expectation, node: ir.Id, scope: Scope, detached: bool = False) -> ir.Id:
        """A node times the classifiers that weigh it, summed over what is enumerated."""
        weighing = [self.exp(self.atom(AtomTerm(ONE, w), scope)) for w in entry.weights]
        reached = self.dims(node, *weighing)
        probabilities: list[ir.Id] = []
        for v in reversed(entry.enumerated):  # a probability depends on what its variable is given
            if v in scope.drawn and self.dims(scope.drawn[v]) <= reached:
                probabilities.append(self.probability(scope.makers[v], v, scope))
                reached |= self.dims(probabilities[-1])
        probabilities += weighing
        if not probabilities:
            return node
        weights = map(self.stopped, probabilities) if detached else probabilities
        return self._expected((*weights, node))

    def _expected(self, factors: tuple[ir.Id, ...]) -> ir.Id:
        """A product summed over all but the data."""
        product = self.add(ir.Product(factors))
        summed = self.dims(product) - {ir.DATA}
        return self.add(ir.Over("sum", product, _ordered(summed))) if summed else product

    def _weighed_copies(self, node: ir.Id, weighing: LogFactor, count: int, scope: Scope) -> ir.Id:
        """A node weighed over its copies by the softmax of a classifier's log odds."""
        odds = self.log_odds(self._density_of(weighing.factor, scope))
        if weighing.value != self.model.space(weighing.factor.outputs[0]).values[1]:
            odds = self.add(ir.Apply("neg", (odds,), (0,)))
        copies = (ir.copies(count),)
        weights = self.add(ir.Over("softmax", self.stopped(odds), copies))
        return self.add(ir.Over("sum", self.add(ir.Product((weights, node))), copies))

    def _bound(self, entry: Expectation, scope: Scope, hinge: int | None) -> list[ir.Term]:
        """-log mean_K exp(-sum); a term of globals, of which there are no copies, stands beside it."""
        inside = tuple(t for t in entry.terms if not t.over_n)
        weights = self.add(ir.Total(tuple((-t.coefficient, self.atom(t, scope)) for t in inside), "log_w"))
        summed = self.add(ir.Over("logsumexp", weights, (ir.copies(entry.copies),)))
        bound = self.add(ir.Total(((ONE, self.log(float(entry.copies))), (-ONE, summed))))
        text = f"-log mean_{entry.copies} exp(-({total(inside)}))"
        beside = [self._term(entry, t, scope, hinge) for t in entry.terms if t.over_n]
        return [ir.Term(entry.weight, bound, text, hinge=hinge, span=inside[0].span), *beside]

    def _score_function(self, entry: Expectation, scored: tuple[AtomTerm, ...], scope: Scope) -> ir.Id:
        """cost + (log p - sg log p) sg(cost - baseline): its value, the score function's gradient (Williams 1992), with
        the mean of the other data's costs as baseline.

        Without baseline for a global: what the other data cost hangs on the same draw.
        """
        local, over_n = (tuple(t for t in scored if t.over_n is o) for o in (False, True))
        cost = self._cost(local, scope, "cost") if local else None
        if over_n:
            counted = self.add(ir.DataSize(entry.sources))
            shared = self.add(ir.Apply("/", (self._cost(over_n, scope, "cost_once"), counted), (0, 0)))
            whole = (shared,) if cost is None else (cost, shared)
            cost = self.add(ir.Total(tuple((ONE, i) for i in whole), "whole_cost"))
        assert cost is not None
        drawn = [f for f in entry.path if not set(f.outputs).isdisjoint(entry.scored)]
        logs = [(f, self.add(ir.LogProb(self._density_of(f, scope), scope.drawn[f.outputs[0]]))) for f in drawn]
        is_global = {f: self.model.variable(f.outputs[0]).is_global for f in drawn}
        parts = [cost]
        for name, once in (("log_p", False), ("log_p_once", True)):
            if own := tuple((ONE, i) for f, i in logs if is_global[f] is once):
                log_p = self.add(ir.Total(own, name))
                change = self.add(ir.Total(((ONE, log_p), (-ONE, self.stopped(log_p)))))
                paid = self.stopped(cost)
                paid = paid if once else self.add(ir.Over("advantage", paid, (ir.DATA,)))
                parts.append(self.add(ir.Apply("*", (change, paid), (0, 0))))
        return self.add(ir.Total(tuple((ONE, i) for i in parts)))

    def _cost(self, terms: tuple[AtomTerm, ...], scope: Scope, name: str) -> ir.Id:
        return self.add(ir.Total(tuple((t.coefficient, self.atom(t, scope)) for t in terms), name))

    def stopped(self, i: ir.Id) -> ir.Id:
        return self.add(ir.GradientTap(i))

    def exp(self, i: ir.Id) -> ir.Id:
        return self.add(ir.Apply("exp", (i,), (0,)))

    def log(self, value: float) -> ir.Id:
        return self.add(ir.Apply("log", (self.number(value),), (0,)))

    def probability(self, f: Factor, variable: str, scope: Scope) -> ir.Id:
        if isinstance(self.model.laws[f.law].body, Free):
            return self.responsibility(self.free[f.law], scope)
        return self.exp(self.add(ir.LogProb(self._density_of(f, scope), scope.drawn[variable])))

    def responsibility(self, entry: Expectation, scope: Scope, *, log: bool = False) -> ir.Id:
        """A Free law at its optimum: softmax of -(its terms), which is taken without gradient; or its logarithm."""
        assert entry.solved is not None
        scores = self.scores(entry, scope)
        dims = _ordered(self.dims(self.variable(entry.solved.outputs[0], scope)))
        return self.stopped(self.add(ir.Over("log_softmax" if log else "softmax", scores, dims)))

    def scores(self, entry: Expectation, scope: Scope) -> ir.Id:
        """-(its terms), the logits of a Free law."""
        return self.add(ir.Total(tuple((-t.coefficient, self.atom(t, scope)) for t in entry.terms), "score"))

    def law(self, f: Factor) -> ir.Density | ir.Id:
        """The distribution of a law as a function of its givens; of a Dirac the value."""
        law = self.model.laws[f.law]
        scope = Scope(LAW, {}, {})
        if isinstance(law.body, Dirac):
            return self.point(law, f, scope, f.old)
        return self.density(law, f, scope)

    def point(self, law: Law, f: Factor, scope: Scope, old: bool) -> ir.Id:
        """Where a Dirac stands: a tensor of its variable's shape."""
        assert isinstance(law.body, Dirac)
        node = self.value(law.body.value, law.bound(f), scope, old)
        shape = self.model.space(f.outputs[0]).shape
        filled = self.shape(node) == shape and self._number(node) is None
        return node if filled else self.add(ir.Filled(node, shape))

    # --- draws

    def draw(self, f: Factor, variable: str, scope: Scope) -> ir.Id:
        law = self.model.laws[f.law]
        if variable in scope.entry.enumerated:
            return self.every(variable)
        match law.body:
            case Evidence():
                return self.add(self._given(f, variable))
            case Dirac():
                return self.add(ir.Value(variable, self.point(law, f, scope, f.old), law.label))
            case Distribution():
                drawn = self._sampled(law, f, variable, scope)
                return self.stopped(drawn) if variable in scope.entry.scored else drawn
            case Free() | Joint():
                raise AssertionError(f"{law.text} cannot be on a lowered path")

    def _given(self, f: Factor, variable: str) -> ir.Given:
        every = keys(self.model, f)
        key = every[variable]
        own = tuple(every.values()) if f.shift else ()
        named = base(variable) + key[len(base(key)) :]
        return ir.Given(key, named, self.model.space(named), f.shift, own)

    def _sampled(self, law: Law, f: Factor, variable: str, scope: Scope) -> ir.Id:
        density = self.density(law, f, scope)
        assert isinstance(law.body, Distribution)
        space = self.model.space(variable)
        once, count = self.model.variable(variable).is_global, scope.entry.copies
        dims = () if once else (ir.copies(count), ir.DATA) if count else (ir.DATA,)
        fixed = all(isinstance(v, Constant) for _, v in law.body.parameters)
        if fixed and not f.arguments:
            return self.add(ir.Draw(self._root_key(law, variable), variable, density, dims))
        key = f"{variable}.noise"
        parameters = dict(density.parameters)
        if density.family == "MultivariateNormal" and "scale_tril" in parameters:
            noise = self._noise(key, variable, ir.Density("Normal", (), space), dims)
            spread = self.add(ir.Apply("@", (parameters["scale_tril"], noise), (2, 1)))
            return self._moved(law, variable, parameters["loc"], spread, (density.ndim[0], 1))
        if density.family in LOCATION_SCALE:
            family = "Normal" if density.family == "LogNormal" else density.family
            noise = self._noise(key, variable, ir.Density(family, (), space), dims)
            n = len(space.shape)
            spread = self._scaled(parameters["scale"], noise, (density.ndim[1], n))
            if density.family == "LogNormal":
                moved = self.add(ir.Apply("+", (parameters["loc"], spread), (density.ndim[0], n)))
                return self.add(ir.Value(variable, self.add(ir.Apply("exp", (moved,), (n,))), law.label))
            return self._moved(law, variable, parameters["loc"], spread, (density.ndim[0], n))
        return self.add(ir.Draw(key, variable, density, dims, given=False))

    def _noise(self, key: str, variable: str, density: ir.Density, dims: tuple[ir.Dim, ...]) -> ir.Id:
        return self.add(ir.Draw(key, variable, density, dims, noise=True))

    def _scaled(self, scale: ir.Id, noise: ir.Id, ndim: tuple[int, int]) -> ir.Id:
        return noise if self.nodes[scale] == ir.Constant(1.0) else self.add(ir.Apply("*", (scale, noise), ndim))

    def _moved(self, law: Law, variable: str, loc: ir.Id, spread: ir.Id, ndim: tuple[int, int]) -> ir.Id:
        return self.add(ir.Value(variable, self.add(ir.Apply("+", (loc, spread), ndim)), law.label))

    def _root_key(self, law: Law, variable: str) -> str:
        """A root's key is its variable; after the label where evidence gives it too, after the law where that evidence
        has this label."""
        labels = [other.label for other in self.model.evidence if base(variable) in other.outputs]
        return f"{law.key if law.label in labels else law.label}.{variable}" if labels else variable

    # --- atoms

    def atom(self, t: AtomTerm, scope: Scope) -> ir.Id:
        match t.atom:
            case LogFactor(factor=f) if isinstance(self.model.laws[f.law].body, Free):
                return self.responsibility(self.free[f.law], scope, log=True)
            case LogFactor(factor=f, value=value):
                return self._log_factor(t, f, value, scope)
            case ClosedKL(left=left, right=right):
                return self.add(ir.KL(self._density_of(left, scope), self._density_of(right, scope)))
            case ClosedCE(left=left, right=right):
                return self.add(ir.KL(self._density_of(left, scope), self._density_of(right, scope), cross=True))
            case OldDistance(factor=f):
                law = self.model.laws[f.law]
                new, before = (self.point(law, f, scope, old) for old in (False, True))
                n = len(self.model.space(f.outputs[0]).shape)
                apart = self.add(ir.Apply("-", (new, before), (n, n)))
                return self.add(ir.Apply("sum", (self.add(ir.Apply("square", (apart,), (n,))),), (n,)))
            case Logit():
                return self._logit(t.atom, scope)
            case LogSigmoid(logit=logit, up=up):
                drawn = self._detached(scope) if t.detached else scope
                label = ir.Density("Bernoulli", (("logits", self._logit(logit, drawn)),), BINARY, (0,))
                return self.add(ir.LogProb(label, None, int(up)))
            case Moments(variable=v):
                return self._moments(self.variable(v, scope), self.model.space(v))
            case Penalty(factor=f):
                return self._penalty(f, scope)
            case LogMarginal():
                return self._log_marginal(t.atom, self._detached(scope) if t.detached else scope)
            case LogWeight(share=share):
                return self.number(math.log(share))

    def _moments(self, i: ir.Id, space: Space) -> ir.Id:
        """KL of the Gaussian with the batch's moments, each number by itself, from N(0, 1)."""
        mean, variance = (self.add(ir.Over(what, i, (ir.DATA,))) for what in MOMENTS)
        n = len(space.shape)
        scale = self.add(ir.Apply("sqrt", (variance,), (n,)))
        fitted = ir.Density("Normal", (("loc", mean), ("scale", scale)), space, (n, n))
        standard = (("loc", self.number(0.0)), ("scale", self.number(1.0)))
        return self.add(ir.KL(fitted, ir.Density("Normal", standard, space, (0, 0))))

    def _penalty(self, f: Factor, scope: Scope) -> ir.Id:
        """The classifier's logit at leaves, and its gradient there: at every value of what is enumerated beside."""
        space = self.model.space
        givens = {v: self.variable(v, scope) for v in f.givens}
        beside = [i for v, i in givens.items() if not space(v).shape and self.dims(i) - {ir.DATA}]
        leaves: dict[str, ir.Id] = {}
        for v, i in givens.items():
            if space(v).kind != "finite":
                n = len(space(v).shape)
                for j in beside if not self.dims(i) - {ir.DATA} else ():
                    i = self.add(ir.Apply("+", (i, self.add(ir.Apply("*", (self.number(0.0), j), (0, 0)))), (n, 0)))
                leaves[v] = self.add(ir.GradientTap(i, "asked"))
        inner = Scope(scope.entry, {**scope.drawn, **leaves}, scope.makers)
        logit = self.log_odds(self._density_of(f, inner))
        reached = upstream(self.nodes, logit)
        sizes = tuple((i, len(space(v).shape)) for v, i in leaves.items() if i in reached)
        return self.add(ir.GradientNorm(logit, sizes)) if sizes else self.number(0.0)

    def log_odds(self, d: ir.Density) -> ir.Id:
        """The logit of a classifier of two labels: log p(second) - log p(first)."""
        ((name, given),) = d.parameters
        if d.family == "Categorical":
            second, first = (self.add(ir.Index(given, (self.number(place),))) for place in (1.0, 0.0))
        elif name == "logits":
            return given
        else:
            second, first = given, self._applied("-", (self.number(1.0), given), (0, 0))
        if name == "probs":
            second, first = (self._applied("log", (i,), (0,)) for i in (second, first))
        return self._applied("-", (second, first), (0, 0))

    def number(self, value: float) -> ir.Id:
        return self.add(ir.Constant(value))

    def _logit(self, logit: Logit, scope: Scope) -> ir.Id:
        values = logit.values or tuple(VariableRef(v) for v in logit.inputs)
        names: dict[str, str | int] = {v: v for v in logit.inputs}
        return self.add(ir.Net(logit.critic, tuple(self.value(v, names, scope, old=False) for v in values)))

    def _log_marginal(self, m: LogMarginal, scope: Scope) -> ir.Id:
        """A marginal over finite variables, or a mixture of such: log of the sum of share * branch."""
        branches = [(share, self._log_sum(m, factors, scope)) for share, factors in m.branches]
        if len(branches) == 1:
            return branches[0][1]
        named = [(share, self.add(ir.Total(((ONE, i),), "log_branch"))) for share, i in branches]
        logs = [self.add(ir.Total(((ONE, self.log(float(share))), (ONE, i)))) for share, i in named]
        return self.add(ir.Apply("logaddexp", tuple(logs), (0,) * len(logs)))

    def _log_sum(self, m: LogMarginal, factors: tuple[Factor, ...], scope: Scope) -> ir.Id:
        """A product summed over its hidden variables, each along a dimension of its own."""
        hidden = sorted(v for f in factors for v in f.outputs if v in m.hidden)
        every = {v: self.every(v, scope.entry.enumerated) for v in hidden}
        inner = Scope(scope.entry, {**scope.drawn, **every}, scope.makers)
        terms = tuple(self._log_factor(AtomTerm(ONE, LogFactor(f)), f, None, inner) for f in factors)
        if len(terms) == 1 and not hidden:
            return terms[0]
        product = self.add(ir.Total(tuple((ONE, i) for i in terms)))
        return self.add(ir.Over("logsumexp", product, _ordered(self.dims(*every.values())))) if hidden else product

    def _log_factor(self, t: AtomTerm, f: Factor, value: int | None, scope: Scope) -> ir.Id:
        if t.detached:
            scope = self._detached(scope)
        density = self._density_of(f, scope)
        if value is not None:
            place = self.model.space(f.outputs[0]).values.index(value)
            return self.add(ir.LogProb(density, None, place))
        drawn = self.variable(f.outputs[0], scope)
        known = self._number(drawn)
        return self.add(ir.LogProb(density, drawn) if known is None else ir.LogProb(density, None, int(known)))

    def _detached(self, scope: Scope) -> Scope:
        """The same draws without gradient: sg."""
        drawn = {v: i if self._is_still(i) else self.stopped(i) for v, i in scope.drawn.items()}
        return Scope(scope.entry, drawn, scope.makers)

    def _is_still(self, i: ir.Id) -> bool:
        node = self.nodes[i]
        return isinstance(node, ir.Given) or (isinstance(node, ir.Draw) and node.given)

    def _density_of(self, f: Factor, scope: Scope) -> ir.Density:
        return self.density(self.model.laws[f.law], f, scope)

    def density(self, law: Law, f: Factor, scope: Scope) -> ir.Density:
        """The distribution of a law applied: its own, or the `density=` of a Dirac (rule DIRAC)."""
        body = law.body.density if isinstance(law.body, Dirac) else law.body
        assert isinstance(body, Distribution)
        names = law.bound(f)
        parameters = tuple(self._parameter(n, self.value(v, names, scope, f.old)) for n, v in body.parameters)
        ndim = tuple(len(shape(self.model, v)) for _, v in body.parameters)
        return ir.Density(body.family, parameters, self.model.space(f.outputs[0]), ndim)

    def _parameter(self, name: str, i: ir.Id) -> tuple[str, ir.Id]:
        """Probabilities made of logits are given by these, which lose nothing where a probability is 0 or 1."""
        node = self.nodes[i]
        if name == "probs" and isinstance(node, ir.Apply) and node.operator in ("sigmoid", "softmax"):
            return "logits", node.operands[0]
        return name, i

    # --- values

    def variable(self, name: str, scope: Scope) -> ir.Id:
        if name in scope.drawn:
            return scope.drawn[name]
        if name not in scope.makers and scope.entry is LAW:
            return self.add(ir.Argument(name, self.model.space(name)))
        label = scope.entry.label
        if label is not None and label[0] == name:
            return self.label(*label)
        scope.drawn[name] = self.draw(scope.makers[name], name, scope)
        return scope.drawn[name]

    def label(self, name: str, value: int) -> ir.Id:
        """A label's value, by its place."""
        return self.add(ir.Constant(float(self.model.space(name).values.index(value))))

    def value(self, value: Value, names: Mapping[str, str | int], scope: Scope, old: bool) -> ir.Id:
        """A parameter's value; `names` maps the law's variables to those it is applied to."""
        match value:
            case Constant(value=number):
                return self.add(ir.Constant(number))
            case ParameterRef(name=name):
                return self.add(ir.Parameter(name, old))
            case VariableRef(name=name):
                known = names[name]
                return self.label(name, known) if isinstance(known, int) else self.variable(known, scope)
            case NetCall(net=net, inputs=inputs, head=head):
                called = self.add(ir.Net(net, tuple(self.value(v, names, scope, old) for v in inputs), old))
                return called if head is None else self.add(ir.Head(called, head))
            case Operation(operator=operator, operands=inner):
                ids = tuple(self.value(v, names, scope, old) for v in inner)
                return self._applied(operator, ids, tuple(len(shape(self.model, v)) for v in inner))
            case Indexed(value=inner, indices=indices):
                node = self.value(inner, names, scope, old)
                return self.add(ir.Index(node, tuple(self.value(i, names, scope, old) for i in indices)))

    def _applied(self, operator: str, operands: tuple[ir.Id, ...], ndim: tuple[int, ...]) -> ir.Id:
        """What is made of numbers alone is a number, or, where that is none that a float can be, a tensor."""
        numbers = [n for i in operands if (n := self._number(i)) is not None]
        if len(numbers) < len(operands):
            return self.add(ir.Apply(operator, operands, ndim))
        found = of_numbers(operator, numbers)
        if found is not None:
            return self.add(ir.Constant(found))
        return self.add(ir.Apply(operator, tuple(self.add(ir.Filled(i, ())) for i in operands), ndim))

    def _number(self, i: ir.Id) -> float | None:
        node = self.nodes[i]
        return node.number if isinstance(node, ir.Constant) else None


def _ordered(dims: Iterable[ir.Dim]) -> tuple[ir.Dim, ...]:
    """By name, so that equal nodes are equal."""
    return tuple(sorted(dims, key=lambda dim: dim.name))
