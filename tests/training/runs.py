"""What tests of training ask of runs: a plan, what a folder recorded, an interruption."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from jointkl.compiler import derive
from jointkl.semantics.model import Model
from jointkl.training import steps
from jointkl.training.distributed.processes import ALONE, ProcessGroup
from jointkl.training.folder import checkpoints
from jointkl.training.options import Options
from jointkl.training.plan import Plan, compiled_for, plan


def planned(
    model: Model, data: Mapping[str, object] | None = None, group: ProcessGroup = ALONE, **options: Any
) -> Plan:
    """The plan of a run, by the options of `train`."""
    asked = Options(**options)
    return plan(compiled_for(derive(model), asked), data, asked, group)


def metrics(folder: Path) -> list[dict[str, Any]]:
    """All that was recorded, without the times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def last(folder: Path) -> dict[str, Tensor]:
    return load_file(checkpoints.whole(folder)[-1])


def assert_same(one: Path, other: Path) -> None:
    """The same parameters, optimisers, random numbers and places in the data, bit for bit, and the same metrics."""
    a, b = last(one), last(other)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name
    assert metrics(one) == metrics(other)
    pictures = [{path.name: path.read_bytes() for path in (folder / "samples").iterdir()} for folder in (one, other)]
    assert pictures[0] == pictures[1]


def interrupt(monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """Ctrl-C, once, in the middle of a round."""
    step, asked = steps.PhaseStepper.step, threading.Event()

    def interrupted(stepper: steps.PhaseStepper, batch: Mapping[str, Tensor], number: int, *rest: Any) -> None:
        if number == when and not asked.is_set():
            asked.set()
            os.kill(os.getpid(), signal.SIGINT)
        step(stepper, batch, number, *rest)

    monkeypatch.setattr(steps.PhaseStepper, "step", interrupted)


def stopping(monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """The same, in a round in which all step at once."""
    note, asked = steps.PhaseStepper.note, threading.Event()

    def noting(stepper: steps.PhaseStepper, loss: Tensor, number: int) -> None:
        if number == when and not asked.is_set():
            asked.set()
            os.kill(os.getpid(), signal.SIGINT)
        note(stepper, loss, number)

    monkeypatch.setattr(steps.PhaseStepper, "note", noting)


@pytest.fixture(autouse=True)
def interruptible() -> Any:
    """SIGINT as in a terminal: it is ignored where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def reached(folder: Path) -> int:
    """The last round in the metrics; 0 before any."""
    try:
        *_, line = (line for line in (folder / "metrics.jsonl").read_text().splitlines() if line.endswith("}"))
        return json.loads(line)["round"]
    except (OSError, ValueError):
        return 0
