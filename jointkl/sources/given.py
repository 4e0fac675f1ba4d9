"""Data as the caller gives them, read into arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from jointkl.sources import errors
from jointkl.sources.columns import Listed, Named, Rows, Table
from jointkl.sources.datasets import read_dataset
from jointkl.sources.files import read_file
from jointkl.sources.maps import mapped
from jointkl.sources.streams import Array
from jointkl.sources.tensors import tensor_of


def read(value: object, place: errors.Place) -> Rows:
    """The arrays of a path, tensor, array, sequence of them, dict of them by name, or Dataset.

    A list of plain numbers is one array. Raises `DataError` if it cannot be read as numbers.
    """
    match value:
        case str() | os.PathLike():
            return read_file(Path(value), place)
        case Dataset():
            return read_dataset(value, place)
        case Mapping():
            return Named({name: _one(value[name], place) for name in place.chosen(value)})
        case list() | tuple() if any(isinstance(item, Tensor | np.ndarray | str | os.PathLike) for item in value):
            return Listed(tuple(_one(item, place) for item in value))
        case _:
            return Listed((_one(value, place),))


def origin_of(value: object) -> str:
    """What data were read from, in a message."""
    return str(value) if isinstance(value, str | os.PathLike) else f"the {type(value).__name__} given"


def _one(value: object, place: errors.Place) -> Array:
    """A single array: given itself, or mapped already, or as a file that holds nothing else."""
    if isinstance(value, np.memmap) and value.ndim and value.size:
        return mapped(value) if value.dtype.kind in "biuf" else tensor_of(value, place)
    if not isinstance(value, str | os.PathLike):
        return tensor_of(value, place)
    place = place.reading(origin_of(value))
    match read_file(Path(value), place):
        case Listed((array,)) | Table(_, array):
            return array
        case Named(arrays) if len(arrays) == 1:
            return next(iter(arrays.values()))
        case _:
            raise errors.not_one_array(place)
