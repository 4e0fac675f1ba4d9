"""Rows from files. A file is data from anywhere: pickled objects in it are never read."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from jointkl.diagnostics import DataError
from jointkl.sources import errors, streams
from jointkl.sources.columns import Listed, Named, Rows
from jointkl.sources.conversions import converted, stamp
from jointkl.sources.maps import array_at, header_of
from jointkl.sources.parquet import read_parquet
from jointkl.sources.streams import Array
from jointkl.sources.tables import read_csv
from jointkl.sources.tensors import from_numpy, tensor_of


def read_file(path: Path, place: errors.Place) -> Rows:
    """The arrays of a file, by its ending. Raises `DataError` if it is missing or cannot be read."""
    suffix = path.suffix.lower()
    if os.path.isdir(path):
        raise errors.folder_given(place)
    if suffix not in READERS:
        raise errors.unknown_suffix(place, suffix, READERS)
    if not os.path.isfile(path):
        raise errors.missing_file(place)
    try:
        return READERS[suffix](path, place)
    except DataError:
        raise
    except Exception as error:  # broken bytes make numpy, zipfile, zlib, csv and arrow raise a dozen unrelated types
        reason = str(error).split("\n", 1)[0] or "nothing in it"
        raise errors.unreadable_file(place, suffix, f"{type(error).__name__}: {reason}") from error


def _read_npy(path: Path, place: errors.Place) -> Rows:
    with path.open("rb") as file:
        return Listed((_mapped(file, place),))


def _mapped(file: BinaryIO, place: errors.Place) -> Array:
    try:
        return array_at(file)
    except TypeError as error:
        raise errors.not_numbers(place, str(error)) from error


def _read_npz(path: Path, place: errors.Place) -> Rows:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array, as numpy.save writes to .npy files")
        return Named({name: _member(archive, name, file, path, place) for name in place.chosen(archive.files)})


def _member(archive: np.lib.npyio.NpzFile, name: str, file: BinaryIO, path: Path, place: errors.Place) -> Array:
    """An array of an archive: read if it is small, else mapped where it lies, or, compressed, from a copy."""
    assert archive.zip is not None
    info = next(i for i in archive.zip.infolist() if i.filename in (name, f"{name}.npy"))
    if info.file_size <= streams.LARGE:
        return tensor_of(archive[name], place)
    if info.compress_type == zipfile.ZIP_STORED:
        file.seek(info.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
        file.seek(info.header_offset + 30 + int(lengths.sum()))
        return _mapped(file, place)
    try:
        return converted(str(place), [stamp(path), info.filename], lambda: _unpacked(archive, info))
    except TypeError as error:
        raise errors.not_numbers(place, str(error)) from error


def _unpacked(archive: np.lib.npyio.NpzFile, info: zipfile.ZipInfo) -> Iterator[np.ndarray]:
    """The rows of a compressed array, some at a time; all at once where the file holds it by columns.

    Raises `TypeError` if it does not hold real numbers.
    """
    assert archive.zip is not None
    with archive.zip.open(info) as member:
        shape, fortran, dtype = header_of(member)
        from_numpy(np.empty(0, dtype))
        if fortran or not shape or 0 in shape:
            yield archive[info.filename]
            return
        row = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        size = max(1, streams.CHUNK // row)
        for start in range(0, shape[0], size):
            count = min(size, shape[0] - start)
            yield np.frombuffer(_exactly(member, count * row), dtype).reshape(count, *shape[1:])


def _exactly(file: IO[bytes], count: int) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise ValueError("it ends too early")
    return found


READERS: dict[str, Callable[[Path, errors.Place], Rows]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
