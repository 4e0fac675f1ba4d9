"""A run that was interrupted goes on to the bits of one that was not."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import jointkl
from jointkl.diagnostics import DataError
from jointkl.training.folder import checkpoints
from jointkl.training.folder.run import Run, load_run
from tests.training.runs import assert_same, interrupt, interruptible, last, metrics, reached, stopping
from tests.training.specs import MIXTURE
from tests.worlds import MODELS

__all__ = ["interruptible"]

KILLS = 30

SIMULTANEOUS = "train(updates=simultaneous)"


def specs(gan: str, vae: str, proximal: str) -> Mapping[str, str]:
    return {
        "gan": gan,
        "vae": vae.replace("steps=300", "steps=200"),
        "old copies, several steps, a bound": proximal + "\ntrain G(repeat=2, every=3, clip=0.5)\n",
        "at once": f"{gan}\n{SIMULTANEOUS}\n",
        "batch norm and dropout": gan.replace("D = mlp(16)", "D = mlp(16, norm=batch, dropout=0.3)"),
        "rmsprop and a free law": MIXTURE.replace("METHOD", "estimate=gradient"),
        "sgd": gan.replace("beta1=0.5", "optimizer=sgd, weight_decay=0.01"),
        "schedules": f"{gan}\ntrain(schedule=cosine, warmup=10)\ntrain D(schedule=linear, every=2)\n",
        "averages": gan.replace("G = mlp(16)", "G = mlp(16, norm=batch)") + "\ntrain(ema=0.9)\ntrain D(ema=0.99)\n",
        "averages, at once": f"{gan}\ntrain(ema=0.9, schedule=linear)\n{SIMULTANEOUS}\n",
        "bf16": f"{proximal}\ntrain(precision=bf16)\n",
        "judged": gan,
        "judged by a metric": f"{gan}\ntrain(ema=0.9)\n",
        "losses in turn": (MODELS / "alpha_gan.jkl").read_text(),
    }


ASKED: Mapping[str, Mapping[str, Any]] = {
    "judged": {"stop_on": "loss:G", "patience": 1000, "judge_every": 7},
    "judged by a metric": {"stop_on": "high_quality", "patience": 1000, "judge_every": 7},
    "losses in turn": {"steps": 100, "settings": {"batch": "8", "D.every": "2", "C.repeat": "2"}},
}
"""What is asked of `train` beside the spec."""


SPECS = ("gan", "vae", "old copies, several steps, a bound", "at once", "batch norm and dropout",
         "rmsprop and a free law", "sgd", "schedules", "averages", "averages, at once", "bf16", "judged",
         "judged by a metric", "losses in turn")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_ctrl_c_and_resume_end_as_an_unbroken_run(
    name: str, gan: str, vae: str, proximal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specs(gan, vae, proximal)[name].replace("steps=200", "steps=100")
    asked = {"pictures": 2, **ASKED.get(name, {})}
    jointkl.train(spec, out=tmp_path / "whole", quiet=True, **asked)
    stop = stopping if "at once" in name else interrupt
    with monkeypatch.context() as patch:
        stop(patch, 33)
        with pytest.raises(KeyboardInterrupt):
            jointkl.train(spec, out=tmp_path / "broken", quiet=True, **asked)
    assert load_run(tmp_path / "broken").rounds == 33
    with monkeypatch.context() as patch:
        stop(patch, 64)
        with pytest.raises(KeyboardInterrupt):
            jointkl.resume(tmp_path / "broken", quiet=True)
    assert load_run(tmp_path / "broken").rounds == 64
    run = jointkl.resume(tmp_path / "broken", quiet=True)
    assert run.rounds == 100
    assert_same(tmp_path / "whole", tmp_path / "broken")


def child(spec: Path, out: Path, ready: Any) -> None:
    """Train, or go on if there is a run. Forked from a process that has imported everything."""
    torch.set_num_threads(1)
    ready.set()
    if (out / "config.json").exists():
        jointkl.resume(out, quiet=True)
    else:
        jointkl.train(spec, out=out, quiet=True, pictures=3, checkpoints=40)


@pytest.mark.slow
def test_thirty_kills_at_random_instants_leave_no_trace(proximal: str, tmp_path: Path) -> None:
    """SIGKILL while it starts, trains, saves or draws; the folder alone says how to go on."""
    rounds = 1500
    spec = tmp_path / "gan.jkl"
    spec.write_text(proximal.replace("steps=200", f"steps={rounds}"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, "jointkl.training.loop", "pyro"])

    def start(out: Path) -> Any:
        ready = processes.Event()
        process = processes.Process(target=child, args=(spec, out, ready))
        process.start()
        assert ready.wait(120)
        return process

    process = start(whole)
    process.join()
    assert process.exitcode == 0
    chance, kills, lives = random.Random(0), 0, 0
    while kills < KILLS:
        process = start(broken)
        goal = reached(broken) + chance.uniform(0, 1.5 * rounds / KILLS) if kills % 3 else 0
        while process.exitcode is None and reached(broken) < goal:
            time.sleep(0.005)
        process.join(chance.uniform(0, 0.01 if goal else 0.3))
        if process.exitcode is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        lives += reached(broken) > 0
        if (broken / "spec.jkl").exists() and not (broken / "config.json").exists():
            shutil.rmtree(broken)  # killed before it was a run
    jointkl.resume(broken, quiet=True)
    assert kills == KILLS
    assert lives > KILLS / 2
    assert_same(whole, broken)


ACTS = ("open", "write", "fsync", "ftruncate", "mkdir", "unlink", "replace")


@contextmanager
def killed_everywhere(folder: Path, into: Path) -> Iterator[list[Path]]:
    """What a kill would leave of a folder before each act on its files that may change them, each state once."""
    found: list[Path] = []
    seen: set[str] = set()

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **named: Any) -> Any:
            if folder.exists():
                parts = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*"))}
                text = repr({name: path.is_file() and path.read_bytes() for name, path in parts.items()})
                if text not in seen:
                    seen.add(text)
                    found.append(shutil.copytree(folder, into / str(len(found))))
            return real(*arguments, **named)

        return act

    with pytest.MonkeyPatch.context() as patch:
        for name in ACTS:
            patch.setattr(os, name, watched(getattr(os, name)))
        yield found


@pytest.mark.slow
def test_a_kill_between_any_two_acts_on_files_leaves_no_trace(gan: str, tmp_path: Path) -> None:
    """Of a run, and of one that goes on from what the kill of another has left."""
    asked: dict[str, Any] = {"quiet": True, "pictures": 0, "checkpoints": 5, "stop_on": "loss:G", "judge_every": 2}
    spec = f"{gan}\ntrain(ema=0.9)\n".replace("steps=200", "steps=10")
    whole = jointkl.train(spec, out=tmp_path / "whole", **asked).folder
    with killed_everywhere(tmp_path / "run", tmp_path / "first") as states:
        jointkl.train(spec, out=tmp_path / "run", **asked)
    begun = [folder for folder in states if (folder / "config.json").exists()]
    assert len(begun) > 40
    for folder in set(states) - set(begun):
        with pytest.raises(DataError, match="is no run"):
            jointkl.resume(folder, quiet=True)
    behind = [f for f in begun if reached(f) > max((int(path.stem) for path in checkpoints.whole(f)), default=99)]
    with killed_everywhere(behind[-1], tmp_path / "second") as again:
        jointkl.resume(behind[-1], quiet=True)
    assert len(again) > 5
    for folder in (*begun, *again):
        jointkl.resume(folder, quiet=True)
        assert_same(whole, folder)
        assert load_run(folder, best=True).rounds == load_run(whole, best=True).rounds
        assert not list(folder.rglob("*.part"))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over_and_the_end_is_the_same(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jointkl.train(gan, out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        interrupt(patch, 117)
        with pytest.raises(KeyboardInterrupt):
            jointkl.train(gan, out=tmp_path / "broken", quiet=True)
    bad = checkpoints.whole(tmp_path / "broken")[-1]
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 4
    bad.write_bytes(bytes(content))
    capsys.readouterr()
    jointkl.resume(tmp_path / "broken")
    told = capsys.readouterr().err
    assert f"note: {bad} is damaged: its bytes are not those that were written: passed over" in told
    assert "note: goes on after round 100" in told
    assert_same(tmp_path / "whole", tmp_path / "broken")


def test_longer_than_planned(gan: str, tmp_path: Path) -> None:
    jointkl.train(gan, steps=50, out=tmp_path / "run", quiet=True, pictures=0)
    run = jointkl.resume(tmp_path / "run", steps=100, quiet=True)
    whole = jointkl.train(gan, steps=100, out=tmp_path / "whole", quiet=True, pictures=0)
    a, b = (r.program.emitted.state_dict() for r in (run, whole))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert json.loads((tmp_path / "run" / "config.json").read_text())["rounds"] == 100
    with pytest.raises(DataError, match="has 100 rounds already, and 60 are asked for"):
        jointkl.resume(tmp_path / "run", steps=60)


def test_longer_than_its_epochs(gan: str, tmp_path: Path) -> None:
    jointkl.train(gan, out=tmp_path / "run", quiet=True, pictures=0, settings={"epochs": "1"})
    assert jointkl.resume(tmp_path / "run", steps=30, quiet=True).rounds == 30
    whole = jointkl.train(gan, steps=30, out=tmp_path / "whole", quiet=True, pictures=0)
    assert torch.equal(last(tmp_path / "run")["program/G.layers.0.weight"], whole.program.emitted.G.layers[0].weight)


def test_a_run_that_is_not_judged_has_no_patience(gan: str, tmp_path: Path) -> None:
    jointkl.train(gan, steps=2, out=tmp_path / "run", quiet=True, pictures=0)
    with pytest.raises(DataError, match="the run is not judged as it goes"):
        jointkl.resume(tmp_path / "run", patience=3)


def test_constants_and_settings_come_back_as_they_were_given(vae: str, tmp_path: Path) -> None:
    """As numbers too, from Python."""
    told = {"lr": 0.1 + 0.2, "enc.beta1": "5e-1 ", "seed": "3"}
    jointkl.train(vae, steps=2, out=tmp_path / "run", quiet=True, pictures=0, settings=told, lets={"H": 8})
    before = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (before["seed"], before["lets"]) == (3, {"H": "8"})
    assert [(p["lr"], p["betas"]) for p in before["phases"]] == [(0.1 + 0.2, [0.5, 0.999])]
    run = jointkl.resume(tmp_path / "run", steps=4, quiet=True)
    after = json.loads((tmp_path / "run" / "config.json").read_text())
    for name in ("seed", "lets", "phases"):
        assert after[name] == before[name]
    whole = jointkl.train(vae, steps=4, out=tmp_path / "whole", quiet=True, pictures=0, settings=told, lets={"H": "8"})
    assert run.losses == whole.losses


@pytest.mark.slow
def test_a_run_that_ended_is_left_as_it_is(gan: str, tmp_path: Path) -> None:
    run = jointkl.train(gan, steps=5, out=tmp_path / "run", quiet=True)
    before = last(run.folder), metrics(run.folder)
    again = jointkl.resume(run.folder, quiet=True)
    assert (again.rounds, again.losses) == (5, run.losses)
    after = last(run.folder), metrics(run.folder)
    assert after[1] == before[1]
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())


def test_data_from_python_are_given_again(gan: str, tmp_path: Path) -> None:
    data = {"data": torch.randn(300, 2)}
    jointkl.train(gan, data, steps=4, out=tmp_path / "run", quiet=True, pictures=0)
    with pytest.raises(DataError, match="the data of data\\(x\\) were given from Python"):
        jointkl.resume(tmp_path / "run", steps=8)
    run: Run = jointkl.resume(tmp_path / "run", data, steps=8, quiet=True)
    whole = jointkl.train(gan, data, steps=8, out=tmp_path / "whole", quiet=True, pictures=0)
    assert run.losses == whole.losses


def test_other_data_are_not_taken_for_the_same(gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = torch.randn(100, 2)
    jointkl.train(gan, {"data": data}, steps=3, out=tmp_path / "run", quiet=True, pictures=0, settings={"batch": "30"})
    with pytest.raises(DataError, match="stands behind row 90 of data\\(x\\), whose data have 30 rows"):
        jointkl.resume(tmp_path / "run", {"data": data[:30]}, steps=6)
    jointkl.resume(tmp_path / "run", {"data": data}, steps=4)
    assert "not to the same bits" not in capsys.readouterr().err
    jointkl.resume(tmp_path / "run", {"data": data[:90]}, steps=6)
    said = "note: the data of data(x) have 90 rows, and had 100: the run goes on, not to the same bits"
    assert said in capsys.readouterr().err
    jointkl.resume(tmp_path / "run", {"data": data[:90] + 1e-3}, steps=7)
    said = "note: the rows of data(x) are others than before: the run goes on, not to the same bits"
    assert said in capsys.readouterr().err


def test_other_options_are_not_taken_for_the_same(gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As somebody has written them into config.json, or a bit of it has flipped."""
    jointkl.train(gan, steps=3, out=tmp_path / "run", quiet=True, pictures=0, settings={"D.lr": "2e-3"})
    jointkl.resume(tmp_path / "run", steps=4)
    assert "not to the same bits" not in capsys.readouterr().err
    path = tmp_path / "run" / "config.json"
    path.write_text(path.read_text().replace('"D.lr": "2e-3"', '"D.lr": "6e-3"'))
    jointkl.resume(tmp_path / "run", steps=5)
    assert "note: D has another lr than before: the run goes on, not to the same bits" in capsys.readouterr().err


@pytest.mark.slow
def test_a_program_with_parameters_of_its_own_goes_on_from_them(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program() -> jointkl.Program:
        torch.manual_seed(77)
        return jointkl.compile(gan)

    jointkl.train(program(), out=tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            jointkl.train(program(), out=tmp_path / "broken", quiet=True)
    first, second = checkpoints.whole(tmp_path / "broken")
    assert (first.stem, second.stem) == ("00000000", "00000003")
    second.with_suffix(".json").unlink()
    jointkl.resume(tmp_path / "broken", quiet=True)
    assert_same(tmp_path / "whole", tmp_path / "broken")


def test_one_process_at_a_time(gan: str, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="locks of files are not those of Windows")
    run = jointkl.train(gan, steps=5, out=tmp_path / "run", quiet=True, pictures=0)
    with (run.folder / "metrics.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is training this run"):
            jointkl.resume(run.folder, steps=10)
    assert jointkl.resume(run.folder, steps=10, quiet=True).rounds == 10
