"""Joints: products and mixtures of laws, their variables generated once, in an order, and all of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from jointkl.diagnostics import Refused, Report, Span
from jointkl.semantics import constants, joint_errors
from jointkl.semantics.catalogue import SOURCES
from jointkl.semantics.families import FAMILIES, NOT_FAMILIES, OTHER_NAMES, REFUSED
from jointkl.semantics.model import Branch, Factor, Joint, base, law_key, law_text
from jointkl.semantics.scope import CONSTANT_FUNCTIONS, FUNCTIONS, Scope
from jointkl.syntax import nodes


def joint(scope: Scope, body: nodes.Product | nodes.Mixture, law: nodes.Law) -> Joint:
    """The product or mixture on a right side; `law` is its left side."""
    match body:
        case nodes.Product():
            found = product(scope, body, law)
            _verify_head(scope, law, law.outputs, found, body.span)
            return Joint((Branch(found, span=body.span),))
        case nodes.Mixture():
            return _mixture(scope, body, law)


def product(scope: Scope, node: nodes.Product, law: nodes.Law) -> tuple[Factor, ...]:
    """The factors of a product, in an order in which each given is generated before it is used."""
    if node.weight is not None:
        raise Refused(joint_errors.weight_outside_mixture(node.weight.span))
    return _ordered(scope, node, law, {})


def _ordered(scope: Scope, node: nodes.Product, law: nodes.Law, at: Mapping[str, int]) -> tuple[Factor, ...]:
    """The factors of one branch; `at` is its label's value, for those that are given it."""
    factors = tuple(factor(scope, f, law).applied(at) for f in node.factors)
    givens = {n.text: n.span for n in law.givens}
    for f in factors:
        for v in f.outputs:
            if v in givens:
                help = f"write {v} before the bar, or use a copy `{v}'` on the right"
                raise Refused(joint_errors.generates_given(place(f.span, v), v, givens[v], help))
    return sampling_order(factors, tuple(givens), scope=scope)


# --- mixtures


def _mixture(scope: Scope, body: nodes.Mixture, law: nodes.Law) -> Joint:
    label = body.branches[0].label
    weights = _weights(scope, body)
    given = next((n for n in law.givens if n.text == label.text), None)
    if given is not None:
        help = f"write {label.text} before the bar: a mixture generates its label"
        raise Refused(joint_errors.generates_given(label.span, label.text, given.span, help))
    head = [n for n in law.outputs if n.text != label.text]
    branches: dict[int, Branch] = {}
    places: dict[int, Span] = {}
    for node, weight in zip(body.branches, weights, strict=True):
        if node.label.text != label.text:
            raise Refused(joint_errors.label_mismatch(node.label.span, label.text, node.label.text, label.span))
        value = constants.natural(constants.evaluate(scope, node.value), node.value.span)
        at = Span(node.span.source, node.label.span.start, node.value.span.end)
        if value in places:
            raise Refused(joint_errors.label_repeated(at, f"{label.text}={value}", places[value]))
        found = _ordered(scope, node.product, law, {label.text: value})
        for f in found:
            if label.text in f.outputs:
                raise Refused(joint_errors.label_generated(place(f.span, label.text), label.text, label.span))
        _verify_head(scope, law, head, found, node.product.span)
        branches[value], places[value] = Branch(found, weight, label.text, value, span=node.span), at
    if label.text in (n.text for n in law.outputs) or base(label.text) in scope.declared:
        _verify_labels(scope, label, places)
    return Joint(tuple(branches.values()))


def _weights(scope: Scope, body: nodes.Mixture) -> list[Fraction]:
    given = [b.product.weight for b in body.branches]
    known = next((w for w in given if w is not None), None)
    if known is None:
        return [Fraction(1, len(given))] * len(given)
    found = [Fraction(0) if w is None else constants.number(constants.evaluate(scope, w), w.span) for w in given]
    for weight, share in zip(given, found, strict=True):
        if weight is not None and not 0 < share < 1:
            raise Refused(joint_errors.weight_range(weight.span, f"{float(share):g}"))
    lacking = [b.product for b in body.branches if b.product.weight is None]
    if lacking:
        rest = 1 - sum(found)
        one = f"{float(rest):g}" if len(lacking) == 1 and rest > 0 else None
        raise Refused(joint_errors.weights_missing(lacking[0].factors[0].span, known.span, lacking[0].span.text, one))
    if abs(sum(found) - 1) > Fraction(1, 10**9):
        shown = [(w.span, f"{float(x):g}") for w, x in zip(given, found, strict=True) if w is not None]
        raise Refused(joint_errors.weights_sum(shown, f"{float(sum(found)):g}"))
    return found


def _verify_labels(scope: Scope, label: nodes.Name, places: Mapping[int, Span]) -> None:
    variable = scope.variable(label)
    space = variable.space
    if space.kind != "finite":
        raise Refused(joint_errors.label_not_finite(label.span, label.text, space, variable.span))
    values = set(space.values)
    for value, span in places.items():
        if value not in values:
            raise Refused(joint_errors.label_value(span, f"{label.text}={value}", space, variable.span))
    missing = sorted(values - set(places))
    if missing:
        raise Refused(joint_errors.label_missing(label.span, label.text, missing, variable.span))


# --- factors


def factor(scope: Scope, node: nodes.Factor, law: nodes.Law | None = None) -> Factor:
    """A law applied to variables: known by its label and its variables' base names in order.

    `law` is the left side of what it is written in.
    """
    call = node.call
    label = call.name.text
    if label not in scope.labels and label != "data":
        raise _no_label(scope, call, law)
    names: list[nodes.Name] = []
    for argument in call.arguments:
        if not isinstance(argument, nodes.Name):
            raise Refused(joint_errors.law_argument(argument.span, call.name.text, argument.span.text))
        names.append(argument)
    outputs, givens = tuple(n.text for n in names), tuple(n.text for n in call.givens or ())
    names += call.givens or ()
    for name in names:
        scope.variable(name)
    verify_distinct(names)
    key = law_key(label, outputs, givens)
    if key not in scope.definitions:
        _verify_unbound(scope, call, outputs, givens)
    return Factor(key, outputs, givens, node.old, span=node.span)


def _no_label(scope: Scope, call: nodes.Call, law: nodes.Law | None) -> Refused:
    """What bears the name of a factor, if no law does."""
    name, text = call.name, call.span.text
    left = law.span.text if law is not None else "r(..)"
    if name.text == "Free":
        return Refused(joint_errors.free_alone(call.span, left))
    if name.text in FAMILIES or name.text in NOT_FAMILIES:
        return Refused(joint_errors.family_in_product(call.span, name.text, text))
    if name.text in SOURCES:
        return Refused(joint_errors.source_in_product(call.span, name.text, text))
    if name.text in scope.nets:
        help = f"{left} = Delta({text}), or another family of it"
        return Refused(joint_errors.not_a_law(name.span, "net", name.text, scope.nets[name.text].name.span, help))
    if name.text in scope.params:
        help = f"{left} = Delta({name.text})"
        return Refused(joint_errors.not_a_law(name.span, "param", name.text, scope.params[name.text][1], help))
    if name.text in scope.lets:
        help = f"{left} = Delta({name.text})"
        return Refused(joint_errors.not_a_law(name.span, "constant", name.text, scope.lets[name.text].name.span, help))
    if name.text in FUNCTIONS or name.text in CONSTANT_FUNCTIONS:
        return Refused(joint_errors.not_a_law(name.span, "function", name.text, None, f"{left} = Delta({text})"))
    if call.arguments and all(isinstance(a, nodes.Name) and base(a.text) in scope.declared for a in call.arguments):
        outputs = tuple(a.text for a in call.arguments if isinstance(a, nodes.Name))
        return _unknown_law(scope, call, outputs, tuple(n.text for n in call.givens or ()))
    return unknown_label(scope, name)


def unknown_label(scope: Scope, name: nodes.Name) -> Refused:
    return scope.missing(
        f"{name.text}(",
        lambda: joint_errors.unknown_label(
            name.span,
            name.text,
            OTHER_NAMES.get(name.text),
            REFUSED.get(name.text),
            (*FAMILIES, *NOT_FAMILIES),
            SOURCES,
            scope.labels,
        ),
    )


def _verify_unbound(scope: Scope, call: nodes.Call, outputs: tuple[str, ...], givens: tuple[str, ...]) -> None:
    """A law that is not defined: `data` of variables alone is evidence all the same."""
    label, key = call.name.text, law_key(call.name.text, outputs, givens)
    for broken in (key, f"{label}("):
        if broken in scope.broken:
            raise Refused(scope.broken[broken])
    same = [d.law for d in scope.definitions.values() if d.law.label.text == label]
    if not outputs:
        raise Refused(joint_errors.no_variables(call.span, label, [text_of(law) for law in same]))
    if label == "data" and not givens:
        for i, name in enumerate(outputs):
            if base(name) in [base(other) for other in outputs[:i]]:
                raise Refused(joint_errors.evidence_copies(call.arguments[i].span, base(name), label))
        return
    if label == "data" and not same:
        text = law_text(label, (*outputs, *givens), ())
        raise Refused(joint_errors.evidence_given((call.givens or (call.name,))[0].span, text))
    raise _unknown_law(scope, call, outputs, givens)


def _unknown_law(scope: Scope, call: nodes.Call, outputs: tuple[str, ...], givens: tuple[str, ...]) -> Refused:
    """A law that is not defined; others are near if they are over the same variables."""
    label = call.name.text

    def report() -> Report:
        laws = [d.law for d in scope.definitions.values()]
        same = [law for law in laws if law.label.text == label]
        variables = law_key("", outputs, givens)
        exact = [law for law in laws if law_key("", *_names_of(law)) == variables]
        moved = [law for law in same if _bases(*_names_of(law)) == _bases(outputs, givens)]
        return joint_errors.unknown_law(
            call.span,
            law_text(label, outputs, givens),
            [text_of(law) for law in (*moved, *exact)[:2]],
            [text_of(law) for law in same],
            same[0].span if same else None,
            composed(scope, label, outputs, givens),
        )

    return scope.missing(law_key(label, outputs, givens), report)


def _names_of(law: nodes.Law) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(n.text for n in law.outputs), tuple(n.text for n in law.givens)


def _bases(outputs: tuple[str, ...], givens: tuple[str, ...]) -> list[str]:
    return sorted(map(base, (*outputs, *givens)))


def text_of(law: nodes.Law) -> str:
    return law_text(law.label.text, *_names_of(law))


def composed(scope: Scope, label: str, outputs: tuple[str, ...], givens: tuple[str, ...]) -> str | None:
    """A product of defined laws of this label that generates `outputs` from `givens`, if there is one."""
    makers: dict[str, nodes.Law] = {}
    for definition in scope.definitions.values():
        law = definition.law
        if law.label.text == label:
            for name in law.outputs:
                makers.setdefault(name.text, law)
    needed, found = list(outputs), dict[str, None]()
    while needed:
        name = needed.pop()
        if name in givens:
            continue
        if name not in makers:
            return None
        text = text_of(makers[name])
        if text not in found:
            found[text] = None
            needed += [n.text for n in makers[name].givens]
    return " * ".join(reversed(found))


def maker(scope: Scope, name: str, label: str = "") -> str | None:
    """A defined law that generates `name`, from nothing if there is one; of `label` rather than of another."""
    laws = [d.law for d in scope.definitions.values() if [n.text for n in d.law.outputs] == [name]]
    laws.sort(key=lambda law: (len(law.givens), law.label.text != label))
    return text_of(laws[0]) if laws else None


def verify_distinct(names: Iterable[nodes.Name]) -> None:
    seen: dict[str, Span] = {}
    for name in names:
        if name.text in seen:
            raise Refused(joint_errors.repeated_variable(name.span, name.text, seen[name.text]))
        seen[name.text] = name.span


# --- order


def generated(factors: Iterable[Factor]) -> tuple[str, ...]:
    return tuple(v for f in factors for v in f.outputs)


def place(span: Span, name: str) -> Span:
    """Where a variable stands in a factor's text; the whole of it if nowhere."""
    word = re.compile(rf"(?<![\w']){re.escape(name)}(?![\w'])")
    found = word.search(span.text, span.text.find("(") + 1)
    return span if found is None else Span(span.source, span.start + found.start(), span.start + found.end())


def sampling_order(
    factors: tuple[Factor, ...], givens: tuple[str, ...] = (), *, closed: bool = True, scope: Scope | None = None
) -> tuple[Factor, ...]:
    """The factors, each after those that generate its givens, otherwise in the order written.

    Raises `Refused` if a variable is generated twice, a given is never generated (unless not `closed`), or the laws
    wait for each other; `scope` knows the laws that could help.
    """
    by_output: dict[str, Factor] = {}
    for f in factors:
        for v in f.outputs:
            if v in by_output or v in givens:
                raise Refused(joint_errors.generated_twice(place(f.span, v), v, place(by_output.get(v, f).span, v)))
            by_output[v] = f
    for f in factors:
        for v in f.givens:
            if closed and v not in by_output and v not in givens:
                help = maker(scope, v, f.label) if scope is not None else None
                raise Refused(joint_errors.never_generated(place(f.span, v), v, f.span.text, help))
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
        cycle = _cycle(stuck, by_output)
        first, second = (by_output[cycle[i % len(cycle)]] for i in (0, 1))
        raise Refused(joint_errors.cyclic(first.span, cycle, None if second is first else second.span))
    return tuple(order)


def _cycle(stuck: Sequence[Factor], by_output: Mapping[str, Factor]) -> list[str]:
    """The variables of one cycle among factors that wait for each other, each waiting for the next."""
    waiting = {v for f in stuck for v in f.outputs}
    path: dict[str, int] = {}
    at = stuck[0]
    while True:
        name = next(v for v in at.givens if v in waiting)
        if name in path:
            return list(path)[path[name] :]
        path[name] = len(path)
        at = by_output[name]


def _verify_head(
    scope: Scope, law: nodes.Law, head: Iterable[nodes.Name], factors: tuple[Factor, ...], span: Span
) -> None:
    names = generated(factors)
    known = set(names)
    for name in head:
        if name.text not in known:
            help = maker(scope, name.text, law.label.text)
            raise Refused(joint_errors.head_not_generated(name.span, name.text, names, span, help))
