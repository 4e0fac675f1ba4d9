"""The emitted module is right on random specs: every player's gradient is the exact one, whatever the spec."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.audit.random_specs import WHOLE, Figures

SHARDS, EACH = 20, 100
"""So many specs are drawn in the suite, of which some eight in ten are judged; ten times as many with the profile."""


@pytest.mark.parametrize("shard", range(SHARDS))
def test_random_specs_mean_what_they_say(shard: int) -> None:
    known = settings.default
    assert known is not None
    times = max(1, known.max_examples // 100)
    figures = Figures()
    for k in range(EACH * times):
        figures.add(f"{shard} {k}", whole=k % WHOLE == 0)
    print(figures)
    assert not figures.wrong, "\n".join(figures.wrong[:3])
    assert figures.judged > EACH * times / 2
