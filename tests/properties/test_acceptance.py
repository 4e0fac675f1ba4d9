"""Drawn specs are mostly accepted: a property that holds of refusals alone says nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings, target
from hypothesis import strategies as st

import jointkl
from tests.properties import drawn, gaussian
from tests.properties.compiled import LEGITIMATE
from tests.properties.specs import Spec

SAMPLES = 40

STRATEGIES: dict[str, st.SearchStrategy[Spec]] = {
    "likelihoods": drawn.likelihoods(),
    "cross-entropies": drawn.likelihoods(name="CE"),
    "hidden": drawn.likelihoods(hidden=True),
    "hidden mixtures": drawn.hidden_mixtures("CE"),
    "several": drawn.several(),
    "mixtures": drawn.mixtures(),
    "evaluable mixtures": drawn.mixtures(evaluable=True),
    "three labels": drawn.mixtures(evaluable=True, label="three"),
    "weighted": drawn.weighted(),
    "ratios": drawn.ratios(),
    "Gaussian likelihoods": gaussian.likelihoods(),
    "Gaussian mixtures": gaussian.mixtures(),
    "Gaussian ratios": gaussian.ratios(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_at_least_half_of_the_drawn_specs_derive(name: str) -> None:
    codes: Counter[str] = Counter()

    @seed(1)
    @settings(
        max_examples=SAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(STRATEGIES[name])
    def draw(spec: Spec) -> None:
        try:
            jointkl.python(jointkl.parse(spec.text))
            codes["accepted"] += 1
        except jointkl.JklError as error:
            codes.update({r.code for r in error.reports})
        target(float(codes["accepted"]))

    draw()
    assert set(codes) <= {"accepted", *LEGITIMATE}, codes
    assert codes["accepted"] >= SAMPLES / 2, codes
