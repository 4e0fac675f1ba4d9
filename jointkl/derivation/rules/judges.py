"""What trains a classifier or critic: its logistic loss, of samples that stand still."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.expr import Entry, LogFactor
from jointkl.derivation.facts import Facts
from jointkl.derivation.players import Player
from jointkl.derivation.rewrite import Rewrite, Turn, listed


def is_judge(turn: Turn) -> bool:
    """Is this term the player's own classification? (By `over` a classifier, or what shares a network with it, may be
    trained by other terms too, and by those as anybody is.)"""
    return turn.labelled is not None and turn.labelled.classifier.law in turn.player.laws


def classification(turn: Turn, entry: Entry) -> Rewrite | None:
    """-log c(k|v) alone: what else moves with the player's networks, as a law that shares them, does not count here."""
    assert turn.labelled is not None
    c = turn.labelled.classifier
    kept = tuple(t for t in entry.terms if isinstance(t.atom, LogFactor) and t.atom.factor == c)
    gone = tuple(t for t in entry.terms if t not in kept)
    made = still(turn.facts, turn.player, replace(entry, terms=kept))
    if not gone:
        return Rewrite(made) if made != entry else None
    return Rewrite(made, ((*listed(gone), f": constant for {turn.player.name}"),))


def still(facts: Facts, player: Player, entry: Entry) -> Entry:
    """The entry's samples without gradient, where the player's networks move them too."""
    live = facts.live(player, entry.path)
    terms = tuple(replace(t, detached=t.detached or not live.isdisjoint(t.atom.variables)) for t in entry.terms)
    return replace(entry, terms=terms)
