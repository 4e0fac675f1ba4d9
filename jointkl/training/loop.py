"""Train a spec: a new run, or one that goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from jointkl.compiler import compile
from jointkl.objective.share import Passes
from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.training import errors, state
from jointkl.training.engine import Engine
from jointkl.training.machine import memory, threads
from jointkl.training.parallel import batchwide
from jointkl.training.phases import Settings
from jointkl.training.plan import Plan, Request, model_of, plan, stated
from jointkl.training.progress import shown
from jointkl.training.record import GIVEN, SEEDED, Record, Unwritten, configuration, name_of, new_folder
from jointkl.training.run import Run, kept_in
from jointkl.training.tuning import Choice, text_of
from jointkl.training.world import World, joined

__all__ = ["Run", "resume", "train"]


def train(
    program: Program | Model | str | Path,
    data: Mapping[str, object] | None = None,
    *,
    steps: int | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    device: str = "auto",
    way: str | None = None,
    settings: Settings | None = None,
    lets: Mapping[str, str] | None = None,
    quiet: bool = False,
    pictures: int = 4,
    checkpoints: int = 10,
    allow_imports: Collection[str] = (),
) -> Run:
    """Train every player of a program, a model, a spec's text or a path; leave a run folder and return the run.

    `data`: what `jointkl.sources.bind` takes. `steps`: rounds, in place of the spec's. `settings`: options of
    `train(...)` by name, one player's as `"D.lr"`. `lets`: constants of the spec, as `load` takes them; of a model
    already made, those that it was made with. `out`: the folder, else `runs/NAME`. So many `pictures` and `checkpoints`
    are spread over the run, the last at its end; a checkpoint is also made before the first round and after every ten
    minutes. `way`: how steps are taken, `eager`, `compile` or `graph` (where a phase can), or `auto`, each phase's in
    what is fastest on this machine, which is measured first; by default `auto` on a GPU, else `eager`.
    `allow_imports`: as `compile` takes them.

    Networks are in training mode but for samples, which take batch norm's running statistics and leave nothing out.

    The same seed gives the same bits on a CPU, for a spec or a model and any `way` but `auto`; a `Program` comes with
    the parameters it has, and moves to the device. Sets torch's seed. Raises `JklError`, `DataError`, and
    `KeyboardInterrupt` after Ctrl-C, which saves a checkpoint.
    """
    asked = Request(
        settings={**(settings or {}), **stated(steps=steps, seed=seed)},
        lets=dict(lets or {}),
        device=device,
        way=way,
        pictures=pictures,
        checkpoints=checkpoints,
        allowed=tuple(allow_imports),
    )
    with joined() as world:
        decided = plan(model_of(program, asked.lets), data, asked, world)
        made = _seeded(decided, program if isinstance(program, Program) else None)
        world.settle()
        engine = Engine(decided, made)
        world.folder = folder = world.told(lambda: new_folder(decided.model, out))
        with threads(made, decided.device), memory(decided.batch):
            choices = engine.choose_ways()
        started = GIVEN if isinstance(program, Program) else SEEDED
        config = configuration(decided, made, choices, started)
        with _record(world, folder, lambda: Record.new(folder, made, config)) as record:
            return _run(engine, record, decided.notes, choices, quiet)


def resume(
    folder: str | Path,
    data: Mapping[str, object] | None = None,
    *,
    steps: int | None = None,
    device: str | None = None,
    quiet: bool = False,
    allow_imports: Collection[str] = (),
) -> Run:
    """Go on with a run that was interrupted, from its newest whole checkpoint; on a CPU it ends with the bits of one
    that was not.

    `data`: what was given from Python at the time must be given again. `steps`: rounds in all, in place of the run's;
    a schedule of the learning rate is then the longer run's. `device`: another than the run's. `allow_imports`: as
    `compile` takes them, anew. What was recorded after the checkpoint is recorded again.

    Raises what `train` raises, and `DataError` for a folder that is no run, whose checkpoints are all damaged, or
    that another process is training.
    """
    with joined() as world:
        kept = kept_in(folder, allow_imports)
        settings = {**kept.request.settings, **stated(steps=steps)}
        request = replace(kept.request, settings=settings, **stated(device=device))
        decided = plan(kept.model, kept.data_again(data), request, world)
        made = _seeded(decided)
        world.settle()
        world.folder = kept.folder
        engine = Engine(decided, made)
        with _record(world, kept.folder, lambda: Record.again(kept.folder)) as record:
            checkpoint, refused = state.newest(kept.folder, kept.model.source.text)
            if checkpoint is not None:
                engine.restore(checkpoint)
            elif refused or kept.started == GIVEN:
                raise refused[0] if refused else errors.no_checkpoint(kept.folder)
            if len(set(found := world.every(engine.round))) > 1:
                raise errors.other_checkpoint(kept.folder, found)
            if engine.round > decided.rounds:
                raise errors.past(kept.folder, engine.round, decided.rounds)
            record.rewind(engine.round)
            with threads(made, decided.device), memory(decided.batch):
                choices = engine.choose_ways()
            record.configure(configuration(decided, made, choices, kept.started))
            passed_over = (f"{error.message}: passed over" for error in refused)
            notes = [f"goes on after round {engine.round}", *kept.notes(made), *passed_over, *decided.notes]
            return _run(engine, record, notes, choices, quiet)


def _record(world: World, folder: Path, opened: Callable[[], Record]) -> Record:
    """The record of a run, which the first process opens and writes."""
    record: Record = Unwritten(folder)

    def first() -> None:
        nonlocal record
        record = opened()

    world.told(first)
    return record


def _seeded(decided: Plan, program: Program | None = None) -> Program:
    """The program given, or a new one with the parameters that the seed gives; seeds torch."""
    torch.manual_seed(decided.seed)
    passes = Passes(together=decided.updates == "simultaneous")
    return program or compile(decided.model, passes, allow_imports=decided.request.allowed)


def _run(engine: Engine, record: Record, notes: Sequence[str], choices: Sequence[Choice], quiet: bool) -> Run:
    decided, program = engine.plan, engine.program
    told = [*(f"note: {note}" for note in notes), *filter(None, [text_of(choices)])]
    if told and not quiet:
        print(*told, sep="\n", file=sys.stderr)
    with threads(program, decided.device), memory(decided.batch), batchwide(decided, program):
        try:
            with shown(name_of(decided.model), decided.rounds, quiet) as show:
                engine.run(record, show)
        except KeyboardInterrupt:
            if not quiet:
                print(
                    f"interrupted after round {engine.round}; saved {engine.checkpoint}\n"
                    f"to go on: jointkl resume {record.folder}",
                    file=sys.stderr,
                )
            raise
    return Run(record.folder, program, engine.round, engine.losses, engine.seconds, decided.given, decided.bound)
