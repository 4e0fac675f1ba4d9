"""SCALE: a goal with a labelled mixture, times the number of its labels."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.expr import Expectation, LogWeight
from jointkl.derivation.parts import Line, Number, Step, formula, listed
from jointkl.derivation.players import divergences
from jointkl.derivation.rewrite import Rule
from jointkl.semantics.model import Goal


def label_count(goal: Goal) -> int:
    """SCALE: what a goal is multiplied by, the number of labels of the labelled mixtures on the left of its KLs,
    those in hinges too. 1 where there is none, or where they have different numbers."""
    mixtures = [d.left for d in divergences(goal) if d.row.log_ratio and d.left.joint.label in d.left.head]
    counts = {len(left.joint.branches) for left in mixtures if left.joint.label is not None}
    return counts.pop() if len(counts) == 1 else 1


def scale(entries: tuple[Expectation, ...], goal: int, labels: int) -> tuple[tuple[Expectation, ...], tuple[Step, ...]]:
    """A term of a goal that is scaled: times the number of labels, less the constants log w (Su's "~")."""
    if labels == 1:
        return entries, ()
    own = {e.label for e in entries if e.label is not None and not e.weights}
    constants = tuple(
        dict.fromkeys(t.atom for e in entries if e.linear for t in e.terms if isinstance(t.atom, LogWeight))
    )
    scaled = tuple(replace(_without_shares(e), weight=e.weight * labels) for e in entries)
    gone = ("; constant: ", *listed(constants)) if constants else ()
    told = (*_times(labels), "" if own else " in the goal", *gone)
    return scaled, (Step(SCALE.name, goal, None, None, (tuple(p for p in told if p),)),)


def _without_shares(e: Expectation) -> Expectation:
    return e.of(t for t in e.terms if not isinstance(t.atom, LogWeight)) if e.linear else e


def scaled_hinge(goal: int, labels: int) -> tuple[Step, ...]:
    """What is told of a hinge in such a goal: nothing in it is scaled or left out."""
    told = (*_times(labels), " in the goal: the hinge as a whole, as its value counts")
    return (Step(SCALE.name, goal, None, None, (told,)),) if labels > 1 else ()


def _times(labels: int) -> Line:
    count = {2: "two", 3: "three", 4: "four"}.get(labels, str(labels))
    return (formula("x", Number(labels)), f", {count} labels")


SCALE = Rule(
    "SCALE",
    ("a goal may be multiplied by a constant: by the number of labels, so that 1/2 becomes 1",),
    scale,
)
