"""A sampler of a law, written to a file that runs without jointkl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jointkl import disk
from jointkl.exports import errors
from jointkl.exports.formats import FORMATS, Format
from jointkl.exports.sampler import SUPPLIES, Sampler, Supply, tracing
from jointkl.program import Program
from jointkl.version import VERSION

TRIED = (1, 5)
"""Rows on which a file is run before it is kept: neither number is that of the tracing."""

NEAR = 1e-3
"""How far a number read back may be from the program's, and as a share of it: distributions' tails amplify rounding."""

APART = 1e-2
"""The share of a draw's numbers that may be further away: where noise meets a bound between two values, rounding
decides."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written where. `told` stands in the file too: the law, and the name, shape and meaning of every input
    and output."""

    path: Path
    told: dict[str, Any]


def export(program: Program, path: str | Path, law: str, *, noise: Supply = "given") -> Exported:
    """Write the sampler of a law or joint: `.pt2` by `torch.export`, `.onnx` with the extra `jointkl[onnx]`.

    Networks are in evaluation mode, the number of rows is free, and only what the law needs is in the file. With
    `noise="given"` the sampler is a function of what the law is given, of evidence that it takes and of standard noise;
    families without a simple form in noise are drawn inside, in `.pt2` alone. With `noise="drawn"` (`.pt2`) everything
    is. The file is read back and compared with the program before it is kept.

    Leaves torch's random state as it was. Raises `DataError`.
    """
    path = Path(path)
    form = format_of(path, noise)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        sampler = Sampler(program, law, noise)
        told = description(sampler, form, program.model.source.name)
        content = form.write(sampler, told)
        for rows in TRIED:
            _verify(sampler, form, content, rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk.cannot_write(path, error) from error
    disk.write(path, content)
    return Exported(path, told)


def format_of(path: Path, noise: str = "given") -> Format:
    """Raises `DataError` for a name, or a noise, that no sampler can be written with."""
    if path.suffix.lower() not in FORMATS:
        raise errors.unknown_ending(path, FORMATS)
    if noise not in SUPPLIES:
        raise errors.unknown_noise(noise, SUPPLIES)
    form = FORMATS[path.suffix.lower()]
    if noise == "drawn" and form.name == "ONNX":
        raise errors.noise_drawn_in_onnx()
    return form


def description(sampler: Sampler, form: Format, spec: str) -> dict[str, Any]:
    """As JSON, what the sampler takes and gives."""
    names = form.outputs(sampler)
    return {
        "law": sampler.query.text,
        "spec": Path(spec).name,
        "jointkl": VERSION,
        "torch": torch.__version__,
        "inputs": [i.told for i in sampler.inputs],
        "outputs": [
            {"name": names[v], "key": v, "space": str(sampler.model.space(v)), **shape}
            for v, shape in sampler.outputs.items()
        ],
        "drawn": dict(sampler.inside),
    }


def text(exported: Exported) -> str:
    """What was written, and what the sampler takes and gives, for a reader."""
    told = exported.told
    rows = [("takes", i, i.get("distribution") or i.get("space") or "any numbers, one a row") for i in told["inputs"]]
    rows += [("gives", o, o["space"]) for o in told["outputs"]]
    width = max(len(row["name"]) for _, row, _ in rows)
    lines = [f"wrote {exported.path}: {told['law']}"]
    for way, row, what in rows:
        shape = ", ".join(map(str, row["shape"]))
        lines.append(f"  {way} {row['name']:{width}}  {row['dtype']} ({shape}), {what}")
    return "\n".join([*lines, *(f"  draws {law} inside, a {family}" for law, family in told["drawn"].items())])


def _verify(sampler: Sampler, form: Format, content: bytes, rows: int) -> None:
    """What the file gives is what the program gives: the numbers where noise determines them, else their shapes."""
    arguments = sampler.example(rows)
    with tracing():
        expected = sampler(**arguments)
    found = form.run(content, arguments)
    for v, name in form.outputs(sampler).items():
        if not _agree(expected[v], found[name], sampler.determined):
            raise errors.disagrees(sampler.query.text, form.name, v, rows)


def _agree(expected: Tensor, found: Tensor, determined: bool) -> bool:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    near = torch.isclose(found.double(), expected.double(), rtol=NEAR, atol=NEAR, equal_nan=True)
    return not determined or float(near.double().mean()) >= 1 - APART
