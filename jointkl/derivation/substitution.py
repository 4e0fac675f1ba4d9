"""What a substitution brought in: it is exact up to sum c_i (log f_i - log f_i_old), a pair for each f_i.

Under a classifier's optimum at the snapshot, R(theta) = R(theta_old) + sum c_i (log f_i - log f_i_old).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from jointkl.derivation.expr import Atom, Expectation, Term, collect


@dataclass(frozen=True, slots=True)
class Pair:
    """coefficient * (log f - log f_old)"""

    coefficient: Fraction
    new: Atom
    old: Atom

    def terms(self, span: Term) -> tuple[Term, Term]:
        return (
            Term(self.coefficient, self.new, span=span.span),
            Term(-self.coefficient, self.old, copy_of=self.new, span=span.span),
        )


def pairs(entry: Expectation) -> Iterator[tuple[Pair, Term]]:
    """Each atom that a substitution brought in, with the one that it is the old copy of; its coefficient sets the
    pair's."""
    for t in entry.terms:
        if t.copy_of is not None:
            yield Pair(-t.coefficient, t.copy_of, t.atom), t


def without(entry: Expectation, pair: Pair, term: Term) -> tuple[Term, ...]:
    """The terms less the pair; a coefficient of log f beyond the pair's stays."""
    minus = tuple(replace(t, coefficient=-t.coefficient) for t in pair.terms(term))
    return collect((*entry.terms, *minus))


def unmarked(entry: Expectation, term: Term) -> Expectation:
    """The old half of a pair is an atom like the others from here on: the pair stays, as a value that is zero at the
    snapshot and has the gradient of its new half there."""
    return entry.of(collect(tuple(replace(t, copy_of=None) if t is term else t for t in entry.terms)))
