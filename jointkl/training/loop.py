"""Train a spec: a new run, or one that goes on."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch

from jointkl import disk
from jointkl.compiler import compile
from jointkl.diagnostics import printable
from jointkl.objective.share import Passes
from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.training import errors
from jointkl.training.distributed.processes import ALONE, World, joined
from jointkl.training.engine import Engine
from jointkl.training.folder import checkpoints
from jointkl.training.folder import errors as folder_errors
from jointkl.training.folder.record import (
    GIVEN,
    REPLICAS,
    SEEDED,
    Record,
    Unwritten,
    configuration,
    name_of,
    new_folder,
)
from jointkl.training.folder.run import Run, kept_in
from jointkl.training.machine import memory
from jointkl.training.nonfinite.explanation import explained
from jointkl.training.nonfinite.replay import NotFinite
from jointkl.training.phases import Settings
from jointkl.training.plan import Plan, Request, again, model_of, plan, stated, texts
from jointkl.training.speed.autotune import Choice, text_of
from jointkl.training.speed.dry_run import Rehearsal, rehearse
from jointkl.training.watching.progress import shown
from jointkl.training.watching.trackers import Start, Trackers

if TYPE_CHECKING:
    from jointkl.training.replicas import Replicas

__all__ = ["Rehearsal", "Run", "dry_run", "resume", "train"]

Source = Program | Model | str | Path
Data = Mapping[str, object] | None


@overload  # the options are those below
def train(program: Source, data: Data = None, *, replicas: None = None, **options: Any) -> Run: ...
@overload
def train(program: Source, data: Data = None, *, replicas: int, **options: Any) -> Replicas: ...
@overload
def train(program: Source, data: Data = None, *, replicas: int | None, **options: Any) -> Run | Replicas: ...
def train(  # pyright: ignore[reportInconsistentOverload]
    program: Source,
    data: Data = None,
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
    precision: str | None = None,
    stop_on: str | None = None,
    patience: int | None = None,
    judge_every: int | None = None,
    track: Sequence[str] = (),
    replicas: int | None = None,
    allow_imports: Collection[str] = (),
    download: bool = False,
) -> Run | Replicas:
    """Train every player of a program, a model, a spec's text or a path; leave a run folder and return the run.

    `data`: what `jointkl.sources.bind` takes. `steps`: rounds, in place of the spec's. `settings`: options of
    `train(...)` by name, one player's as `"D.lr"`. `lets`: constants of the spec, as `load` takes them; of a model
    already made, those that it was made with. `out`: the folder, else `runs/NAME`. So many `pictures` and `checkpoints`
    are spread over the run, the last at its end; a checkpoint is also made before the first round and after every ten
    minutes. `way`: how steps are taken, `eager`, `compile` or `graph` (where a phase can), or `auto`, each phase's in
    what is fastest on this machine, which is measured first; by default `auto` on a GPU, else `eager`.
    `precision`: of the networks' arithmetic, `float32` or `bf16`, in place of the spec's. `stop_on`: end early by a
    metric, as `"loss:G"` or `"modes"`, that is judged every `judge_every` rounds, once `patience` judgements brought
    nothing better; the best checkpoint is kept. `track`: where the run can be followed beside its folder,
    "tensorboard", "wandb" or "mlflow", each an extra; none of them can end it. `replicas`: so many runs at once, of the
    seeds from `seed` on; each ends as the run of its seed would, up to rounding, and has a folder of its own in that of
    all. `allow_imports`: as `compile` takes them. `download`: fetch the data sets that are not there.

    Networks are in training mode but for samples, which take batch norm's running statistics and leave nothing out.

    The same seed gives the same bits on a CPU, for a spec or a model and any `way` but `auto`; a `Program` comes with
    the parameters it has, and moves to the device. Sets torch's seed. Raises `JklError`, `DataError`, and
    `KeyboardInterrupt` after Ctrl-C, which saves a checkpoint.
    """
    asked = Request(
        settings={**(settings or {}), **stated(steps=steps, seed=seed, precision=precision)},
        lets=texts(lets),
        device=device,
        way=way,
        pictures=pictures,
        checkpoints=checkpoints,
        stop_on=stop_on,
        patience=patience,
        judge_every=judge_every,
        track=track,
        id=secrets.token_hex(4),
        allowed=tuple(allow_imports),
        download=download,
    )
    with joined() as world:
        if replicas is not None:
            from jointkl.training.replicas import train_replicas  # which goes on in this module

            if isinstance(program, Program):
                raise errors.program_with_replicas()
            _verify_alone(world)
            with memory():
                decided = plan(model_of(program, asked.lets), data, asked)
            return train_replicas(decided, replicas, out, quiet)
        engine = _engine(model_of(program, asked.lets), data, asked, world, program)
        decided = engine.plan
        engine.verify()
        world.folder = folder = world.told(lambda: new_folder(decided.model, out))
        with engine.at_work():
            choices = engine.choose_ways()
        started = GIVEN if isinstance(program, Program) else SEEDED
        config = configuration(decided, engine.program, choices, started)
        with (
            _record(world, folder, lambda: Record.new(folder, engine.program, config)) as record,
            followed(record, decided, config),
        ):
            return _run(engine, record, decided.notes, choices, quiet)


def dry_run(
    program: Program | Model | str | Path,
    data: Mapping[str, object] | None = None,
    *,
    steps: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    way: str | None = None,
    settings: Settings | None = None,
    lets: Mapping[str, str] | None = None,
    precision: str | None = None,
    stop_on: str | None = None,
    patience: int | None = None,
    judge_every: int | None = None,
    allow_imports: Collection[str] = (),
    download: bool = False,
) -> Rehearsal:
    """What a run would be: everything is built and each phase takes a few steps, which are undone. No folder is made.

    The options are those of `train`, and what is raised too.
    """
    asked = Request(
        settings={**(settings or {}), **stated(steps=steps, seed=seed, precision=precision)},
        lets=texts(lets),
        device=device,
        way=way,
        stop_on=stop_on,
        patience=patience,
        judge_every=judge_every,
        allowed=tuple(allow_imports),
        download=download,
    )
    with joined() as world:
        if world.size > 1:
            raise errors.rehearsed_alone()
        engine = _engine(model_of(program, asked.lets), data, asked, world, program)
        engine.verify()
        return rehearse(engine)


def resume(
    folder: str | Path,
    data: Mapping[str, object] | None = None,
    *,
    steps: int | None = None,
    device: str | None = None,
    patience: int | None = None,
    quiet: bool = False,
    allow_imports: Collection[str] = (),
) -> Run | Replicas:
    """Go on with a run that was interrupted, from its newest whole checkpoint; on a CPU it ends with the bits of one
    that was not. The folder of replicas goes on with all, from the newest round of which each has a checkpoint.

    `data`: what was given from Python at the time must be given again. `steps`: rounds in all, in place of the run's;
    a schedule of the learning rate is then the longer run's. `device`: another than the run's. `patience`: more of it,
    for a run that ended early. `allow_imports`: as `compile` takes them, anew. What was recorded after the checkpoint
    is recorded again.

    Raises what `train` raises, and `DataError` for a folder that is no run, whose checkpoints are all damaged, or
    that another process is training.
    """
    with joined() as world:
        if (Path(folder) / REPLICAS).is_file():
            from jointkl.training.replicas import resume_replicas

            changes = stated(device=device, patience=patience)
            _verify_alone(world)
            return resume_replicas(Path(folder), data, steps, changes, quiet, tuple(allow_imports))
        kept = kept_in(folder, allow_imports)
        request = again(kept.request, steps, **stated(device=device, patience=patience))
        engine = _engine(kept.model, kept.data_again(data), request, world)
        decided, world.folder = engine.plan, kept.folder
        with _record(world, kept.folder, lambda: Record.again(kept.folder)) as record:
            checkpoint, refused = checkpoints.newest(kept.folder, engine.program)
            if checkpoint is not None:
                engine.restore(checkpoint)
            elif refused or kept.started == GIVEN:
                raise refused[0] if refused else folder_errors.no_checkpoint(kept.folder)
            if len(set(found := world.every(engine.round))) > 1:
                raise errors.other_checkpoint(kept.folder, found)
            if engine.round > decided.rounds:
                raise folder_errors.past(kept.folder, engine.round, decided.rounds)
            record.rewind(engine.round)
            with engine.at_work():
                choices = engine.choose_ways()
            config = configuration(decided, engine.program, choices, kept.started)
            record.configure(config)
            notes = [
                f"goes on after round {engine.round}",
                *kept.notes(engine.program, decided),
                *(f"{error.message}: passed over" for error in refused),
                *decided.notes,
            ]
            with followed(record, decided, config, engine.round):
                return _run(engine, record, notes, choices, quiet)


def _verify_alone(world: World) -> None:
    """Several seeds at once are one process's."""
    if world.size > 1:
        raise errors.replicas_alone(world.size)


def _engine(
    model: Model, data: Mapping[str, object] | None, request: Request, world: World, program: object = None
) -> Engine:
    """A run, decided and made, by all processes alike."""
    with memory():
        decided = plan(model, data, request, world)
        made = _seeded(decided, program if isinstance(program, Program) else None)
        world.settle()
        return Engine(decided, made)


def _record(world: World, folder: Path, opened: Callable[[], Record]) -> Record:
    """The record of a run, which the first process opens and writes."""
    record: Record = Unwritten(folder)

    def first() -> None:
        nonlocal record
        record = opened()

    world.told(first)
    return record


@contextmanager
def followed(record: Record, decided: Plan, config: Mapping[str, object], start: int | None = None) -> Iterator[None]:
    """The record's trackers, open while the run goes on; `start`: the round from which it does."""
    asked = decided.request
    begin = Start(record.folder, name_of(decided.model), asked.id, config, start)
    record.trackers = Trackers(asked.track if decided.world.first else (), begin)
    try:
        yield
    except BaseException:
        record.trackers.close(whole=False)
        raise
    record.trackers.close(whole=True)


def _explained(engine: Engine, folder: Path, noticed: NotFinite, quiet: bool) -> Exception:
    """What has gone wrong, looked for by this process alone: of several, one takes the steps of all once more."""
    if engine.plan.world.size > 1:
        alone = replace(engine.plan, world=ALONE)
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


def _run(engine: Engine, record: Record, notes: Sequence[str], choices: Sequence[Choice], quiet: bool) -> Run:
    told = [*(f"note: {note}" for note in notes), *filter(None, [text_of(choices)])]
    with engine.at_work():
        try:
            go(engine, record, record.folder, told, quiet)
        except NotFinite as noticed:
            found = noticed
            raise engine.plan.world.awaited(lambda: _explained(engine, record.folder, found, quiet)) or found from None
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
