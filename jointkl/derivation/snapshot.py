"""Densities at the snapshot: the old copies that a substitution compares with."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.expr import Atom, LogFactor, LogMarginal, Term
from jointkl.derivation.facts import Facts, factors_of
from jointkl.derivation.marginals import canonical


def old(facts: Facts, atom: Atom) -> Atom:
    """The atom at the snapshot; what nobody trains is its own old copy."""
    if not any(facts.trained(f) for f in factors_of(atom)):
        return atom
    match atom:
        case LogFactor(factor=factor):
            return replace(atom, factor=replace(factor, old=True))
        case LogMarginal():
            return _marginal(facts, atom)
        case _:
            return atom


def at_old(facts: Facts, t: Term) -> Term:
    """The term of a substitution: its atom at the snapshot, marked by what it is the copy of."""
    before = old(facts, t.atom)
    return t if before == t.atom else replace(t, atom=before, copy_of=t.atom)


def _marginal(facts: Facts, m: LogMarginal) -> LogMarginal:
    """The marginal with every factor that anybody trains at the snapshot."""
    branches = tuple((w, tuple(replace(f, old=f.old or facts.trained(f)) for f in fs)) for w, fs in m.branches)
    return replace(m, branches=branches, canonical=canonical(facts, branches, m.hidden), old=True)
