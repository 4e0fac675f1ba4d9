"""Tables with named columns: .csv and .parquet files. A large one is copied to an array in a file, which is mapped."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from jointkl.sources import errors, streams
from jointkl.sources.columns import Listed, Rows, Table, needed
from jointkl.sources.conversions import converted, stamp
from jointkl.sources.streams import Array
from jointkl.sources.tensors import tensor_of

BLOCK = 2**20
"""Numbers that are read together."""

SAMPLE = 2**20
"""Bytes of a .csv file by which its cells are counted."""


def read_csv(path: Path, place: errors.Place) -> Rows:
    """Commas between the cells, blank lines left out; a first line without any number is the header.

    Of a table with further columns those named as the variables are read.
    """
    header, width = _first_line(path)
    chosen = needed(header, place)
    taken = [i for i, cell in enumerate(header) if cell in chosen] or [*range(width)]

    def blocks() -> Iterator[np.ndarray]:
        return _csv_blocks(path, bool(header), taken, place)

    if next(blocks(), None) is None:
        raise errors.no_rows(place, (0, width))
    values = table(blocks, 8 * _cells(path) * len(taken) // width, path, chosen, place)
    return Table(tuple(header[i] for i in taken), values) if header else Listed((values,))


def _cells(path: Path) -> int:
    """About how many cells a .csv file has, by its beginning."""
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    return (start.count(b",") + start.count(b"\n")) * path.stat().st_size // len(start)


def table(
    blocks: Callable[[], Iterator[np.ndarray]], size: int, path: Path, chosen: tuple[str, ...], place: errors.Place
) -> Array:
    """All rows of a table, float64 numbers of about `size` bytes: in memory, or from a copy of the columns `chosen`
    in a file."""
    if size <= streams.LARGE:
        return tensor_of(np.concatenate([*blocks()]), place)
    return converted(str(place), [stamp(path), *chosen], blocks)


def _first_line(path: Path) -> tuple[tuple[str, ...], int]:
    """The header, empty if there is none, and how many columns there are."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = next(filter(None, csv.reader(file)), [])
    named = any(cells) and not any(map(_is_number, cells))
    return tuple(cell.strip() for cell in cells) if named else (), len(cells)


def _csv_blocks(path: Path, headed: bool, taken: Sequence[int], place: errors.Place) -> Iterator[np.ndarray]:
    """The rows (n, columns taken) of a .csv file below its header, float64, some at a time."""
    numbers = array("d")
    width = count = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        for cells in filter(None, reader):
            if not width:
                width = len(cells)
                if headed:
                    continue
            if len(cells) != width:
                raise errors.ragged_line(place, count, reader.line_num, len(cells), width)
            if len(taken) < width:
                cells = [cells[i] for i in taken]
            try:
                if "_" in "".join(cells):
                    raise ValueError("to Python 1_0 is a number")
                numbers.extend(map(float, cells))
            except ValueError:
                at = next(i for i, cell in enumerate(cells) if not _is_number(cell))
                raise errors.bad_cell(place, count, reader.line_num, taken[at], cells[at].strip()) from None
            count += 1
            if len(numbers) >= BLOCK:
                yield np.frombuffer(numbers, dtype=np.float64).reshape(-1, len(taken))
                numbers = array("d")
    if numbers:
        yield np.frombuffer(numbers, dtype=np.float64).reshape(-1, len(taken))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
