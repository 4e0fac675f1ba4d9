"""A step that was not finite, kept: RUN/failure/step.safetensors and step.json, to load and look at.

    failure = jointkl.load_failure("runs/gan")
    failure.program.loss(failure.player, failure.batch)  # tensor(inf)
    failure.terms  # {"-log p(1|x)": inf}

Names of tensors: `program/..` the parameters and buffers before the step, `batch/x`, `noise/z`, `random/cpu`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from jointkl.compiler import compile
from jointkl.program import Program
from jointkl.training import errors, state
from jointkl.training.diagnosis import Finding
from jointkl.training.precision import BF16, lower
from jointkl.training.run import kept_in

FORMAT = 1
FOLDER, NAME = "failure", "step.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """A step that was not finite: `program` stands before it, on the CPU.

    `what` of `player` was not finite in round `number`: its loss, its gradient, or its parameters after the step;
    `parameter` is the first one of these two. `terms` are what each term of the loss was worth, by its formula. `batch`
    holds the data and, where that is all that is random in the loss, the noise; `noise` is it alone, by key.
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
            state.set_random_states(self.random, torch.device("cpu"))
            given = {key: value for key, value in self.batch.items() if key not in self.noise}
            return self.program.loss(self.player, self.batch if "cuda" in self.random else given)


def write(folder: Path, program: Program, finding: Finding, precision: str) -> Path:
    """Keep a step in a run's folder; returns where. Raises `DataError` where it cannot be written."""
    found, instant = finding.found, finding.found.instant
    parts = {"program": instant.tensors, "batch": instant.batch, "noise": finding.noise, "random": instant.random}
    tensors = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
    content = bytes_of({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    record = {
        "format": FORMAT,
        "round": found.number,
        "player": found.player,
        "what": found.what,
        "loss": str(found.loss),
        "parameter": found.parameter,
        "terms": [
            {"text": row.term.text, "line": row.term.span.line, "value": str(row.value), "guilty": row.guilty}
            for row in finding.terms
        ],
        "batch": list(instant.batch),
        "given": finding.given,
        "precision": precision,
        "spec": state.digest(program.model.source.text),
        "tensors": state.digest(content),
    }
    path = folder / FOLDER / NAME
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise errors.cannot_write(path.parent, error) from error
    state.write(path, content)
    state.write(path.with_suffix(".json"), (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    return path.parent


NEEDED: Mapping[str, type] = {
    "round": int, "player": str, "what": str, "parameter": str, "terms": list, "batch": list, "given": bool,
    "precision": str, "spec": str, "tensors": str,
}  # fmt: skip


def load_failure(folder: str | Path, *, allow_imports: Collection[str] = ()) -> Failure:
    """The step that a run ended at because it was not finite.

    The run's spec is compiled again, as by `load_run`. Raises `DataError` for a folder that is no run, or that holds no
    such step, or a damaged one.
    """
    kept = kept_in(folder, allow_imports)
    path = kept.folder / FOLDER / NAME
    if not path.parent.is_dir():
        raise errors.no_failure(kept.folder)
    record = _record(path.with_suffix(".json"))
    try:
        content = path.read_bytes()
        if state.digest(content) != record["tensors"]:
            raise errors.damaged_failure(path, "its bytes are not those that were written")
        if state.digest(kept.model.source.text) != record["spec"]:
            raise errors.other_spec(path)
        found = tensors_of(content)
        terms = {str(term["text"]): float(term["value"]) for term in record["terms"]}
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise errors.damaged_failure(path, str(error)) from None
    parts = {
        part: {name.removeprefix(f"{part}/"): value for name, value in found.items() if name.startswith(f"{part}/")}
        for part in ("program", "batch", "noise", "random")
    }
    program = compile(kept.model, allow_imports=allow_imports)
    state.put(program, path, parts["program"])
    program.data_size = kept.rows
    if record["precision"] == BF16:
        lower(program)
    data = {key: parts["batch"][key] for key in record["batch"]}
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
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise errors.damaged_failure(path, f"no JSON: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise errors.foreign_format(path, found.get("format") if isinstance(found, dict) else None, FORMAT)
    for name, kind in NEEDED.items():
        if type(found.get(name)) is not kind:
            raise errors.damaged_failure(path, f"it has no `{name}`, or not as a run writes it")
    return found
