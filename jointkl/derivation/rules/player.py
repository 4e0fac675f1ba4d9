"""BLOCK and GAME: what of an entry concerns a player."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import Braces, Entry, LogFactor, Term
from jointkl.derivation.rewrite import Rewrite, Rule, Turn, listed
from jointkl.semantics.scope import Refused


def block(turn: Turn, entry: Entry) -> Rewrite | None:
    live = turn.facts.live(turn.player, entry.path)
    kept = tuple(
        t for t in entry.terms if turn.facts.param_live(turn.player, t.atom) or not live.isdisjoint(t.atom.variables)
    )
    if len(kept) == len(entry.terms):
        return None
    made = replace(entry, terms=kept)
    if not kept:
        return Rewrite(made, ((f"nothing of {turn.player.name}",),))
    gone = tuple(t for t in entry.terms if t not in set(kept))
    return Rewrite(made, ((*listed(gone), f": constant for {turn.player.name}"),))


def game(turn: Turn, entry: Entry) -> Rewrite | None:
    """`minimax`: + log c(k|v) (Su 42); `nonsaturating`: - log c(1-k|v) (Su 43); in place of the derived term."""
    played = turn.goal.options.game
    if played is None or turn.labelled is None or entry.label is None or not entry.terms:
        return None
    c = turn.labelled.classifier
    if turn.facts.owns(turn.player, c):
        return None
    value = entry.label[1]
    if turn.facts.live(turn.player, entry.path).isdisjoint(c.givens):
        return Rewrite(replace(entry, terms=()), (("the classifier's value does not move here",),))
    if played == "minimax":
        term = Term(Fraction(1), LogFactor(c, value), span=c.span)
        says = "the classifier's own value (minimax): "
    else:
        values = [v for v, _, _ in turn.labelled.branches]
        if len(values) != 2:
            raise Refused(errors.not_yet(turn.goal.options.span("game"), "flipped labels among more than two"))
        other = next(v for v in values if v != value)
        term = Term(Fraction(-1), LogFactor(c, other), span=c.span)
        says = "the label flipped (non-saturating): "
    return Rewrite(replace(entry, terms=(term,)), ((says, Braces((term,))),))


BLOCK = Rule("BLOCK", "an atom without the player's parameters and moving variables is a constant for it", block)
GAME = Rule("GAME", "who generates plays the classifier's value, or the flipped label's", game)
