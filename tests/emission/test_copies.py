"""A network at a shifted copy of the minibatch is the network at the minibatch, shifted: nothing changes by it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.objective import ir
from jointkl.objective.share import Passes
from jointkl.program import Program
from tests.worlds import MODELS

ALPHA = (MODELS / "alpha_gan.jkl").read_text()


def compiled(copies: bool) -> Program:
    torch.manual_seed(0)
    return jointkl.compile(ALPHA, Passes(copies=copies)).double()


def gradients(program: Program, player: str, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
    loss = program.loss(player, batch)
    return (loss.detach(), *torch.autograd.grad(loss, program.parameters_of(player)))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("player", ["E+G", "C", "D"])
def test_losses_and_gradients_are_those_of_two_forwards(player: str, given: bool) -> None:
    torch.manual_seed(1)
    batch = {"x": torch.rand(5, 1, 8, 8).double(), "z": torch.randn(5, 8).double()}
    if given:
        batch["x'"] = torch.rand(5, 1, 8, 8).double()
    found, wanted = (gradients(compiled(copies), player, batch) for copies in (True, False))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_a_copy_costs_no_forward() -> None:
    calls: list[int] = []
    program = compiled(copies=True)
    program.nets["E"].register_forward_hook(lambda *_: calls.append(1))
    program.loss("E+G", {"x": torch.rand(5, 1, 8, 8).double()})
    assert len(calls) == 1
    program.loss("E+G", {"x": torch.rand(5, 1, 8, 8).double(), "x'": torch.rand(5, 1, 8, 8).double()})
    assert len(calls) == 3


def test_a_network_with_batch_statistics_is_left_alone() -> None:
    assert shifted(ALPHA) == {"E", "G"}
    assert shifted(ALPHA.replace("net E = mlp(256)", 'net E = mlp(256, norm="batch")')) == {"G"}


def shifted(text: str) -> set[str]:
    """The networks whose values at a copy are those at the minibatch, moved by one."""
    losses = jointkl.compile(text).objective.losses
    own = [loss.nodes[node.given] for loss in losses for node in loss.nodes if isinstance(node, ir.Shifted)]
    return {node.net for node in own if isinstance(node, ir.Net)}
