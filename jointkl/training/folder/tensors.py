"""Tensors of a run as bytes and back: safetensors, never pickle, under their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from jointkl import disk
from jointkl.diagnostics import DataError
from jointkl.program import Program
from jointkl.training.folder import errors

COPIES, HEADER = 16, 4096
"""A file holds at most so many copies of its program, and a header of so many bytes for each tensor of the program and
for itself."""

CHANGED = "its bytes are not those that were written"


def digest(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as safetensors, which keeps none that lies where another does: of weights that two layers share, each
    has its own there."""
    found, seen = dict[str, Tensor](), set[int]()
    for name, value in tensors.items():
        own = value.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        found[name] = own.clone() if place in seen else own
        seen.add(place)
    return bytes_of(found)


def read_tensors(
    path: Path, program: Program, spare: int, expected: str, damaged: Callable[[str], DataError]
) -> dict[str, Tensor]:
    """What a file that was written for a program holds, with `spare` bytes beside copies of it, under its hash. Raises
    `DataError`, or `damaged(why)`."""
    own = program.emitted.state_dict()
    content = disk.read(path, spare + COPIES * sum(value.nbytes for value in own.values()))
    if digest(content) != expected:
        raise damaged(CHANGED)
    header, most = int.from_bytes(content[:8], "little"), HEADER * (COPIES + len(own))
    if header > most:
        raise damaged(f"its header claims {header:,} bytes, where {most:,} are plenty")
    try:
        return tensors_of(content)
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError) as error:  # of types that torch has not
        raise damaged(f"no safetensors: {error}") from None


def put(program: Program, path: Path, found: Mapping[str, Tensor]) -> None:
    """Put what a file at `path` holds of a program into it. Raises `DataError` where it does not fit."""
    own = program.emitted.state_dict()
    for name in sorted(own.keys() ^ found.keys()):
        raise errors.other_parameters(path, f"{name} is {'missing' if name in own else 'unknown to it'}")
    for name, value in own.items():
        verify_like(path, name, found[name], value)
    program.emitted.load_state_dict(dict(found))


def verify_like(path: Path, name: str, found: Tensor, own: Tensor) -> None:
    if found.shape != own.shape or found.dtype != own.dtype:
        what, wanted = (f"{tuple(t.shape)} of {t.dtype}".replace("torch.", "") for t in (found, own))
        raise errors.other_parameters(path, f"{name} is {what}, not {wanted}")


def random_states(device: torch.device) -> dict[str, Tensor]:
    """torch's, by the type of device."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def set_random_states(found: Mapping[str, Tensor], device: torch.device) -> None:
    """As they were. Raises `KeyError`, `TypeError` or `RuntimeError` where they are none."""
    torch.set_rng_state(found["cpu"])
    if device.type == "cuda" and "cuda" in found:
        torch.cuda.set_rng_state(found["cuda"], device)
