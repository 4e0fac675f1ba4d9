"""INLINE: joints opened, in the sides of a divergence before all else, and on a path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import Share
from jointkl.derivation.facts import Facts
from jointkl.derivation.shifts import shifted
from jointkl.derivation.variables import fresh
from jointkl.diagnostics import Refused
from jointkl.semantics.model import Branch, Divergence, Factor, Goal, Hinge, Joint, Law, Model, Side


def inlined(model: Model) -> Model:
    """The model with the sides of its divergences opened: a product with a labelled mixture as a factor is a mixture of
    products over that label."""
    return replace(model, goals=tuple(_goal(model, goal) for goal in model.goals))


def _goal(model: Model, goal: Goal) -> Goal:
    terms = tuple(
        replace(t, terms=tuple(_divergence(model, d) for d in t.terms))
        if isinstance(t, Hinge)
        else _divergence(model, t)
        for t in goal.terms
    )
    return replace(goal, terms=terms)


def _divergence(model: Model, divergence: Divergence) -> Divergence:
    return replace(divergence, left=_side(model, divergence.left), right=_side(model, divergence.right))


def _side(model: Model, side: Side) -> Side:
    """A product inside a product is its factors; w m(x,y) f .. with m = { y=k: w_k m_k } is { y=k: w_k m_k f .. }.

    Whatever is given y has it at k. A hidden mixture stays as it is, and so does a second label.
    """
    if side.joint.label is not None:
        return side
    (branch,) = side.joint.branches
    taken = {v for f in branch.factors for v in f.variables}
    pending = list(reversed(branch.factors))
    flat: list[Factor] = []
    labelled: Factor | None = None
    while pending:
        f = pending.pop()
        law = model.laws[f.law]
        if isinstance(law.body, Joint) and law.body.label is None:
            pending += reversed(tuple(applied(law, f, law.body.branches[0].factors, taken)))
            continue
        if isinstance(law.body, Joint) and labelled is None and law.bound(f).get(law.body.label or "") in side.head:
            labelled = f
        flat.append(f)
    factors = tuple(flat)
    if labelled is None:
        return replace(side, joint=Joint((replace(branch, factors=factors),)))
    law = model.laws[labelled.law]
    assert isinstance(law.body, Joint)
    return replace(side, joint=Joint(tuple(_product(factors, labelled, law, b) for b in law.body.branches)))


def _product(factors: tuple[Factor, ...], factor: Factor, law: Law, inner: Branch) -> Branch:
    """The product with one factor replaced by a branch of the labelled mixture that it is."""
    label = law.bound(factor)[inner.label or ""]
    assert isinstance(label, str)
    assert inner.value is not None
    at = {label: inner.value}
    taken = {v for f in factors for v in f.variables}
    opened = tuple(applied(law, factor, inner.factors, taken))
    i = factors.index(factor)
    before, after = (tuple(f.applied(at) for f in part) for part in (factors[:i], factors[i + 1 :]))
    return Branch((*before, *opened, *after), inner.weight, label, inner.value, span=factor.span)


# --- on a path

MOST_PATHS = 256
"""A product of mixtures opens into no more paths than this."""


def paths(facts: Facts, factors: tuple[Factor, ...]) -> tuple[Share, ...]:
    """INLINE on a path: every joint among the factors gives its own; a mixture gives one path per branch. Evidence
    factors have their shifts."""
    pending: list[tuple[Share, tuple[Factor, ...]]] = [((Fraction(1), ()), factors)]
    found: list[Share] = []
    while pending:
        (weight, done), rest = pending.pop()
        place = next((i for i, f in enumerate(rest) if is_joint(facts, f)), None)
        if place is None:
            found.append((weight, shifted(facts.model, tuple(map(facts.current, (*done, *rest))))))
            continue
        taken = {v for f in (*done, *rest) for v in f.variables}
        for share, inner in reversed(opened(facts, rest[place], taken)):
            pending.append(((weight * share, (*done, *rest[:place])), (*inner, *rest[place + 1 :])))
        if len(pending) + len(found) > MOST_PATHS:
            raise Refused(errors.too_many_paths(rest[place].span, MOST_PATHS))
    return tuple(found)


def paths_of(facts: Facts, side: Side) -> tuple[Share, ...]:
    """Every path of a side, whatever its labels."""
    return tuple((b.weight * w, path) for b in side.joint.branches for w, path in paths(facts, b.factors))


def is_joint(facts: Facts, factor: Factor) -> bool:
    return isinstance(facts.model.laws[factor.law].body, Joint)


def opened(facts: Facts, factor: Factor, taken: set[str]) -> tuple[Share, ...]:
    """The branches of a joint applied to variables, hidden ones renamed apart from `taken`, the names beside it.

    Branches never meet on one path, so each may use the same names.
    """
    law = facts.model.laws[factor.law]
    assert isinstance(law.body, Joint)
    if law.body.label in law.outputs:
        raise Refused(errors.labelled_factor(factor.span, law.text))
    return tuple((b.weight, tuple(applied(law, factor, b.factors, set(taken)))) for b in law.body.branches)


def applied(law: Law, factor: Factor, inner: Iterable[Factor], taken: set[str]) -> Iterable[Factor]:
    """The factors of a law's product where the law is applied, hidden variables renamed apart from `taken`."""
    names = law.bound(factor)
    for f in inner:
        for v in f.variables:
            if v not in names:
                names[v] = fresh(v, taken)
        yield replace(f.applied(names), old=f.old or factor.old)


Paths = tuple[tuple[Factor, ...], ...]


def products(facts: Facts) -> Mapping[str, Paths]:
    """INLINE of each branch of each joint, mixtures left as factors: by law. What a joint holds is opened before it,
    so that the time is that of writing the products down, however deep joints stand in joints."""
    found: dict[str, Paths] = {}
    for key in facts.feeds:
        body = facts.model.laws[key].body
        if isinstance(body, Joint):
            found[key] = tuple(_flat(facts, b.factors, found) for b in body.branches)
    return found


def _flat(facts: Facts, factors: tuple[Factor, ...], known: Mapping[str, Paths]) -> tuple[Factor, ...]:
    taken = {v for f in factors for v in f.variables}
    found: list[Factor] = []
    for f in factors:
        law = facts.model.laws[f.law]
        if isinstance(law.body, Joint) and law.body.label is None:
            found += applied(law, f, known[f.law][0], taken)
        else:
            found.append(f)
    return tuple(found)
