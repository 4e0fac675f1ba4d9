"""Samples of a trained program: which law, drawn how, kept as what."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jointkl import disk
from jointkl.derivation.resolve import Query, resolve, samplable
from jointkl.derivation.shifts import keys
from jointkl.evaluation import errors, pictures
from jointkl.program import Program
from jointkl.semantics.model import Evidence, base
from jointkl.sources import Bound
from jointkl.sources.streams import chunks

COUNT: Mapping[pictures.Kind | None, int] = {"points": 1000, "images": 64, None: 1000}
"""How many samples a run keeps of each kind."""


def default(program: Program) -> Query:
    """What a run shows: the first law that draws, from noise alone, what evidence gives. Raises `DataError`."""
    found = samplable(program.derivation.facts)
    if not found:
        raise errors.nothing_to_sample(program.model.source.name, (law.text for law in program.model.laws.values()))
    return found[0]


def draw(
    program: Program, law: str | None, size: int, *, seed: int | None = None, data: Sequence[Bound] = ()
) -> dict[str, Tensor]:
    """Samples of a law, or of the default: variable -> (size, *shape), of a global its one value, on the CPU.

    `data` is needed where the law takes evidence or is given its variables: `size` rows of it are drawn. A `seed`
    leaves torch's own random state as it was. Raises `DataError`.
    """
    query = resolve(program.derivation.facts, law) if law else default(program)
    device = program.emitted.anchor.device
    with torch.random.fork_rng([device] if device.type == "cuda" else [], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        found = program.sample(query.text, size, _evidence(program, query, size, data, device))
    return {name: value.cpu() for name, value in found.items()}


def needs_data(program: Program, law: str | None) -> bool:
    """Whether a law takes evidence, or is given a variable."""
    query = resolve(program.derivation.facts, law) if law else default(program)
    bodies = [program.model.laws[f.law].body for _, path in query.branches for f in path]
    return bool(query.givens) or any(isinstance(body, Evidence) for body in bodies)


def _evidence(
    program: Program, query: Query, size: int, data: Sequence[Bound], device: torch.device
) -> dict[str, Tensor] | None:
    if not needs_data(program, query.text):
        return None
    batch: dict[str, Tensor] = {}
    for bound in data:
        batch |= bound.take(torch.randint(len(bound), (size,)))
        batch |= _beside(program, query, bound, size)
    missing = [v for v in query.givens if v not in batch]
    if missing:
        raise errors.givens_unknown(query.text, missing)
    return {key: value.to(device) for key, value in batch.items()}


def _beside(program: Program, query: Query, bound: Bound, size: int) -> dict[str, Tensor]:
    """Further independent draws from the same source, by the keys under which the law takes them."""
    model = program.model
    found: dict[str, Tensor] = {}
    drawn: dict[int, dict[str, Tensor]] = {}
    for f in (f for _, path in query.branches for f in path):
        body = model.laws[f.law].body
        if isinstance(body, Evidence) and body.rows == bound.law and f.shift:
            if f.shift not in drawn:
                drawn[f.shift] = bound.take(torch.randint(len(bound), (size,)))
            found |= {key: drawn[f.shift][key[: -f.shift]] for key in keys(model, f).values()}
    return found


def column(data: Sequence[Bound], variable: str) -> Tensor | None:
    """What evidence gives of a variable, of all laws together; None if none does. Of a stream it is the first rows."""
    keys = [(key, values) for bound in data for key, values in zip(bound.keys, bound.columns, strict=True)]
    found = [values for key, values in keys if key.rpartition(".")[2] == base(variable)]
    held = [values if isinstance(values, Tensor) else next(rows for _, rows in chunks(values)) for values in found]
    return torch.cat(held) if held else None


def kind_of(program: Program, variable: str, data: Sequence[Bound]) -> pictures.Kind | None:
    return pictures.kind_of(program.model.space(variable), column(data, variable))


def write(path: Path, program: Program, values: Mapping[str, Tensor], data: Sequence[Bound], title: str) -> Path:
    """Keep samples as the name's ending says, and return the path written.

    `.npz` keeps every variable; `.npy` the first; `.png` is a picture of the first variable that has one, and where
    none has, `.npy` takes its place, of several variables `.npz`. No ending is `.png`. Raises `DataError` for another
    ending, or a path that cannot be written.
    """
    match path.suffix.lower():
        case ".npy":
            store(path, _npy(next(iter(values.values()))))
        case ".npz":
            store(path, _npz(values))
        case ".png" | "":
            path = path.with_suffix(".png")
            local = [v for v in values if not program.model.variable(v).is_global]
            shown = [(v, kind) for v in local if (kind := kind_of(program, v, data)) is not None]
            if not shown:
                return write(path.with_suffix(".npy" if len(values) == 1 else ".npz"), program, values, data, title)
            variable, kind = shown[0]
            match kind:
                case "points":
                    store(path, pictures.points({"samples": values[variable]}, column(data, variable), title))
                case "images":
                    store(path, pictures.images(values[variable]))
        case _:
            raise errors.unknown_ending(path)
    return path


def _npy(values: Tensor) -> bytes:
    content = io.BytesIO()
    np.save(content, values.numpy(), allow_pickle=False)
    return content.getvalue()


def _npz(values: Mapping[str, Tensor]) -> bytes:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **{name: value.numpy() for name, value in values.items()})
    return content.getvalue()


def store(path: Path, content: bytes) -> None:
    """Write a file, its folder if need be. Raises `DataError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk.cannot_write(path, error) from error
    disk.write(path, content)


def verify_ending(path: Path) -> None:
    """Raises `DataError` for a name that samples cannot be written under, before any are drawn."""
    if path.suffix.lower() not in ("", ".png", ".npy", ".npz"):
        raise errors.unknown_ending(path)
