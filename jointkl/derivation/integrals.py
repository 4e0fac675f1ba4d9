"""Where E_f{log f - log g} or E_f{-log g} has a closed form, and what bars it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jointkl.derivation.expr import Expectation, LogFactor, Term
from jointkl.derivation.facts import Facts
from jointkl.derivation.rewrite import RuleContext
from jointkl.semantics.families import CLOSED_FORM
from jointkl.semantics.model import Distribution, Factor

Opposed = tuple[Term, Factor, Term, Factor]
"""+c log f(v|.) and -c log g(v|.), f sampled on the path, each with its factor."""


def opposed(entry: Expectation) -> Iterator[Opposed]:
    against = {
        t.atom.factor.outputs: t
        for t in entry.terms
        if is_plain(t) and t.coefficient < 0 and isinstance(t.atom, LogFactor)
    }
    on_path = frozenset(entry.path)
    for t in entry.terms:
        if not (isinstance(t.atom, LogFactor) and is_plain(t) and t.coefficient > 0 and t.atom.factor in on_path):
            continue
        other = against.get(t.atom.factor.outputs)
        if other is not None and isinstance(other.atom, LogFactor) and other.coefficient == -t.coefficient:
            yield t, t.atom.factor, other, other.atom.factor


def closable(context: RuleContext, entry: Expectation) -> tuple[tuple[Term, Term], ...]:
    """The pairs that have a closed form, f a law that nobody trains: log f alone would be a constant for everybody."""
    if (
        context.player.kind == "free"
        or context.goal.options.game is not None
        or "moments" in context.goal.options.estimate
    ):
        return ()
    makers = makers_of(entry)
    fixed = [(t, f, other, g) for t, f, other, g in opposed(entry) if not context.facts.trained(f)]
    return tuple((t, other) for t, f, other, g in fixed if not bar(context, entry, makers, f, g))


def makers_of(entry: Expectation) -> Mapping[str, tuple[int, Factor]]:
    """By variable the factor of the path that draws it, and its place."""
    return {v: (i, f) for i, f in enumerate(entry.path) for v in f.outputs}


def bar(
    context: RuleContext, entry: Expectation, makers: Mapping[str, tuple[int, Factor]], f: Factor, g: Factor
) -> str:
    """Why a pair has no closed form here, or nothing."""
    return _barred(context, entry) or _why_not(context, makers, f, g) or _weighed(entry, makers, f)


def _barred(context: RuleContext, entry: Expectation) -> str:
    """What bars closed forms from a goal or an integrand, or nothing."""
    if not entry.linear:
        return "a function is taken of the sum"
    options = context.goal.options
    if options.importance and context.divergence.row.log_ratio:
        return "copies are averaged within the logarithm"
    return next((f"estimate={e}" for e in options.estimate if e in ("monte_carlo", "score")), "")


def _why_not(context: RuleContext, makers: Mapping[str, tuple[int, Factor]], f: Factor, g: Factor) -> str:
    """The side condition of the closed form that fails, or nothing."""
    if not known(context.facts, f, g):
        return "the integral is not known"
    below = any(_descends(makers, v, w) for v in g.givens for w in f.outputs)
    return "what the second is given descends from it" if below else ""


def is_plain(t: Term) -> bool:
    return isinstance(t.atom, LogFactor) and t.atom.value is None and not t.detached


def known(facts: Facts, f: Factor, g: Factor) -> bool:
    """Is KL[f || g] known in closed form, whatever the parents?"""
    left, right = facts.model.laws[f.law].body, facts.model.laws[g.law].body
    if not (isinstance(left, Distribution) and isinstance(right, Distribution)):
        return False
    return (left.family, right.family) in CLOSED_FORM


def _descends(makers: Mapping[str, tuple[int, Factor]], variable: str, other: str) -> bool:
    """Does `variable` descend from `other`? What is drawn before it does not, which ends the search early."""
    if variable not in makers:
        return False
    first = makers[other][0]
    seen: set[str] = set()
    pending = [variable]
    while pending:
        v = pending.pop()
        if v == other:
            return True
        place, f = makers[v]
        if place > first:
            above = [g for g in f.givens if g in makers and g not in seen]
            seen.update(above)
            pending += above
    return False


def _weighed(entry: Expectation, makers: Mapping[str, tuple[int, Factor]], f: Factor) -> str:
    """Whether a classifier that weighs the sum sees what f draws, or nothing."""
    seen = any(_descends(makers, v, u) for w in entry.weights for v in w.variables for u in f.outputs)
    return "the classifier that weighs it sees what is drawn" if seen else ""
