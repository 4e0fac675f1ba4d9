"""Checkpoints: what a run needs to go on, as safetensors and JSON, never pickle.

`checkpoints/00002500.safetensors` holds the tensors, the `.json` beside it the rest, the sha256 of that file and its
own. Both are written beside their place, synced and renamed, the JSON last: a checkpoint that has it is whole.

Names of tensors: `program/G.layers.0.weight`; `optimizer/G/G.layers.0.weight/exp_avg`; `average/G/G.layers.0.weight`;
`random/cpu`; `data/data(x)`, the state of that law's generator before its present pass.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn import Parameter

from jointkl import disk
from jointkl.diagnostics import DataError
from jointkl.disk import write
from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.training.folder import errors, schema
from jointkl.training.folder.tensors import (
    CHANGED,
    digest,
    packed,
    put,
    random_states,
    read_tensors,
    set_random_states,
    verify_like,
)
from jointkl.training.machine import numbers
from jointkl.training.minibatches import Minibatches, Place
from jointkl.training.optimizers import optimizer
from jointkl.training.phases import Phase
from jointkl.training.steps import PhaseStepper

FORMAT = 3
FOLDER = "checkpoints"
KEPT, TRIED = 3, 10
"""How many checkpoints a run keeps, and how many of those in its folder are tried."""

LARGEST_RECORD = 1 << 24
"""Bytes of a checkpoint's JSON: half a million losses that were not read yet."""

SPARE = 1 << 26
"""Bytes that a checkpoint holds beside copies of its program, at most."""

LOSS = schema.pair_of(schema.count, schema.number)
OPTION = schema.any_of(schema.scalar, schema.list_of(schema.scalar))
STANDING = schema.having(
    total=schema.number, count=schema.count, best=schema.maybe(schema.number), round=schema.count, without=schema.count
)


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """What a checkpoint says of itself. `tensors` and `spec` are sha256; `data` are the rows used of each pass;
    `unread` are each player's losses, with their rounds, since the last line of the metrics; `optimizers` are the
    options of each player's; `judged` is how the judging of the run stands, where it is judged."""

    format: Annotated[int, schema.count]
    round: Annotated[int, schema.count]
    seconds: Annotated[float, schema.duration]
    losses: Annotated[Mapping[str, float], schema.by_name(schema.number)]
    spec: Annotated[str, schema.digest]
    tensors: Annotated[str, schema.digest]
    data: Annotated[Mapping[str, int], schema.by_name(schema.count)]
    unread: Annotated[Mapping[str, Sequence[tuple[int, float]]], schema.by_name(schema.list_of(LOSS))]
    optimizers: Annotated[Mapping[str, Mapping[str, Any]], schema.by_name(schema.by_name(OPTION))]
    torch: Annotated[str, schema.line]
    judged: Annotated[Mapping[str, Any] | None, schema.maybe(STANDING)]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A checkpoint that was read: `path` is that of its tensors."""

    path: Path
    record: CheckpointRecord
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors under `name/`, by the rest of their names."""
        start = f"{name}/"
        return {key.removeprefix(start): value for key, value in self.tensors.items() if key.startswith(start)}


OURS = re.compile(r"(?P<stem>[0-9]+)\.(json|safetensors)|\.[0-9]+\.(json|safetensors)\.part")
"""The names of a checkpoint's files; of those that were not finished, without a stem."""

SEAL = "hash"


def save(
    folder: Path,
    program: Program,
    steppers: Sequence[PhaseStepper],
    minibatches: Minibatches,
    *,
    number: int,
    seconds: float,
    losses: Mapping[str, float],
    averages: Mapping[str, Tensor] | None = None,
    judged: Mapping[str, Any] | None = None,
) -> Path:
    """Write the checkpoint of round `number` into a run's folder; returns the path of its tensors.

    Of older ones the newest `KEPT` - 1 stay, and the best where the run is judged. Raises `DataError` where it cannot
    be written: those before it stay.
    """
    tensors = {f"program/{name}": value for name, value in program.emitted.state_dict().items()}
    names = {id(parameter): name for name, parameter in program.emitted.named_parameters()}
    for stepper in steppers:
        for parameter, slots in stepper.optimizer.state.items():
            for slot, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{stepper.phase.player}/{names[id(parameter)]}/{slot}"] = value
    tensors |= averages or {}
    tensors |= {f"random/{kind}": value for kind, value in random_states(program.emitted.anchor.device).items()}
    places = minibatches.places
    tensors |= {f"data/{place.law}": place.state for place in places}
    content = packed(tensors)
    record = CheckpointRecord(
        format=FORMAT,
        round=number,
        seconds=seconds,
        losses=losses,
        spec=digest(program.model.source.text),
        tensors=digest(content),
        data={place.law: place.used for place in places},
        unread={stepper.phase.player: stepper.unread() for stepper in steppers},
        optimizers={stepper.phase.player: stepper.optimizer_options() for stepper in steppers},
        torch=torch.__version__,
        judged=judged,
    )
    path = path_of(folder, number)
    write(path, content)
    write(path.with_suffix(".json"), sealed(asdict(record)))
    kept = [kept.stem for kept in whole(folder) if int(kept.stem) <= number][-KEPT:]
    _forget(folder, [*kept, path_of(folder, judged["round"]).stem] if judged else kept)
    return path


def path_of(folder: Path, number: int) -> Path:
    """Where a run's checkpoint of round `number` belongs."""
    return folder / FOLDER / f"{number:08d}.safetensors"


def sealed(record: Mapping[str, Any]) -> bytes:
    """A record as JSON, with the sha256 of what it says."""
    return (json.dumps({**record, SEAL: _seal(record)}) + "\n").encode()


def _seal(record: Mapping[str, Any]) -> str:
    return digest(json.dumps(record, sort_keys=True))


def _forget(folder: Path, kept: Collection[str]) -> None:
    """Remove all other checkpoints, JSON first, and what is left of those that were not finished: later ones too,
    which the run makes again."""
    for path in sorted((folder / FOLDER).iterdir()):
        if (found := OURS.fullmatch(path.name)) and found["stem"] not in kept:
            disk.remove(path)


def whole(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first, each by the path of its tensors. Raises `DataError` where their
    folder is none."""
    disk.verify_folder(folder / FOLDER)
    found = [path for path in (folder / FOLDER).glob("*.json") if (name := OURS.fullmatch(path.name)) and name["stem"]]
    return sorted((path.with_suffix(".safetensors") for path in found), key=lambda path: (int(path.stem), path.stem))


def verify_size(folder: Path, model: Model) -> None:
    """Before a program is made of it: a run's spec asks for no larger networks than its checkpoints hold, if they are
    large at all. Raises `DataError`."""
    if numbers(model) <= SPARE:
        return
    held = max((path.lstat().st_size for path in whole(folder) if os.path.lexists(path)), default=None)
    if held is not None and numbers(model) > held:
        raise errors.larger_than_kept(folder, numbers(model), held)


def newest(folder: Path, program: Program) -> tuple[Checkpoint | None, list[DataError]]:
    """The newest checkpoint of a run that is whole and of the program's spec, and why newer ones are not taken."""
    refused: list[DataError] = []
    for path in reversed(whole(folder)[-TRIED:]):
        try:
            return load(path, program), refused
        except DataError as error:
            refused.append(error)
    return None, refused


def best(folder: Path, program: Program) -> tuple[Checkpoint, list[DataError]]:
    """The checkpoint of the round that a run's judging found best, as the newest whole one knows it, and why newer ones
    are not taken. Raises `DataError` where it is damaged, or none."""
    found, refused = newest(folder, program)
    if found is None:
        raise refused[0] if refused else errors.no_checkpoint(folder)
    if not found.record.judged or not found.record.judged["round"]:
        raise errors.no_best(folder)
    return load(path_of(folder, found.record.judged["round"]), program), refused


def load(path: Path, program: Program) -> Checkpoint:
    """A checkpoint by the path of its tensors, checked against the text of the program's spec.

    Raises `DataError` for one that is missing, damaged, too large for the program, of another format or another spec.
    """
    record = _record(path.with_suffix(".json"))
    found = read_tensors(path, program, SPARE, record.tensors, lambda why: errors.damaged(path, why))
    if digest(program.model.source.text) != record.spec:
        raise errors.other_spec(path)
    return Checkpoint(path, record, found)


def _record(path: Path) -> CheckpointRecord:
    def damaged(why: str) -> DataError:
        return errors.damaged(path, why)

    found = schema.read(disk.read(path, LARGEST_RECORD), damaged)
    if found.get("format") != FORMAT:
        raise errors.foreign_format(path, found.get("format"), FORMAT)
    seal = found.pop(SEAL, None)
    due = schema.tests_of(CheckpointRecord)
    schema.verify(found, due, damaged)
    if found.keys() != due.keys() or seal != _seal(found):
        raise damaged(CHANGED)
    if found["round"] != int(path.stem):
        raise damaged(f"it is of round {found['round']}")
    return CheckpointRecord(**found)


def averages_of(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The averages that a checkpoint keeps, by their parameters' names."""
    players = checkpoint.record.unread
    return {name: mean for player in players for name, mean in checkpoint.part(f"average/{player}").items()}


def restore(program: Program, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's parameters and old copies into a program. Raises `DataError` where they do not fit, or a
    parameter is not finite: no run saves one."""
    found = checkpoint.part("program")
    for name, _ in program.emitted.named_parameters():
        if name in found and not bool(found[name].isfinite().all()):
            raise errors.damaged(checkpoint.path, f"{name} is not finite")
    put(program, checkpoint.path, found)


def restore_training(
    steppers: Sequence[PhaseStepper],
    minibatches: Minibatches,
    program: Program,
    checkpoint: Checkpoint,
    device: torch.device,
) -> None:
    """What a run needs beside its parameters to go on as it would have: optimisers, losses not read yet, the place in
    the data, random numbers. Raises `DataError` where they do not fit."""
    record, path = checkpoint.record, checkpoint.path
    if record.unread.keys() != {stepper.phase.player for stepper in steppers}:
        raise errors.other_parameters(path, "it has other players")
    names = {id(parameter): name for name, parameter in program.emitted.named_parameters()}
    left = checkpoint.part("optimizer")
    for stepper in steppers:
        due = slots_of(stepper.phase)
        slots: dict[int, dict[str, Tensor]] = {}
        for i, parameter in enumerate(stepper.parameters):
            start = f"{stepper.phase.player}/{names[id(parameter)]}/"
            own = {slot: left.pop(f"{start}{slot}") for slot in due if f"{start}{slot}" in left}
            if own and own.keys() != due.keys():
                raise errors.other_parameters(path, f"{start} has {', '.join(own)}, not {', '.join(due)}")
            for slot, value in own.items():
                verify_like(path, f"{start}{slot}", value, parameter if due[slot].dim() else due[slot])
            if own:
                slots[i] = own
        stepper.restore([(number, loss) for number, loss in record.unread[stepper.phase.player]], slots)
    if left:
        raise errors.other_parameters(path, f"{min(left)} is unknown to it")
    states = checkpoint.part("data")
    if not states.keys() == record.data.keys() == {feed.law for feed in minibatches.feeds}:
        raise errors.other_parameters(path, "it stands in other data")
    for feed in minibatches.feeds:
        if record.data[feed.law] > feed.rows:
            raise errors.fewer_rows(path, feed.law, record.data[feed.law], feed.rows)
    try:
        minibatches.go_to({law: Place(law, value, record.data[law]) for law, value in states.items()})
        set_random_states(checkpoint.part("random"), device)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise errors.damaged(path, f"its random states are none: {error}") from None


def slots_of(phase: Phase) -> dict[str, Tensor]:
    """What the optimiser of a phase keeps of a parameter that it has stepped: here of a single number."""
    parameter = Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    stepped = optimizer(phase, [parameter])
    stepped.step()
    return {slot: value for slot, value in stepped.state[parameter].items() if isinstance(value, Tensor)}
