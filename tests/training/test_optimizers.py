"""Optimisers against their update rules, written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from jointkl.training.optimizers import optimizer
from jointkl.training.phases import Phase

GRADIENT, START, LR = 0.7, 2.0, 0.1


def after_one_step(name: str, decay: float) -> float:
    weight = nn.Parameter(torch.tensor(START))
    found = optimizer(Phase("G", "other", True, name, LR, (0.5, 0.9), decay, None, 1, 1), [weight])
    weight.grad = torch.tensor(GRADIENT)
    found.step()
    return weight.item()


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("adam", LR),  # bias-corrected, the first step is lr * sign
        ("adamw", LR),
        ("sgd", LR * GRADIENT),
        ("rmsprop", LR / math.sqrt(1 - 0.99)),
    ],
)
def test_the_first_step_with_decoupled_decay(name: str, step: float, decay: float) -> None:
    assert after_one_step(name, decay) == pytest.approx(START * (1 - LR * decay) - step, rel=1e-5)


def test_adam_takes_its_moments() -> None:
    weight = nn.Parameter(torch.tensor(START))
    found = optimizer(Phase("G", "other", True, "adam", LR, (0.5, 0.9), 0.0, None, 1, 1), [weight])
    m = v = 0.0
    expected = START
    for i, gradient in enumerate((0.7, -0.2, 0.4), 1):
        m, v = 0.5 * m + 0.5 * gradient, 0.9 * v + 0.1 * gradient**2
        expected -= LR * (m / (1 - 0.5**i)) / (math.sqrt(v / (1 - 0.9**i)) + 1e-8)
        weight.grad = torch.tensor(gradient)
        found.step()
    assert weight.item() == pytest.approx(expected, rel=1e-5)


def test_a_kernel_that_is_not_fused_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = after_one_step("adam", 0.3)
    plain = torch.optim.Adam

    def refusing(parameters: Any, fused: bool | None = None, **options: Any) -> torch.optim.Optimizer:
        if fused:
            raise RuntimeError("`fused=True` requires all the params to be on a supported device")
        return plain(parameters, **options)

    monkeypatch.setattr(torch.optim, "Adam", refusing)
    assert after_one_step("adam", 0.3) == pytest.approx(fused, rel=1e-6)
