"""The folder of a run: what was trained, with what, and how it went. Nothing in it is ever overwritten by another run.

spec.jkl  gan.py  config.json  metrics.jsonl  checkpoints/  samples/
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from jointkl.program import Program
from jointkl.semantics.model import Evidence, Model
from jointkl.sources import Bound
from jointkl.training import errors, state
from jointkl.training.phases import Phase

SPEC, CONFIG, METRICS, SAMPLES = "spec.jkl", "config.json", "metrics.jsonl", "samples"
RUNS = Path("runs")


def name_of(model: Model) -> str:
    """What a run is called: the spec's file without its ending."""
    return re.sub(r"[^\w.+-]+", "", Path(model.source.name).stem) or "spec"


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
            raise errors.cannot_write(folder, error) from error
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
            raise errors.cannot_write(folder, error) from error


class Record:
    """A run's folder while the run goes on."""

    def __init__(self, folder: Path, program: Program, config: Mapping[str, Any]) -> None:
        self.folder = folder
        for part in (state.FOLDER, SAMPLES):
            (folder / part).mkdir()
        state.write(folder / SPEC, program.model.source.text.encode())
        state.write(folder / f"{name_of(program.model)}.py", program.source.encode())
        state.write(folder / CONFIG, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
        self._metrics = (folder / METRICS).open("a", encoding="utf-8")

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._metrics.close()

    def losses(self, number: int, seconds: float, losses: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`: each player's mean loss since the line before."""
        line = {"round": number, "seconds": round(seconds, 3), "losses": losses}
        try:
            self._metrics.write(json.dumps(line, allow_nan=False) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise errors.cannot_write(self.folder / METRICS, error) from error

    def sample(self, number: int, ending: str = ".png") -> Path:
        """Where the samples of a round belong."""
        return self.folder / SAMPLES / f"{number:08d}{ending}"


def configuration(
    program: Program,
    phases: Sequence[Phase],
    bound: Sequence[Bound],
    *,
    data: Mapping[str, object],
    lets: Mapping[str, str],
    settings: Mapping[str, object],
    notes: Sequence[str],
    **rest: Any,
) -> dict[str, Any]:
    """Everything that was decided before the first round, as JSON. `data` by law."""
    parts = ("jointkl", "torch", "pyro-ppl")
    return {
        "spec": program.model.source.name,
        **rest,
        "lets": dict(lets),
        "settings": {name: str(value) for name, value in settings.items()},
        "data": {b.law: {**_origin(program.model, b.law, data), "rows": len(b)} for b in bound},
        "phases": [asdict(phase) for phase in phases],
        "parameters": {p: sum(x.numel() for x in program.parameters_of(p)) for p in program.players},
        "notes": list(notes),
        "versions": {"python": platform.python_version(), **{part: metadata.version(part) for part in parts}},
    }


def _origin(model: Model, law: str, data: Mapping[str, object]) -> dict[str, str]:
    """Where a law's rows came from: a file, something given from Python, or the spec's own source."""
    if law in data:
        value = data[law]
        return {"file": str(value)} if isinstance(value, str | Path) else {"given": type(value).__name__}
    body = model.laws[law].body
    assert isinstance(body, Evidence)
    return {"source": f"{body.source}({', '.join(f'{name}={value}' for name, value in body.options)})"}
