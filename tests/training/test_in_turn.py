"""Steps one after the other from one line of losses: what several players make of the data stands once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.objective.share import Passes
from jointkl.program import Program
from jointkl.sources import bind
from jointkl.training import engine
from jointkl.training.minibatches import Minibatches
from jointkl.training.phases import phases
from jointkl.training.steps import PhaseStepper, Play, play, play_in_turn
from tests.worlds import MODELS

APART = Passes(in_turn=False)
ROUNDS = 4
SHARING = ("aae", "ali", "ali_dropped", "ali_minimax", "ali_nonsaturating", "alpha_gan", "bigan", "cyclegan",
           "domain_adaptation", "vae_gan")  # fmt: skip


def text_of(name: str) -> str:
    return (MODELS / f"{name}.jkl").read_text()


def trained(
    text: str, play: Play, passes: Passes | None, given: Mapping[str, Tensor]
) -> tuple[Program, list[list[float]]]:
    """The program after some rounds in double precision, and every loss of each player."""
    torch.manual_seed(0)
    program = jointkl.compile(text, passes).double()
    table = phases(program.model, program.objective, program.derivation.facts.players, {})
    steppers = tuple(PhaseStepper(phase, program) for phase in table)
    batches = Minibatches(bind(program.model), 6, 0, torch.device("cpu"))

    def draw() -> dict[str, Tensor]:
        drawn = batches.draw() | dict(given)
        return {key: rows.double() if rows.is_floating_point() else rows for key, rows in drawn.items()}

    for number in range(1, ROUNDS + 1):
        play(number, steppers, draw, program.snapshot)
    return program, [[loss for _, loss in stepper.read()] for stepper in steppers]


def same(text: str, given: Mapping[str, Tensor] = {}) -> None:
    one, losses = trained(text, play_in_turn, None, given)
    apart, wanted = trained(text, play, APART, given)
    assert one.objective.in_turn is not None
    assert losses == [pytest.approx(each, rel=1e-9) for each in wanted]
    for (name, a), (_, b) in zip(one.named_parameters(), apart.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("name", SHARING)
def test_rounds_are_those_of_the_losses_apart(name: str) -> None:
    """Random numbers too: each turn draws its own, in the same order."""
    same(text_of(name))


def test_who_repeats_or_pauses_takes_the_steps_of_the_losses_apart() -> None:
    text = text_of("alpha_gan")
    same(f"{text}\ntrain D(repeat=3)\ntrain C(every=2)")
    same(f"{text}\ntrain E(repeat=2)")


def test_a_copy_that_is_given_is_taken() -> None:
    torch.manual_seed(1)
    same(text_of("alpha_gan"), {"x'": torch.rand(6, 1, 8, 8)})


def calls(text: str, passes: Passes | None = None) -> Counter[str]:
    """How many rows each network is applied to in one round of four data."""
    found: Counter[str] = Counter()
    program = jointkl.compile(text, passes)
    for name, net in program.nets.items():
        net.register_forward_hook(lambda net, inputs, output, name=name: found.update({name: len(inputs[0])}))
    batch = Minibatches(bind(program.model), 4, 0, torch.device("cpu")).draw()
    if program.objective.in_turn is None:
        for phase in program.objective.phases:
            program.loss(phase.player, batch)
    else:
        list(program.in_turn(batch))
    return found


def test_what_stands_still_is_computed_once() -> None:
    assert calls(text_of("cyclegan"), APART)["F"] == 3 * 4
    assert calls(text_of("cyclegan"))["F"] == 2 * 4  # b = F(a), and F(G(b)) back
    assert calls(text_of("alpha_gan"), APART) == {"E": 3 * 4, "G": 4 * 4, "C": 3 * 4, "D": 5 * 4}
    assert calls(text_of("alpha_gan")) == {"E": 4, "G": 3 * 4, "C": 3 * 4, "D": 5 * 4}


@pytest.mark.parametrize("options", ['norm="batch"', 'norm="spectral"', "dropout=0.5"])
def test_a_network_that_is_no_function_of_its_input_is_applied_anew(options: str) -> None:
    text = text_of("aae").replace("net E = mlp(256", f"net E = mlp(256, {options}")
    assert text != text_of("aae")
    assert jointkl.compile(text).objective.in_turn is None


def test_what_a_player_has_moved_is_computed_anew() -> None:
    """E(x) for E, who then steps, and for G again."""
    assert calls(text_of("vae_gan"))["E"] == 4 + 4 + 8


def test_nothing_is_shared_where_there_is_nothing() -> None:
    for name in ("gan", "vae", "em", "wake_sleep"):
        assert jointkl.compile(text_of(name)).objective.in_turn is None
    assert "in_turn" not in jointkl.compile(text_of("gan")).source
    assert jointkl.compile(text_of("alpha_gan"), Passes(together=True)).objective.in_turn is None


@pytest.mark.slow
def test_a_run_takes_it_alone_and_eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []

    def played(number: int, *others: Any) -> None:
        rounds.append(number)
        play_in_turn(number, *others)

    monkeypatch.setattr(engine, "play_in_turn", played)
    text = text_of("aae")
    jointkl.train(text, steps=3, out=tmp_path / "a", quiet=True)
    assert rounds == [1, 2, 3]
    jointkl.train(text, steps=3, out=tmp_path / "b", quiet=True, settings={"updates": "simultaneous"})
    jointkl.train(text, steps=3, out=tmp_path / "c", quiet=True, replicas=2)
    assert rounds == [1, 2, 3]
