"""ZERO: a pair that the player does not move."""

from __future__ import annotations

from jointkl.derivation.expr import Expectation, Term
from jointkl.derivation.parts import Braces, Name, Number, formula
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.derivation.substitution import pairs, without


def zero(context: RuleContext, entry: Expectation) -> Rewrite | None:
    made, gone = entry, list[Term]()
    for pair, term in pairs(entry):
        if not context.facts.param_live(context.player, pair.new):
            made = made.of(without(made, pair, term))
            gone += pair.terms(term)
    if not gone:
        return None
    return Rewrite(made, ((formula(Braces(tuple(gone)), "=", Number(0)), ": not moved by ", context.player),))


F, OLD = Name("f"), Name("f", old=True)
ZERO = Rule("ZERO", ("the player does not own ", F, ": ", formula("log", F, "-", "log", OLD), " is zero"), zero)
