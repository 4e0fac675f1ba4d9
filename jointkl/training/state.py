"""Checkpoints: what a run needs to go on, as safetensors and JSON, never pickle.

`checkpoints/00002500.safetensors` holds the tensors, the `.json` beside it the rest and the sha256 of that file. Both
are written beside their place, synced and renamed, the JSON last: a checkpoint that has it is whole.

Names of tensors: `program/G.layers.0.weight`; `optimizer/G/G.layers.0.weight/exp_avg`; `random/cpu`; `data/data(x)`,
the state of that law's generator before its present pass.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor
from torch.optim import Optimizer

from jointkl.program import Program
from jointkl.training import errors
from jointkl.training.minibatches import Place

FORMAT = 1
FOLDER = "checkpoints"
KEPT = 3
"""How many checkpoints a run keeps."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a checkpoint says of itself. `tensors` and `spec` are sha256; `data` are the rows used of each pass;
    `optimizers` are the options of each player's."""

    format: int
    round: int
    seconds: float
    losses: Mapping[str, float]
    spec: str
    tensors: str
    data: Mapping[str, int]
    optimizers: Mapping[str, Mapping[str, Any]]
    torch: str


def digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def write(path: Path, content: bytes) -> None:
    """All of a file or nothing: written beside its place, synced, renamed, and the folder synced."""
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise errors.cannot_write(path, error) from error


def _sync(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save(
    folder: Path,
    program: Program,
    optimizers: Mapping[str, Optimizer],
    places: Sequence[Place],
    *,
    number: int,
    seconds: float,
    losses: Mapping[str, float],
) -> Path:
    """Write the checkpoint of round `number` into a run's folder; returns the path of its tensors.

    Of older ones the newest `KEPT` - 1 stay.
    """
    tensors = {f"program/{name}": value for name, value in program.emitted.state_dict().items()}
    names = {id(parameter): name for name, parameter in program.emitted.named_parameters()}
    options: dict[str, dict[str, Any]] = {}
    for player, optimizer in optimizers.items():
        for parameter, slots in optimizer.state.items():
            for slot, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{player}/{names[id(parameter)]}/{slot}"] = value
        options[player] = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    tensors["random/cpu"] = torch.get_rng_state()
    device = program.emitted.anchor.device
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    tensors |= {f"data/{place.law}": place.state for place in places}
    content = bytes_of({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    record = Record(
        FORMAT,
        number,
        seconds,
        losses,
        digest(program.model.source.text),
        digest(content),
        {place.law: place.used for place in places},
        options,
        torch.__version__,
    )
    path = folder / FOLDER / f"{number:08d}.safetensors"
    write(path, content)
    write(path.with_suffix(".json"), (json.dumps(asdict(record), indent=2) + "\n").encode())
    for old in checkpoints(folder)[:-KEPT]:
        old.with_suffix(".json").unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first, each by the path of its tensors."""
    return sorted(path.with_suffix(".safetensors") for path in (folder / FOLDER).glob("*.json") if path.stem.isdigit())


def load(path: Path, spec: str) -> tuple[Record, dict[str, Tensor]]:
    """A checkpoint by the path of its tensors, checked against the text of the run's spec.

    Raises `DataError` for one that is missing, damaged, of another format or of another spec.
    """
    record = _record(path.with_suffix(".json"))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise errors.damaged(path, error.strerror or str(error)) from None
    if digest(content) != record.tensors:
        raise errors.damaged(path, "its bytes are not those that were written")
    if digest(spec) != record.spec:
        raise errors.other_spec(path)
    try:
        return record, tensors_of(content)
    except SafetensorError as error:
        raise errors.damaged(path, str(error)) from None


def _record(path: Path) -> Record:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise errors.damaged(path, error.strerror or str(error)) from None
    except ValueError as error:
        raise errors.damaged(path, f"no JSON: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        version = found.get("format") if isinstance(found, dict) else None
        raise errors.foreign_format(path, version, FORMAT)
    try:
        return Record(**found)
    except TypeError as error:
        raise errors.damaged(path, str(error)) from None


def restore(program: Program, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put a checkpoint's parameters and old copies into a program. Raises `DataError` where they do not fit."""
    found = {name.removeprefix("program/"): value for name, value in tensors.items() if name.startswith("program/")}
    own = program.emitted.state_dict()
    for name in sorted(own.keys() ^ found.keys()):
        raise errors.other_parameters(path, f"{name} is {'missing' if name in own else 'unknown to it'}")
    for name, value in own.items():
        if value.shape != found[name].shape:
            raise errors.other_parameters(path, f"{name} is {tuple(found[name].shape)}, not {tuple(value.shape)}")
    program.emitted.load_state_dict(found)
