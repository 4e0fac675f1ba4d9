"""The arithmetic of networks while they train: float32, or bfloat16 under torch's autocast.

Under bf16 the layers of every network, old copies included, run in bfloat16 and hand back float32. What follows them
stays in float32: the maps into a space, densities, closed forms, losses. A log-density is a sum of large numbers whose
small differences are the gradient, and bfloat16 has eight bits for each. Parameters, their gradients, optimisers and
averages are float32, so a checkpoint is the same. Samples and evaluation are in float32 too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from jointkl.program import Program

BF16 = "bf16"


@contextmanager
def arithmetic(program: Program, precision: str) -> Iterator[None]:
    """Networks in training mode run in a precision of the option's; afterwards as before."""
    changed = lower(program) if precision == BF16 else []
    try:
        yield
    finally:
        for part in changed:
            del part.forward


def lower(program: Program) -> list[nn.Module]:
    """Set how every stack of layers runs, and what makes weights in it: a spectral norm is that of float32 weights."""
    stacks = [stack for net in program.emitted.children() for stack in net.children()]
    weights = [part for stack in stacks for part in stack.modules() if isinstance(part, ParametrizationList)]
    device = program.emitted.anchor.device.type
    for part in weights:
        part.forward = _running(part, device, lower=False)
    for stack in stacks:
        stack.forward = _running(stack, device, lower=True)
    return [*weights, *stacks]


def _running(part: nn.Module, device: str, *, lower: bool) -> Callable[..., Tensor]:
    """The part's own forward. A context for each call: autocast keeps the weights that it rounded until its end, and
    one rounded where no gradient was wanted would be taken where one is."""
    own = part.forward

    def forward(*inputs: Tensor) -> Tensor:
        if not part.training:
            return own(*inputs)
        with torch.autocast(device, torch.bfloat16, enabled=lower):
            return own(*inputs).float()

    return forward
