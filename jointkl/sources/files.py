"""Rows from .npy, .npz and .csv files. A file is data from anywhere: pickled objects in it are never read."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from jointkl.diagnostics import DataError
from jointkl.sources import errors
from jointkl.sources.columns import Listed, Named, Rows, Table
from jointkl.sources.tensors import tensor_of


def read_file(path: Path, place: errors.Place) -> Rows:
    """The arrays of a file, by its ending. Raises `DataError` if it is missing or cannot be read."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise errors.unknown_suffix(place, suffix, READERS)
    try:
        if not path.exists():
            raise errors.missing_file(place)
        return READERS[suffix](path, place)
    except DataError:
        raise
    except Exception as error:  # broken bytes make numpy, zipfile, zlib and csv raise a dozen unrelated types
        reason = str(error).split("\n", 1)[0] or "nothing in it"
        raise errors.unreadable_file(place, suffix, f"{type(error).__name__}: {reason}") from error


def _read_npy(path: Path, place: errors.Place) -> Rows:
    with path.open("rb") as file:
        return Listed((tensor_of(np.lib.format.read_array(file, allow_pickle=False), place),))


def _read_npz(path: Path, place: errors.Place) -> Rows:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array, as numpy.save writes to .npy files")
        return Named({name: tensor_of(archive[name], place) for name in place.chosen(archive.files)})


def _read_csv(path: Path, place: errors.Place) -> Rows:
    """Commas between the cells, blank lines left out; a first line without any number is the header."""
    numbers = array("d")
    header: tuple[str, ...] = ()
    width = count = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        for cells in reader:
            if not cells:
                continue
            if not width:
                width = len(cells)
                if not any(map(_is_number, cells)):
                    header = tuple(cell.strip() for cell in cells)
                    continue
            if len(cells) != width:
                raise errors.ragged_line(place, count, reader.line_num, len(cells), width)
            try:
                numbers.extend(map(float, cells))
            except ValueError:
                column = next(i for i, cell in enumerate(cells) if not _is_number(cell))
                raise errors.bad_cell(place, count, reader.line_num, column, cells[column].strip()) from None
            count += 1
    if not count:
        raise errors.no_rows(place, (0, width))
    values = torch.from_numpy(np.frombuffer(numbers, dtype=np.float64).reshape(count, width))
    return Table(header, values) if header else Listed((values,))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


READERS: dict[str, Callable[[Path, errors.Place], Rows]] = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
