"""The learning rate of a round: a pure function of its number and the run's length, so that a checkpoint keeps none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor
from torch.optim import Optimizer

from jointkl.training.phases import Phase

SHAPES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1.0 - t,
    "cosine": lambda t: 0.5 * (1.0 + math.cos(math.pi * t)),
}
"""The share of the largest rate at time t, 0 <= t < 1, of what follows the warm-up. Cosine: Loshchilov and Hutter 2017,
eq. 5, without restarts."""

Rate = Callable[[int], float]
"""The learning rate of a round, counted from 1."""


def changes(phase: Phase) -> bool:
    """Whether the rate of a phase is not the same in every round."""
    return phase.schedule != "constant" or phase.warmup > 0


def rate(phase: Phase, rounds: int) -> Rate | None:
    """The rate of a phase in a run of so many rounds; None where it never changes.

    It rises in equal steps over `warmup` rounds, is the phase's own in the next, and falls to 0 behind the last.
    """
    if not changes(phase):
        return None
    shape, warmup, largest = SHAPES[phase.schedule], phase.warmup, phase.lr

    def found(number: int) -> float:
        if number <= warmup:
            return largest * number / (warmup + 1)
        return largest * shape((number - 1 - warmup) / max(1, rounds - warmup))

    return found


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Let the next steps have a rate. Where a captured step reads it from a tensor it is written there."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
