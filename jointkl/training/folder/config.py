"""`config.json`: what was decided before the first round, and what a run is loaded from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from jointkl import disk
from jointkl.compiler import parse
from jointkl.diagnostics import DataError, printable
from jointkl.evaluation.errors import many_runs
from jointkl.program import Program
from jointkl.semantics.catalogue import SOURCES
from jointkl.semantics.model import Evidence, Model
from jointkl.sources.keys import by_law
from jointkl.training.folder import checkpoints, errors, schema
from jointkl.training.folder.record import CONFIG, REPLICAS, SPEC
from jointkl.training.folder.tensors import digest
from jointkl.training.options import Options
from jointkl.training.phases import Phase
from jointkl.training.plan import LARGEST_SPEC, MOST_KEPT, Plan
from jointkl.training.speed.autotune import Choice
from jointkl.training.watching.stop import Stop
from jointkl.training.watching.trackers import KINDS

GIVEN, SEEDED = "given", "seeded"
"""Where a run's first parameters came from: a program made by the caller, or the seed."""

PARTS = ("jointkl", "torch", "pyro-ppl")
"""Packages whose versions are recorded."""

LARGEST_CONFIG = 1 << 20
"""Bytes of a run's options that are read."""

ORIGIN = schema.having(
    rows=schema.count,
    digest=schema.maybe(schema.digest),
    file=schema.maybe(schema.text),
    given=schema.maybe(schema.text),
)


@dataclass(frozen=True, slots=True)
class Config:
    """The file, field by field. Those that have a test are needed to load a run or to go on; the others inform."""

    spec: Annotated[str, schema.text]
    rounds: int
    batch: int
    seed: int
    device: Annotated[str, schema.text]
    processes: int
    ways: Annotated[Sequence[Choice], schema.list_of(schema.having(player=schema.text, way=schema.text))]
    stop: Annotated[
        Stop | None, schema.maybe(schema.having(metric=schema.text, patience=schema.count, every=schema.count))
    ]
    pictures: Annotated[int, schema.up_to(MOST_KEPT)]
    checkpoints: Annotated[int, schema.up_to(MOST_KEPT)]
    track: Annotated[Sequence[str], schema.list_of(schema.one_of(*KINDS))]
    id: Annotated[str, schema.identity]
    lets: Annotated[Mapping[str, str], schema.by_name(schema.text)]
    settings: Annotated[Mapping[str, str], schema.by_name(schema.text)]
    data: Annotated[Mapping[str, Mapping[str, Any]], schema.by_name(ORIGIN)]
    phases: Annotated[Sequence[Phase], schema.list_of(schema.having(player=schema.text))]
    parameters: Mapping[str, int]
    started: Annotated[str, schema.one_of(GIVEN, SEEDED)]
    module: Annotated[str, schema.digest]
    notes: Sequence[str]
    versions: Mapping[str, str]


def configuration(plan: Plan, program: Program, choices: Sequence[Choice], started: str) -> dict[str, Any]:
    """The fields of a run's `Config`. `started`: whether the first parameters were `GIVEN` or `SEEDED`."""
    options, model = plan.options, plan.model
    config = Config(
        spec=model.source.name,
        rounds=plan.rounds,
        batch=plan.batch,
        seed=plan.seed,
        device=str(plan.device),
        processes=plan.group.size,
        ways=choices,
        stop=plan.stop,
        pictures=options.pictures,
        checkpoints=options.checkpoints,
        track=list(options.track),
        id=plan.id,
        lets=options.constants,
        settings={name: str(value) for name, value in options.stated.items()},
        data={b.law: {**_origin(model, b.law, plan.given), "rows": len(b), "digest": b.digest()} for b in plan.bound},
        phases=plan.phases,
        parameters={p: sum(x.numel() for x in program.parameters_of(p)) for p in program.players},
        started=started,
        module=digest(program.source),
        notes=plan.notes,
        versions={"python": platform.python_version(), **{part: metadata.version(part) for part in PARTS}},
    )
    return asdict(config)


def _origin(model: Model, law: str, data: Mapping[str, object]) -> dict[str, str]:
    """Where a law's rows came from: a file, something given from Python, or the spec's own source."""
    if law in data:
        match data[law]:
            case str() | Path() as path:
                return {"file": str(Path(path).absolute())}
            case value:
                return {"given": type(value).__name__}
    body = model.laws[law].body
    assert isinstance(body, Evidence)
    return {"source": f"{body.source}({', '.join(f'{name}={value}' for name, value in body.options)})"}


@dataclass(frozen=True, eq=False)
class SavedRun:
    """What a run's folder says of it, its checkpoints left out. `ways` and `id`: as in its plan; `files` and `given`:
    the laws whose data came from a file, with its path, and from Python; `counts`: how many rows each had; `digests`:
    what tells them from others; `phases`: the options of each, as they were decided."""

    folder: Path
    model: Model
    options: Options
    ways: Mapping[str, str]
    id: str
    files: Mapping[str, str]
    given: tuple[str, ...]
    counts: Mapping[str, int]
    digests: Mapping[str, str | None]
    phases: Sequence[Mapping[str, Any]]
    started: str
    module: str

    def data_again(self, data: Mapping[str, object] | None) -> Mapping[str, object]:
        """The data of the run; what was given from Python must be given again. Raises `DataError` where it is not."""
        again = by_law(self.model, data)
        verify_files({law: path for law, path in self.files.items() if law not in again})
        found = {**self.files, **again}
        for law in self.given:
            if law not in found:
                raise errors.data_lost(law)
        return found

    def notes(self, program: Program, decided: Plan) -> tuple[str, ...]:
        """Which paths the folder names, and what keeps the run from going on to the same bits."""
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
        if digest(program.source) != self.module:
            others.append("this version of jointkl writes another module")
        told = (f"{why}: the run goes on, not to the same bits" for why in others)
        return (*read_from(self.model, self.files), *told)


def read_from(model: Model, files: Mapping[str, str]) -> tuple[str, ...]:
    """What a user should know about a run that somebody else made: which paths of this machine it reads."""
    folders = {
        law.key: str(value)
        for law in model.evidence
        if isinstance(law.body, Evidence)
        for row in SOURCES[law.body.source].options
        if row.type == "folder" and (value := dict(law.body.options).get(row.name)) is not None
    }
    return tuple(f"the data of {law} are those of {path}" for law, path in {**folders, **files}.items())


def verify_files(files: Mapping[str, str]) -> None:
    """What is there of the data is a file or a folder, not a pipe that could block. Raises `DataError`."""
    for law, path in files.items():
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise errors.no_data_file(law, path)


def saved_in(folder: str | Path, allowed: Collection[str] = ()) -> SavedRun:
    """What a run's folder says. Raises `DataError` for a folder that is no run, or whose options are damaged."""
    folder = Path(folder)
    if (folder / REPLICAS).is_file():
        raise many_runs(folder)
    for name, refusal in ((SPEC, errors.no_run), (CONFIG, errors.no_run_yet)):
        if not os.path.lexists(folder / name):
            raise refusal(folder, name)
    config = _read(folder / CONFIG)
    origins, stop = config["data"], config.get("stop") or {}
    options = Options(
        settings=config["settings"],
        lets=config["lets"],
        device=config["device"],
        pictures=config["pictures"],
        checkpoints=config["checkpoints"],
        stop_on=stop.get("metric"),
        patience=stop.get("patience"),
        judge_every=stop.get("every"),
        track=config["track"],
        allow_imports=tuple(allowed),
    )
    model = parse(_text(folder / SPEC), printable(config["spec"]), options.constants)
    checkpoints.verify_size(folder, model)
    for law in origins.keys() - {law.key for law in model.evidence}:
        raise errors.damaged_options(folder / CONFIG, f"its data are of {law}, of which the spec knows nothing")
    return SavedRun(
        folder,
        model,
        options,
        {choice["player"]: choice["way"] for choice in config["ways"]},
        config["id"],
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
        raise errors.damaged_options(path, "no text in UTF-8") from None


def _read(path: Path) -> dict[str, Any]:
    def damaged(why: str) -> DataError:
        return errors.damaged_options(path, why)

    found = schema.read(disk.read(path, LARGEST_CONFIG), damaged)
    schema.verify(found, schema.tests_of(Config), damaged)
    return found
