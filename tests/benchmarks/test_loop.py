"""The benchmark of the loop measures a run that trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("case", [0, 1])
def test_both_sides_are_timed(benchmark: Callable[[str], ModuleType], case: int) -> None:
    loop = benchmark("loop")
    found = loop.measure(loop.CASES[case], 2, 50)
    assert 0 < found.bare_ms < 1e4
    assert 0 < found.run_ms < 1e4
    assert math.isfinite(found.added)
    assert found.quartiles[0] <= found.added <= found.quartiles[1]
