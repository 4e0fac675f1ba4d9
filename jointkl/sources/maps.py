"""Arrays that are mapped from a file: read where rows are taken, the system keeping in memory what it can."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from torch import Tensor

from jointkl.sources.streams import Array, Index, Stream
from jointkl.sources.tensors import from_numpy


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """The rows of an array of numpy's, copied into a tensor where they are taken."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Index) -> Tensor:
        return from_numpy(self.array[index if isinstance(index, slice) else index.numpy()])


def mapped(array: np.ndarray) -> Stream:
    """An array of numpy's, most often a memory map. Raises `TypeError` if it does not hold real numbers."""
    plain = array.view(np.ndarray)
    return Stream(Mapped(plain), plain.shape, from_numpy(plain[:0]).dtype)


def array_at(file: BinaryIO, path: Path) -> Array:
    """What stands at the present place of a file as numpy.save writes it: mapped, or read if there is nothing to map.

    Raises what numpy raises for broken bytes and pickled objects.
    """
    start = file.tell()
    shape, fortran, dtype = header_of(file)
    if not shape or 0 in shape or dtype.hasobject:
        file.seek(start)
        return from_numpy(np.lib.format.read_array(file, allow_pickle=False))
    order = "F" if fortran else "C"
    return mapped(np.memmap(path, dtype, "r", offset=file.tell(), shape=shape, order=order))


def header_of(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it lies by columns, and type of an array that numpy.save wrote; the array itself comes next."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
