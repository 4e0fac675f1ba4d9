"""Train a spec: a new run, or one that goes on."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.training import errors
from jointkl.training.distributed.processes import ProcessGroup, joined
from jointkl.training.folder import checkpoints
from jointkl.training.folder import errors as folder_errors
from jointkl.training.folder.record import (
    GIVEN,
    REPLICAS,
    SEEDED,
    Record,
    configuration,
    new_folder,
)
from jointkl.training.folder.run import Run, kept_in
from jointkl.training.launch import built, finish, followed, recorded
from jointkl.training.machine import memory
from jointkl.training.phases import Settings
from jointkl.training.plan import Request, again, model_of, plan, stated, texts
from jointkl.training.seeds.replicas import Replicas, resume_replicas, train_replicas
from jointkl.training.speed.dry_run import Rehearsal, rehearse

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
    with joined() as group:
        if replicas is not None:
            if isinstance(program, Program):
                raise errors.program_with_replicas()
            _verify_alone(group)
            with memory():
                decided = plan(model_of(program, asked.lets), data, asked)
            return train_replicas(decided, replicas, out, quiet)
        engine = built(model_of(program, asked.lets), data, asked, group, program)
        decided = engine.plan
        engine.verify()
        group.folder = folder = group.from_first(lambda: new_folder(decided.model, out))
        with engine.at_work():
            choices = engine.choose_ways()
        started = GIVEN if isinstance(program, Program) else SEEDED
        config = configuration(decided, engine.program, choices, started)
        with (
            recorded(group, folder, lambda: Record.new(folder, engine.program, config)) as record,
            followed(record, decided, config),
        ):
            return finish(engine, record, decided.notes, choices, quiet)


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
    with joined() as group:
        if group.size > 1:
            raise errors.rehearsed_alone()
        engine = built(model_of(program, asked.lets), data, asked, group, program)
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
    with joined() as group:
        if (Path(folder) / REPLICAS).is_file():
            changes = stated(device=device, patience=patience)
            _verify_alone(group)
            return resume_replicas(Path(folder), data, steps, changes, quiet, tuple(allow_imports))
        kept = kept_in(folder, allow_imports)
        request = again(kept.request, steps, **stated(device=device, patience=patience))
        engine = built(kept.model, kept.data_again(data), request, group)
        decided, group.folder = engine.plan, kept.folder
        with recorded(group, kept.folder, lambda: Record.again(kept.folder)) as record:
            checkpoint, refused = checkpoints.newest(kept.folder, engine.program)
            if checkpoint is not None:
                engine.restore(checkpoint)
            elif refused or kept.started == GIVEN:
                raise refused[0] if refused else folder_errors.no_checkpoint(kept.folder)
            if len(set(found := group.gathered(engine.round))) > 1:
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
                return finish(engine, record, notes, choices, quiet)


def _verify_alone(group: ProcessGroup) -> None:
    """Several seeds at once are one process's."""
    if group.size > 1:
        raise errors.replicas_alone(group.size)
