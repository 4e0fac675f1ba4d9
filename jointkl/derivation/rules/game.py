"""GAME: a value of the classifier in place of the derived term."""

from __future__ import annotations

from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import Expectation, LogFactor, Term
from jointkl.derivation.parts import Braces
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.diagnostics import Refused


def game(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """`minimax`: + log c(k|v) (Su 42); `nonsaturating`: - log c(1-k|v) (Su 43); in place of the derived term."""
    played = context.goal.options.game
    if played is None or context.labelled is None or entry.label is None or not entry.terms:
        return None
    c = context.labelled.classifier
    if context.facts.owns(context.player, c):
        return None
    value = entry.label[1]
    if not context.counts and context.facts.live(context.player, entry.path).isdisjoint(c.givens):
        return Rewrite(entry.of(()), (("the classifier's value does not move here",),))
    if played == "minimax":
        term = Term(Fraction(1), LogFactor(c, value), span=c.span)
        says = "the classifier's own value (minimax): "
    else:
        values = [v for v, _, _ in context.labelled.branches]
        if len(values) != 2:
            raise Refused(errors.not_yet(context.goal.options.span("game"), "flipped labels among more than two"))
        other = next(v for v in values if v != value)
        term = Term(Fraction(-1), LogFactor(c, other), span=c.span)
        says = "the label flipped (non-saturating): "
    return Rewrite(entry.of((term,)), ((says, Braces((term,))),))


GAME = Rule("GAME", ("who generates plays the classifier's value, or the flipped label's",), game)
