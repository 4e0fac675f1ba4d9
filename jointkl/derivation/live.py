"""What moves with a player."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.expr import Expectation, LogFactor, Term
from jointkl.derivation.facts import Facts
from jointkl.derivation.players import Player
from jointkl.derivation.rewrite import RuleContext


def moves(facts: Facts, player: Player, live: frozenset[str], t: Term) -> bool:
    """Does a term concern the player? The old copy of what it trains does, as one half of a pair."""
    return facts.moves(player, live, t.atom) or (t.copy_of is not None and facts.param_live(player, t.copy_of))


def is_moved(facts: Facts, player: Player, entry: Expectation) -> bool:
    """Does any term of an entry move with the player?"""
    live = facts.live(player, entry.path)
    return any(facts.moves(player, live, t.atom) for t in entry.terms)


def live_weight(context: RuleContext, entry: Expectation) -> LogFactor | None:
    """A classifier that weighs the entry and moves with the player."""
    live = context.facts.live(context.player, entry.path)
    return next((w for w in entry.weights if context.facts.moves(context.player, live, w)), None)


def still(facts: Facts, player: Player, entry: Expectation) -> Expectation:
    """The entry's samples without gradient, where the player's networks move them too."""
    live = facts.live(player, entry.path)
    return entry.of(replace(t, detached=t.detached or not live.isdisjoint(t.atom.variables)) for t in entry.terms)
