"""A dry run: what it tells is so, and nothing is left of it."""

from __future__ import annotations

import gc
import math
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch.profiler import ProfilerActivity, profile

import jointkl
from jointkl.diagnostics import DataError
from jointkl.training.speed.dry_run import Rehearsal, duration, tables
from jointkl.training.speed.memory import Allocations, peak

MIB = 2**20
CPU = torch.device("cpu")


def text(found: Rehearsal) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(tables(found))
    return captured.get()


@pytest.mark.slow
def test_a_gan(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = jointkl.compile(gan + "train D(repeat=3)\ntrain G(every=4)")
    with torch.no_grad():
        for w in program.nets["D"].layers[-1].parameters():
            w.zero_()
    found = jointkl.dry_run(program, steps=1000)
    assert list(tmp_path.iterdir()) == []
    assert found.rounds == 1000
    assert found.batch == {"x": ((64, 2), "float32")}
    d, g = found.parts
    assert (d.players, d.steps, g.players, g.steps) == ("D", 3000, "G", 250)
    assert found.parameters == {"G": 2 * 16 + 16 + 16 * 2 + 2, "D": 2 * 16 + 16 + 16 + 1}
    assert (d.parameters, g.parameters) == (found.parameters["D"], found.parameters["G"])
    applied = {net.net: (net.inputs, net.outputs, net.times) for net in d.networks}
    assert applied == {"G": (((64, 2),), ((64, 2),), 1), "D": (((128, 2),), ((128,),), 1)}
    assert {net.net: net.inputs for net in g.networks} == {"G": ((64, 2),), "D": ((64, 2),)}
    assert d.losses["D"] == pytest.approx(2 * math.log(2)), "its logits are 0"
    assert d.seconds > 0
    assert found.seconds == pytest.approx(3000 * d.seconds + 250 * g.seconds)


def test_a_program_is_given_back_as_it_came(vae: str) -> None:
    torch.manual_seed(4)
    program = jointkl.compile(vae)
    before = {name: value.clone() for name, value in program.emitted.state_dict().items()}
    jointkl.dry_run(program, precision="bf16", settings={"ema": "0.9", "schedule": "cosine"})
    assert all(torch.equal(value, before[name]) for name, value in program.emitted.state_dict().items())
    assert all(p.grad is None for p in program.parameters())


def test_all_at_once_are_one_part(gan: str) -> None:
    found = jointkl.dry_run(gan, settings={"updates": "simultaneous"})
    (part,) = found.parts
    assert (part.players, part.steps) == ("D, G", 200)
    assert part.losses.keys() == {"D", "G"}
    assert part.parameters == sum(found.parameters.values())


def test_a_closed_step(tmp_path: Path) -> None:
    spec = """
    data(x) = iris()
    var x: real[4]
    var k: {0..2}
    param mu: real[3,4]
    p(k | x) = Free
    q(k) = Categorical()
    q(x | k) = Normal(mu[k], 1)
    minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
    """
    (part,) = jointkl.dry_run(spec, steps=10).parts
    assert (part.players, part.networks, part.steps) == ("mu", (), 10)


def test_it_refuses_what_a_run_refuses(gan: str, vae: str) -> None:
    with pytest.raises(DataError, match="modes cannot be had"):
        jointkl.dry_run(vae, stop_on="modes")
    with pytest.raises(DataError, match="did you mean `lr`"):
        jointkl.dry_run(gan, settings={"lrr": "1"})
    with pytest.raises(DataError, match="no metric `loss:H`"):
        jointkl.dry_run(gan, stop_on="loss:H")


def test_what_is_told(vae: str) -> None:
    lines = text(jointkl.dry_run(vae)).splitlines()
    assert lines[0] == "on cpu: 300 rounds, each of a batch of x 128×1×8×8 float32"
    (enc,) = (line.split() for line in lines if line.startswith(" enc "))
    assert enc == ["enc", "5,200", "enc+dec", "128×1×8×8", "128×8,", "128×8", "1"]
    assert any(line.startswith("the whole run: about ") for line in lines)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0123, "0.012 s"),
        (9.94, "9.9 s"),
        (42.3, "42 s"),
        (61, "1 min 1 s"),
        (7265, "2 h 1 min"),
        (90000, "25 h 0 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# --- memory


@pytest.mark.parametrize(("together", "most"), [(True, 3 * MIB), (False, 2 * MIB)])
def test_the_peak_is_what_is_held_at_once(together: bool, most: int) -> None:
    def step() -> None:
        first = torch.zeros(MIB, dtype=torch.uint8)
        if not together:
            del first
        torch.zeros(2 * MIB, dtype=torch.uint8)

    assert peak(step, CPU) == most


def test_views_and_steps_in_place_hold_nothing_of_their_own() -> None:
    weight = torch.zeros(MIB, dtype=torch.uint8)
    with Allocations() as held:
        weight.add_(1)
        view = weight[: MIB // 2].view(2, -1)
        assert (held.now, held.most) == (0, 0)
        copy = view.clone()
        assert held.now == MIB // 2
        del copy
    assert (held.now, held.most) == (0, MIB // 2)


@pytest.mark.slow
def test_the_peak_of_a_step_is_what_torch_s_profiler_records(vae: str) -> None:
    """The allocator's own record, on the same step: benchmarks/memory.py goes by it."""
    torch.manual_seed(0)
    program = jointkl.compile(vae)
    (player,) = program.players
    x = torch.rand(128, 1, 8, 8).round()

    def step() -> None:
        for p in program.parameters():
            p.grad = None
        program.loss(player, {"x": x}).backward()

    found = peak(step, CPU)
    gc.collect()
    gc.disable()  # what other tests have left would be freed in the record
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        for _ in range(3):
            step()
    gc.enable()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
    assert found == pytest.approx(max(accumulate(sizes)), rel=1e-3)
