"""A run under way, from its plan to what it leaves: what the user sees of it, and what is reported where it fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jointkl import disk
from jointkl.diagnostics import printable
from jointkl.program import Program
from jointkl.training.distributed.processes import ALONE, ProcessGroup
from jointkl.training.engine import Engine
from jointkl.training.folder import errors as folder_errors
from jointkl.training.folder.record import Record, Unwritten, name_of
from jointkl.training.folder.run import Run
from jointkl.training.nonfinite.check import NotFinite
from jointkl.training.nonfinite.explanation import explained
from jointkl.training.plan import Plan
from jointkl.training.speed.autotune import Choice, text_of
from jointkl.training.watching.progress import shown
from jointkl.training.watching.trackers import Start, Trackers


def seeded(plan: Plan, program: Program | None = None) -> Program:
    """The program given, or a new one with the parameters that the seed gives; seeds torch."""
    torch.manual_seed(plan.seed)
    found = plan.compiled
    return program or Program(found.derivation, found.objective, found.source)


def recorded(group: ProcessGroup, folder: Path, opened: Callable[[], Record]) -> Record:
    """The record of a run, which the first process opens and writes."""
    record: Record = Unwritten(folder)

    def first() -> None:
        nonlocal record
        record = opened()

    group.from_first(first)
    return record


@contextmanager
def followed(record: Record, plan: Plan, config: Mapping[str, object], start: int | None = None) -> Iterator[None]:
    """The record's trackers, open while the run goes on; `start`: the round after which it does, in one that is
    resumed."""
    begin = Start(record.folder, name_of(plan.model), plan.id, config, start)
    record.trackers = Trackers(plan.options.track if plan.group.first else (), begin)
    try:
        yield
    except BaseException:
        record.trackers.close(whole=False)
        raise
    record.trackers.close(whole=True)


def finish(engine: Engine, record: Record, notes: Sequence[str], choices: Sequence[Choice], quiet: bool) -> Run:
    """The rounds that are left, and the run that they end in."""
    lines = [*(f"note: {note}" for note in notes), *filter(None, [text_of(choices)])]
    with engine.at_work():
        try:
            go(engine, record, record.folder, lines, quiet)
        except NotFinite as error:
            noticed = error
            explain = engine.plan.group.first_alone(lambda: _explained(engine, record.folder, noticed, quiet))
            raise explain or noticed from None
        except disk.Unwritable as error:
            raise folder_errors.disk_failed(error, engine.round, engine.checkpoint, record.folder) from error
    if engine.judge and engine.judge.over and not quiet:
        print(engine.judge.why_over(), file=sys.stderr)
    return run_of(engine, record.folder)


def _explained(engine: Engine, folder: Path, noticed: NotFinite, quiet: bool) -> Exception:
    """What went wrong. One process looks for it alone: of several, the first takes the steps of all once more."""
    if engine.plan.group.size > 1:
        alone = replace(engine.plan, group=ALONE)
        whole = Engine(alone, seeded(alone))
        whole.round, whole.checkpoint = engine.round, engine.checkpoint
        with whole.at_work():
            return explained(whole, folder, noticed, quiet)
    return explained(engine, folder, noticed, quiet)


def go(engine: Engine, record: Any, folder: Path, lines: Sequence[str], quiet: bool) -> None:
    """The rounds that are left, and what the user sees of them, `lines` first. The engine writes into `record`."""
    if lines and not quiet:
        print(*map(printable, lines), sep="\n", file=sys.stderr)
    try:
        with shown(name_of(engine.plan.model), engine.plan.rounds, quiet) as show:
            engine.run(record, show)
    except KeyboardInterrupt:
        if not quiet:
            print(
                f"interrupted after round {engine.round}; {folder_errors.checkpoint_kept(engine.checkpoint)}\n"
                f"to go on: {folder_errors.resuming(folder)}",
                file=sys.stderr,
            )
        raise


def run_of(engine: Engine, folder: Path) -> Run:
    """The run that ended."""
    plan, averages = engine.plan, engine.averages.named
    return Run(
        folder, engine.program, engine.round, engine.losses, engine.seconds, plan.given, plan.bound, averages=averages
    )
