"""EXPAND: from a divergence to entries, for all players alike."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import (
    Apply,
    Body,
    Expectation,
    Labelled,
    LogFactor,
    LogWeight,
    Penalty,
    Scale,
    Sum,
    Term,
    Weighted,
    drawn,
    probability,
)
from jointkl.derivation.facts import Facts
from jointkl.derivation.inline import paths, paths_of
from jointkl.derivation.marginals import log_density, mixture
from jointkl.derivation.parts import Braces, Head, Name, Over, Step, formula
from jointkl.derivation.players import classifier
from jointkl.derivation.rewrite import Rule
from jointkl.diagnostics import Refused
from jointkl.semantics.divergences import DivergenceRow
from jointkl.semantics.model import Branch, Divergence, Evidence, Factor, Side

Expansion = tuple[tuple[Expectation, ...], Labelled | None]


def expand(facts: Facts, divergence: Divergence, goal: int) -> Expansion:
    """By its row a divergence is sum_k w_k E[path_k]{ own (log w_k + log a_k) + against log b at y=k }.

    A labelled mixture on the left gives an entry per branch (and per path, if hidden mixtures stand in it).
    """
    left, right, row = divergence.left, divergence.right, divergence.row
    label = left.joint.label if left.joint.label in left.head else None
    if label is None and right.joint.label in left.head and row.own:
        weighted, none = _classifier_on_the_left(facts, divergence)
        return _counted(facts, divergence, tuple(replace(e, goal=goal) for e in weighted)), none
    c = classifier(facts.model, divergence)
    entries: list[Expectation] = []
    sides: list[tuple[int, Fraction, tuple[Term, ...]]] = []
    for branch in left.joint.branches if label else (_whole(left),):
        head = tuple(v for v in left.head if v != label)
        own = _log_side(facts, left, branch, head, row.own) if row.own else ()
        against = (
            (Term(row.against, Penalty(right.joint.branches[0].factors[0]), span=right.span),)
            if row.penalty
            else _log_right(facts, divergence, label, branch.value, c)
        )
        at = (label, branch.value) if label is not None and branch.value is not None else None
        if at is not None:
            sides.append((at[1], branch.weight, own))
        share = (Term(row.own, LogWeight(branch.weight), span=branch.span),) if at and row.own else ()
        body = _integrand(row, (*share, *own, *against))
        for weight, path in _paths(facts, left, branch, label):
            entries.append(Expectation(divergence.weight * weight, drawn(path), body, at, goal, span=divergence.span))
    counted = _counted(facts, divergence, tuple(entries))
    return counted, Labelled(c, tuple(sides)) if c is not None else None


def _integrand(row: DivergenceRow, terms: tuple[Term, ...]) -> Body:
    return Scale(row.times, Apply(row.function, Sum(terms))) if row.function else Sum(terms)


def _counted(facts: Facts, divergence: Divergence, entries: tuple[Expectation, ...]) -> tuple[Expectation, ...]:
    """The joint is over N data: per datum a term with a local variable counts as it is, one with only globals 1/N."""

    def is_global(v: str) -> bool:
        return facts.model.variable(v).is_global

    found: list[Expectation] = []
    for e in entries:
        if any(is_global(v) for f in e.path for v in f.outputs):
            if not e.linear:
                raise Refused(errors.not_yet(divergence.span, f"{divergence.name} over globals"))
            terms = tuple(
                replace(t, over_n=bool(t.atom.variables) and all(map(is_global, t.atom.variables))) for t in e.terms
            )
            e = replace(e.of(terms), sources=sources(facts, divergence))
        found.append(e)
    return tuple(found)


def sources(facts: Facts, divergence: Divergence) -> tuple[str, ...]:
    """The evidence laws that the joint's data come from, whose size is N: those that its left side draws from, else its
    right, else all of the spec."""
    for side in (divergence.left, divergence.right):
        drawn = {f.law for _, path in paths_of(facts, side) for f in path}
        bodies = [law.body for key, law in facts.model.laws.items() if key in drawn]
        if found := tuple(dict.fromkeys(body.rows for body in bodies if isinstance(body, Evidence))):
            return found
    return tuple(law.key for law in facts.model.evidence)


def _whole(side: Side) -> Branch:
    """A joint without a visible label as one branch: its factors, or for a hidden mixture none (see `_paths`)."""
    joint = side.joint
    return joint.branches[0] if joint.label is None else Branch((), span=side.span)


def _paths(
    facts: Facts, side: Side, branch: Branch, label: str | None
) -> tuple[tuple[Fraction, tuple[Factor, ...]], ...]:
    hidden_mixture = side.joint.label is not None and label is None
    branches = side.joint.branches if hidden_mixture else (branch,)
    return tuple((b.weight * w, path) for b in branches for w, path in paths(facts, b.factors))


def _log_side(facts: Facts, side: Side, branch: Branch, head: tuple[str, ...], sign: Fraction) -> tuple[Term, ...]:
    if side.joint.label is not None and side.joint.label not in side.head:
        return (Term(sign, mixture(facts, side), span=side.span),)
    return log_density(facts, branch.factors, head, sign)


def _log_right(
    facts: Facts, divergence: Divergence, label: str | None, value: int | None, c: Factor | None
) -> tuple[Term, ...]:
    """What the row has of log b, at y=k where the left is labelled."""
    right, against = divergence.right, divergence.row.against
    head = tuple(v for v in right.head if v != label)
    if right.joint.label is not None and right.joint.label == label:
        branch = next(b for b in right.joint.branches if b.value == value)
        return (
            Term(against, LogWeight(branch.weight), span=branch.span),
            *log_density(facts, branch.factors, head, against),
        )
    if right.joint.label is not None:
        return (Term(against, mixture(facts, right), span=right.span),)
    factors = right.joint.branches[0].factors
    if c is None or value is None:
        return log_density(facts, factors, right.head, against)
    if not set(c.givens) <= set(head):
        raise Refused(errors.not_yet(c.span, "a classifier that is given a hidden variable"))
    others = _at(tuple(f for f in factors if f is not c), label, value)
    return (Term(against, LogFactor(c, value), span=c.span), *log_density(facts, others, head, against))


def _at(factors: tuple[Factor, ...], label: str | None, value: int) -> tuple[Factor, ...]:
    """The factors with the label at a value, wherever it is given."""
    return tuple(f.applied({label: value}) for f in factors) if label is not None else factors


def _classifier_on_the_left(facts: Facts, divergence: Divergence) -> Expansion:
    """The right is a labelled mixture, the left draws its label by c(y|v): an entry for each k, weighted by c(k|v)."""
    left, right = divergence.left, divergence.right
    label = right.joint.label
    assert label is not None
    head = tuple(v for v in left.head if v != label)
    entries: list[Expectation] = []
    branch = left.joint.branches[0]
    c = next((f for f in branch.factors if f.outputs == (label,)), None)
    if c is None:
        raise Refused(errors.not_yet(right.span, f"a mixture over `{label}` against a joint that draws it with others"))
    others = tuple(f for f in branch.factors if f is not c)
    if left.joint.label is not None:
        raise Refused(errors.not_yet(left.span, f"a hidden mixture against one over `{label}`"))
    own = divergence.row.own
    for value in facts.model.space(label).values:
        sampled = _at(others, label, value)
        weighted = LogFactor(c, value)
        against = _log_right(facts, divergence, label, value, None)
        terms = (*log_density(facts, sampled, head, own), Term(own, weighted, span=c.span), *against)
        at = (label, value)
        body = Weighted(probability(weighted), _integrand(divergence.row, terms))
        for weight, path in paths(facts, sampled):
            entries.append(Expectation(divergence.weight * weight, drawn(path), body, at, span=divergence.span))
    return tuple(entries), None


def expansion_steps(entries: tuple[Expectation, ...], goal: int) -> tuple[Step, ...]:
    return tuple(
        Step(
            EXPAND.name,
            goal,
            None,
            e.label,
            ((Head(e.weight, e.path, e.weights),), (Braces(e.terms) if e.linear else e.body,)),
            (),
            (),
            e.terms,
        )
        for e in entries
    )


A, B, K, WEIGHT = Name("a"), Name("b"), Name("k"), Name("w", "k")
EXPAND = Rule(
    "EXPAND",
    (
        formula(
            *(Name("KL"), "(", A, "||", B, ")", "=", Over("sum", "k"), " ", WEIGHT, " ", Over("E", "k")),
            *("{", "log", WEIGHT, "+", "log", Name("a", "k"), "-", "log", B, "(", K, ")", "}"),
        ),
        *(", ", K, " the branches of ", A, "; CE: ", formula("neg", "log", B), " alone"),
    ),
    expand,
)
