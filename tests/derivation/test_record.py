"""What the record of a step tells: what vanished, what was added, which side condition failed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

import jointkl
from jointkl.derivation.rewrite import step
from jointkl.derivation.rules.cancel import CANCEL, cancel
from jointkl.derivation.rules.expand import expand
from jointkl.semantics.model import Divergence
from tests.worlds import VAE


def test_added_coefficients_stand_in_the_record() -> None:
    derivation = jointkl.derive(jointkl.parse(VAE))
    term = derivation.model.goals[0].terms[0]
    assert isinstance(term, Divergence)
    entry = expand(derivation.facts, term, 0)[0][0]
    data, posterior, prior, likelihood = entry.terms
    gone = replace(data, coefficient=Fraction(-1))
    twice = entry.of((data, posterior, prior, likelihood, posterior, gone))
    made = cancel(twice)
    added = replace(posterior, coefficient=Fraction(2))
    assert made is not None
    assert made.entry.terms == (added, prior, likelihood)
    told = step(CANCEL, None, twice, made)
    assert told.before == (data, posterior, posterior, gone)
    assert told.after == (added,)
    assert told.cells == ((data.atom, "; added: ", added),)
    assert cancel(made.entry) is None


TWO_LEVELS = """
data(x) = evidence()
var x, h, z: real[2]
net E = mlp(4)
net F = mlp(4)
net G = mlp(4)
p(h | x) = Normal(E(x))
p(z | h) = {family}(F(h))
q(z)     = Normal(0, 1)
q(h | z) = Normal(z, 1)
q(x | h) = Normal(G(h))
minimize KL(data(x) * p(h|x) * p(z|h) || q(z) * q(h|z) * q(x|h)) {options}
"""


DESCENDS = "not for h: what the second is given descends from it"


@pytest.mark.parametrize(
    ("family", "options", "told"),
    [
        ("Normal", "", [DESCENDS]),
        (
            "StudentT",
            "",
            [DESCENDS, "not for z: the integral is not known"],
        ),
        ("Normal", "with estimate=monte_carlo", ["not for h, z: estimate=monte_carlo"]),
        ("Normal", "with importance=2", ["not for h, z: copies are averaged within the logarithm"]),
    ],
)
def test_a_closed_form_that_is_not_taken_says_why(family: str, options: str, told: list[str]) -> None:
    text = jointkl.derive(jointkl.parse(TWO_LEVELS.format(family=family, options=options))).text()
    for line in told:
        assert line in text
    assert text.count("not for ") == len(told)


IDLE = (("KL", "proximal=kl"), ("KL", "proximal=dirac(2)"), ("CE", "importance=4"))


@pytest.mark.parametrize(("divergence", "option"), IDLE)
def test_an_option_that_changes_nothing_is_warned_about(divergence: str, option: str) -> None:
    plain = VAE.replace("minimize KL", f"minimize {divergence}").rstrip()
    derivation = jointkl.derive(jointkl.parse(f"{plain} with {option}"))
    (warning,) = derivation.warnings
    assert (warning.code, warning.span.text) == ("W-IDLE", option)
    assert derivation.losses == jointkl.derive(jointkl.parse(plain)).losses
