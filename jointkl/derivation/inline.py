"""INLINE, before all else: a product with a labelled mixture as a factor is a mixture of products over that label."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.rules.marginalise import applied
from jointkl.semantics.model import Branch, Divergence, Factor, Goal, Hinge, Joint, Law, Model, Side


def inlined(model: Model) -> Model:
    """The model with the sides of its divergences so opened."""
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
