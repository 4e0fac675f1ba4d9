"""Whole runs of small specs: what they learn, what they leave, how they end."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.diagnostics import DataError, JklError
from jointkl.sources import bind
from jointkl.training import engine, steps
from jointkl.training.folder.run import Run, load_run
from jointkl.training.loop import derived
from jointkl.training.machine import device_of
from tests.worlds import MODELS


def trained(source: Any, tmp_path: Path, name: str = "run", **options: Any) -> Run:
    return jointkl.train(source, out=tmp_path / name, **{"quiet": True, "pictures": 0, **options})


def records(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def weights(run: Run) -> dict[str, Tensor]:
    return dict(run.program.emitted.state_dict())


def same(a: Run, b: Run) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


@pytest.mark.slow
@pytest.mark.statistical
def test_a_gan_leaves_everything(gan: str, tmp_path: Path) -> None:
    run = trained(gan, tmp_path, pictures=2)
    files = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert files == {
        "spec.jkl", "text.py", "config.json", "metrics.jsonl",
        *(f"samples/00000{i}{kind}.png" for i in (100, 200) for kind in ("", "-interpolation")),
        *(f"checkpoints/00000{i}.{ending}" for i in (160, 180, 200) for ending in ("json", "safetensors")),
    }  # fmt: skip
    assert (run.folder / "spec.jkl").read_text() == gan
    assert (run.folder / "text.py").read_text() == run.program.source
    found = records(run)
    assert [line["round"] for line in found] == [1, *range(2, 201, 2)]
    assert all(0 < loss < math.inf for line in found for loss in line["losses"].values())
    assert found[-1]["losses"] == run.losses
    assert 0 < found[0]["seconds"] <= found[-1]["seconds"] == pytest.approx(run.seconds, abs=1e-3)
    config = json.loads((run.folder / "config.json").read_text())
    assert (config["rounds"], config["batch"], config["seed"], config["device"]) == (
        200,
        64,
        0,
        str(device_of("auto")),
    )
    assert len(config["data"]["data(x)"].pop("digest")) == 64
    assert config["data"] == {"data(x)": {"source": "ring8(std=0.02, n=1000)", "rows": 1000}}
    assert [phase["player"] for phase in config["phases"]] == ["D", "G"]
    assert config["parameters"]["G"] == sum(p.numel() for p in run.program.nets["G"].parameters())


def test_a_classifier_that_knows_nothing(gan: str, tmp_path: Path) -> None:
    """Its logits are 0: log 2 for data and log 2 for samples, before the first step."""
    program = jointkl.compile(gan)
    with torch.no_grad():
        for w in program.nets["D"].layers[-1].parameters():
            w.zero_()
    assert records(trained(program, tmp_path, steps=1))[0]["losses"]["D"] == pytest.approx(2 * math.log(2))


@pytest.mark.statistical
def test_a_vae_learns(vae: str, halfway: float, tmp_path: Path) -> None:
    found = records(trained(vae, tmp_path))
    assert found[-1]["losses"]["enc+dec"] < halfway


def test_what_is_trained_is_the_emitted_module(gan: str, tmp_path: Path) -> None:
    program = jointkl.compile(gan)
    before = {name: value.clone() for name, value in program.emitted.state_dict().items()}
    run = trained(program, tmp_path, steps=2)
    assert run.program is program
    moved = {name for name, value in program.emitted.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(before), "every parameter of both players"
    again = trained(program, tmp_path, "again", steps=2)
    assert not same(load_run(run.folder), again), "a program goes on from where it is"


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="same bits are promised on a CPU")
def test_the_same_seed_gives_the_same_bits(gan: str, tmp_path: Path) -> None:
    first = trained(gan, tmp_path, "a", steps=20)
    torch.rand(3)
    with_pictures = trained(jointkl.parse(gan), tmp_path, "b", steps=20, pictures=3, checkpoints=1)
    assert same(first, with_pictures), "pictures and checkpoints do not move a run"
    assert first.losses == with_pictures.losses
    assert not same(first, trained(gan, tmp_path, "c", steps=20, seed=1))
    assert same(first, trained(gan, tmp_path, "d", settings={"steps": "20", "seed": 0}))


def test_the_losses_are_means_since_the_line_before(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    step = steps.PhaseStepper.step

    def listening(stepper: steps.PhaseStepper, batch: Mapping[str, Tensor], number: int) -> None:
        step(stepper, batch, number)
        if stepper.phase.player == "D":
            told.append(stepper.last or math.nan)

    monkeypatch.setattr(steps.PhaseStepper, "step", listening)
    found = records(trained(gan, tmp_path, steps=400, checkpoints=1))
    assert [line["round"] for line in found[:4]] == [1, 4, 8, 12]
    assert found[0]["losses"]["D"] == pytest.approx(told[0])
    assert found[1]["losses"]["D"] == pytest.approx(sum(told[1:4]) / 3)
    assert found[2]["losses"]["D"] == pytest.approx(sum(told[4:8]) / 4)


@pytest.mark.slow
def test_losses_that_are_not_read_yet_are_few(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint holds them: of many steps a round they would fill it."""
    monkeypatch.setattr(engine, "UNREAD", 12)
    run = trained(gan, tmp_path, steps=400, settings={"D.repeat": "5"})
    assert [line["round"] for line in records(run)[:4]] == [1, 2, 4, 6]


def test_what_no_file_can_hold_is_refused(gan: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a lone surrogate"):
        trained(f"# \ud800\n{gan}", tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_run_is_called_as_its_spec(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, run in (("my gan.jkl", "mygan"), (".gan.jkl", "gan"), ("..jkl", "spec"), ("...jkl", "spec-2")):
        Path(name).write_text(gan)
        found = jointkl.train(name, steps=1, quiet=True, pictures=0)
        assert found.folder == Path("runs", run)
        assert (found.folder / "config.json").exists()


def test_data_from_python(gan: str, tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
    run = trained(gan, tmp_path, data={"data": points}, settings={"epochs": "3", "batch": "20"})
    assert run.rounds == 6
    digest = hashlib.sha256(points.tobytes()).hexdigest()
    origin = {"given": "ndarray", "rows": 50, "digest": digest}
    assert json.loads((run.folder / "config.json").read_text())["data"] == {"data(x)": origin}
    again = load_run(run.folder)
    assert again.sample(3)["x"].shape == (3, 2), "noise needs no data"
    with pytest.raises(DataError, match="given from Python"):
        again.sample(3, "q(x,y)")
    sampled = load_run(run.folder, {"data": points}).sample(64, "q(x,y)")
    real = sampled["x"][sampled["y"] == 1]
    assert len(real) > 0
    assert all(any(np.array_equal(row, point) for point in points) for row in real.numpy())


def test_a_file_is_found_again(gan: str, tmp_path: Path) -> None:
    path = tmp_path / "points.npy"
    np.save(path, np.zeros((70, 2), dtype="float32"))
    run = trained(gan, tmp_path, data={"data(x)": str(path)}, steps=1)
    assert [len(bound) for bound in load_run(run.folder).data()] == [70]
    path.unlink()
    with pytest.raises(DataError, match=r"points\.npy"):
        load_run(run.folder).data()
    assert load_run(run.folder).background(["x"]) == ()


def test_a_batch_larger_than_the_data_is_all_of_them(
    gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(gan, tmp_path, data={"data": np.zeros((10, 2))}, steps=2, quiet=False)
    assert "note: a batch of 64 is larger than the data: it is 10" in capsys.readouterr().err
    config = json.loads((run.folder / "config.json").read_text())
    assert config["batch"] == 10
    assert "larger than the data" in config["notes"][0]


def test_no_rounds_leave_the_parameters_as_they_came(gan: str, tmp_path: Path) -> None:
    run = trained(gan, tmp_path, steps=0)
    assert (run.rounds, run.losses, load_run(run.folder).rounds) == (0, {}, 0)
    torch.manual_seed(0)
    fresh = jointkl.compile(gan)
    assert all(torch.equal(value, fresh.emitted.state_dict()[name]) for name, value in weights(run).items())


@pytest.mark.statistical
def test_a_spec_without_evidence_trains(tmp_path: Path) -> None:
    run = trained(
        """
        var x, z: real[2]
        net A = mlp(8)
        q(z) = Normal(0, 1)
        q(x | z) = Normal(A(z))
        r(x | z) = Normal(0, 1)
        minimize KL(q(z) * q(x|z) || q(z) * r(x|z))
        train(steps=200, lr=1e-2)
        """,
        tmp_path,
    )
    found = records(run)
    assert found[-1]["losses"]["A"] < 0.2 * found[0]["losses"]["A"]


@pytest.mark.statistical
def test_a_global_counts_once_for_all_data(tmp_path: Path) -> None:
    """b ~ N(0, 1), x_i ~ N(b, 1), N = 100: the posterior's scale is 1 / sqrt(101), whatever the batch. Counted in each
    batch of ten, it would be 1 / sqrt(11): what is found is on the right side of the middle of both, in logarithms."""
    spec = """
    data(x) = evidence()
    var x: real
    var b: real global
    param m: real
    param s: positive
    p(b) = Normal(m, s)
    q(b) = Normal(0, 1)
    q(x | b) = Normal(b, 1)
    minimize KL(data(x) * p(b) || q(b) * q(x|b))
    train(batch=10, steps=1500, lr=0.02)
    """
    run = trained(spec, tmp_path, data={"data": np.random.default_rng(0).normal(0.5, 1, 100)})
    middle = 11**-0.25 * 101**-0.25
    assert 1 / 101 / middle < run.program.params["s"].item() < middle
    assert load_run(run.folder).program.data_size == 100


@pytest.mark.statistical
def test_each_goal_counts_a_global_once_for_its_own_data(tmp_path: Path) -> None:
    """Priors N(0, 0.1), 50 and 950 rows about 1: each posterior mean is that of its own data, sum x / (N + 100). The
    other's is 0.57 away; what the last steps leave is a fraction of a rate of 0.05."""
    spec = """
    few(x) = evidence()
    many(t) = evidence()
    var x, t: real
    var u, v: real global
    param a, b: real
    p(u) = Normal(a, 0.08)
    p(v) = Normal(b, 0.03)
    q(u) = Normal(0, 0.1)
    q(v) = Normal(0, 0.1)
    q(x | u) = Normal(u, 1)
    q(t | v) = Normal(v, 1)
    minimize KL(few(x) * p(u) || q(u) * q(x|u))
    minimize KL(many(t) * p(v) || q(v) * q(t|v))
    train(batch=50, steps=400, lr=0.05, schedule=cosine)
    """
    data = {"few": np.full(50, 1.0), "many": np.full(950, 1.0)}
    run = trained(spec, tmp_path, data=data)
    assert run.program.params["a"].item() == pytest.approx(50 / 150, abs=0.1)
    assert run.program.params["b"].item() == pytest.approx(950 / 1050, abs=0.1)
    assert load_run(run.folder).program.data_sizes == {"few(x)": 50, "many(t)": 950}


def test_a_joint_with_globals_has_data_of_one_size(tmp_path: Path) -> None:
    spec = """
    one(x) = evidence()
    other(t) = evidence()
    var x, t: real
    var w: real global
    param m: real
    p(w) = Normal(m, 1)
    q(w) = Normal(0, 1)
    q(x | w) = Normal(w, 1)
    q(t | w) = Normal(w, 1)
    minimize KL(one(x) * other(t) * p(w) || q(w) * q(x|w) * q(t|w))
    train(batch=5, steps=2)
    """
    with pytest.raises(DataError, match=r"one\(x\) has 20 and other\(t\) has 30 rows"):
        trained(spec, tmp_path, data={"one": np.zeros(20), "other": np.zeros(30)})
    assert not list(tmp_path.iterdir())
    trained(spec, tmp_path, data={"one": np.zeros(20), "other": np.zeros(20)})


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.jkl")), ids=lambda path: path.stem)
def test_what_was_compiled_is_what_is_trained(path: Path) -> None:
    """A derived model, whose critics have their sizes, is made again from its text."""
    program = jointkl.compile(path)
    assert derived(program, {}).model == derived(program.model, {}).model == program.model


def test_a_compiled_spec_with_a_critic_is_trained(tmp_path: Path) -> None:
    """The mixture is the prior, and the ratio needs a critic."""
    spec = """
    data(x) = ring8(std=0.02)
    var x, z: real[2]
    net E = linear()
    net D = linear()
    p(z | x) = Normal(E(x))
    a(z) = Normal(-1, 1)
    b(z) = Normal(1, 1)
    q(z) = { s=0: a(z); s=1: b(z) }
    m(z) = data(x) * p(z|x)
    minimize KL(m(z) || q(z)) with critic=D
    train(batch=8, steps=2)
    """
    program = jointkl.compile(spec)
    before = {name: value.clone() for name, value in program.emitted.state_dict().items()}
    run = trained(program, tmp_path)
    assert run.program is program
    assert any(not torch.equal(value, before[name]) for name, value in weights(run).items())


@pytest.mark.statistical
def test_a_free_law_is_solved_in_the_steps_that_need_it(tmp_path: Path) -> None:
    """All rows in each step, from either side of 0: what it ends at is where the M step moves nothing."""
    points = np.array([-2.0, 2.0]).repeat(100) + np.random.default_rng(0).normal(0, 0.3, 200)
    program = jointkl.compile(MIXTURE)
    with torch.no_grad():
        program.params["mu"].copy_(torch.tensor([[-1.0], [1.0]]))
    run = trained(program, tmp_path, data={"data": points.reshape(-1, 1)})
    found = records(run)
    assert set(found[0]["losses"]) == {"mu"}
    mu = run.program.params["mu"].detach().flatten().double().numpy()
    odds = np.exp(-((points[:, None] - mu) ** 2) / 2 / 0.25)
    share = odds / odds.sum(1, keepdims=True)
    assert mu == pytest.approx((share * points[:, None]).sum(0) / share.sum(0), abs=1e-3)


MIXTURE = """
data(x) = evidence()
var x: real[1]
var k: {0, 1}
param mu: real[2,1]
p(k | x) = Free
q(k) = Categorical()
q(x | k) = Normal(mu[k], 0.5)
minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
train(batch=200, steps=400, lr=0.05, schedule=cosine)
"""


def test_constants_are_kept_with_the_run(vae: str, tmp_path: Path) -> None:
    run = trained(jointkl.parse(vae, lets={"H": "3"}), tmp_path, steps=1, lets={"H": "3"})
    assert load_run(run.folder).program.nets["enc"].state_dict().keys() == run.program.nets["enc"].state_dict().keys()
    assert same(run, load_run(run.folder))
    assert same(run, trained(vae, tmp_path, "text", steps=1, lets={"H": "3"}))
    with pytest.raises(DataError, match="these `lets`"):
        trained(jointkl.parse(vae, lets={"H": "3"}), tmp_path, "other", steps=1)
    assert not (tmp_path / "other").exists(), "a refused run leaves no folder"


# --- folders


def test_a_run_overwrites_nothing(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my gan.jkl"
    path.write_text(gan)
    folders = [jointkl.train(path, steps=1, quiet=True, pictures=0).folder for _ in range(3)]
    assert [str(folder) for folder in folders] == ["runs/mygan", "runs/mygan-2", "runs/mygan-3"]
    assert (folders[0] / "mygan.py").exists()
    with pytest.raises(DataError, match="is not empty"):
        trained(gan, tmp_path / "runs", "mygan", steps=1)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        trained(gan, tmp_path, "file", steps=1)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert trained(gan, tmp_path, "empty", steps=1).rounds == 1


def test_devices(gan: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean `cpu`"):
        trained(gan, tmp_path, device="cpux")
    if not torch.cuda.is_available():
        with pytest.raises(DataError, match="no such GPU"):
            trained(gan, tmp_path, device="cuda")
    assert list(tmp_path.iterdir()) == []


def test_threads_are_given_back(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    during: list[int] = []
    step = steps.PhaseStepper.step
    monkeypatch.setattr(
        steps.PhaseStepper,
        "step",
        lambda stepper, *rest: (during.append(torch.get_num_threads()), step(stepper, *rest)),
    )
    try:
        trained(gan, tmp_path, steps=1, device="cpu")
        assert (set(during), torch.get_num_threads()) == ({1}, 2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        during.clear()
        trained(gan, tmp_path, "again", steps=1, device="cpu")
        assert set(during) == {2}
    finally:
        torch.set_num_threads(before)


# --- ends


class Poisoned(torch.nn.Module):
    """A network to whose output `value`, and with it nothing finite, is added at its `when`-th call."""

    def __init__(self, inner: torch.nn.Module, value: float, when: int) -> None:
        super().__init__()
        self.inner, self.value, self.when, self.calls = inner, value, when, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x) + (self.value if self.calls == self.when else 0.0)


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_loss_that_is_not_finite_stops_the_run(gan: str, tmp_path: Path, value: float) -> None:
    program = jointkl.compile(gan)
    program.emitted.D = Poisoned(program.emitted.D, value, when=2 * 29)  # called by D and G in turn: G in round 29
    with pytest.raises(JklError) as found:
        trained(program, tmp_path, steps=5000, way="eager")  # a network that counts calls cannot be tried
    text = str(found.value)
    assert "the loss of player G is not finite in round 29" in text
    assert "<text>:12:21" in text
    assert "12 | p(x, y) = data(x) * p(y|x)\n   |                     ^^^^^^ in its loss: -log p(1|x)" in text
    assert "the loss of G is E q(z) {-log p(1|G(z))}" in text
    assert f"the last good checkpoint is {tmp_path / 'run' / 'checkpoints' / '00000000.safetensors'}" in text
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["round"] < 29


def test_the_last_good_checkpoint_is_named(gan: str, tmp_path: Path) -> None:
    program = jointkl.compile(gan)
    program.emitted.D = Poisoned(program.emitted.D, math.nan, when=2 * 29 - 1)
    with pytest.raises(JklError) as found:
        trained(program, tmp_path, steps=100)
    assert "the loss of player D is not finite in round 29" in str(found.value)
    assert f"the last good checkpoint is {tmp_path / 'run' / 'checkpoints' / '00000020.safetensors'}" in str(
        found.value
    )


def test_parameters_that_are_not_finite_are_not_saved(gan: str, tmp_path: Path) -> None:
    """The last step of a window may ruin a parameter while every loss read is still finite."""
    with pytest.raises(JklError) as found:
        trained(gan, tmp_path, steps=1, settings={"optimizer": "sgd", "G.lr": "1e39"})
    assert "a parameter of player G is not finite in round 1" in str(found.value)
    assert {path.stem for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"00000000"}


def test_ctrl_c_saves_a_checkpoint(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = steps.PhaseStepper.step

    def interrupted(stepper: steps.PhaseStepper, batch: Mapping[str, Tensor], number: int) -> None:
        if number == 7 and stepper.phase.player == "D":
            os.kill(os.getpid(), signal.SIGINT)
        step(stepper, batch, number)

    monkeypatch.setattr(steps.PhaseStepper, "step", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(gan, tmp_path, steps=100, quiet=False)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert "interrupted after round 7; the last checkpoint is" in capsys.readouterr().err
    run = load_run(tmp_path / "run")
    assert run.rounds == 7, "the round was finished"
    monkeypatch.undo()
    assert same(run, trained(gan, tmp_path, "whole", steps=7))


def test_what_fails_in_a_loss_is_not_swallowed(gan: str, tmp_path: Path) -> None:
    program = jointkl.compile(gan)
    program._losses["G"] = lambda batch: (_ for _ in ()).throw(ZeroDivisionError("inside"))
    with pytest.raises(ZeroDivisionError, match="inside"):
        trained(program, tmp_path, steps=3)


def test_progress_without_a_terminal(gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(gan, tmp_path, steps=3, quiet=False)
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("text  3/3  D ")
    assert "  G " in last
    assert "steps/s" in last


@pytest.mark.statistical
def test_a_closed_step_is_taken_on_the_whole_evidence(tmp_path: Path) -> None:
    """Sixty rounds of EM on the standardised iris, begun at a flower of each kind, end at a fixed point of EM."""
    program = jointkl.compile(MODELS / "em.jkl")
    data = bind(program.model)[0].columns[0]
    data = (data - data.mean(0)) / data.std(0)
    with torch.no_grad():
        program.params["mu"].copy_(data[[0, 75, 149]])
    run = jointkl.train(program, {"data(x)": data}, steps=60, seed=0, out=tmp_path / "em", quiet=True)
    before = {name: value.detach().clone() for name, value in run.program.params.items()}
    after = run.program.solve("mu+L+w", {"x": data})
    for name, value in after.items():
        torch.testing.assert_close(value, before[name], atol=2e-2, rtol=0)


def test_a_component_that_collapses_is_said(tmp_path: Path) -> None:
    """Far from the data a component can end on fewer points than dimensions."""
    torch.manual_seed(0)
    with pytest.raises(DataError, match="a component holds too few points"):
        jointkl.train(MODELS / "em.jkl", {"data(x)": torch.eye(4)[:3] + 100}, steps=5, out=tmp_path / "em", quiet=True)
