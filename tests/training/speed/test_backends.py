"""The ways to take a step against eager's, and who is kept out of which."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import jointkl
from jointkl.compiler import derive, lower, parse
from jointkl.program import Program
from jointkl.semantics.model import Evidence, Law
from jointkl.sources import bind
from jointkl.training.minibatches import Minibatches
from jointkl.training.phases import phases
from jointkl.training.schedules import set_rate
from jointkl.training.speed.autotune import timed, undone
from jointkl.training.speed.backends import BACKENDS, captured, names_in, obstacle, replayed
from jointkl.training.steps import PhaseStepper
from tests.worlds import MODELS

CXX = os.environ.get("CXX", "g++")
needs_compiler = pytest.mark.skipif(shutil.which(CXX) is None, reason=f"torch.compile needs {CXX}")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
NOTHING: Mapping[str, object] = MappingProxyType({})
WAY = {way.name: way for way in BACKENDS}


def supplied(law: Law) -> bool:
    return isinstance(law.body, Evidence) and law.body.source == "evidence"


def steppers_of(
    text: str, device: str = "cpu", settings: Mapping[str, object] = MappingProxyType({})
) -> tuple[Program, list[PhaseStepper], dict[str, Tensor]]:
    """A program with seed 0, its turns, and a batch."""
    torch.manual_seed(0)
    model = parse(text)
    program = jointkl.compile(model).to(device)
    derivation = derive(model)
    table = phases(model, lower(derivation), derivation.facts.players, settings)
    rows = {law.key: torch.randn(100, len(law.outputs)) for law in model.evidence if supplied(law)}
    minibatches = Minibatches(bind(model, rows), 64, 0, torch.device(device))
    closed = {step.player for step in program.objective.steps}
    steppers = [
        PhaseStepper(phase, program, minibatches.whole() if phase.player in closed else None) for phase in table
    ]
    return program, steppers, minibatches.first()


# --- who is kept out


@pytest.mark.parametrize(
    ("model", "player", "way", "why"),
    [
        ("gan", "D", "compile", None),
        ("gan", "D", "graph", None),
        ("vae", "enc+dec", "graph", None),
        ("ali_proximal", "D", "graph", None),
        ("em", "mu+L+w", "compile", "its step is closed"),
        ("em", "mu+L+w", "graph", "its step is closed"),
        ("infogan", "G", "graph", "its distributions are checked on the host"),
        ("infogan", "G", "compile", None),
    ],
)
def test_what_keeps_a_phase_out(model: str, player: str, way: str, why: str | None) -> None:
    _, steppers, _ = steppers_of((MODELS / f"{model}.jkl").read_text())
    stepper = next(stepper for stepper in steppers if player in stepper.phase.player)
    assert obstacle(WAY[way], stepper) == why


def test_double_backward_stays_eager(gan: str) -> None:
    penalised = gan.replace("minimize", "minimize R1(data(x) || p(y|x))\nminimize")
    _, (discriminator, generator), _ = steppers_of(penalised)
    assert obstacle(WAY["compile"], discriminator) == "double backward stays eager"
    assert obstacle(WAY["graph"], discriminator) == "double backward stays eager"
    assert obstacle(WAY["graph"], generator) is None


class Emitted:
    def loss(self, batch: Tensor) -> list[Tensor]:
        return [self.own(x) for x in batch]

    def own(self, x: Tensor) -> Tensor:
        return self.own(x).cosh() if x else torch.tanh(x)

    def other(self, x: Tensor) -> Tensor:
        return x.sinh()


def test_names_are_those_of_the_code_and_of_the_methods_it_names() -> None:
    found = names_in(Emitted(), "loss")
    assert {"own", "cosh", "torch", "tanh"} <= found
    assert not {"other", "sinh"} & found


# --- a graph's buffers


def test_a_replay_reads_and_writes_the_same_tensors() -> None:
    held = {"x": torch.zeros(3)}
    loss = torch.zeros(())

    def replay() -> None:
        loss.copy_(held["x"].sum())

    take = replayed(held, replay, loss)
    first, second = take({"x": torch.ones(3), "unread": torch.ones(1)}), take({"x": torch.full((3,), 2.0)})
    assert (first.item(), second.item()) == (3.0, 6.0), "a loss outlives the next replay"
    with pytest.raises(ValueError, match=r"shape \(3,\) got \(1,\)"):
        take({"x": torch.ones(1)})


# --- against eager


def steps(steppers: list[PhaseStepper], batch: dict[str, Tensor], count: int) -> list[float]:
    torch.manual_seed(7)
    return [stepper.take(batch).item() for _ in range(count) for stepper in steppers]


def values(program: Program) -> list[Tensor]:
    return [p.detach().clone() for p in program.parameters()]


@needs_gpu
@pytest.mark.parametrize("spec", ["gan", "vae"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
def test_a_captured_step_steps_as_eager(spec: str, optimizer: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(spec)
    options = {"optimizer": optimizer, "weight_decay": 0.01, "clip": 1.0}
    program, steppers, batch = steppers_of(text, "cuda", options)
    expected = steps(steppers, batch, 5)
    after = values(program)
    program, steppers, batch = steppers_of(text, "cuda", options)
    for stepper in steppers:
        with undone(program, stepper.optimizer):
            stepper.take = captured(stepper, batch)
            stepper.take(batch)
    assert steps(steppers, batch, 5) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(values(program), after, rtol=1e-3, atol=1e-5)


@needs_gpu
@pytest.mark.parametrize("spec", ["gan", "vae"])
def test_a_captured_step_is_faster(spec: str, request: pytest.FixtureRequest) -> None:
    program, steppers, batch = steppers_of(request.getfixturevalue(spec), "cuda")
    for stepper in steppers:
        with undone(program, stepper.optimizer):
            eager = timed(stepper.descend, batch, torch.device("cuda"), time.perf_counter)
            graph = timed(captured(stepper, batch), batch, torch.device("cuda"), time.perf_counter)
        assert graph < eager


@needs_gpu
def test_a_gpu_chooses_graphs_by_itself(gan: str, tmp_path: Path) -> None:
    run = jointkl.train(gan, steps=20_000, out=tmp_path / "run", quiet=True, pictures=2)
    text = (run.folder / "config.json").read_text()
    assert '"way": "graph"' in text


# --- a graph, emulated


class Tape(TorchDispatchMode):
    """What a CUDA graph does, on any device: notes every operation, and repeats them on the same tensors.

    Reading a number on the host, which a capture forbids, is kept in `read`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        self.read: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.lift_fresh.default):
            self.read.append(str(function))
        else:
            self.calls.append((function, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        with torch.no_grad():
            for function, args, kwargs, found in self.calls:
                again = function(*args, **kwargs)
                for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """`torch.cuda`'s graphs are tapes, and its streams nothing."""
    found: list[Tape] = []

    def tape() -> Tape:
        found.append(Tape())
        return found[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", tape)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph)
    monkeypatch.setattr(torch.cuda, "Stream", MagicMock())
    monkeypatch.setattr(torch.cuda, "current_stream", MagicMock())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    return found


@pytest.mark.parametrize("spec", ["gan", "vae", "proximal"])
def test_a_replayed_step_steps_as_eager(spec: str, tapes: list[Tape], request: pytest.FixtureRequest) -> None:
    text, options = request.getfixturevalue(spec), {"clip": 0.5, "weight_decay": 0.01}
    program, steppers, batch = steppers_of(text, settings=options)
    other = {key: value.flip(0) for key, value in batch.items()}
    expected = steps(steppers, batch, 2) + steps(steppers, other, 2)
    after = values(program)
    program, steppers, batch = steppers_of(text, settings=options)
    for stepper in steppers:
        with undone(program, stepper.optimizer):
            stepper.take = captured(stepper, batch)
            stepper.take(batch)
    assert len(tapes) == len(steppers)
    assert steps(steppers, batch, 2) + steps(steppers, other, 2) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(values(program), after, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_replayed_step_reads_the_rate_of_its_round(name: str, gan: str, tapes: list[Tape]) -> None:
    """A rate in a tensor, as it is on a GPU; a number would be replayed as it was at the capture."""
    ends: list[list[Tensor]] = []
    for held in (None, "number", "tensor"):
        program, steppers, batch = steppers_of(gan, settings={"optimizer": name})
        for stepper in steppers:
            if held == "tensor":
                stepper.optimizer.param_groups[0]["lr"] = torch.tensor(1e-3)
            if held:
                with undone(program, stepper.optimizer):
                    stepper.take = captured(stepper, batch)
                    stepper.take(batch)
        torch.manual_seed(7)
        for lr in (0.1, 0.01, 0.05):
            for stepper in steppers:
                set_rate(stepper.optimizer, lr)
                stepper.take(batch)
        ends.append(values(program))
    eager, number, tensor = ends
    torch.testing.assert_close(tensor, eager, rtol=1e-4, atol=1e-6)
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(number, eager, strict=True))


@needs_gpu
def test_a_captured_step_reads_the_rate_of_its_round(gan: str) -> None:
    ends: list[list[Tensor]] = []
    for way in ("eager", "graph"):
        program, steppers, batch = steppers_of(gan, "cuda", {"schedule": "linear"})
        for stepper in steppers:
            assert isinstance(stepper.optimizer.param_groups[0]["lr"], Tensor)
            with undone(program, stepper.optimizer):
                stepper.take = WAY[way].build(stepper, batch)
                stepper.take(batch)
        torch.manual_seed(7)
        for lr in (0.1, 0.01, 0.05):
            for stepper in steppers:
                set_rate(stepper.optimizer, lr)
                stepper.take(batch)
        ends.append(values(program))
    torch.testing.assert_close(*ends, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(MODELS.glob("*.jkl")), ids=lambda path: path.stem)
def test_who_is_not_kept_out_reads_nothing_on_the_host(path: Path, tapes: list[Tape]) -> None:
    _, steppers, batch = steppers_of(path.read_text())
    for stepper in steppers:
        if obstacle(WAY["graph"], stepper) is None:
            captured(stepper, batch)
            assert tapes[-1].read == [], stepper.phase.player


def test_a_tape_sees_what_is_read_on_the_host(tapes: list[Tape]) -> None:
    _, steppers, batch = steppers_of((MODELS / "infogan.jkl").read_text())
    stepper = next(stepper for stepper in steppers if "G" in stepper.phase.player)
    assert obstacle(WAY["graph"], stepper) is not None
    captured(stepper, batch)
    assert tapes[-1].read
