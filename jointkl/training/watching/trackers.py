"""Where a run can be followed beside its own `metrics.jsonl`. None needs an account, and nothing leaves the machine
unless the environment says where to.

A tracker receives the run's options, each line of its metrics and each picture. None can end a training: one that fails
is reported once and dropped.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from jointkl import disk
from jointkl.training.watching import errors

PROJECT = "jointkl"
"""What the runs of everybody are kept under, where a tracker has such a name."""

Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Start:
    """What a tracker begins with: the run's `folder`, its name, what it is known by for good, its options, and the
    `round` from which it goes on, None in a new run."""

    folder: Path
    name: str
    id: str
    config: Mapping[str, Any]
    round: int | None

    def subfolder(self, part: str) -> Path:
        """The tracker's folder in the run's."""
        return disk.folder(self.folder / part)


class Tracker(Protocol):
    """A tracker that raises anything is reported and dropped."""

    def metrics(self, number: int, values: Values) -> None: ...

    def picture(self, number: int, name: str, path: Path) -> None: ...

    def flush(self) -> None:
        """A checkpoint is made: a run that goes on from it tells nothing of before again."""
        ...

    def close(self, whole: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class TrackerKind:
    """`jointkl[name]` installs what it needs, the module `name` among it."""

    name: str
    about: str
    open: Callable[[Start], Tracker]


class Trackers:
    """Those that follow a run, by name."""

    def __init__(self, names: Sequence[str] = (), start: Start | None = None) -> None:
        self._opened: dict[str, Tracker] = {}
        for name in names:
            with self._guarded(name):
                assert start is not None
                self._opened[name] = KINDS[name].open(start)

    def metrics(self, number: int, line: Mapping[str, Any]) -> None:
        """One line of the metrics, of round `number`."""
        if self._opened:
            values = {name: float(value) for name, value in flat(line, "/").items() if isinstance(value, int | float)}
            self._each(lambda tracker: tracker.metrics(number, values))

    def pictures(self, number: int, paths: Sequence[Path]) -> None:
        """The pictures of round `number`: files whose names begin with it. Numbers that have none are left out."""
        for path in (path for path in paths if path.suffix == ".png"):
            name = path.stem.partition("-")[2] or "samples"
            self._each(lambda tracker, name=name, path=path: tracker.picture(number, name, path))

    def flush(self) -> None:
        self._each(lambda tracker: tracker.flush())

    def close(self, whole: bool) -> None:
        """`whole`: the run has come to its end."""
        self._each(lambda tracker: tracker.close(whole))
        self._opened = {}

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._opened.items()):
            with self._guarded(name):
                tell(tracker)

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of the network, the disk, or the tracker's own making: the training goes on
            self._opened.pop(name, None)
            print(f"note: {errors.tracker_lost(name, error)}", file=sys.stderr)


NOBODY = Trackers()


def verify(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once. Raises `DataError` for one that is unknown, or whose module is not installed."""
    for name in names:
        if name not in KINDS:
            raise errors.unknown_tracker(name, tuple(KINDS))
        found = find_spec(name)
        if found is None or found.origin is None:  # a folder of that name, as W&B leaves one, is no module
            raise errors.missing_extra(name)
    return tuple(dict.fromkeys(names))


def flat(value: object, sign: str) -> dict[str, object]:
    """What nested objects and lists hold, by its path. What belongs to a player stands under the player's name."""
    match value:
        case Mapping():
            parts = [(str(name), part) for name, part in value.items()]
        case list() | tuple():
            parts = [(str(_name_of(part, i)), part) for i, part in enumerate(value)]
        case _:
            return {"": value}
    return {
        f"{name}{sign}{rest}" if rest else name: leaf for name, part in parts for rest, leaf in flat(part, sign).items()
    }


def _name_of(part: object, i: int) -> object:
    return part["player"] if isinstance(part, Mapping) and "player" in part else i


# --- TensorBoard


class TensorBoard:
    """Event files in RUN/tensorboard. A run that goes on drops what was told of later rounds.

    Written by who tells, not by torch's `SummaryWriter`, whose thread would fail on its own where the disk is full.
    """

    def __init__(self, start: Start) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import hparams, text

        event: Any = import_module("tensorboard.compat.proto.event_pb2")
        self.event = event.Event
        self.summary: Any = import_module("tensorboard.compat.proto.summary_pb2").Summary
        name = f"events.out.tfevents.{time.time():017.6f}.{platform.node()}.{os.getpid()}"
        self.file = (start.subfolder("tensorboard") / name).open("xb")
        self.writer = RecordWriter(self.file)
        self._write(file_version="brain.Event:2")
        if start.round is not None:
            self._write(step=start.round + 1, session_log=event.SessionLog(status=event.SessionLog.START))
        options = {name: value for name, value in flat(start.config, ".").items() if value is not None}
        told = "".join(f"    {line}\n" for line in _json(start.config).splitlines())
        for summary in (text("config", told), *hparams(options, {})):
            self._write(step=start.round or 0, summary=summary)

    def _write(self, **content: Any) -> None:
        self.writer.write(self.event(wall_time=time.time(), **content).SerializeToString())

    def metrics(self, number: int, values: Values) -> None:
        rows = [self.summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=number, summary=self.summary(value=rows))

    def picture(self, number: int, name: str, path: Path) -> None:
        from PIL import Image

        with Image.open(path) as image:
            size = {"width": image.width, "height": image.height, "colorspace": len(image.getbands())}
        picture = self.summary.Image(**size, encoded_image_string=path.read_bytes())
        self._write(step=number, summary=self.summary(value=[self.summary.Value(tag=name, image=picture)]))
        self.flush()

    def flush(self) -> None:
        self.file.flush()

    def close(self, whole: bool) -> None:
        self.file.close()


# --- Weights & Biases


class WeightsAndBiases:
    """Offline in RUN/wandb, for `wandb sync`, unless WANDB_MODE says otherwise. Of rounds that it has it takes nothing
    again."""

    def __init__(self, start: Start) -> None:
        for path in (start.subfolder("wandb") / "settings", start.folder / ".wandb"):
            if os.path.lexists(path):  # they could name a server, which would then be told the user's key
                raise errors.foreign_settings(path)
        _unless_said(WANDB)
        self.wandb: Any = import_module("wandb")
        mode = os.environ.get("WANDB_MODE", "offline")
        with _nobody_asked():
            self.run = self.wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=start.id,
                name=start.name,
                dir=str(start.folder),
                config=dict(start.config),
                mode=mode,
                resume="allow" if mode == "online" else None,
            )

    def metrics(self, number: int, values: Values) -> None:
        self.run.log(dict(values), step=number)

    def picture(self, number: int, name: str, path: Path) -> None:
        self.run.log({name: self.wandb.Image(str(path))}, step=number)

    def flush(self) -> None:
        """Its own process has all that it was told."""

    def close(self, whole: bool) -> None:
        self.run.finish(exit_code=0 if whole else 1)


WANDB = {
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_DISABLE_CODE": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "60",
}


@contextmanager
def _nobody_asked() -> Iterator[None]:
    """Without a terminal: who would ask for a key says that there is none."""
    before = sys.stdin
    with open(os.devnull) as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = before


# --- MLflow


class MLflow:
    """A database in RUN/mlflow, unless MLFLOW_TRACKING_URI says otherwise. Of rounds that it has it takes nothing
    again."""

    def __init__(self, start: Start) -> None:
        _unless_said(MLFLOW)
        self.mlflow: Any = import_module("mlflow")
        place = start.subfolder("mlflow").absolute()
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = None if uri else (place / "artifacts").as_uri()
        self.client = self.mlflow.MlflowClient(tracking_uri=uri or f"sqlite:///{place / 'mlflow.db'}")
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self.client.get_experiment_by_name(title)
        experiment = found.experiment_id if found else self.client.create_experiment(title, artifact_location=artifacts)
        run = self._again(experiment, start) or self.client.create_run(
            experiment, run_name=start.name, tags={TAG: start.id}
        )
        if artifacts and not run.info.artifact_uri.startswith(f"{artifacts}/"):
            raise errors.foreign_settings(place / "mlflow.db")
        self.id = run.info.run_id
        self.client.update_run(self.id, status="RUNNING")
        self.had = int(run.data.metrics.get("round", 0))
        self.unsent: list[tuple[str, float, int, int]] = []
        self.sent = time.monotonic()
        known = {_legal(name): str(value)[:LONGEST] for name, value in flat(start.config, ".").items()}
        self._parameters({name: value for name, value in known.items() if name not in run.data.params})
        self.client.log_text(self.id, _json(start.config), "config.json")

    def _again(self, experiment: str, start: Start) -> Any:
        """The run that goes on, if it is there."""
        found = self.client.search_runs([experiment], f"tags.`{TAG}` = '{start.id}'", max_results=1)
        return found[0] if found else None

    def _parameters(self, values: Mapping[str, str]) -> None:
        rows = [self.mlflow.entities.Param(name, value) for name, value in values.items()]
        for i in range(0, len(rows), 100):  # as many as it takes at once
            self.client.log_batch(self.id, params=rows[i : i + 100])

    def metrics(self, number: int, values: Values) -> None:
        if number <= self.had:
            return
        now = int(time.time() * 1000)
        self.unsent += [(_legal(name), value, now, number) for name, value in values.items()]
        if time.monotonic() - self.sent > OFTEN:
            self.flush()

    def picture(self, number: int, name: str, path: Path) -> None:
        self.client.log_artifact(self.id, str(path), f"pictures/{name}")

    def flush(self) -> None:
        rows, self.unsent = [self.mlflow.entities.Metric(*row) for row in self.unsent], []
        for i in range(0, len(rows), 1000):  # as many as it takes at once
            self.client.log_batch(self.id, metrics=rows[i : i + 1000])
        self.sent = time.monotonic()

    def close(self, whole: bool) -> None:
        self.flush()
        self.client.set_terminated(self.id, "FINISHED" if whole else "KILLED")


TAG = "jointkl.id"
LONGEST = 5000
"""Characters of a parameter's value, at most."""
OFTEN = 2.0
"""Seconds between two writes: each takes as long as hundreds of small steps."""
MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def _legal(name: str) -> str:
    """A name without the characters that MLflow refuses, as the brackets of `data(x)`."""
    return re.sub(r"[^\w./ -]", "_", name)


def _unless_said(environment: Mapping[str, str]) -> None:
    for name, value in environment.items():
        os.environ.setdefault(name, value)


def _json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False)


KINDS: Mapping[str, TrackerKind] = {
    kind.name: kind
    for kind in (
        TrackerKind("tensorboard", "event files in RUN/tensorboard", TensorBoard),
        TrackerKind("wandb", "Weights & Biases: offline in RUN/wandb, unless WANDB_MODE=online", WeightsAndBiases),
        TrackerKind("mlflow", "a database in RUN/mlflow, unless MLFLOW_TRACKING_URI names another", MLflow),
    )
}
