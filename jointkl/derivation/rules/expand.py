"""EXPAND, CANCEL and SCALE: from a divergence to entries, for all players alike."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import (
    Atom,
    Braces,
    Entry,
    Head,
    Labelled,
    LogFactor,
    LogWeight,
    Part,
    Penalty,
    Step,
    Term,
    collect,
)
from jointkl.derivation.facts import Facts
from jointkl.derivation.inline import paths, paths_of
from jointkl.derivation.marginals import log_density, mixture
from jointkl.derivation.players import classifier, divergences
from jointkl.diagnostics import Refused
from jointkl.semantics.model import Branch, Divergence, Evidence, Factor, Goal, Side

Expansion = tuple[tuple[Entry, ...], Labelled | None]


def expand(facts: Facts, divergence: Divergence, goal: int) -> Expansion:
    """KL(a||b) = sum_k w_k E[path_k]{ log w_k + log a_k - log b at y=k }; CE has -log b alone.

    A labelled mixture on the left gives an entry per branch (and per path, if hidden mixtures stand in it).
    """
    left, right = divergence.left, divergence.right
    label = left.joint.label if left.joint.label in left.head else None
    if label is None and right.joint.label in left.head and divergence.name == "KL":
        weighted, none = _classifier_on_the_left(facts, divergence)
        return _counted(facts, divergence, tuple(replace(e, goal=goal) for e in weighted)), none
    c = classifier(facts.model, divergence)
    entries: list[Entry] = []
    sides: list[tuple[int, Fraction, tuple[Term, ...]]] = []
    for branch in left.joint.branches if label else (_whole(left),):
        head = tuple(v for v in left.head if v != label)
        own = _log_side(facts, left, branch, head, Fraction(1)) if divergence.name == "KL" else ()
        against = (
            (Term(Fraction(1), Penalty(right.joint.branches[0].factors[0]), span=right.span),)
            if divergence.name == "R1"
            else _log_right(facts, right, label, branch.value, c)
        )
        at = (label, branch.value) if label is not None and branch.value is not None else None
        if at is not None:
            sides.append((at[1], branch.weight, own))
        share = (
            (Term(Fraction(1), LogWeight(branch.weight), span=branch.span),) if at and divergence.name == "KL" else ()
        )
        for weight, path in _paths(facts, left, branch, label):
            entries.append(
                Entry(divergence.weight * weight, path, (*share, *own, *against), at, goal, span=divergence.span)
            )
    counted = _counted(facts, divergence, tuple(entries))
    return counted, Labelled(c, tuple(sides)) if c is not None else None


def _counted(facts: Facts, divergence: Divergence, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The joint is over N data: per datum a term with a local variable counts as it is, one with only globals 1/N."""

    def is_global(v: str) -> bool:
        return facts.model.variable(v).is_global

    found: list[Entry] = []
    for e in entries:
        if any(is_global(v) for f in e.path for v in f.outputs):
            terms = tuple(
                replace(t, over_n=bool(t.atom.variables) and all(map(is_global, t.atom.variables))) for t in e.terms
            )
            e = replace(e, terms=terms, sources=sources(facts, divergence))
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


def _log_right(facts: Facts, right: Side, label: str | None, value: int | None, c: Factor | None) -> tuple[Term, ...]:
    """-log b, at y=k where the left is labelled."""
    head = tuple(v for v in right.head if v != label)
    if right.joint.label is not None and right.joint.label == label:
        branch = next(b for b in right.joint.branches if b.value == value)
        return (
            Term(Fraction(-1), LogWeight(branch.weight), span=branch.span),
            *log_density(facts, branch.factors, head, Fraction(-1)),
        )
    if right.joint.label is not None:
        return (Term(Fraction(-1), mixture(facts, right), span=right.span),)
    factors = right.joint.branches[0].factors
    if c is None or value is None:
        return log_density(facts, factors, right.head, Fraction(-1))
    if not set(c.givens) <= set(head):
        raise Refused(errors.not_yet(c.span, "a classifier that is given a hidden variable"))
    others = _at(tuple(f for f in factors if f is not c), label, value)
    return (Term(Fraction(-1), LogFactor(c, value), span=c.span), *log_density(facts, others, head, Fraction(-1)))


def _at(factors: tuple[Factor, ...], label: str | None, value: int) -> tuple[Factor, ...]:
    """The factors with the label at a value, wherever it is given."""
    return tuple(f.applied({label: value}) for f in factors) if label is not None else factors


def _classifier_on_the_left(facts: Facts, divergence: Divergence) -> Expansion:
    """The right is a labelled mixture, the left draws its label by c(y|v): an entry for each k, weighted by c(k|v)."""
    left, right = divergence.left, divergence.right
    label = right.joint.label
    assert label is not None
    head = tuple(v for v in left.head if v != label)
    entries: list[Entry] = []
    branch = left.joint.branches[0]
    c = next((f for f in branch.factors if f.outputs == (label,)), None)
    if c is None:
        raise Refused(errors.not_yet(right.span, f"a mixture over `{label}` against a joint that draws it with others"))
    others = tuple(f for f in branch.factors if f is not c)
    if left.joint.label is not None:
        raise Refused(errors.not_yet(left.span, f"a hidden mixture against one over `{label}`"))
    one = Fraction(1)
    for value in facts.model.space(label).values:
        drawn = _at(others, label, value)
        weighted = LogFactor(c, value)
        against = _log_right(facts, right, label, value, None)
        terms = (*log_density(facts, drawn, head, one), Term(one, weighted, span=c.span), *against)
        at = (label, value)
        for weight, path in paths(facts, drawn):
            entries.append(
                Entry(divergence.weight * weight, path, terms, at, span=divergence.span, weights=(weighted,))
            )
    return tuple(entries), None


def expansion_steps(entries: tuple[Entry, ...], goal: int) -> tuple[Step, ...]:
    return tuple(
        Step("EXPAND", goal, None, e.label, ((Head(e.weight, e.path, e.weights),), (Braces(e.terms),)), (), (), e.terms)
        for e in entries
    )


def cancel(entry: Entry) -> tuple[Entry, Step | None]:
    """Coefficients of identical atoms add; zeros vanish."""
    left = collect(entry.terms)
    kept = {t.atom for t in left}
    gone = tuple(dict.fromkeys(t.atom for t in entry.terms if t.atom not in kept))
    made = replace(entry, terms=left)
    if left == entry.terms:
        return entry, None
    old, new = frozenset(entry.terms), frozenset(left)
    before = tuple(t for t in entry.terms if t not in new)
    after = tuple(t for t in left if t not in old)
    return made, Step("CANCEL", entry.goal, None, entry.label, _cancelled(gone, after), (), before, after)


def _cancelled(gone: tuple[Atom, ...], added: tuple[Term, ...]) -> tuple[tuple[Part, ...], ...]:
    """The atoms that vanished, and those whose coefficients were added."""
    parts: list[Part] = []
    for a in gone:
        parts += [", " if parts else "", a]
    for i, t in enumerate(added):
        parts += [", " if i else "; added: " if parts else "added: ", t]
    return (tuple(p for p in parts if p != ""),)


def label_count(goal: Goal) -> int:
    """SCALE: what a goal is multiplied by, the number of labels of the labelled mixtures on the left of its KLs, those
    in hinges too. 1 where there is none, or where they have different numbers."""
    mixtures = [d.left for d in divergences(goal) if d.name == "KL" and d.left.joint.label in d.left.head]
    counts = {len(left.joint.branches) for left in mixtures if left.joint.label is not None}
    return counts.pop() if len(counts) == 1 else 1


def scale(entries: tuple[Entry, ...], goal: int, labels: int) -> tuple[tuple[Entry, ...], tuple[Step, ...]]:
    """A term of a goal that is scaled: times the number of labels, less the constants log w (Su's "~")."""
    if labels == 1:
        return entries, ()
    own = {e.label for e in entries if e.label is not None and not e.weights}
    constants = tuple(dict.fromkeys(t.atom for e in entries for t in e.terms if isinstance(t.atom, LogWeight)))
    scaled = tuple(
        replace(e, weight=e.weight * labels, terms=tuple(t for t in e.terms if not isinstance(t.atom, LogWeight)))
        for e in entries
    )
    gone = tuple(p for i, a in enumerate(constants) for p in ((", ", a) if i else ("; constant: ", a)))
    why = f"{_words(labels)} labels{'' if own else ' in the goal'}"
    return scaled, (Step("SCALE", goal, None, None, ((f"x {labels}, {why}", *gone),)),)


def scaled_hinge(goal: int, labels: int) -> tuple[Step, ...]:
    """What is told of a hinge in such a goal: nothing in it is scaled or left out."""
    told = f"x {labels}, {_words(labels)} labels in the goal: the hinge as a whole, as its value counts"
    return (Step("SCALE", goal, None, None, ((told,),)),) if labels > 1 else ()


def _words(count: int) -> str:
    return {2: "two", 3: "three", 4: "four"}.get(count, str(count))
