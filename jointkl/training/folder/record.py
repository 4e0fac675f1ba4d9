"""The folder of a run: what was trained, with what, and how it went. No other run ever overwrites anything in it.

spec.jkl  gan.py  config.json  metrics.jsonl  checkpoints/  samples/
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from jointkl import disk
from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.training.folder import checkpoints, errors
from jointkl.training.minibatches import Minibatches
from jointkl.training.steps import PhaseStepper
from jointkl.training.watching.trackers import NOBODY

SPEC, CONFIG, METRICS, SAMPLES = "spec.jkl", "config.json", "metrics.jsonl", "samples"
PARTS = (checkpoints.FOLDER, SAMPLES)
RUNS = Path("runs")
REPLICAS = "replicas.json"
"""The file that marks a folder whose subfolders are runs of several seeds."""


def name_of(model: Model) -> str:
    """What a run is called: the spec's file without its ending."""
    return re.sub(r"[^\w.+-]+", "", Path(model.source.name).stem).strip(".") or "spec"


def new_folder(model: Model, out: str | Path | None) -> Path:
    """An empty folder: `out`, else `runs/NAME`, `runs/NAME-2`, ... Raises `DataError` where `out` holds anything."""
    if out is not None:
        folder = Path(out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise errors.folder_taken(folder)
        except FileExistsError:
            raise errors.folder_taken(folder) from None
        except OSError as error:
            raise disk.cannot_write(folder, error) from error
        return folder
    name, number = name_of(model), 1
    while True:
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise disk.cannot_write(folder, error) from error


class Record:
    """A run's folder while the run goes on; one process at a time has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trackers = NOBODY
        self._metrics = disk.Lines(folder / METRICS)
        _lock(self._metrics, folder)

    @classmethod
    def new(cls, folder: Path, program: Program, config: Mapping[str, Any]) -> Record:
        """An empty folder, filled. With its `config.json`, written last, it is a run. Raises `DataError`."""
        for part in PARTS:
            disk.folder(folder / part)
        record = cls(folder)
        try:
            disk.write(folder / SPEC, program.model.source.text.encode())
            disk.write(folder / f"{name_of(program.model)}.py", program.source.encode())
            record.configure(config)
        except BaseException:
            record.close()
            raise
        return record

    @classmethod
    def again(cls, folder: Path) -> Record:
        """The folder of a run that goes on. Raises `DataError` where another process has it, or what is in it leads
        out of it."""
        for part in PARTS:
            disk.folder(folder / part)
        return cls(folder)

    def configure(self, config: Mapping[str, Any]) -> None:
        content = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        disk.write(self.folder / CONFIG, content.encode(errors="backslashreplace"))

    def rewind(self, number: int) -> None:
        """Forget what was recorded after round `number`."""
        self._metrics.keep(lambda line: _round_of(line) <= number)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._metrics.close()

    def losses(self, number: int, seconds: float, losses: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`: each player's mean loss since the line before."""
        self._line({"round": number, "seconds": round(seconds, 3), "losses": losses})

    def metrics(self, number: int, values: Mapping[str, float], failed: str = "") -> None:
        """One line of `metrics.jsonl`: what the run was judged by in a round, or why that says nothing."""
        self._line({"round": number, "metrics": values} | ({"failed": failed} if failed else {}))

    def _line(self, line: Mapping[str, Any]) -> None:
        self._metrics.append(json.dumps(line, allow_nan=False))
        self.trackers.metrics(line["round"], line)

    def draw(self, number: int, keep: Callable[[Path], Sequence[Path]]) -> None:
        """The pictures of a round: `keep` makes them where they belong, and says which there are."""
        self.trackers.pictures(number, keep(self.folder / SAMPLES / f"{number:08d}.png"))

    def sync(self) -> None:
        """Wait until all that was recorded is on disk, so that no checkpoint is ahead of it."""
        self._metrics.sync()
        self.trackers.flush()

    def checkpoint(
        self, program: Program, steppers: Sequence[PhaseStepper], minibatches: Minibatches, **course: Any
    ) -> Path:
        """A new checkpoint, as `checkpoints.save` makes it."""
        return checkpoints.save(self.folder, program, steppers, minibatches, **course)


class Unwritten(Record):
    """The record of a process that leaves the folder to another one: it writes nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trackers = NOBODY

    def configure(self, config: Mapping[str, Any]) -> None:
        pass

    def rewind(self, number: int) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def _line(self, line: Mapping[str, Any]) -> None:
        pass

    def draw(self, number: int, keep: Callable[[Path], Sequence[Path]]) -> None:
        pass

    def sync(self) -> None:
        pass

    def checkpoint(
        self, program: Program, steppers: Sequence[PhaseStepper], minibatches: Minibatches, **course: Any
    ) -> Path:
        return checkpoints.path_of(self.folder, course["number"])


def _round_of(line: bytes) -> float:
    """The round of a line of the metrics; of a line that is none, one that is never reached."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return math.inf
    number = found.get("round") if isinstance(found, dict) else None
    return number if isinstance(number, int) else math.inf


def _lock(file: disk.Lines, folder: Path) -> None:
    """Held until the process ends, however it ends. File systems without locks have none."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise errors.run_in_use(folder) from None
    except OSError:
        return
