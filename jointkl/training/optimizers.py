"""A phase's optimiser, from torch: fused where it can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from jointkl.training import schedules
from jointkl.training.phases import Phase


class RMSprop(torch.optim.RMSprop):
    """torch's, its weight decay decoupled: p <- p - lr * decay * p before the step, not decay * p in the gradient."""

    def __init__(self, parameters: Sequence[Parameter], *, lr: Any, decay: float, **options: Any) -> None:
        super().__init__(parameters, lr=lr, **options)
        self.decay = decay

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * self.decay)
        return super().step(closure)


def optimizer(phase: Phase, parameters: Sequence[Parameter]) -> Optimizer:
    """The optimiser of a phase over its player's parameters. Weight decay is decoupled in all of them.

    On a GPU its step can be captured in a CUDA graph; SGD, which counts no steps, can everywhere. A rate that changes
    is then a tensor: a graph would replay a number as it was.
    """
    capturable = bool(parameters) and all(p.is_cuda for p in parameters)
    lr: Any = phase.lr
    if capturable and schedules.changes(phase):
        lr = torch.tensor(phase.lr, dtype=torch.float32, device=parameters[0].device)
    match phase.optimizer:
        case "adam" | "adamw":  # one rule, as the decay is decoupled
            decay: dict[str, Any] = {"weight_decay": phase.weight_decay, "decoupled_weight_decay": True}
            return _fused(torch.optim.Adam, parameters, lr=lr, betas=phase.betas, capturable=capturable, **decay)
        case "sgd":  # without momentum, decay in the gradient is p <- p - lr * decay * p
            return _fused(torch.optim.SGD, parameters, lr=lr, weight_decay=phase.weight_decay)
        case "rmsprop" if phase.weight_decay:
            return RMSprop(parameters, lr=lr, decay=phase.weight_decay, capturable=capturable)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=lr, capturable=capturable)
        case name:
            raise ValueError(f"no optimiser {name!r}")


def _fused(kind: Any, parameters: Sequence[Parameter], **options: Any) -> Optimizer:
    try:
        return kind(parameters, fused=True, **options)
    except RuntimeError:  # torch has no fused kernel for this device or type
        return kind(parameters, **options)
