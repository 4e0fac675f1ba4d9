"""PRUNE: the path without what no term needs."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.expr import Entry
from jointkl.derivation.facts import ancestors
from jointkl.derivation.parts import listed
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext


def prune(context: RuleContext, entry: Entry) -> Rewrite | None:
    """The path to the ancestors of the variables used."""
    weighing = (*entry.weights, *((entry.softmax,) if entry.softmax else ()))
    used = {v for a in (*(t.atom for t in entry.terms), *weighing) for v in a.variables}
    path = ancestors(entry.path, used)
    if path == entry.path or not entry.terms:
        return None
    kept = frozenset(path)
    gone = [f for f in entry.path if f not in kept]
    return Rewrite(replace(entry, path=path), ((*listed(gone), ": not used"),))


PRUNE = Rule("PRUNE", ("what no term depends on integrates to one",), prune)
