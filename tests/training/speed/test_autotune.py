"""The choice of a way: by given times, without a trace, and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.diagnostics import DataError
from jointkl.training.folder.run import Run
from jointkl.training.speed import autotune, backends
from jointkl.training.speed.autotune import Choice, Trial, fastest, pays_off, text_of, timed, tune, undone, verify
from jointkl.training.speed.backends import Backend, Batch, Take
from jointkl.training.steps import PhaseStepper
from tests.training.distributed import several
from tests.training.speed.test_backends import needs_compiler, steppers_of
from tests.worlds import MODELS

CPU = torch.device("cpu")


class Clock:
    """A clock that steps move, each by its way's seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def way(self, name: str, step: float, *, seconds: float = 1.0, saving: float = 0.5) -> Backend:
        """Eager's step that costs `step` seconds by this clock, and three to prepare."""

        def build(stepper: PhaseStepper, batch: Batch) -> Take:
            self.now += 3.0 if name != "eager" else 0.0

            def take(batch: Batch) -> Tensor:
                self.now += step
                return stepper.descend(batch)

            return take

        return Backend(name, (), seconds, saving, build)


def failing(stepper: PhaseStepper, batch: Batch) -> Take:
    stepper.descend(batch)
    raise RuntimeError("\n  no compiler\nfound")


def patient(stepper: PhaseStepper, batch: Batch) -> Take:
    """Thirty steps where one is asked for."""
    return lambda batch: torch.stack([stepper.descend(batch) for _ in range(30)])[0]


Table = Callable[..., None]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    def given(*rows: Backend) -> None:
        monkeypatch.setattr(backends, "BACKENDS", rows)
        monkeypatch.setattr(autotune, "BACKENDS", rows)

    return given


# --- the decision


@pytest.mark.parametrize(
    ("times", "way"),
    [
        ({"eager": 1.0}, "eager"),
        ({"eager": 1.0, "compile": 0.8}, "compile"),
        ({"eager": 1.0, "compile": 0.97}, "eager"),
        ({"eager": 1.0, "compile": 1.3, "graph": 0.2}, "graph"),
        ({"eager": 1.0, "compile": 0.1, "graph": 0.2}, "compile"),
    ],
)
def test_what_is_clearly_faster_is_kept(times: dict[str, float], way: str) -> None:
    assert fastest([Trial(name, 60.0, step) for name, step in times.items()]) == way


def test_a_way_must_pay_for_its_preparation() -> None:
    way = Backend("compile", (), 30.0, 0.3, failing)
    assert not pays_off(way, 0.001, 99_000)
    assert pays_off(way, 0.001, 101_000)


def test_the_time_of_a_step_is_that_of_its_best_block() -> None:
    clock = Clock()
    slow = iter([False] + [True] * 10 + [False] * 10 + [True] * 100)

    def take(batch: Batch) -> Tensor:
        clock.now += 0.03 if next(slow) else 0.01
        return torch.zeros(())

    assert timed(take, {}, CPU, clock) == pytest.approx(0.01)
    clock, calls = Clock(), []

    def glacial(batch: Batch) -> Tensor:
        calls.append(1)
        clock.now += 100.0
        return torch.zeros(())

    assert timed(glacial, {}, CPU, clock) == pytest.approx(100.0)
    assert len(calls) == 11, "one block, whatever it takes"


def everyone(way: str) -> dict[str, str]:
    return dict.fromkeys(("D", "G"), way)


def test_every_phase_gets_its_own_way(gan: str, table: Table) -> None:
    clock = Clock()
    table(clock.way("eager", 0.01), clock.way("slow", 0.02), clock.way("quick", 0.004))
    program, steppers, batch = steppers_of(gan, settings={"D.repeat": "2", "G.every": "1000"})
    first, second = tune(program, steppers, batch, 10_000, everyone("auto"), clock)
    quick, slow = Trial("quick", 3.0, 0.004), Trial("slow", 3.0, 0.02)
    assert (first.player, first.way, first.notes) == ("D", "quick", {})
    assert [(t.way, round(t.step, 9)) for t in first.trials] == [("eager", 0.01), ("slow", 0.02), ("quick", 0.004)]
    assert (second.player, second.way, second.trials) == ("G", "eager", ()), "ten steps are not tuned"
    before = clock.now
    steppers[0].take(batch)
    assert clock.now - before == pytest.approx(0.004)
    assert slow.step > quick.step


def test_a_way_that_cannot_pay_is_not_tried(gan: str, table: Table) -> None:
    clock = Clock()
    table(clock.way("eager", 0.01), clock.way("dear", 0.001, seconds=30.0, saving=0.5))
    program, steppers, batch = steppers_of(gan)
    choices = tune(program, steppers, batch, 5_999, everyone("auto"), clock)
    assert {choice.way for choice in choices} == {"eager"}
    assert choices[0].notes == {"dear": "5999 steps are too few to pay for it"}
    assert {choice.way for choice in tune(program, steppers, batch, 6_001, everyone("auto"), clock)} == {"dear"}


def test_a_way_asked_for_is_not_measured(gan: str, table: Table) -> None:
    clock = Clock()
    table(clock.way("eager", 0.01), clock.way("slow", 0.02))
    program, steppers, batch = steppers_of(gan)
    assert tune(program, steppers, batch, 1, everyone("slow"), clock) == (Choice("D", "slow"), Choice("G", "slow"))
    assert clock.now == pytest.approx(2 * (3.0 + 0.02)), "prepared, and one step taken"


@pytest.mark.parametrize("way", ["auto", "broken"])
def test_a_failure_is_noted_and_undone(gan: str, table: Table, way: str) -> None:
    clock = Clock()
    table(clock.way("eager", 0.01), Backend("broken", (), 0.0, 1.0, failing))
    program, steppers, batch = steppers_of(gan)
    before = {name: value.clone() for name, value in program.state_dict().items()}
    choices = tune(program, steppers, batch, 1000, everyone(way), clock)
    assert [(c.way, c.notes) for c in choices] == [("eager", {"broken": "failed: RuntimeError: no compiler"})] * 2
    assert "broken: failed: RuntimeError: no compiler" in (text_of(choices) or "")
    assert all(torch.equal(value, before[name]) for name, value in program.state_dict().items())


def test_a_mistake_in_the_loss_is_not_swallowed(gan: str) -> None:
    program, steppers, batch = steppers_of(gan)
    program._losses["D"] = lambda batch: (_ for _ in ()).throw(ZeroDivisionError("inside"))
    with pytest.raises(ZeroDivisionError):
        tune(program, steppers, batch, 1000, everyone("auto"))


@pytest.mark.parametrize(
    ("way", "device", "found"),
    [(None, "cpu", "eager"), (None, "cuda", "auto"), ("auto", "cpu", "auto"), ("graph", "cuda", "graph")],
)
def test_eager_is_the_way_of_a_cpu(way: str | None, device: str, found: str) -> None:
    assert verify(way, torch.device(device)) == found


def test_unknown_ways() -> None:
    with pytest.raises(DataError, match=r"no way `grahp`.*(?s:.*)did you mean `graph`"):
        verify("grahp", CPU)
    with pytest.raises(DataError, match="way `graph`: there is none on the device `cpu`"):
        verify("graph", CPU)


# --- without a trace


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("before", [0, 2])
def test_steps_are_undone_bit_for_bit(gan: str, optimizer: str, before: int) -> None:
    """Of an optimiser that is new as of one that has stepped."""
    options, ends = {"optimizer": optimizer, "weight_decay": 0.01}, []
    for tried in (False, True):
        program, steppers, batch = steppers_of(gan, settings=options)
        places = [p.data_ptr() for p in program.parameters()]
        for stepper in steppers * before:
            stepper.take(batch)
        for stepper in steppers if tried else ():
            with undone(program, stepper.optimizer):
                for _ in range(3):
                    stepper.take(batch)
        for stepper in steppers * 3:
            stepper.take(batch)
        assert places == [p.data_ptr() for p in program.parameters()]
        ends.append([*program.parameters(), torch.rand(3)])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_old_copies_and_buffers_are_undone(proximal: str) -> None:
    program, steppers, batch = steppers_of(proximal)
    before = {name: value.clone() for name, value in program.state_dict().items()}
    assert any(name.split(".")[1].startswith("old") for name in before)
    with undone(program, steppers[0].optimizer):
        for stepper in steppers:
            stepper.take(batch)
        program.snapshot()
        assert any(not torch.equal(value, before[name]) for name, value in program.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in program.state_dict().items())
    assert all(p.grad is None for p in steppers[0].parameters)


def test_a_buffer_that_a_module_replaces_is_undone(gan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(several.__file__).parent))
    program = jointkl.compile(several.own(gan, "Keeper"), allow_imports=(Path(several.__file__).stem,))
    (seen,) = program.nets["D"].buffers()
    optimizer = torch.optim.SGD(program.parameters())
    with undone(program, optimizer):
        program.loss("D", {"x": torch.ones(8, 2)})
        assert any(buffer.any() for buffer in program.nets["D"].buffers())
    (after,) = program.nets["D"].buffers()
    assert after is seen
    assert not seen.any()


def trained(source: object, folder: Path, **options: object) -> tuple[Run, dict[str, object]]:
    run = jointkl.train(source, out=folder, **{"quiet": True, "pictures": 0, "device": "cpu", **options})
    return run, json.loads((folder / "config.json").read_text())


@pytest.mark.slow
def test_a_run_that_was_tuned_and_stays_eager_has_the_same_bits(
    gan: str, tmp_path: Path, table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, config = trained(gan, tmp_path / "a", steps=600)
    assert config["ways"] == [{"player": name, "way": "eager", "trials": [], "notes": {}} for name in ("D", "G")]
    slow = Backend("slow", (), 0.0, 1.0, patient)
    table(backends.BACKENDS[0], slow)
    assert capsys.readouterr().err == ""
    tuned, config = trained(gan, tmp_path / "b", steps=600, way="auto", quiet=False)
    found = config["ways"]
    assert isinstance(found, list)
    assert [(c["player"], c["way"], [t["way"] for t in c["trials"]]) for c in found] == [
        ("D", "eager", ["eager", "slow"]), ("G", "eager", ["eager", "slow"])
    ]  # fmt: skip
    assert found[0]["trials"][0]["step"] < found[0]["trials"][1]["step"]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("steps: ")]
    assert line.startswith("steps: D eager ")
    assert plain.losses == tuned.losses
    own = tuned.program.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in plain.program.state_dict().items())


def test_a_closed_step_is_left_alone(tmp_path: Path) -> None:
    _, config = trained(MODELS / "em.jkl", tmp_path / "em", steps=3, way="compile")
    assert config["ways"] == [
        {"player": "mu+L+w", "way": "eager", "trials": [], "notes": {"compile": "its step is closed"}}
    ]


# --- torch.compile


@pytest.mark.slow
@needs_compiler
def test_a_run_with_compiled_losses(gan: str, tmp_path: Path) -> None:
    clipped = {"D.clip": "0.1"}
    eager, _ = trained(gan, tmp_path / "a", steps=3, settings=clipped)
    run, config = trained(gan, tmp_path / "b", steps=3, settings=clipped, way="compile")
    assert config["ways"] == [{"player": name, "way": "compile", "trials": [], "notes": {}} for name in ("D", "G")]
    assert run.losses == pytest.approx(eager.losses, rel=1e-4)
    torch.testing.assert_close(run.program.state_dict(), eager.program.state_dict(), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_without_a_compiler_a_run_is_eager_and_says_so(
    gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch._inductor import config as inductor

    eager, _ = trained(gan, tmp_path / "a", steps=3)
    with inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        run, config = trained(gan, tmp_path / "b", steps=3, way="compile", quiet=False)
    found = config["ways"]
    assert isinstance(found, list)
    assert [choice["way"] for choice in found] == ["eager", "eager"]
    assert all(choice["notes"]["compile"].startswith("failed: ") for choice in found)
    assert "D eager (compile: failed: " in capsys.readouterr().err
    assert run.losses == eager.losses, "bit for bit"
