"""What somebody can do to a run's folder before handing it on."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jointkl.training.folder import checkpoints
from jointkl.training.folder.tensors import digest

Attack = Callable[[Path, Path], object]
"""What is done to a run's folder, and to what is outside of it."""

DEEP = "[" * 100_000 + "]" * 100_000
"""JSON that no parser should follow to its end."""

LEFT = Path(tempfile.gettempdir()) / "jointkl-was-here"
"""What a pickle leaves where it is read."""


def config(**values: object) -> Attack:
    def edit(folder: Path, outside: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return edit


def config_text(text: str | bytes) -> Attack:
    content = text.encode() if isinstance(text, str) else text
    return lambda folder, outside: (folder / "config.json").write_bytes(content)


def record(**values: object) -> Attack:
    """Every checkpoint says so of itself, under a hash that is right."""

    def edit(folder: Path, outside: Path) -> None:
        for path in checkpoints.whole(folder):
            path = path.with_suffix(".json")
            found = {**json.loads(path.read_text()), **values}
            found.pop(checkpoints.SEAL, None)
            path.write_bytes(checkpoints.sealed(found))

    return edit


def record_text(text: Callable[[str], str]) -> Attack:
    """Every checkpoint's JSON in other words."""

    def edit(folder: Path, outside: Path) -> None:
        for path in checkpoints.whole(folder):
            path = path.with_suffix(".json")
            path.write_text(text(path.read_text()))

    return edit


def bytes_of(change: Callable[[bytes], bytes]) -> Attack:
    """The tensors of every checkpoint are other bytes, whose hash is right."""

    def edit(folder: Path, outside: Path) -> None:
        for path in checkpoints.whole(folder):
            path.write_bytes(change(path.read_bytes()))
            record(tensors=digest(path.read_bytes()))(folder, outside)
            _retold(path)

    return edit


def _retold(path: Path) -> None:
    found = json.loads(path.with_suffix(".json").read_text())
    found.pop(checkpoints.SEAL)
    found["tensors"] = digest(path.read_bytes())
    path.with_suffix(".json").write_bytes(checkpoints.sealed(found))


def tensors(change: Callable[[dict[str, Tensor]], object]) -> Attack:
    """The tensors of every checkpoint are others, whose hash is right."""

    def edit(folder: Path, outside: Path) -> None:
        for path in checkpoints.whole(folder):
            found = load_file(path)
            change(found)
            save_file({name: value.contiguous() for name, value in found.items()}, path)
            _retold(path)

    return edit


def safetensors(header: Mapping[str, Any] | bytes, rest: bytes = b"", claimed: int | None = None) -> Attack:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = struct.pack("<Q", len(text) if claimed is None else claimed)
    return bytes_of(lambda _: length + text + rest)


def instead(name: str, make: Callable[[Path, Path], object]) -> Attack:
    """Something else stands in the place of a file or folder."""

    def edit(folder: Path, outside: Path) -> None:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        make(path, outside)

    return edit


def every(ending: str, make: Callable[[Path, Path], object]) -> Attack:
    def edit(folder: Path, outside: Path) -> None:
        for path in checkpoints.whole(folder):
            instead(path.with_suffix(ending).name, make)(path.parent, outside)

    return edit


def link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "file")


def link_to_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def link_to_zero(path: Path, outside: Path) -> None:
    path.symlink_to("/dev/zero")


def hard_link(path: Path, outside: Path) -> None:
    path.hardlink_to(outside / "file")


def pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def listening(path: Path, outside: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def folder_there(path: Path, outside: Path) -> None:
    path.mkdir()


def sparse(size: int) -> Callable[[Path, Path], None]:
    def make(path: Path, outside: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


class Evil:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(LEFT),)


def pickled(path: Path, outside: Path) -> None:
    path.write_bytes(pickle.dumps(Evil()))


def torch_saved(path: Path, outside: Path) -> None:
    torch.save({"program/D": Evil()}, path)
