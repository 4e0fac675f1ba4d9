"""A step that was not finite, kept: RUN/failure/step.safetensors and step.json, to load and look at.

    failure = jointkl.load_failure("runs/gan")
    failure.program.loss(failure.player, failure.batch)  # tensor(inf)
    failure.terms  # {"-log p(1|x)": inf}

Names of tensors: `program/..` the parameters and buffers before the step, `batch/x`, `noise/z`, `random/cpu`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyro
import torch
from torch import Tensor

from jointkl import disk
from jointkl.compiler import compile
from jointkl.diagnostics import DataError
from jointkl.program import Program
from jointkl.training.folder import errors as folder_errors
from jointkl.training.folder import schema
from jointkl.training.folder.config import saved_in
from jointkl.training.folder.tensors import digest, packed, put, read_tensors, set_random_states
from jointkl.training.machine import memory
from jointkl.training.nonfinite.replay import Finding
from jointkl.training.precision import BF16, lower

FORMAT = 1
FOLDER, NAME = "failure", "step.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """A step that was not finite: `program` is as it was before that step, on the CPU.

    `what` of `player` was not finite in round `number`: its loss, its gradient, or its parameters or their moments in
    the optimiser after the step; `parameter` is the first one where that is so. `terms` are what each term of the loss
    was worth, by its formula. `batch` holds the data and, where that is all that is random in the loss, the noise;
    `noise` is it alone, by key.
    """

    program: Program = field(repr=False)
    player: str
    what: str
    number: int
    parameter: str
    terms: Mapping[str, float]
    batch: Mapping[str, Tensor] = field(repr=False)
    noise: Mapping[str, Tensor] = field(repr=False)
    random: Mapping[str, Tensor] = field(repr=False)

    def loss(self) -> Tensor:
        """The loss of that step, at its own random numbers; torch's are afterwards as before. No distribution refuses
        its parameters. Of a step on a GPU it is the same if the noise is all that is random."""
        with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False):
            set_random_states(self.random, torch.device("cpu"))
            given = {key: value for key, value in self.batch.items() if key not in self.noise}
            return self.program.loss(self.player, self.batch if "cuda" in self.random else given)


def write(folder: Path, program: Program, finding: Finding, precision: str) -> Path:
    """Keep a step in a run's folder; returns where. Raises `DataError` where it cannot be written."""
    found, instant = finding.found, finding.found.instant
    parts = {"program": instant.tensors, "batch": instant.batch, "noise": finding.noise, "random": instant.random}
    tensors = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    content = packed(tensors)
    record = FailureRecord(
        format=FORMAT,
        round=found.number,
        player=found.player,
        what=found.what,
        loss=str(found.loss),
        parameter=found.parameter,
        terms=[
            {"text": row.term.text, "line": row.term.span.line, "value": str(row.value), "guilty": row.guilty}
            for row in finding.terms
        ],
        batch=list(instant.batch),
        given=finding.given,
        precision=precision,
        spec=digest(program.model.source.text),
        tensors=digest(content),
    )
    path = disk.folder(folder / FOLDER) / NAME
    disk.write(path, content)
    disk.write(path.with_suffix(".json"), (json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n").encode())
    return path.parent


LARGEST_RECORD, SPARE = 1 << 20, 1 << 31
"""Bytes of its JSON, and of its batch and noise, at most."""


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """What `step.json` says. `batch` are the keys of the batch's data, `given` whether the noise is all that is random
    in the loss; `spec` and `tensors` are sha256."""

    format: int
    round: Annotated[int, schema.count]
    player: Annotated[str, schema.line]
    what: Annotated[str, schema.line]
    loss: str
    parameter: Annotated[str, schema.line]
    terms: Annotated[Sequence[Mapping[str, Any]], schema.list_of(schema.having(text=schema.text, value=schema.text))]
    batch: Annotated[Sequence[str], schema.list_of(schema.line)]
    given: Annotated[bool, schema.one_of(True, False)]
    precision: Annotated[str, schema.line]
    spec: Annotated[str, schema.digest]
    tensors: Annotated[str, schema.digest]


def load_failure(folder: str | Path, *, allow_imports: Collection[str] = ()) -> Failure:
    """The step that a run ended at because it was not finite.

    The run's spec is compiled again, as by `load_run`. Raises `DataError` for a folder that is no run, or that holds no
    such step, or a damaged one.
    """
    kept = saved_in(folder, allow_imports)
    path = kept.folder / FOLDER / NAME
    if not os.path.lexists(path.parent):
        raise folder_errors.no_failure(kept.folder)
    disk.verify_folder(path.parent)

    def damaged(why: str) -> DataError:
        return folder_errors.damaged_failure(path, why)

    record = _record(path.with_suffix(".json"))
    if digest(kept.model.source.text) != record["spec"]:
        raise folder_errors.other_spec(path)
    with memory():
        program = compile(kept.model, allow_imports=allow_imports)
        found = read_tensors(path, program, SPARE, record["tensors"], damaged)
    parts = {
        part: {name.removeprefix(f"{part}/"): value for name, value in found.items() if name.startswith(f"{part}/")}
        for part in ("program", "batch", "noise", "random")
    }
    try:
        terms = {term["text"]: float(term["value"]) for term in record["terms"]}
        data = {key: parts["batch"][key] for key in record["batch"]}
    except (ValueError, KeyError) as error:
        raise damaged(f"it has no {error}") from None
    if record["player"] not in program.players:
        raise damaged(f"the spec has no player {record['player']}")
    put(program, path, parts["program"])
    program.data_sizes = kept.counts
    if record["precision"] == BF16:
        lower(program)
    return Failure(
        program,
        record["player"],
        record["what"],
        record["round"],
        record["parameter"],
        terms,
        {**data, **parts["noise"]} if record["given"] else data,
        parts["noise"],
        parts["random"],
    )


def _record(path: Path) -> dict[str, Any]:
    def damaged(why: str) -> DataError:
        return folder_errors.damaged_failure(path, why)

    found = schema.read(disk.read(path, LARGEST_RECORD), damaged)
    if found.get("format") != FORMAT:
        raise folder_errors.foreign_format(path, found.get("format"), FORMAT)
    schema.verify(found, schema.tests_of(FailureRecord), damaged)
    return found
