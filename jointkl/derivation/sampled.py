"""What a path samples: whether a density, a marginal or a mixture is the law by which an entry draws."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from jointkl.derivation.expr import Atom, Expectation, LogFactor, LogMarginal
from jointkl.derivation.facts import Facts
from jointkl.derivation.marginals import log_density
from jointkl.semantics.model import Evidence, Factor

Densities = frozenset[Atom]
"""A density as the product of its atoms."""


def is_own(
    facts: Facts, entry: Expectation, entries: tuple[Expectation, ...], atom: Atom, beside: Iterable[str] = ()
) -> bool:
    """Is the atom's density that by which its outputs are drawn here, given its givens (and `beside`, if told)?

    A product is, if the entry's path has it as a marginal. A mixture is drawn by several entries together: by those of
    one label, each on one of its branches, in the ratio of the branches' weights whatever else is drawn beside.
    """
    visible = (*atom.variables, *beside)
    match atom:
        case LogFactor(factor=f, value=None):
            data = isinstance(facts.model.laws[f.law].body, Evidence)
            return f in entry.path or (data and atom in _densities(facts, entry.path, visible))
        case LogMarginal(branches=((_, factors),)):
            return _densities(facts, factors, visible) <= _densities(facts, entry.path, visible)
        case LogMarginal():
            siblings = tuple(e for e in entries if e.label == entry.label) or (entry,)
            return _is_mixture_of(facts, siblings, atom, visible)
        case _:
            return False


def _is_mixture_of(facts: Facts, entries: tuple[Expectation, ...], m: LogMarginal, visible: tuple[str, ...]) -> bool:
    """E_e{grad log M} is zero over all entries together only if they draw M itself: by branch as often as M has it,
    for each law of what is drawn beside (else that tells of the branch)."""
    wanted: dict[Densities, Fraction] = {}
    for share, factors in m.branches:
        branch = _densities(facts, factors, visible)
        wanted[branch] = wanted.get(branch, Fraction(0)) + share
    drawn: dict[Densities, dict[Densities, Fraction]] = {}
    for e in entries:
        sampled = _densities(facts, e.path, visible)
        branch = next((b for b in wanted if b <= sampled), None)
        if branch is None:
            return False
        found = drawn.setdefault(sampled - branch, {})
        found[branch] = found.get(branch, Fraction(0)) + e.weight
    return all(
        {b: w / sum(found.values(), Fraction(0)) for b, w in found.items()} == wanted for found in drawn.values()
    )


def _densities(facts: Facts, factors: tuple[Factor, ...], visible: tuple[str, ...]) -> Densities:
    return frozenset(t.atom for t in log_density(facts, factors, visible, Fraction(1)))
