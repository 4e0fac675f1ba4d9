"""PRUNE: the path without what no term needs."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.expr import Expectation, core, drawn
from jointkl.derivation.facts import ancestors
from jointkl.derivation.parts import listed
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext


def prune(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """The path to the ancestors of the variables used."""
    weighing = (t for by in entry.weighing for t in core(by).terms)
    used = {v for t in (*entry.terms, *weighing) for v in t.atom.variables}
    path = ancestors(entry.path, used)
    if path == entry.path or not entry.terms:
        return None
    kept = frozenset(path)
    gone = [f for f in entry.path if f not in kept]
    return Rewrite(replace(entry, draws=drawn(path)), ((*listed(gone), ": not used"),))


PRUNE = Rule("PRUNE", ("what no term depends on integrates to one",), prune)
