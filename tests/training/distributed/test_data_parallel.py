"""Several processes train as one, go on as any number, and end with one message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import jointkl
from jointkl import cli
from jointkl.compiler import compile, parse
from jointkl.diagnostics import DataError
from jointkl.objective import ir
from jointkl.objective.walk import needed
from jointkl.training.distributed import data_parallel
from jointkl.training.distributed.processes import JoinedGroup, ProcessGroup
from jointkl.training.folder import checkpoints
from jointkl.training.machine import EndRequest
from jointkl.training.minibatches import Minibatches
from tests.training.distributed import several
from tests.training.runs import last, planned
from tests.training.specs import GAN, PROXIMAL, VAE

SPECS = {"gan": GAN, "vae": VAE, "proximal": PROXIMAL}


# --- real processes


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    """Two processes, started as a user starts them."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> str:
    """What they have printed. They must end."""
    try:
        return process.communicate(timeout=300)[0]
    except subprocess.TimeoutExpired:
        process.terminate()
        process.communicate()
        raise


def kill(process: subprocess.Popen[str], rank: int) -> None:
    """One of the processes that torchrun has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (victim,) = [pid for pid in children if f"\0RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(int(victim), signal.SIGKILL)


def losses(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_alike(one: Path, other: Path, name: str) -> None:
    """Parameters, optimisers and losses up to how floats are summed, and everything that is drawn to the bit."""
    start, a, b = load_file(checkpoints.whole(one)[0]), last(one), last(other)
    assert a.keys() == b.keys(), name
    for key, value in a.items():
        if key.startswith(("random/", "data/")):
            assert torch.equal(value, b[key]), (name, key)
        else:
            torch.testing.assert_close(value, b[key], rtol=1e-3, atol=3e-6, msg=f"{name}: {key}")
        if key.startswith("program/") and "old_" not in key:
            assert (value - start[key]).abs().max() > 3e-6, f"{name}: {key} stood still"
    ours, theirs = losses(one), losses(other)
    assert len(ours) == len(theirs), name
    for here, there in zip(ours, theirs, strict=True):
        assert here == pytest.approx(there, rel=1e-5, abs=1e-6), name


def assert_same(one: Path, other: Path) -> None:
    a, b = last(one), last(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[key]) for key, value in a.items())
    assert losses(one) == losses(other)


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(several.__file__).parent))  # as torchrun does for its script
    (tmp_path / "specs.json").write_text(json.dumps(SPECS))
    several.train(GAN, tmp_path / "begun", {"steps": "20"})
    process = torchrun(several.__file__, str(tmp_path), "cpu")
    runs = several.runs(GAN, VAE, PROXIMAL)
    for name, (spec, settings) in runs.items():
        several.train(spec, tmp_path / "one" / name, settings, pictures=name == "gan")
    told = ended(process)
    assert process.returncode == 0, told

    for name in runs:
        assert_alike(tmp_path / "one" / name, tmp_path / "several" / name, name)
    config = json.loads((tmp_path / "several" / "gan" / "config.json").read_text())
    assert (config["processes"], config["batch"]) == (2, 64)
    pictures = [
        sorted(path.name for path in (tmp_path / run / "gan" / "samples").iterdir()) for run in ("one", "several")
    ]
    assert pictures[0] == pictures[1] != []

    assert_alike(tmp_path / "one" / "gan", tmp_path / "begun", "begun by one process")
    jointkl.resume(tmp_path / "half", steps=40, quiet=True)
    assert_alike(tmp_path / "one" / "vae", tmp_path / "half", "begun by two processes")
    for name in ("score", "dropout"):
        assert_same(tmp_path / f"{name} whole", tmp_path / f"{name} broken")

    first, second = (json.loads((tmp_path / f"told.{rank}.json").read_text()) for rank in (0, 1))
    assert first["uneven"] == [
        "DataError",
        "a batch of 63 cannot be shared evenly by 2 processes\n"
        "help: train with --set batch=62, or with a number of processes that divides 63",
    ]
    assert first["way"][1].startswith("way `compile`: 2 processes take their steps eagerly")
    assert first["batch norm"][1].startswith("the net G takes statistics of the batch, which 2 processes share on GPUs")
    assert first["own statistics"][1].startswith("the net D keeps numbers that come from its batch, in layers.seen")
    assert f"{tmp_path}/points.1.npy" in first["one process"][1]
    assert "this was found by process 1 of 0 to 1" in first["one process"][1]
    assert "exists and is not empty" in first["taken"][1]
    assert first["not finite"][0] == "JklError"
    assert "E-NOT-FINITE" in first["not finite"][1]
    assert first["in a step"] == [
        "DataError", "the scales fell off\nhelp: put them back\nhelp: this was found by process 1 of 0 to 1"
    ]  # fmt: skip
    assert first.pop("interrupted")[0] == second.pop("interrupted")[0] == "KeyboardInterrupt"
    assert {kind for kind, _ in second.values()} == {"Elsewhere"}

    stopped = checkpoints.whole(tmp_path / "interrupted")
    assert 5 <= int(stopped[-1].stem) < 100000
    assert len(stopped) == 2


@pytest.mark.slow
def test_a_killed_process_ends_all_and_says_how_to_go_on(tmp_path: Path) -> None:
    spec, out = tmp_path / "gan.jkl", tmp_path / "run"
    spec.write_text(GAN)
    process = torchrun("-m", "jointkl", "train", str(spec), "--steps", "1000000", "--out", str(out))
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.05)
    kill(process, 1)
    told = ended(process)
    assert process.returncode not in (0, None)
    lines = [line for line in told.splitlines() if "jointkl resume" in line or line.startswith("error:")]
    assert lines == [
        "error: a process of this run has ended without a word, or does not answer: was it killed, or its machine"
        " lost?",
        f"help: to go on from the newest checkpoint: jointkl resume {out}, with any number of processes",
    ]
    done = int(checkpoints.whole(out)[-1].stem)
    assert jointkl.resume(out, steps=done + 3, quiet=True).rounds == done + 3


@pytest.mark.slow
def test_processes_that_are_started_again_meet_anew(tmp_path: Path) -> None:
    """torchrun's store keeps what those before them have written."""
    spec, out = tmp_path / "gan.jkl", tmp_path / "run"
    spec.write_text(GAN)
    jointkl.train(spec, steps=10, out=out, quiet=True, pictures=0)
    process = torchrun("--max-restarts", "1", "-m", "jointkl", "resume", str(out), "--steps", "1200")
    metrics = out / "metrics.jsonl"
    while process.poll() is None and len(metrics.read_text().splitlines()) < 20:
        time.sleep(0.05)
    kill(process, 1)
    told = ended(process)
    assert process.returncode == 0, told
    assert "this is a bug" not in told
    assert told.count("note: goes on after round") == 2
    assert checkpoints.whole(out)[-1].stem == "00001200"


@pytest.mark.parametrize("size", ["2", "many"])
def test_one_of_several_that_nobody_has_started(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("RANK" if size == "many" else "LOCAL_RANK", "0")
    (tmp_path / "gan.jkl").write_text(GAN)
    assert cli.main(["train", str(tmp_path / "gan.jkl")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: WORLD_SIZE says that this is one process of several, and they have not met: ")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_are_as_one(tmp_path: Path) -> None:
    (tmp_path / "specs.json").write_text(json.dumps(SPECS))
    process = torchrun(several.__file__, str(tmp_path), "cuda")
    assert process.wait(300) == 0, ended(process)
    for name, (spec, settings) in several.on_gpus(GAN, VAE, PROXIMAL).items():
        several.train(spec, tmp_path / "one" / name, settings, "cuda")
        one, other = last(tmp_path / "one" / name), last(tmp_path / "several" / name)
        for key, value in one.items():
            if not key.startswith("random/"):
                torch.testing.assert_close(value, other[key], rtol=1e-2, atol=1e-4, msg=f"{name}: {key}")


# --- a process's part


class Second(ProcessGroup):
    """The second of three processes."""

    rank, size = 1, 3


def test_parts_of_a_batch_are_the_batch() -> None:
    """The same rows in the same passes, copies of the minibatch those that one process would have."""
    model = parse(several.model("alpha_gan"))
    program = compile(model)

    def batches(rank: int, size: int) -> Minibatches:
        group = ProcessGroup()
        group.rank, group.size = rank, size
        return data_parallel.minibatches_for(
            planned(model, None, group, settings={"batch": "96"}, seed=3, device="cpu"), program
        )

    whole, parts = batches(0, 1), [batches(rank, 3) for rank in range(3)]
    for _ in range(40):  # more than one pass over 1,797 digits
        one, three = whole.draw(), [part.draw() for part in parts]
        assert torch.equal(torch.cat([part["x"] for part in three]), one["x"])
        assert torch.equal(torch.cat([part["x'"] for part in three]), one["x"].roll(1, 0))
    assert torch.equal(torch.cat([part.first()["x"] for part in parts]), whole.first()["x"])
    places = [place.used for part in (whole, *parts) for place in part.places]
    assert len(set(places)) == 1


@pytest.mark.parametrize("name", ["gan", "iwgan", "vi", "introvae", "infogan", "ali"])
def test_noise_is_drawn_as_the_loss_draws_it(name: str) -> None:
    """The loss with what is drawn for it is the loss that draws, to the bit; the generator stands where it would."""
    model = parse(several.model(name))
    program = compile(model)
    batch = {"x": torch.randn(6), "t": torch.randn(6)} if name == "vi" else None
    batch = batch or Minibatches(planned(model, settings={"batch": "6"}, device="cpu").bound, 6, 0, CPU).first()
    for loss in program.objective.losses:
        torch.manual_seed(5)
        expected, after = program.loss(loss.player, batch), torch.get_rng_state()
        torch.manual_seed(5)
        noise = data_parallel.drawing(program, loss)(6)
        assert torch.equal(program.loss(loss.player, {**batch, **noise}), expected)
        assert torch.equal(torch.get_rng_state(), after)
        torch.manual_seed(5)
        parts = []
        for start in (0, 2, 4):
            torch.manual_seed(5)
            parts.append(data_parallel.part_of_draws(program, loss, 6, slice(start, start + 2))())
        for node in (loss.nodes[i] for i in needed(loss)):
            if isinstance(node, ir.Draw) and node.given:
                part_of_draws = [part[node.key] for part in parts]
                found = torch.cat(part_of_draws, node.dims.index(ir.DATA)) if ir.DATA in node.dims else part_of_draws[0]
                assert torch.equal(found, noise[node.key])


CPU = torch.device("cpu")


def test_a_process_draws_apart_and_all_go_on_together() -> None:
    drawn, after = [], []
    for rank in (0, 1):
        torch.manual_seed(3)
        with data_parallel.own_random_numbers(rank, CPU):
            drawn.append(torch.rand(4))
        after.append(torch.rand(4))
        with data_parallel.own_random_numbers(rank, CPU):
            drawn.append(torch.rand(4))
    assert torch.equal(*after)
    assert len({tuple(values.tolist()) for values in drawn}) == 4


def test_one_process_of_a_machine_goes_before_its_others() -> None:
    """And where it fails the others do not try: they come to where it tells of it."""
    store, heard, gathered = torch.distributed.HashStore(), [], []

    def process(rank: int, fails: bool) -> JoinedGroup:
        group = JoinedGroup.__new__(JoinedGroup)
        group.rank, group.size, group.local = rank, 4, rank % 2
        group._store, group._place, group._asked = store, f"{fails}/", EndRequest()
        group._gather = lambda failure: gathered.append(rank) or fall()
        return group

    def find(rank: int, fails: bool) -> int:
        heard.append(rank)
        return fall() if fails else rank

    def fall() -> int:
        raise DataError("no room")

    with ThreadPoolExecutor(2) as others:
        for first in (0, 2):
            later = others.submit(process(first + 1, False).first_of_machine_first, partial(find, first + 1, False))
            assert process(first, False).first_of_machine_first(partial(find, first, False)) == first
            assert later.result(10) == first + 1
        later = others.submit(process(1, True).first_of_machine_first, lambda: find(1, True))
        with pytest.raises(DataError, match="no room"):
            process(0, True).first_of_machine_first(lambda: find(0, True))
        assert isinstance(later.exception(10), DataError)
    assert (heard, gathered) == ([0, 1, 2, 3, 0], [1])


TWICE = """
var x: real[2]
var z: real
net G = mlp(4)
net H = mlp(4)
p(z) = Normal(0, 1)
q(z) = Normal(0, 2)
p(x | z) = Normal(G(z), 1)
q(x | z) = Normal(H(z), 1)
minimize KL(p(z) * p(x|z) || q(z) * q(x|z)) + KL(q(z) * q(x|z) || p(z) * p(x|z))
"""


def test_two_draws_under_one_name_are_refused() -> None:
    program = compile(parse(TWICE))
    (loss,) = program.objective.losses
    with pytest.raises(DataError, match="the loss of G\\+H draws z in two ways"):
        data_parallel.part_of_draws(program, loss, 8, slice(0, 4))


def test_one_process_starts_no_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where torchrun has started it."""
    monkeypatch.setenv("WORLD_SIZE", "1")
    jointkl.train(GAN, steps=2, out=tmp_path / "run", quiet=True, pictures=0)
    assert not torch.distributed.is_initialized()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["processes"] == 1
