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
    return replace(side, joint=_opened(model, side.joint))


def _opened(model: Model, joint: Joint) -> Joint:
    """A product inside a product is its factors; w m(x,y) f .. with m = { y=k: w_k m_k } is { y=k: w_k m_k f .. }.

    Whatever is given y has it at k. A hidden mixture stays as it is, and so does a second label.
    """
    if joint.label is not None:
        return joint
    (branch,) = joint.branches
    factors = branch.factors
    for f in branch.factors:
        law = model.laws[f.law]
        if not isinstance(law.body, Joint):
            continue
        inner = _opened(model, law.body)
        if inner.label is None or inner.label in law.outputs:
            branches = tuple(_product(factors, f, law, b) for b in inner.branches)
            if inner.label is not None:
                return Joint(branches)
            factors = branches[0].factors
    return Joint((replace(branch, factors=factors),))


def _product(factors: tuple[Factor, ...], factor: Factor, law: Law, inner: Branch) -> Branch:
    """The product with one factor replaced by a branch of the joint that it is."""
    label = law.bound(factor).get(inner.label or "")
    at = {label: inner.value} if isinstance(label, str) and inner.value is not None else dict[str, int]()
    taken = {v for f in factors for v in f.variables}
    opened = tuple(applied(law, factor, inner.factors, taken))
    i = factors.index(factor)
    before, after = (tuple(f.applied(at) for f in part) for part in (factors[:i], factors[i + 1 :]))
    return Branch((*before, *opened, *after), inner.weight, next(iter(at), None), inner.value, span=factor.span)
