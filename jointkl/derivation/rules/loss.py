"""LOSS: what is left of an entry, if it may be left."""

from __future__ import annotations

from jointkl.derivation.expr import Expectation
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.derivation.verify import done


def loss(context: RuleContext, entry: Expectation) -> Rewrite:
    done(context, entry)
    return Rewrite(entry, ((entry,),))


LOSS = Rule("LOSS", ("what is left is minimised by the player, all others held fixed",), loss)
