"""Small finite specs compiled, their losses as exact expectations, to be held against sums by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import jointkl
from jointkl.program import Program
from tests.properties.expectation import expectation


def compiled(text: str, seed: int = 0) -> Program:
    """The program in double precision, its parameters of no special value."""
    program = jointkl.compile(text).double()
    moved(program, seed)
    program.snapshot()
    return program


def moved(program: Program, seed: int) -> None:
    """Every parameter anew; the snapshot stays."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for w in program.emitted.parameters():
            w.copy_(0.9 * torch.randn(w.shape, generator=chance, dtype=w.dtype))


class Lookup(nn.Module):
    """A network of finite inputs as the table of its values."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table.detach().clone())

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.table[tuple(torch.broadcast_tensors(*(v.long() for v in inputs)))]


def known(program: Program, net: str, table: Tensor) -> nn.Parameter:
    """The network gives the table's values from here on."""
    lookup = Lookup(table)
    setattr(program.emitted, program.emitted.nets[net], lookup)
    return lookup.table


def expected(program: Program, player: str, **data: list[float]) -> Tensor:
    """The expectation of a player's loss over all that it draws; `data` gives the probabilities of each variable's
    values, independent ones."""
    batch: dict[str, Tensor] = {}
    weights = torch.ones(1, dtype=torch.float64)
    for name, probabilities in data.items():
        p = torch.tensor(probabilities, dtype=torch.float64)
        batch = {k: v.repeat_interleave(len(p)) for k, v in batch.items()}
        batch[name] = torch.arange(len(p)).repeat(len(weights))
        weights = (weights[:, None] * p).flatten()
    return expectation(lambda b: program.loss(player, b), batch or {"nothing": torch.zeros(1)}, weights)


def slopes(value: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    if not value.requires_grad:
        return [torch.zeros_like(w) for w in parameters]
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, parameters, strict=True)]


def same_slopes(found: Tensor, wanted: Tensor, parameters: list[Tensor]) -> None:
    for a, b in zip(slopes(found, parameters), slopes(wanted, parameters), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL of two tables."""
    return (p * (p.log() - q.log())).sum()
