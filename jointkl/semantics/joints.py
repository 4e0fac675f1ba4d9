"""Joints: products and mixtures of laws, their variables generated once, in an order, and all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from jointkl.diagnostics import Span
from jointkl.semantics import constants, errors
from jointkl.semantics.catalogue import PLANNED_SOURCES, SOURCES
from jointkl.semantics.families import FAMILIES, NOT_FAMILIES
from jointkl.semantics.model import Branch, Factor, Joint, base, law_key, law_text
from jointkl.semantics.scope import Refused, Scope
from jointkl.syntax import nodes


def joint(scope: Scope, body: nodes.Product | nodes.Mixture, head: tuple[str, ...], givens: tuple[str, ...]) -> Joint:
    """The product or mixture on a right side; `head` and `givens` are what its left side lists."""
    match body:
        case nodes.Product(weight=weight) if weight is not None:
            raise Refused(errors.weight_outside_mixture(weight.span))
        case nodes.Product(factors=factors, span=span):
            found = product(scope, factors, givens)
            _verify_head(head, generated(found), body.span)
            return Joint((Branch(found, span=span),))
        case nodes.Mixture():
            return _mixture(scope, body, head, givens)


def _mixture(scope: Scope, body: nodes.Mixture, head: tuple[str, ...], givens: tuple[str, ...]) -> Joint:
    label = body.branches[0].label
    weights = _weights(scope, body)
    branches: list[Branch] = []
    for node, weight in zip(body.branches, weights, strict=True):
        if node.label.text != label.text:
            raise Refused(errors.label_mismatch(node.label.span, label.text, node.label.text))
        found = product(scope, node.product.factors, givens)
        _verify_head(tuple(h for h in head if h != label.text), generated(found), node.product.span)
        value = constants.natural(constants.evaluate(scope, node.value), node.value.span)
        if any(b.value == value for b in branches):
            raise Refused(errors.label_repeated(node.label.span, f"{label.text}={value}"))
        branches.append(Branch(found, weight, label.text, value, span=node.span))
    if label.text in head or base(label.text) in scope.variables:
        _verify_labels(scope, label, branches)
    return Joint(tuple(branches))


def _weights(scope: Scope, body: nodes.Mixture) -> list[Fraction]:
    nodes_given = [b.product.weight for b in body.branches]
    if all(w is None for w in nodes_given):
        return [Fraction(1, len(body.branches))] * len(body.branches)
    found: list[Fraction] = []
    for branch, weight in zip(body.branches, nodes_given, strict=True):
        if weight is None:
            raise Refused(errors.weights_missing(branch.product.span))
        share = constants.number(constants.evaluate(scope, weight), weight.span)
        if not 0 < share < 1:
            raise Refused(errors.weight_range(weight.span, f"{float(share):g}"))
        found.append(share)
    if abs(sum(found) - 1) > Fraction(1, 10**9):
        raise Refused(errors.weights_sum(body.span, f"{float(sum(found)):g}"))
    return found


def _verify_labels(scope: Scope, label: nodes.Name, branches: Sequence[Branch]) -> None:
    variable = scope.variable(label)
    space = variable.space
    if space.kind != "finite":
        raise Refused(errors.label_not_finite(label.span, label.text, space, variable.span))
    for branch in branches:
        if branch.value not in space.values:
            raise Refused(errors.label_value(branch.span, f"{label.text}={branch.value}", space, variable.span))
    missing = [v for v in space.values if all(b.value != v for b in branches)]
    if missing:
        raise Refused(errors.label_missing(label.span, label.text, missing, variable.span))


def product(scope: Scope, factors: Iterable[nodes.Factor], givens: tuple[str, ...] = ()) -> tuple[Factor, ...]:
    """The factors of a product, in an order in which each given is generated before it is used."""
    return sampling_order(tuple(factor(scope, f) for f in factors), givens)


def factor(scope: Scope, node: nodes.Factor) -> Factor:
    """A law applied to variables: known by its label and its variables' base names in order."""
    call = node.call
    label = call.name.text
    if label in FAMILIES or label in NOT_FAMILIES:
        raise Refused(errors.family_in_product(call.span, label))
    if label in SOURCES or label in PLANNED_SOURCES:
        raise Refused(errors.source_in_product(call.span, label))
    names: list[nodes.Name] = []
    for argument in call.arguments:
        if not isinstance(argument, nodes.Name):
            raise Refused(errors.law_argument(argument.span, argument.span.text))
        names.append(argument)
    labels = scope.labels()
    if label not in labels and label != "data":
        raise Refused(errors.unknown_law(call.name.span, call.span.text, (), label, (*labels, *FAMILIES, *SOURCES)))
    outputs, given = tuple(n.text for n in names), tuple(n.text for n in call.givens or ())
    for name in (*names, *(call.givens or ())):
        scope.variable(name)
    _verify_distinct((*names, *(call.givens or ())))
    key = law_key(label, outputs, given)
    if key not in scope.definitions and not (label == "data" and not given):
        same = [law_text_of(d.law) for d in scope.definitions.values() if d.law.label.text == label]
        raise Refused(errors.unknown_law(call.span, law_text(label, outputs, given), same, label, labels))
    return Factor(key, outputs, given, node.old, span=node.span)


def law_text_of(law: nodes.Law) -> str:
    return law_text(law.label.text, tuple(n.text for n in law.outputs), tuple(n.text for n in law.givens))


def _verify_distinct(names: Sequence[nodes.Name]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.text in seen:
            raise Refused(errors.repeated_variable(name.span, name.text))
        seen.add(name.text)


def generated(factors: Iterable[Factor]) -> tuple[str, ...]:
    return tuple(v for f in factors for v in f.outputs)


def sampling_order(
    factors: tuple[Factor, ...], givens: tuple[str, ...] = (), *, closed: bool = True
) -> tuple[Factor, ...]:
    """The factors, each after those that generate its givens, otherwise in the order written.

    Raises `Refused` if a variable is generated twice, a given is never generated (unless not `closed`), or the laws
    wait for each other.
    """
    by_output: dict[str, Factor] = {}
    for f in factors:
        for v in f.outputs:
            if v in by_output:
                raise Refused(errors.generated_twice(f.span, v, by_output[v].span))
            if v in givens:
                raise Refused(errors.generated_twice(f.span, v, f.span))
            by_output[v] = f
    for f in factors:
        for v in f.givens:
            if closed and v not in by_output and v not in givens:
                raise Refused(errors.never_generated(f.span, v, f.span.text))
    return _topological(factors, by_output)


def _topological(factors: tuple[Factor, ...], by_output: Mapping[str, Factor]) -> tuple[Factor, ...]:
    waits = {f.outputs: {v for v in f.givens if v in by_output} for f in factors}
    ready_at: dict[str, list[Factor]] = {}
    for f in factors:
        for v in waits[f.outputs]:
            ready_at.setdefault(v, []).append(f)
    order: list[Factor] = []
    ready = [f for f in factors if not waits[f.outputs]]
    while ready:
        rising: list[Factor] = []
        for f in ready:
            order.append(f)
            for v in f.outputs:
                for later in ready_at.get(v, ()):
                    waits[later.outputs].discard(v)
                    if not waits[later.outputs]:
                        rising.append(later)
        ready = rising
    if len(order) < len(factors):
        stuck = [f for f in factors if waits[f.outputs]]
        raise Refused(errors.cyclic(stuck[0].span, _cycle(stuck, by_output)))
    return tuple(order)


def _cycle(stuck: Sequence[Factor], by_output: Mapping[str, Factor]) -> list[str]:
    """The variables of one cycle among factors that wait for each other."""
    waiting = {v for f in stuck for v in f.outputs}
    path: list[str] = []
    at = stuck[0]
    while True:
        name = next(v for v in at.givens if v in waiting)
        if name in path:
            return path[path.index(name) :]
        path.append(name)
        at = by_output[name]


def _verify_head(head: tuple[str, ...], names: Sequence[str], span: Span) -> None:
    for name in head:
        if name not in names:
            raise Refused(errors.head_not_generated(span, name, names))
