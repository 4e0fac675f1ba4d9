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

from jointkl.diagnostics import DataError
from jointkl.program import Program
from jointkl.training import errors
from jointkl.training.minibatches import Minibatches, Place
from jointkl.training.steps import Turn

FORMAT = 2
FOLDER = "checkpoints"
KEPT = 3
"""How many checkpoints a run keeps."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a checkpoint says of itself. `tensors` and `spec` are sha256; `data` are the rows used of each pass;
    `unread` are each player's losses, with their rounds, since the last line of the metrics; `optimizers` are the
    options of each player's."""

    format: int
    round: int
    seconds: float
    losses: Mapping[str, float]
    spec: str
    tensors: str
    data: Mapping[str, int]
    unread: Mapping[str, Sequence[tuple[int, float]]]
    optimizers: Mapping[str, Mapping[str, Any]]
    torch: str


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint that was read: `path` is that of its tensors."""

    path: Path
    record: Record
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors under `name/`, by the rest of their names."""
        start = f"{name}/"
        return {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}


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
    turns: Sequence[Turn],
    minibatches: Minibatches,
    *,
    number: int,
    seconds: float,
    losses: Mapping[str, float],
) -> Path:
    """Write the checkpoint of round `number` into a run's folder; returns the path of its tensors.

    Of older ones the newest `KEPT` - 1 stay. Raises `DataError` where it cannot be written: those before it stay.
    """
    tensors = {f"program/{name}": value for name, value in program.emitted.state_dict().items()}
    names = {id(parameter): name for name, parameter in program.emitted.named_parameters()}
    for turn in turns:
        for parameter, slots in turn.optimizer.state.items():
            for slot, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{turn.phase.player}/{names[id(parameter)]}/{slot}"] = value
    tensors["random/cpu"] = torch.get_rng_state()
    device = program.emitted.anchor.device
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    places = minibatches.places
    tensors |= {f"data/{place.law}": place.state for place in places}
    content = bytes_of({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    record = Record(
        format=FORMAT,
        round=number,
        seconds=seconds,
        losses=losses,
        spec=digest(program.model.source.text),
        tensors=digest(content),
        data={place.law: place.used for place in places},
        unread={turn.phase.player: turn.unread() for turn in turns},
        optimizers={turn.phase.player: turn.optimizer_options() for turn in turns},
        torch=torch.__version__,
    )
    path = path_of(folder, number)
    write(path, content)
    write(path.with_suffix(".json"), (json.dumps(asdict(record), indent=2) + "\n").encode())
    for old in checkpoints(folder)[:-KEPT]:
        old.with_suffix(".json").unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    return path


def path_of(folder: Path, number: int) -> Path:
    """Where the tensors of round `number` stand."""
    return folder / FOLDER / f"{number:08d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first, each by the path of its tensors."""
    return sorted(path.with_suffix(".safetensors") for path in (folder / FOLDER).glob("*.json") if path.stem.isdigit())


def newest(folder: Path, spec: str) -> tuple[Checkpoint | None, list[DataError]]:
    """The newest checkpoint of a run that is whole and of its spec, and why newer ones are not taken."""
    refused: list[DataError] = []
    for path in reversed(checkpoints(folder)):
        try:
            return load(path, spec), refused
        except DataError as error:
            refused.append(error)
    return None, refused


def load(path: Path, spec: str) -> Checkpoint:
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
        return Checkpoint(path, record, tensors_of(content))
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


def restore(program: Program, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's parameters and old copies into a program. Raises `DataError` where they do not fit."""
    found, own = checkpoint.part("program"), program.emitted.state_dict()
    for name in sorted(own.keys() ^ found.keys()):
        raise errors.other_parameters(checkpoint.path, f"{name} is {'missing' if name in own else 'unknown to it'}")
    for name, value in own.items():
        _verify_like(checkpoint.path, name, found[name], value)
    program.emitted.load_state_dict(found)


def restore_training(
    turns: Sequence[Turn], minibatches: Minibatches, program: Program, checkpoint: Checkpoint, device: torch.device
) -> None:
    """What a run needs beside its parameters to go on as it would have: optimisers, losses not read yet, the place in
    the data, random numbers. Raises `DataError` where they do not fit."""
    record, path = checkpoint.record, checkpoint.path
    names = {id(parameter): name for name, parameter in program.emitted.named_parameters()}
    for turn in turns:
        player = turn.phase.player
        if player not in record.unread:
            raise errors.other_parameters(path, f"it knows no player {player}")
        found = checkpoint.part(f"optimizer/{player}")
        slots: dict[int, dict[str, Tensor]] = {}
        for i, parameter in enumerate(turn.parameters):
            start = f"{names[id(parameter)]}/"
            own = {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}
            for slot, value in own.items():
                if value.dim():
                    _verify_like(path, f"{start}{slot}", value, parameter)
            if own:
                slots[i] = own
        turn.restore([(number, loss) for number, loss in record.unread[player]], slots)
    states = checkpoint.part("data")
    if states.keys() != {feed.law for feed in minibatches.feeds}:
        raise errors.other_parameters(path, "it stands in other data")
    try:
        minibatches.go_to({law: Place(law, value, record.data[law]) for law, value in states.items()})
        torch.set_rng_state(checkpoint.tensors["random/cpu"])
        if device.type == "cuda" and "random/cuda" in checkpoint.tensors:
            torch.cuda.set_rng_state(checkpoint.tensors["random/cuda"], device)
    except (KeyError, TypeError, RuntimeError) as error:
        raise errors.damaged(path, f"its random states are none: {error}") from None


def _verify_like(path: Path, name: str, found: Tensor, own: Tensor) -> None:
    if found.shape != own.shape or found.dtype != own.dtype:
        what, wanted = (f"{tuple(t.shape)} of {t.dtype}".replace("torch.", "") for t in (found, own))
        raise errors.other_parameters(path, f"{name} is {what}, not {wanted}")
