"""What moves with a player."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.expr import Expectation, LogFactor, Term
from jointkl.derivation.facts import Facts
from jointkl.derivation.players import Player
from jointkl.derivation.rewrite import RuleContext


def moves(facts: Facts, player: Player, live: frozenset[str], t: Term) -> bool:
    """Does a term concern the player? The old copy of what it trains does, as one half of a pair."""
    owned = facts.param_live(player, t.atom) or (t.copy_of is not None and facts.param_live(player, t.copy_of))
    return owned or not live.isdisjoint(t.atom.variables)


def live_weight(context: RuleContext, entry: Expectation) -> LogFactor | None:
    """A classifier that weighs the entry and moves with the player."""
    live = context.facts.live(context.player, entry.path)
    moved = (
        w for w in entry.weights if context.facts.param_live(context.player, w) or not live.isdisjoint(w.variables)
    )
    return next(moved, None)


def still(facts: Facts, player: Player, entry: Expectation) -> Expectation:
    """The entry's samples without gradient, where the player's networks move them too."""
    live = facts.live(player, entry.path)
    return entry.of(replace(t, detached=t.detached or not live.isdisjoint(t.atom.variables)) for t in entry.terms)
