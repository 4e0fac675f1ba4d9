"""Learning rates against torch's schedulers, and where the optimisers get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

import jointkl
from jointkl.training import schedules, steps
from jointkl.training.folder import checkpoints
from jointkl.training.optimizers import optimizer
from jointkl.training.phases import Phase
from jointkl.training.schedules import rate

LR = 0.3
PLAIN = Phase("G", "other", True, "sgd", LR, (0.9, 0.999), 0.0, None, 1, 1)


def by_torch(schedule: str, warmup: int, rounds: int) -> list[float]:
    """The rate of every round by torch's schedulers, the same shapes put together by another hand."""
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR)
    left = rounds - warmup
    shape: LRScheduler = {
        "constant": lambda: ConstantLR(sgd, 1.0, 1),
        "linear": lambda: LinearLR(sgd, 1.0, 0.0, total_iters=left),
        "cosine": lambda: CosineAnnealingLR(sgd, left),
    }[schedule]()
    if warmup:
        rising = LinearLR(sgd, 1 / (warmup + 1), 1.0, total_iters=warmup)
        shape = SequentialLR(sgd, [rising, shape], [warmup])
    found = []
    for _ in range(rounds):
        found.append(sgd.param_groups[0]["lr"])
        sgd.step()
        shape.step()
    return found


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 13])
def test_the_rates_are_those_of_torch(schedule: str, warmup: int) -> None:
    found = rate(replace(PLAIN, schedule=schedule, warmup=warmup), 40)
    rates = [found(number) if found else LR for number in range(1, 41)]
    assert rates == pytest.approx(by_torch(schedule, warmup, 40), abs=1e-12)
    assert max(rates) == LR
    assert min(rates) > 0


def test_a_constant_rate_is_nobody_s_business() -> None:
    assert rate(PLAIN, 100) is None
    assert rate(replace(PLAIN, schedule="linear"), 100) is not None
    assert rate(replace(PLAIN, warmup=1), 100) is not None


def test_a_warm_up_longer_than_the_run_rises_to_its_end() -> None:
    found = rate(replace(PLAIN, schedule="cosine", warmup=100), 10)
    assert found is not None
    assert [found(number) for number in (1, 10)] == pytest.approx([LR / 101, LR * 10 / 101])


def test_each_round_has_its_rate(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeated steps share their round's; rounds that a player leaves out count for its schedule."""
    seen: list[tuple[str, int, float]] = []
    step = steps.PhaseStepper.step

    def listening(stepper: steps.PhaseStepper, batch: Mapping[str, Tensor], number: int) -> None:
        seen.append((stepper.phase.player, number, stepper.optimizer.param_groups[0]["lr"]))
        step(stepper, batch, number)

    monkeypatch.setattr(steps.PhaseStepper, "step", listening)
    spec = gan + "train(lr=0.1, schedule=linear)\ntrain D(schedule=constant, repeat=2)\ntrain G(every=2)"
    jointkl.train(spec, steps=8, out=tmp_path / "run", quiet=True, pictures=0)
    rates = {number: lr for player, number, lr in seen if player == "G"}
    assert rates == pytest.approx({2: 0.1 * 7 / 8, 4: 0.1 * 5 / 8, 6: 0.1 * 3 / 8, 8: 0.1 * 1 / 8})
    assert [lr for player, _, lr in seen if player == "D"] == [0.1] * 16


def test_all_at_once_have_their_rates(gan: str, tmp_path: Path) -> None:
    """With plain gradient descent the way a parameter goes is proportional to the rate of its round."""
    ways: dict[str, list[float]] = {}
    for schedule in ("constant", "linear"):
        spec = gan.replace("beta1=0.5", "optimizer=sgd, lr=0.5, updates=simultaneous") + f"train G(schedule={schedule})"
        run = jointkl.train(spec, steps=2, out=tmp_path / schedule, quiet=True, pictures=0, checkpoints=2)
        found = [load_file(path)["program/G.layers.0.weight"] for path in checkpoints.whole(run.folder)]
        ways[schedule] = [float((b - a).norm()) for a, b in pairwise(found)]
    assert ways["linear"][0] == ways["constant"][0]
    assert ways["linear"][1] == pytest.approx(ways["constant"][1] / 2, rel=1e-3)


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_rate_in_a_tensor_is_the_same(name: str, decay: float) -> None:
    """As a captured step reads it: the optimisers here, the tensor put in their place."""
    ends = []
    for held in (False, True):
        weight = nn.Parameter(torch.tensor([2.0, -1.0]))
        found = optimizer(replace(PLAIN, optimizer=name, weight_decay=decay), [weight])
        if held:
            found.param_groups[0]["lr"] = torch.tensor(LR)
        place = found.param_groups[0]["lr"]
        for lr in (0.3, 0.2, 0.05):
            schedules.set_rate(found, lr)
            weight.grad = torch.tensor([0.7, 0.1])
            found.step()
        assert not held or found.param_groups[0]["lr"] is place, "at its own address"
        ends.append(weight.detach())
    torch.testing.assert_close(*ends)
