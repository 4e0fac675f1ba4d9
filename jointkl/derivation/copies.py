"""What `importance` draws in copies, and which sums it takes under them."""

from __future__ import annotations

from jointkl.derivation.expr import Entry
from jointkl.derivation.facts import ancestors
from jointkl.derivation.rewrite import Turn
from jointkl.semantics.model import Evidence


def replicated(turn: Turn, entry: Entry) -> frozenset[str]:
    """The variables that `importance` draws in copies: all on the path but evidence and globals."""
    model = turn.facts.model
    return frozenset(
        v
        for f in entry.path
        if not isinstance(model.laws[f.law].body, Evidence)
        for v in f.outputs
        if not model.variable(v).is_global
    )


def is_bounded(turn: Turn, entry: Entry) -> bool:
    """Does IMPORTANCE take the entry's sum under copies?"""
    if not turn.goal.options.importance or turn.is_judge or not entry.terms or turn.divergence.name != "KL":
        return False
    used = {v for t in entry.terms for v in t.atom.variables}
    return not replicated(turn, entry).isdisjoint(v for f in ancestors(entry.path, used) for v in f.outputs)


def is_weighed(turn: Turn, entry: Entry) -> bool:
    """Under copies E{w grad log f} is not zero even at the old value: the weights w see what f draws. The pair, whose
    value is zero there, stays in the sum as it is."""
    return (turn.goal.options.importance or 1) > 1 and is_bounded(turn, entry)
