"""What `importance` draws in copies, and which sums it takes under them."""

from __future__ import annotations

from jointkl.derivation.expr import Expectation
from jointkl.derivation.facts import ancestors
from jointkl.derivation.rewrite import RuleContext
from jointkl.semantics.model import Evidence


def replicated(context: RuleContext, entry: Expectation) -> frozenset[str]:
    """The variables that `importance` draws in copies: all on the path but evidence and globals."""
    model = context.facts.model
    return frozenset(
        v
        for f in entry.path
        if not isinstance(model.laws[f.law].body, Evidence)
        for v in f.outputs
        if not model.variable(v).is_global
    )


def is_bounded(context: RuleContext, entry: Expectation) -> bool:
    """Does IMPORTANCE take the entry's sum under copies?"""
    asked = context.goal.options.importance and context.divergence.row.log_ratio
    if not asked or context.is_judge or not entry.terms:
        return False
    used = {v for t in entry.terms for v in t.atom.variables}
    return not replicated(context, entry).isdisjoint(v for f in ancestors(entry.path, used) for v in f.outputs)


def is_weighed(context: RuleContext, entry: Expectation) -> bool:
    """Under copies E{w grad log f} is not zero even at the old value: the weights w see what f draws. The pair, whose
    value is zero there, stays in the sum as it is."""
    return (context.goal.options.importance or 1) > 1 and is_bounded(context, entry)
