"""A round: who steps when, on which minibatch, and when the snapshot is renewed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from jointkl.training.phases import Phase
from jointkl.training.steps import PhaseStepper, play


class Fake:
    """A program of which only the calls matter: every player pulls its one parameter towards 0."""

    def __init__(self, *players: str) -> None:
        self.weights = {player: nn.Parameter(torch.ones(())) for player in players}
        self.calls: list[Any] = []

    def parameters(self) -> list[nn.Parameter]:
        return list(self.weights.values())

    def parameters_of(self, player: str) -> list[nn.Parameter]:
        return [self.weights[player]]

    def loss(self, player: str, batch: Mapping[str, Tensor]) -> Tensor:
        self.calls.append((player, int(batch["x"])))
        return sum(w.square() for w in self.weights.values())  # of all, so that a step could move the others

    def snapshot(self) -> None:
        self.calls.append("snapshot")

    def batches(self) -> Iterator[Mapping[str, Tensor]]:
        return iter({"x": torch.tensor(i)} for i in range(1000))


def phase(player: str, kind: str, *, snapshot: bool = False, every: int = 1, repeat: int = 1, **options: Any) -> Phase:
    values = {"optimizer": "sgd", "lr": 0.1, "betas": (0.9, 0.999), "weight_decay": 0.0, "clip": None} | options
    return Phase(player=player, kind=kind, snapshot=snapshot, every=every, repeat=repeat, **values)


def played(table: list[Phase], rounds: int) -> tuple[list[list[Any]], Fake]:
    """The calls of each round, and the program."""
    program = Fake(*(p.player for p in table))
    steppers = [PhaseStepper(p, program) for p in table]
    batches = program.batches()
    calls = []
    for number in range(1, rounds + 1):
        play(number, steppers, lambda: next(batches), program.snapshot)
        calls.append(program.calls)
        program.calls = []
    return calls, program


def test_phases_of_a_round_share_a_minibatch_and_repeats_take_fresh_ones() -> None:
    calls, _ = played([phase("D", "classifier", repeat=2), phase("G", "other", snapshot=True)], 2)
    assert calls == [[("D", 0), ("D", 1), "snapshot", ("G", 0)], [("D", 2), ("D", 3), "snapshot", ("G", 2)]]


def test_every_leaves_rounds_out() -> None:
    calls, _ = played([phase("D", "classifier"), phase("G", "other", snapshot=True, every=3)], 6)
    assert [("G", i) in round_ for i, round_ in enumerate(calls)] == [False, False, True, False, False, True]
    assert all(("D", i) in round_ for i, round_ in enumerate(calls))
    assert all("snapshot" in round_ for round_ in calls), "D stepped, whether or not G does"


def test_the_snapshot_waits_for_a_classifier() -> None:
    table = [phase("D", "classifier", every=2), phase("T", "critic", every=3)]
    calls, _ = played([*table, phase("G", "other", snapshot=True, repeat=2), phase("E", "other")], 6)
    assert ["snapshot" in round_ for round_ in calls] == [False, True, True, True, False, True]
    assert calls[5] == [("D", 10), ("T", 10), "snapshot", ("G", 10), ("G", 11), ("E", 10)], "once, whatever repeats"


def test_without_classifiers_every_round_has_a_snapshot() -> None:
    calls, _ = played([phase("E", "other", snapshot=True, every=2), phase("G", "other")], 3)
    assert calls == [["snapshot", ("G", 0)], ["snapshot", ("E", 1), ("G", 1)], ["snapshot", ("G", 2)]]


def test_a_step_moves_its_player_alone() -> None:
    _, program = played([phase("D", "classifier"), phase("G", "other", every=5)], 1)
    assert program.weights["D"].item() == torch.tensor(0.8).item()
    assert program.weights["G"].item() == 1.0
    assert program.weights["G"].grad is None


def test_clip_bounds_the_gradient() -> None:
    _, program = played([phase("D", "classifier", clip=0.5)], 1)
    assert abs(program.weights["D"].item() - 0.95) < 1e-5  # the gradient is 2


def test_losses_stay_until_they_are_read() -> None:
    program = Fake("D")
    stepper = PhaseStepper(phase("D", "classifier"), program)
    assert stepper.last is None
    for number in (3, 4):
        stepper.step({"x": torch.tensor(0)}, number)
    assert stepper.last is not None
    assert abs(stepper.last - 0.64) < 1e-6
    (third, first), (fourth, second) = stepper.read()
    assert (third, fourth) == (3, 4)
    assert (round(first, 5), round(second, 5)) == (1.0, 0.64)
    assert stepper.read() == []
