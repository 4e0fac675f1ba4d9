"""Rows that are read when they are drawn: what is larger than memory stays where it lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

LARGE = 256 * 2**20
"""Bytes. A column that would take more is read where it is drawn; up to here it is held in memory."""

CHUNK = 16 * 2**20
"""Bytes of a column that are looked at together."""

Index = Tensor | slice
"""Which rows: (B,) whole numbers, (N,) booleans, or a slice."""

Step = Callable[[Tensor], Tensor]
"""What is made of rows (B, ...): of each row alone, on whatever device they are."""


class Reader(Protocol):
    """Rows where they lie: N of them, read into memory where they are taken, always the same. A tensor is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Index, /) -> Tensor: ...


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Rows of `shape` (N, ...) and `dtype`, made by `steps` of what `reader` reads. Indexed as a tensor is by rows.

    `ahead`: whether another thread may read the rows that are wanted next.
    """

    reader: Reader
    shape: tuple[int, ...]
    dtype: torch.dtype
    steps: tuple[Step, ...] = ()
    ahead: bool = True

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> Tensor:
        rows = self.reader[index] if self.resident is None else at(self.resident, index)
        for step in self.steps:
            rows = step(rows)
        return rows

    @property
    def nbytes(self) -> int:
        """Bytes that all rows would take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def resident(self) -> Tensor | None:
        """What is read, if it is in memory."""
        return self.reader if isinstance(self.reader, Tensor) else None

    @property
    def device(self) -> torch.device:
        """Where rows are, once they are taken."""
        return torch.device("cpu") if self.resident is None else self.resident.device

    def to(self, device: torch.device) -> Stream:
        """The same rows, on a device if they are in memory; what is elsewhere stays there."""
        return self if self.resident is None else replace(self, reader=self.resident.to(device))


Array = Tensor | Stream
"""Rows (N, ...), in memory or not: with `shape`, `dtype`, `device`, `nbytes` and a length, and indexed by rows."""


def each(array: Array, row: tuple[int, ...], step: Step, dtype: torch.dtype | None = None) -> Array:
    """An array whose rows are made by `step`, (B, ...) -> (B, *row), at once or when they are drawn."""
    if isinstance(array, Tensor):
        return step(array)
    return replace(array, shape=(len(array), *row), steps=(*array.steps, step), dtype=dtype or array.dtype)


def from_bytes(array: Array) -> Stream:
    """Bytes as float32 numbers from 0 to 1, held or read as bytes."""
    stream = Stream(array, tuple(array.shape), array.dtype) if isinstance(array, Tensor) else array
    return replace(stream, steps=(*stream.steps, _share), dtype=torch.float32)


def _share(rows: Tensor) -> Tensor:
    return rows.float().div_(255)


def chunks(array: Array) -> Iterator[tuple[int, Tensor]]:
    """All rows in their order, some at a time, each time with the number of the first."""
    size = max(1, CHUNK // max(1, 4 * math.prod(array.shape[1:])))
    for start in range(0, len(array), size):
        yield start, array[start : start + size]


def at(array: Array, index: Index) -> Tensor:
    """The rows (B, ...) at `index`. Of a tensor faster than by indexing it."""
    if isinstance(array, Tensor) and isinstance(index, Tensor) and index.dtype != torch.bool:
        return array.index_select(0, index)
    return array[index]


def held(array: Array) -> Array:
    """An array that is in memory if it is not too large for that."""
    return array if isinstance(array, Tensor) or array.nbytes > LARGE else array[:]


def places(index: Index, count: int) -> Tensor:
    """The rows that an index means, as whole numbers on the CPU."""
    if isinstance(index, slice):
        return torch.arange(*index.indices(count))
    return index.nonzero().squeeze(1) if index.dtype == torch.bool else index.cpu()
