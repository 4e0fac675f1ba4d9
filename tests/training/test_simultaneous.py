"""`updates=simultaneous`: all gradients at the same parameters, then all steps; one backward where that can be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.diagnostics import DataError
from jointkl.objective.share import Passes
from jointkl.program import Program
from jointkl.training.phases import length, phases
from jointkl.training.steps import PhaseStepper, play_together
from tests.worlds import GAN, MODELS

ROUNDS = 5


def steppers(program: Program) -> tuple[PhaseStepper, ...]:
    players = program.derivation.facts.players
    return tuple(PhaseStepper(p, program) for p in phases(program.model, program.objective, players, {}))


def trained(text: str, passes: Passes, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    program = jointkl.compile(text, passes).double()
    mine, left = steppers(program), iter(batches)
    for number in range(1, ROUNDS + 1):
        play_together(number, mine, lambda: next(left), program.snapshot)
    assert all(len(stepper.read()) == ROUNDS for stepper in mine)
    return {name: w.detach().clone() for name, w in program.named_parameters()}


def batches() -> list[dict[str, Tensor]]:
    torch.manual_seed(1)
    return [{"x": torch.randn(8, 2).double(), "z": torch.randn(8, 2).double(), "z.noise": torch.randn(8, 2).double(),
             "x.noise": torch.randn(8, 2).double()} for _ in range(ROUNDS)]  # fmt: skip


@pytest.mark.parametrize("name", ["gan", "ali", "gan_regularized"])
def test_one_backward_is_every_player_s_own(name: str) -> None:
    text = (MODELS / f"{name}.jkl").read_text().replace("train G(repeat=3)", "").replace("repeat=3", "repeat=1")
    one, apart = (trained(text, Passes(together=together), batches()) for together in (True, False))
    for key, w in apart.items():
        torch.testing.assert_close(one[key], w, rtol=1e-6, atol=1e-9)


def test_a_round_is_adam_at_the_same_parameters() -> None:
    """Two steps of the GAN by hand: gradients of both losses first, then both steps."""
    data = batches()
    found = trained(GAN, Passes(together=True), data)
    torch.manual_seed(0)
    program = jointkl.compile(GAN).double()
    own = {player: program.parameters_of(player) for player in ("D", "G")}
    adam = {player: torch.optim.Adam(w, lr=1e-3) for player, w in own.items()}
    for batch in data:
        grads = {p: torch.autograd.grad(program.loss(p, batch), w) for p, w in own.items()}
        for player, optimizer in adam.items():
            for w, g in zip(own[player], grads[player], strict=True):
                w.grad = g
            optimizer.step()
    for name, w in program.named_parameters():
        torch.testing.assert_close(found[name], w.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_run_by_the_spec_and_by_a_setting(tmp_path: Path) -> None:
    said = jointkl.train(GAN + "train(updates=simultaneous, batch=32)", steps=20, out=tmp_path / "a", quiet=True)
    set_ = jointkl.train(
        GAN + "train(batch=32)", steps=20, out=tmp_path / "b", quiet=True, settings={"updates": "simultaneous"}
    )
    assert said.program.objective.together is not None
    for (name, a), (_, b) in zip(said.program.named_parameters(), set_.program.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    rows = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert all({"D", "G"} <= set(row["losses"]) for row in rows if "losses" in row)


def test_repeated_steps_are_refused() -> None:
    model = jointkl.parse(GAN + "train(updates=simultaneous)\ntrain G(repeat=2)")
    assert length(model, {}).updates == "simultaneous"
    with pytest.raises(DataError, match="G has repeat=2, and updates=simultaneous"):
        jointkl.train(model, steps=1, quiet=True)
