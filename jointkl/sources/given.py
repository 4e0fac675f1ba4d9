"""Data as the caller gives them, read into arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from jointkl.sources import errors
from jointkl.sources.columns import Listed, Rows, shared
from jointkl.sources.conversions import at_home
from jointkl.sources.datasets import read_dataset
from jointkl.sources.files import read_file
from jointkl.sources.maps import mapped
from jointkl.sources.tensors import tensor_of


def read(value: object, place: errors.Place) -> Rows:
    """The arrays of a path, tensor, array, sequence of them, dict of them by name, or Dataset.

    A list of plain numbers is one array. Raises `DataError` if it cannot be read as numbers.
    """
    match value:
        case Dataset():
            return read_dataset(value, place)
        case Mapping():
            return _each([value[name] for name in place.chosen(value)], place)
        case list() | tuple() if any(isinstance(item, Tensor | np.ndarray | str | os.PathLike) for item in value):
            return _each(value, place)
        case _:
            return _one(value, place)


def origin_of(value: object) -> str:
    """What data were read from, in a message."""
    return str(value) if isinstance(value, str | os.PathLike) else f"the {type(value).__name__} given"


def _each(values: Sequence[object], place: errors.Place) -> Rows:
    """The arrays of as many values as the law has variables; a single one is for all of them."""
    if len(values) == 1:
        return _one(values[0], place)
    if len(values) != len(place.outputs):
        raise errors.wrong_count(place, len(values))
    own = [place.only(name) for name in place.names]
    return Listed(tuple(shared(_one(value, one), one)[0] for value, one in zip(values, own, strict=True)))


def _one(value: object, place: errors.Place) -> Rows:
    """A file, or an array: given itself, or mapped already."""
    if isinstance(value, str | os.PathLike):
        return read_file(at_home(os.fspath(value)), place.reading(origin_of(value)))
    if isinstance(value, np.memmap) and value.ndim and value.size and value.dtype.kind in "biuf":
        return Listed((mapped(value),))
    return Listed((tensor_of(value, place),))
