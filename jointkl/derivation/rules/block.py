"""BLOCK: what of an entry is a constant for a player."""

from __future__ import annotations

from fractions import Fraction

from jointkl.derivation.copies import replicated
from jointkl.derivation.expr import Expectation, LogFactor, Term
from jointkl.derivation.facts import ancestors
from jointkl.derivation.integrals import closable
from jointkl.derivation.live import live_weight, still
from jointkl.derivation.parts import listed
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext


def block(context: RuleContext, entry: Expectation) -> Rewrite | None:
    if context.is_judge:
        return classification(context, entry)
    live = context.facts.live(context.player, entry.path)
    weighed = live_weight(context, entry) is not None
    kept = tuple(
        t
        for t in entry.terms
        if context.facts.param_live(context.player, t.atom)
        or not live.isdisjoint(t.atom.variables)
        or (weighed and not _under_every_label(context, entry, t))
    )
    if context.counts:
        return None  # its constants move the hinge
    if kept and context.goal.options.importance:
        drawn = replicated(context, entry)
        kept = tuple(t for t in entry.terms if t in kept or not drawn.isdisjoint(t.atom.variables))
    held = {f for f, g in closable(context, entry) if g in kept}
    kept = tuple(t for t in entry.terms if t in kept or t in held)
    if len(kept) == len(entry.terms):
        return None
    made = entry.of(kept)
    if not kept:
        return Rewrite(made, (("nothing of ", context.player),))
    staying = frozenset(kept)
    gone = tuple(t for t in entry.terms if t not in staying)
    return Rewrite(made, ((*listed(t.atom for t in gone), ": constant for ", context.player),))


def classification(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """-log c(k|v) alone: what else moves with the player's networks, as a law that shares them, does not count here."""
    assert context.labelled is not None
    c = context.labelled.classifier
    kept = tuple(t for t in entry.terms if isinstance(t.atom, LogFactor) and t.atom.factor == c)
    gone = tuple(t for t in entry.terms if t not in kept)
    made = still(context.facts, context.player, entry.of(kept))
    if not gone:
        return Rewrite(made) if made != entry else None
    return Rewrite(made, ((*listed(t.atom for t in gone), ": constant for ", context.player),))


def _under_every_label(context: RuleContext, entry: Expectation, t: Term) -> bool:
    """Does the term stand under all values of the label alike? Then the weights sum to one: it is what it is."""
    weighing = {w.factor for w in entry.weights}
    siblings = [e for e in context.entries if {w.factor for w in e.weights} == weighing]
    seen = {*t.atom.variables, *(v for w in entry.weights for v in w.variables)}
    above = ancestors(entry.path, seen)
    alike = [e for e in siblings if _coefficient(e, t) == t.coefficient and ancestors(e.path, seen) == above]
    labels = {e.label for e in siblings}
    return len(alike) == len(siblings) == len(labels)


def _coefficient(entry: Expectation, t: Term) -> Fraction:
    return sum((u.coefficient for u in entry.terms if u.atom == t.atom), Fraction(0))


BLOCK = Rule("BLOCK", ("an atom without the player's parameters and moving variables is a constant for it",), block)
