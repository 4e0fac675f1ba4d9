"""Arrays that are mapped from a file: read where rows are taken, the system keeping in memory what it can."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, BinaryIO

import numpy as np
from torch import Tensor

from jointkl.sources.streams import Array, Index, Stream
from jointkl.sources.tensors import from_numpy


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """The rows of an array of numpy's, copied into a tensor where they are taken.

    `file` is mapped, and row 0 begins at byte `start` of it; None if rows need not be called for.
    """

    array: np.ndarray
    file: mmap.mmap | None = None
    start: int = 0

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Index) -> Tensor:
        if isinstance(index, slice):
            return from_numpy(self.array[index])
        rows = index.numpy()
        if self.file is not None:
            self._call_for((rows.nonzero()[0] if rows.dtype == bool else rows).tolist(), self.file)
        return from_numpy(self.array[rows])

    def _call_for(self, rows: Iterable[int], file: mmap.mmap) -> None:
        """Ask the system for rows that may not be in memory, all of them before the first is waited for.

        A row that is touched unasked is waited for alone, and much is read beside it that nobody wants.
        """
        size = self.array.strides[0]
        for row in rows:
            at = self.start + row * size
            page = at // mmap.PAGESIZE * mmap.PAGESIZE
            file.madvise(mmap.MADV_WILLNEED, page, at + size - page)


def mapped(array: np.ndarray) -> Stream:
    """An array of numpy's, most often a memory map. Raises `TypeError` if it does not hold real numbers."""
    return _stream(Mapped(array.view(np.ndarray)))


def _stream(reader: Mapped) -> Stream:
    return Stream(reader, reader.array.shape, from_numpy(reader.array[:0]).dtype)


def array_at(file: BinaryIO) -> Array:
    """What stands at the present place of a file as numpy.save writes it: mapped, or read if there is nothing to map.

    Raises what numpy raises for broken bytes and pickled objects.
    """
    start = file.tell()
    shape, fortran, dtype = header_of(file)
    if not shape or 0 in shape or dtype.hasobject:
        file.seek(start)
        return from_numpy(np.lib.format.read_array(file, allow_pickle=False))
    start = file.tell()
    whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = np.frombuffer(whole, dtype, int(np.prod(shape, dtype=object)), start)
    array = array.reshape(shape, order="F" if fortran else "C")
    large = array.nbytes > memory() / 4 and not fortran and hasattr(whole, "madvise")
    return _stream(Mapped(array, whole if large else None, start))


def header_of(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it lies by columns, and type of an array that numpy.save wrote; the array itself comes next."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def memory() -> int:
    """Bytes of memory that this machine has, if the system says so."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return sys.maxsize
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
