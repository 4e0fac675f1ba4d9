"""The encoder of a VAE 784-400-20 in the two forms that are common, for every peer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.hand import mlp


class TwoHeads(nn.Module):
    """x to the mean and the standard deviation of z, each from a layer of its own: as in the peers' examples."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(784, 400), nn.ReLU())
        self.loc, self.log_scale = nn.Linear(400, 20), nn.Linear(400, 20)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(x)
        return self.loc(hidden), torch.exp(self.log_scale(hidden))

    def assign(self, weights: Sequence[Tensor]) -> None:
        """Take the weights of an encoder with one layer for both."""
        first, last = weights[:2], weights[2:]
        assign(self.hidden, first)
        for head, half in zip((self.loc, self.log_scale), zip(*(w.chunk(2) for w in last), strict=True), strict=True):
            assign(head, half)


class OneHead(nn.Module):
    """The same from one layer, which is faster."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp(784, 400, 40)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc, log_scale = self.layers(x).chunk(2, -1)
        return loc, log_scale.exp()

    def assign(self, weights: Sequence[Tensor]) -> None:
        assign(self, weights)


def assign(module: nn.Module, weights: Sequence[Tensor]) -> None:
    """Give the module's parameters, in their order, these values."""
    with torch.no_grad():
        for parameter, weight in zip(module.parameters(), weights, strict=True):
            parameter.copy_(weight)
