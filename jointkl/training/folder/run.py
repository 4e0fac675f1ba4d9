"""A run that ended: its folder, its program, and samples from it."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from jointkl import disk
from jointkl.compiler import compile, parse
from jointkl.derivation.resolve import normal
from jointkl.diagnostics import DataError, printable
from jointkl.evaluation import judge, samples, verdict
from jointkl.evaluation.errors import many_runs
from jointkl.evaluation.features import Features
from jointkl.evaluation.held_out import held_out
from jointkl.exports.files import Exported, export
from jointkl.program import Program
from jointkl.semantics.catalogue import SOURCES
from jointkl.semantics.model import Evidence, Model
from jointkl.sources import Bound, bind
from jointkl.sources.keys import by_law
from jointkl.training import averages
from jointkl.training.averages import standing_in
from jointkl.training.folder import checkpoints, schema
from jointkl.training.folder import errors as folder_errors
from jointkl.training.folder.record import CONFIG, GIVEN, LARGEST_CONFIG, REPLICAS, SEEDED, SPEC
from jointkl.training.machine import memory
from jointkl.training.plan import LARGEST_SPEC, MOST_KEPT, Plan, Request
from jointkl.training.watching.trackers import KINDS

EVALUATION = "eval.json"


@dataclass(frozen=True, eq=False)
class Run:
    """`losses` are each player's last, `seconds` what the rounds took, pictures and checkpoints left out.

    `given` are the data that the run was given, by law; `lost` the laws whose data a run loaded again does not have;
    `notes` say what was passed over in loading it. `averages` are those of the parameters, by name, where the run keeps
    any: samples are theirs unless asked otherwise, while `program` stands at the parameters themselves.
    """

    folder: Path
    program: Program = field(repr=False)
    rounds: int
    losses: Mapping[str, float]
    seconds: float
    given: Mapping[str, object] = field(default_factory=dict, repr=False)
    bound: tuple[Bound, ...] | None = field(default=None, repr=False)
    lost: tuple[str, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    averages: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    @contextmanager
    def averaged(self, averaged: bool = True) -> Iterator[Program]:
        """The program with its averages in the place of their parameters, if it has any and they are wanted."""
        with standing_in(self.program, self.averages if averaged else {}):
            yield self.program

    def data(self) -> tuple[Bound, ...]:
        """The evidence of the run. Raises `DataError` where it cannot be found again."""
        for law in self.lost:
            raise folder_errors.data_lost(law)
        return bind(self.program.model, self.given) if self.bound is None else self.bound

    def background(self, variables: Iterable[str]) -> tuple[Bound, ...]:
        """The evidence that pictures of these variables stand before; none where it cannot be found again."""
        if all(self.program.model.space(v).kind in ("unit", "binary") for v in variables):
            return ()
        try:
            with memory():
                return self.data()
        except DataError:
            return ()

    def sample(
        self, size: int = 64, law: str | None = None, *, seed: int | None = None, averaged: bool = True
    ) -> dict[str, Tensor]:
        """Samples of a law, `"q(x)"`, or of what the run shows: variable -> (size, *shape), on the CPU.

        `averaged`: by the averages of the parameters, where the run keeps any, else by the parameters.
        """
        with memory():
            data = self.data() if samples.needs_data(self.program, law) else ()
            with self.averaged(averaged) as program:
                return samples.draw(program, law, size, seed=seed, data=data)

    def export(
        self,
        path: str | Path | None = None,
        law: str | None = None,
        *,
        noise: Literal["given", "drawn"] = "given",
        averaged: bool = True,
    ) -> Exported:
        """Write the sampler of a law, or of what the run shows, to a `.pt2` file that needs torch alone, or to `.onnx`;
        by default into the run's folder. `noise`: as `jointkl.exports.files.export` takes it; `averaged`: as in
        `sample`. Raises `DataError`."""
        text = law or samples.default(self.program).text
        with self.averaged(averaged) as program:
            return export(program, path or self.folder / f"{normal(text)}.pt2", text, noise=noise)

    def evaluate(
        self,
        metrics: Collection[str] | None = None,
        *,
        samples: int = judge.SAMPLES,
        particles: int = judge.PARTICLES,
        seed: int = 0,
        split: str | None = None,
        data: Mapping[str, object] | None = None,
        features: Features | None = None,
        download: bool = False,
        averaged: bool = True,
        save: bool = True,
    ) -> judge.Evaluation:
        """The run judged by metrics of `jointkl.evaluation.metrics.METRICS`, by default all that apply, against
        held-out rows: `data`, by law, else the `split` of its sources, else what `held_out` finds; a split that is not
        there is fetched with `download` alone. `averaged` as in `sample`. `save` keeps it in the run's `eval.json`.

        Raises `DataError` for a metric that is unknown, does not apply or fails, where no metric applies, and where the
        rows of training were given from Python and none stand in `data`.
        """
        given = by_law(self.program.model, data)
        for law in self.lost:
            if law not in given:
                raise folder_errors.data_lost(law)
        used = averaged and bool(self.averages)
        with memory(), self.averaged(averaged) as program:
            found = judge.evaluate(
                program,
                held_out(program.model, self.given, given, split, download),
                metrics,
                train=() if self.lost else self.data(),
                samples=samples,
                particles=particles,
                seed=seed,
                features=features,
                given={*by_law(program.model, self.given), *given},
            )
        if save:
            disk.write(self.folder / EVALUATION, verdict.document(found, round=self.rounds, averaged=used))
        return found


@dataclass(frozen=True, eq=False)
class Kept:
    """What a run's folder says of it, its checkpoints left out. `files` and `given`: the laws whose data came from a
    file, with its path, and from Python; `counts`: how many rows each had; `digests`: what
    tells them from others; `phases`: the options of each, as they were decided."""

    folder: Path
    model: Model
    request: Request
    files: Mapping[str, str]
    given: tuple[str, ...]
    counts: Mapping[str, int]
    digests: Mapping[str, str | None]
    phases: Sequence[Mapping[str, Any]]
    started: str
    module: str

    def data_again(self, data: Mapping[str, object] | None) -> Mapping[str, object]:
        """The data of the run, of those given from Python what is given again. Raises `DataError` for what is not."""
        again = by_law(self.model, data)
        verify_files({law: path for law, path in self.files.items() if law not in again})
        found = {**self.files, **again}
        for law in self.given:
            if law not in found:
                raise folder_errors.data_lost(law)
        return found

    def notes(self, program: Program, decided: Plan) -> tuple[str, ...]:
        """What is read that the folder names, and what going on as it was would need and does not have."""
        others = [
            f"the data of {b.law} have {len(b)} rows, and had {self.counts[b.law]}"
            for b in decided.bound
            if self.counts.get(b.law, len(b)) != len(b)
        ] or [
            f"the rows of {b.law} are others than before"
            for b in decided.bound
            if (known := self.digests.get(b.law)) is not None and known != b.digest()
        ]
        before = {phase["player"]: phase for phase in self.phases}
        for phase in decided.phases:
            now, was = json.loads(json.dumps(asdict(phase))), before.get(phase.player, {})
            if changed := [name for name in now if name in was and was[name] != now[name]]:
                others.append(f"{phase.player} has another {', '.join(changed)} than before")
        if checkpoints.digest(program.source) != self.module:
            others.append("this version of jointkl writes another module")
        told = (f"{why}: the run goes on, not to the same bits" for why in others)
        return (*read_from(self.model, self.files), *told)


def read_from(model: Model, files: Mapping[str, str]) -> tuple[str, ...]:
    """What a user should know of a run that another made: which files and folders of this machine it names."""
    folders = {
        law.key: str(value)
        for law in model.evidence
        if isinstance(law.body, Evidence)
        for row in SOURCES[law.body.source].options
        if row.type == "folder" and (value := dict(law.body.options).get(row.name)) is not None
    }
    return tuple(f"the data of {law} are those of {path}" for law, path in {**folders, **files}.items())


def verify_files(files: Mapping[str, str]) -> None:
    """A file or folder of data is one, if it is there: nobody waits for a pipe. Raises `DataError`."""
    for law, path in files.items():
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise folder_errors.no_data_file(law, path)


def load_run(
    folder: str | Path,
    data: Mapping[str, object] | None = None,
    *,
    best: bool = False,
    allow_imports: Collection[str] = (),
) -> Run:
    """The run in a folder, at its newest whole checkpoint, or at the `best` of one that was judged, on the CPU.

    Its spec is compiled again; the module in the folder is never executed, and what the spec imports must be allowed
    anew by `allow_imports`, as `compile` takes them. `data` replaces what the run was trained on.
    Raises `DataError` for a folder that is no run, or none of whose checkpoints is whole and of its spec.
    """
    kept = kept_in(folder, allow_imports)
    if data is None:
        verify_files(kept.files)
    with memory():
        program = compile(kept.model, allow_imports=allow_imports)
        checkpoint, refused = (checkpoints.best if best else checkpoints.newest)(kept.folder, program)
    if checkpoint is None:
        raise refused[0] if refused else folder_errors.no_checkpoint(kept.folder)
    checkpoints.restore(program, checkpoint)
    means = checkpoints.averages_of(checkpoint)
    averages.verify(checkpoint.path, means, program)
    program.data_sizes = kept.counts
    record = checkpoint.record
    return Run(
        kept.folder,
        program,
        record.round,
        record.losses,
        record.seconds,
        kept.files if data is None else data,
        lost=kept.given if data is None else (),
        notes=(
            *(f"{error.message}: passed over" for error in refused),
            *(read_from(kept.model, kept.files) if data is None else ()),
        ),
        averages=means,
    )


def kept_in(folder: str | Path, allowed: Collection[str] = ()) -> Kept:
    """What a run's folder says. Raises `DataError` for a folder that is no run, or whose options are damaged."""
    folder = Path(folder)
    if (folder / REPLICAS).is_file():
        raise many_runs(folder)
    for name, refusal in ((SPEC, folder_errors.no_run), (CONFIG, folder_errors.no_run_yet)):
        if not os.path.lexists(folder / name):
            raise refusal(folder, name)
    config = _config(folder / CONFIG)
    origins, stop = config["data"], config.get("stop") or {}
    request = Request(
        settings=config["settings"],
        lets=config["lets"],
        device=config["device"],
        ways={choice["player"]: choice["way"] for choice in config["ways"]},
        pictures=config["pictures"],
        checkpoints=config["checkpoints"],
        stop_on=stop.get("metric"),
        patience=stop.get("patience"),
        judge_every=stop.get("every"),
        track=config["track"],
        id=config["id"],
        allowed=tuple(allowed),
    )
    model = parse(_text(folder / SPEC), printable(config["spec"]), request.lets)
    checkpoints.verify_size(folder, model)
    for law in origins.keys() - {law.key for law in model.evidence}:
        raise folder_errors.damaged_options(folder / CONFIG, f"its data are of {law}, of which the spec knows nothing")
    return Kept(
        folder,
        model,
        request,
        {law: origin["file"] for law, origin in origins.items() if origin.get("file") is not None},
        tuple(law for law, origin in origins.items() if origin.get("given") is not None),
        {law: origin["rows"] for law, origin in origins.items()},
        {law: origin.get("digest") for law, origin in origins.items()},
        config["phases"],
        config["started"],
        config["module"],
    )


def _text(path: Path) -> str:
    try:
        return disk.read(path, LARGEST_SPEC).decode()
    except UnicodeDecodeError:
        raise folder_errors.damaged_options(path, "no text in UTF-8") from None


ORIGIN = schema.having(
    rows=schema.count,
    digest=schema.maybe(schema.digest),
    file=schema.maybe(schema.text),
    given=schema.maybe(schema.text),
)

NEEDED: Mapping[str, schema.Test] = {
    "lets": schema.by_name(schema.text),
    "settings": schema.by_name(schema.text),
    "data": schema.by_name(ORIGIN),
    "phases": schema.list_of(schema.having(player=schema.text)),
    "ways": schema.list_of(schema.having(player=schema.text, way=schema.text)),
    "spec": schema.text,
    "device": schema.text,
    "started": schema.one_of(GIVEN, SEEDED),
    "module": schema.digest,
    "pictures": schema.up_to(MOST_KEPT),
    "checkpoints": schema.up_to(MOST_KEPT),
    "stop": schema.maybe(schema.having(metric=schema.text, patience=schema.count, every=schema.count)),
    "track": schema.list_of(schema.one_of(*KINDS)),
    "id": schema.identity,
}
"""What loading and resuming need of a run's options."""


def _config(path: Path) -> dict[str, Any]:
    def damaged(why: str) -> DataError:
        return folder_errors.damaged_options(path, why)

    found = schema.read(disk.read(path, LARGEST_CONFIG), damaged)
    schema.verify(found, NEEDED, damaged)
    return found
