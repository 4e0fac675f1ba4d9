"""Draws, values and distributions as nodes, each written once.

Equal nodes are one node: a draw or a network's output that several terms use is computed once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from jointkl.derivation.expr import Expectation, Sum
from jointkl.derivation.facts import ancestors
from jointkl.derivation.shifts import keys
from jointkl.objective import ir
from jointkl.objective.layout import NONE, Dims, Layout, extend
from jointkl.objective.walk import Line
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

    def stopped(self, i: ir.Id) -> ir.Id:
        return self.add(ir.GradientTap(i))

    def exp(self, i: ir.Id) -> ir.Id:
        return self.add(ir.Apply("exp", (i,), (0,)))

    def log(self, value: float) -> ir.Id:
        return self.add(ir.Apply("log", (self.number(value),), (0,)))

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
        filled = self.shape(node) == shape and self.constant(node) is None
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

    def number(self, value: float) -> ir.Id:
        return self.add(ir.Constant(value))

    def density_of(self, f: Factor, scope: Scope) -> ir.Density:
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
                return self.applied(operator, ids, tuple(len(shape(self.model, v)) for v in inner))
            case Indexed(value=inner, indices=indices):
                node = self.value(inner, names, scope, old)
                return self.add(ir.Index(node, tuple(self.value(i, names, scope, old) for i in indices)))

    def applied(self, operator: str, operands: tuple[ir.Id, ...], ndim: tuple[int, ...]) -> ir.Id:
        """What is made of numbers alone is a number, or, where that is none that a float can be, a tensor."""
        numbers = [n for i in operands if (n := self.constant(i)) is not None]
        if len(numbers) < len(operands):
            return self.add(ir.Apply(operator, operands, ndim))
        found = of_numbers(operator, numbers)
        if found is not None:
            return self.add(ir.Constant(found))
        return self.add(ir.Apply(operator, tuple(self.add(ir.Filled(i, ())) for i in operands), ndim))

    def constant(self, i: ir.Id) -> float | None:
        node = self.nodes[i]
        return node.number if isinstance(node, ir.Constant) else None


def ordered(dims: Iterable[ir.Dim]) -> tuple[ir.Dim, ...]:
    """By name, so that equal nodes are equal."""
    return tuple(sorted(dims, key=lambda dim: dim.name))
