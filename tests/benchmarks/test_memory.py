"""The record of memory is right for a step whose allocations are known; the emitted steps hold what the others do."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

MIB = 2**20


@pytest.fixture
def memory(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("memory")


def held(together: bool) -> Callable[[torch.Tensor], None]:
    def step(_: torch.Tensor) -> None:
        first = torch.zeros(MIB, dtype=torch.uint8)
        if not together:
            del first
        torch.zeros(2 * MIB, dtype=torch.uint8)

    return step


@pytest.mark.parametrize(("together", "most"), [(True, 3 * MIB), (False, 2 * MIB)])
def test_the_peak_is_what_is_held_at_once(memory: ModuleType, together: bool, most: int) -> None:
    batches = [torch.zeros(1)] * (memory.WARM + memory.RECORDED)
    assert memory.peak(held(together), batches) == most


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VAE 784-400-20", "GAN 2-128-128"])
def test_an_emitted_step_holds_no_more_than_a_tenth_more(
    memory: ModuleType, benchmark: Callable[[str], ModuleType], name: str
) -> None:
    (compared,) = (c for c in benchmark("step").COMPARISONS if c.name == name)
    found = memory.measure(compared, 128)
    gradients = sum(4 * p.numel() for p in compared.by_hand().parameters())
    assert found.hand > gradients
    assert found.ratio <= memory.TARGET
