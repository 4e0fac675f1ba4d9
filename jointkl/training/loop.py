"""Train a spec: a new run, or one that goes on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, overload

from jointkl.compiler import Compiled, derive, model_of, parse
from jointkl.derivation.derive import Derivation
from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.training import errors
from jointkl.training.distributed import errors as distributed_errors
from jointkl.training.distributed.processes import ProcessGroup, joined
from jointkl.training.engine import Engine
from jointkl.training.folder import checkpoints
from jointkl.training.folder import errors as folder_errors
from jointkl.training.folder.config import GIVEN, SEEDED, SavedRun, configuration, saved_in
from jointkl.training.folder.record import REPLICAS, Record, new_folder
from jointkl.training.folder.run import Run
from jointkl.training.launch import finish, followed, recorded, seeded
from jointkl.training.machine import memory
from jointkl.training.options import Options, takes_options
from jointkl.training.plan import Plan, compiled_for, plan
from jointkl.training.seeds import errors as seeds_errors
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
@takes_options
def train(program: Source, data: Data = None, **options: Any) -> Run | Replicas:
    """Train every player of a program, a model, a spec's text or a path; leave a run folder and return the run.

    `data`: what `jointkl.sources.bind` takes. `steps`: rounds, in place of the spec's. `settings`: options of
    `train(...)` by name, one player's as `"D.lr"`. `lets`: constants of the spec, as `load` takes them; of a model
    already made, those that it was made with. `out`: the folder, else `runs/NAME`. So many `pictures` and `checkpoints`
    are spread over the run, the last at its end; a checkpoint is also made before the first round and after every ten
    minutes. `quiet`: show nothing meanwhile. `way`: how steps are taken, `eager`, `compile` or `graph` (where a phase
    can), or `auto`, each phase's in what is fastest on this machine, which is measured first; by default `auto` on a
    GPU, else `eager`.
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
    asked = Options(**options)
    with joined():
        return start(derived(program, asked.constants), data, asked, _made(program))


@takes_options
def dry_run(program: Source, data: Data = None, **options: Any) -> Rehearsal:
    """What a run would be: everything is built and each phase takes a few steps, which are undone. No folder is made.

    The options are those of `train`, of which those that concern its folder do nothing, and what is raised too.
    """
    asked = Options(**options)
    with joined():
        return rehearsal(derived(program, asked.constants), data, asked, _made(program))


def resume(
    folder: str | Path,
    data: Data = None,
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
    said = {"steps": steps, "device": device, "patience": patience}
    with joined() as group:
        if (Path(folder) / REPLICAS).is_file():
            _verify_alone(group)
            return resume_replicas(Path(folder), data, said, quiet, tuple(allow_imports))
        kept = saved_in(folder, allow_imports)
        options = kept.options.again(**said)
        with memory():
            found = compiled_for(derive(kept.model), options)
            decided = plan(found, kept.data_again(data), options, group, ways=kept.ways, id=kept.id)
            engine = _engine(decided)
        group.folder = kept.folder
        with recorded(group, kept.folder, lambda: Record.again(kept.folder)) as record:
            notes = _restore(engine, kept, group)
            record.rewind(engine.round)
            with engine.at_work():
                choices = engine.choose_ways()
            config = configuration(decided, engine.program, choices, kept.started)
            record.configure(config)
            with followed(record, decided, config, engine.round):
                return finish(engine, record, notes, choices, quiet)


def _made(program: Source) -> Program | None:
    return program if isinstance(program, Program) else None


def _restore(engine: Engine, kept: SavedRun, group: ProcessGroup) -> list[str]:
    """Go to where the newest checkpoint was made; returns what the user should know of that. Raises `DataError`."""
    checkpoint, refused = checkpoints.newest(kept.folder, engine.program)
    if checkpoint is not None:
        engine.restore(checkpoint)
    elif refused or kept.started == GIVEN:
        raise refused[0] if refused else folder_errors.no_checkpoint(kept.folder)
    if len(set(found := group.gathered(engine.round))) > 1:
        raise distributed_errors.other_checkpoint(kept.folder, found)
    if engine.round > engine.plan.rounds:
        raise folder_errors.past(kept.folder, engine.round, engine.plan.rounds)
    return [
        f"goes on after round {engine.round}",
        *kept.notes(engine.program, engine.plan),
        *(f"{error.message}: passed over" for error in refused),
        *engine.plan.notes,
    ]


# --- of a derivation, from the command line too


def derived(program: Source, lets: Mapping[str, str]) -> Derivation:
    """The derivation of what is to be trained, parsed from its text. Of a model already made, or derived, as a
    program's is, `lets` must make it again from its text: so a run is loaded. Raises `JklError` or `DataError`."""
    if isinstance(program, str | Path):
        return derive(model_of(program, lets))
    model = program.model if isinstance(program, Program) else program
    parsed = parse(model.source.text, model.source.name, lets)
    found = derive(parsed)
    if model not in (parsed, found.model):
        raise errors.lets_differ()
    return found


def start(derivation: Derivation, data: Data, options: Options, program: Program | None = None) -> Run | Replicas:
    """`train`, of a derivation whose model its text makes with the constants of the options; `program`: one that was
    made already."""
    with joined() as group:
        if options.replicas is not None:
            if program is not None:
                raise seeds_errors.program_with_replicas()
            _verify_alone(group)
            with memory():
                decided = plan(compiled_for(derivation, options), data, options)
            return train_replicas(decided, options.replicas)
        engine = _built(derivation, data, options, group, program)
        decided = engine.plan
        engine.verify()
        group.folder = folder = group.from_first(lambda: new_folder(decided.model, options.out))
        with engine.at_work():
            choices = engine.choose_ways()
        config = configuration(decided, engine.program, choices, SEEDED if program is None else GIVEN)
        with (
            recorded(group, folder, lambda: Record.new(folder, engine.program, config)) as record,
            followed(record, decided, config),
        ):
            return finish(engine, record, decided.notes, choices, options.quiet)


def rehearsal(derivation: Derivation, data: Data, options: Options, program: Program | None = None) -> Rehearsal:
    """`dry_run`, of a derivation as `start` takes it."""
    with joined() as group:
        if group.size > 1:
            raise distributed_errors.rehearsed_alone()
        engine = _built(derivation, data, options, group, program)
        engine.verify()
        return rehearse(engine)


def _verify_alone(group: ProcessGroup) -> None:
    """Several seeds at once are one process's."""
    if group.size > 1:
        raise distributed_errors.replicas_alone(group.size)


def _built(
    derivation: Derivation, data: Data, options: Options, group: ProcessGroup, program: Program | None
) -> Engine:
    """A run, decided and made, by all processes alike."""
    with memory():
        if program is None:
            return _engine(plan(compiled_for(derivation, options), data, options, group))
        compiled = Compiled(program.derivation, program.objective, program.source)
        return _engine(plan(compiled, data, options, group), program)


def _engine(decided: Plan, program: Program | None = None) -> Engine:
    """The engine of a run, once every process has its program; seeds torch."""
    found = seeded(decided, program)
    decided.group.settle()
    return Engine(decided, found)
