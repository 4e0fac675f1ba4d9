"""Where data sets lie, and files of ours beside them: rows decoded once, to be mapped from then on."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jointkl.sources import source_errors
from jointkl.sources.maps import array_at
from jointkl.sources.streams import Array

LOG = logging.getLogger(__name__)

VARIABLE = "JOINTKL_DATA"
FOLDER = "converted"
FORMAT = 1
"""Of the files that are kept; another number makes all of them anew."""

LEFT = 3600.0
"""Seconds after which a part that nobody has written to is what a killed process left."""


def root() -> Path:
    """The folder of all data: what the environment says, else the user's cache."""
    named = os.environ.get(VARIABLE)
    if named:
        return at_home(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "jointkl"


def at_home(path: str) -> Path:
    """A path with `~` and `~user` in its beginning replaced, where there is such a user."""
    return Path(os.path.expanduser(path))


def stamp(path: Path) -> str:
    """What tells a file from itself after a change: where it lies, how long it is, when it was last written.

    The time of writing can be set, as copying with it does; that of the change cannot.
    """
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def converted(where: str, made_of: Iterable[str], blocks: Callable[[], Iterator[np.ndarray]]) -> Array:
    """The rows that `blocks` gives, some at a time, all of one shape and type, mapped from a .npy file.

    The file is written once for what it is made of, and is whole or not there at all. Raises `DataError` where it
    cannot be kept; what `blocks` raises goes through.
    """
    digest = hashlib.sha256("\n".join([str(FORMAT), *made_of]).encode(errors="surrogateescape")).hexdigest()
    path = root() / FOLDER / f"{digest[:32]}.npy"
    if not os.path.isfile(path):
        _write(where, path, blocks())
    try:
        with path.open("rb") as file:
            return array_at(file)
    except (OSError, ValueError) as error:
        raise source_errors.damaged_copy(where, path, error) from error


def _write(where: str, path: Path, blocks: Iterator[np.ndarray]) -> None:
    LOG.info("%s: copied to %s, to be mapped from there", where, path)
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.part")
    read = _read(blocks)
    first = next(read)
    row, count = first.shape[1:], 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy(path.parent)
        with beside.open("wb") as file:
            _write_header(file, (0, *row), first.dtype)
            for block in itertools.chain([first], read):
                file.write(np.ascontiguousarray(block, dtype=first.dtype).data)
                count += len(block)
            file.seek(0)
            _write_header(file, (count, *row), first.dtype)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise source_errors.cannot_keep(where, path.parent, error, VARIABLE) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _tidy(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > LEFT:
                part.unlink()


def _read(blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """To fail to read is not to fail to write."""
    try:
        yield from blocks
    except OSError as error:
        raise ValueError(str(error)) from error


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """The beginning of a .npy file; numpy makes it as long for any number of rows."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
