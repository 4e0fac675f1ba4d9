"""A run under way, from its engine to what it leaves: what the user sees of it, and what is told where it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jointkl import disk
from jointkl.compiler import compile
from jointkl.diagnostics import printable
from jointkl.objective.share import Passes
from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.training import errors
from jointkl.training.distributed.processes import ALONE, ProcessGroup
from jointkl.training.engine import Engine
from jointkl.training.folder import errors as folder_errors
from jointkl.training.folder.record import Record, Unwritten, name_of
from jointkl.training.folder.run import Run
from jointkl.training.machine import memory
from jointkl.training.nonfinite.check import NotFinite
from jointkl.training.nonfinite.explanation import explained
from jointkl.training.plan import Plan, Request, plan
from jointkl.training.speed.autotune import Choice, text_of
from jointkl.training.watching.progress import shown
from jointkl.training.watching.trackers import Start, Trackers


def built(
    model: Model, data: Mapping[str, object] | None, request: Request, group: ProcessGroup, program: object = None
) -> Engine:
    """A run, decided and made, by all processes alike."""
    with memory():
        decided = plan(model, data, request, group)
        made = _seeded(decided, program if isinstance(program, Program) else None)
        group.settle()
        return Engine(decided, made)


def recorded(group: ProcessGroup, folder: Path, opened: Callable[[], Record]) -> Record:
    """The record of a run, which the first process opens and writes."""
    record: Record = Unwritten(folder)

    def first() -> None:
        nonlocal record
        record = opened()

    group.from_first(first)
    return record


@contextmanager
def followed(record: Record, decided: Plan, config: Mapping[str, object], start: int | None = None) -> Iterator[None]:
    """The record's trackers, open while the run goes on; `start`: the round from which it does."""
    asked = decided.request
    begin = Start(record.folder, name_of(decided.model), asked.id, config, start)
    record.trackers = Trackers(asked.track if decided.group.first else (), begin)
    try:
        yield
    except BaseException:
        record.trackers.close(whole=False)
        raise
    record.trackers.close(whole=True)


def _explained(engine: Engine, folder: Path, noticed: NotFinite, quiet: bool) -> Exception:
    """What has gone wrong, looked for by this process alone: of several, one takes the steps of all once more."""
    if engine.plan.group.size > 1:
        alone = replace(engine.plan, group=ALONE)
        whole = Engine(alone, _seeded(alone))
        whole.round, whole.checkpoint = engine.round, engine.checkpoint
        with whole.at_work():
            return explained(whole, folder, noticed, quiet)
    return explained(engine, folder, noticed, quiet)


def _seeded(decided: Plan, program: Program | None = None) -> Program:
    """The program given, or a new one with the parameters that the seed gives; seeds torch."""
    torch.manual_seed(decided.seed)
    passes = Passes(together=decided.updates == "simultaneous")
    return program or compile(decided.model, passes, allow_imports=decided.request.allowed)


def finish(engine: Engine, record: Record, notes: Sequence[str], choices: Sequence[Choice], quiet: bool) -> Run:
    told = [*(f"note: {note}" for note in notes), *filter(None, [text_of(choices)])]
    with engine.at_work():
        try:
            go(engine, record, record.folder, told, quiet)
        except NotFinite as noticed:
            found = noticed
            raise (
                engine.plan.group.first_alone(lambda: _explained(engine, record.folder, found, quiet)) or found
            ) from None
        except disk.Unwritable as error:
            raise folder_errors.disk_failed(error, engine.round, engine.checkpoint, record.folder) from error
    if engine.judge and engine.judge.over and not quiet:
        print(engine.judge.told(), file=sys.stderr)
    return run_of(engine, record.folder)


def go(engine: Engine, record: Any, folder: Path, told: Sequence[str], quiet: bool) -> None:
    """The rounds that are left, and what the user sees of them, `told` first. The engine writes into `record`."""
    if told and not quiet:
        print(*map(printable, told), sep="\n", file=sys.stderr)
    try:
        with shown(name_of(engine.plan.model), engine.plan.rounds, quiet) as show:
            engine.run(record, show)
    except KeyboardInterrupt:
        if not quiet:
            print(
                f"interrupted after round {engine.round}; {errors.kept(engine.checkpoint)}\n"
                f"to go on: {errors.resuming(folder)}",
                file=sys.stderr,
            )
        raise


def run_of(engine: Engine, folder: Path) -> Run:
    """The run that ended."""
    plan, averages = engine.plan, engine.averages.named
    return Run(
        folder, engine.program, engine.round, engine.losses, engine.seconds, plan.given, plan.bound, averages=averages
    )
