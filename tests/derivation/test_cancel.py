"""CANCEL's record: what vanished, and what became of coefficients that were added."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import jointkl
from jointkl.derivation.rules.expand import cancel, expand
from jointkl.semantics.model import Divergence
from tests.worlds import VAE


def test_added_coefficients_stand_in_the_record() -> None:
    derivation = jointkl.derive(jointkl.parse(VAE))
    term = derivation.model.goals[0].terms[0]
    assert isinstance(term, Divergence)
    entry = expand(derivation.facts, term, 0)[0][0]
    data, posterior, prior, likelihood = entry.terms
    gone = replace(data, coefficient=Fraction(-1))
    twice = replace(entry, terms=(data, posterior, prior, likelihood, posterior, gone))
    made, step = cancel(twice)
    added = replace(posterior, coefficient=Fraction(2))
    assert made.terms == (added, prior, likelihood)
    assert step is not None
    assert step.before == (data, posterior, posterior, gone)
    assert step.after == (added,)
    assert step.cells == ((data.atom, "; added: ", added),)
    assert cancel(made) == (made, None)
