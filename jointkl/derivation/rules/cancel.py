"""CANCEL: identical atoms added up."""

from __future__ import annotations

from jointkl.derivation.expr import Atom, Expectation, Term, collect
from jointkl.derivation.parts import Line, listed
from jointkl.derivation.rewrite import Rewrite, Rule


def cancel(entry: Expectation) -> Rewrite | None:
    """Coefficients of identical atoms add; zeros vanish."""
    left = collect(entry.terms)
    if left == entry.terms:
        return None
    kept = {t.atom for t in left}
    gone = tuple(dict.fromkeys(t.atom for t in entry.terms if t.atom not in kept))
    old = frozenset(entry.terms)
    return Rewrite(entry.of(left), _cancelled(gone, tuple(t for t in left if t not in old)))


def _cancelled(gone: tuple[Atom, ...], added: tuple[Term, ...]) -> tuple[Line, ...]:
    """The atoms that vanished, and those whose coefficients were added."""
    word = "; added: " if gone else "added: "
    return ((*listed(gone), *((word, *listed(added)) if added else ())),)


CANCEL = Rule("CANCEL", ("coefficients of identical atoms add; what is zero vanishes",), cancel)
