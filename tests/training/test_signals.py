"""A run that is asked to end saves, says how to go on, and ends as the shell expects."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import jointkl
from jointkl import cli, disk
from jointkl.diagnostics import Terminated
from jointkl.training.folder import checkpoints
from jointkl.training.folder.run import load_run
from jointkl.training.machine import interrupts
from tests.training.runs import assert_same, interrupt, interruptible, reached
from tests.training.specs import GAN

__all__ = ["interruptible"]

ROUNDS = 800


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody asks to end."""
    return jointkl.train(GAN, steps=ROUNDS, out=tmp_path_factory.mktemp("whole") / "run", quiet=True).folder


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jointkl.train(GAN, pictures=1, out=tmp_path_factory.mktemp("once") / "run", quiet=True).folder


def started(spec: Path, out: Path) -> subprocess.Popen[str]:
    """`jointkl train` as a shell starts it, well under way."""
    line = [sys.executable, "-m", "jointkl", "train", str(spec), "--out", str(out), "--steps", str(ROUNDS)]
    process = subprocess.Popen(
        line, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as in a terminal
    )  # fmt: skip
    while reached(out) < ROUNDS // 20:
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGTERM], 143), ([signal.SIGINT], 130), ([signal.SIGTERM, signal.SIGTERM, signal.SIGTERM], 143)],
    ids=["SIGTERM", "Ctrl-C", "SIGTERM, thrice"],
)
def test_a_run_that_is_asked_to_end_saves_and_says_how_to_go_on(
    signals: list[signal.Signals], code: int, gan: str, whole: Path, tmp_path: Path
) -> None:
    spec, out = tmp_path / "gan.jkl", tmp_path / "run"
    spec.write_text(gan)
    process = started(spec, out)
    for one in signals:
        process.send_signal(one)
    _, said = process.communicate(timeout=300)
    assert process.returncode == code
    assert "Traceback" not in said
    number = load_run(out).rounds
    assert 0 < number < ROUNDS
    last = checkpoints.whole(out)[-1]
    assert last.stem == f"{number:08d}"
    assert said.rstrip().endswith(
        f"interrupted after round {number}; the last checkpoint is {last}\nto go on: jointkl resume {out}"
    )
    jointkl.resume(out, quiet=True)
    assert_same(whole, out)


@pytest.mark.slow
@pytest.mark.parametrize("stage", range(5))
def test_a_second_ctrl_c_while_it_saves_leaves_the_last_checkpoint_whole(
    stage: int, gan: str, drawn_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In the syncing of the metrics, the tensors, their folder, the JSON, its folder."""
    folder, real, seen = tmp_path / "run", os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal seen
        if reached(folder) >= 32 and checkpoints.whole(folder)[-1].stem >= "00000020":
            if seen == stage:
                os.kill(os.getpid(), signal.SIGINT)
            seen += 1
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(disk.os, "fsync", fsync)
        interrupt(patch, 33)
        with pytest.raises(KeyboardInterrupt):
            jointkl.train(gan, pictures=1, out=folder)
    kept = checkpoints.whole(folder)[-1]
    assert kept.stem == ("00000033" if stage == 4 else "00000020")
    run = load_run(folder)
    assert (run.rounds, run.notes) == (int(kept.stem), ())
    assert not list(folder.rglob("*.part"))
    assert "interrupted after round 33; the last checkpoint is " in capsys.readouterr().err
    jointkl.resume(folder, quiet=True)
    assert_same(drawn_once, folder)


def test_the_second_ctrl_c_interrupts_at_once_and_the_second_sigterm_does_not() -> None:
    def ask(number: int) -> None:
        os.kill(os.getpid(), number)

    with interrupts() as asked:
        ask(signal.SIGTERM)
        ask(signal.SIGTERM)
        assert asked.is_set()
        assert asked.error is Terminated
        with pytest.raises(KeyboardInterrupt):
            ask(signal.SIGINT)
        assert asked.error is Terminated
    with interrupts() as asked:
        ask(signal.SIGINT)
        ask(signal.SIGTERM)
        assert asked.error is KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            ask(signal.SIGINT)


def test_afterwards_signals_are_heard_as_before() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with interrupts():
        assert all(signal.getsignal(number) is not handler for number, handler in before.items())
    assert {number: signal.getsignal(number) for number in before} == before


def test_what_is_ignored_stays_so() -> None:
    """`nohup`, and shells' background jobs."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interrupts() as asked:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not asked.is_set()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_beside_the_main_thread_nothing_is_heard() -> None:
    before = signal.getsignal(signal.SIGTERM)
    heard: list[object] = []

    def look() -> None:
        with interrupts() as asked:
            heard.extend((signal.getsignal(signal.SIGTERM), asked.is_set()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert heard == [before, False]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_the_exit_code_says_who_asked(error: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli.verbs, "main", interrupted)
    assert cli.main(["check", "x.jkl"]) == code
