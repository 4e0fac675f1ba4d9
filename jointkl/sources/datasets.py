"""Rows from a torch `Dataset`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from jointkl.diagnostics import DataError
from jointkl.sources import errors
from jointkl.sources.columns import Listed, Named, Rows
from jointkl.sources.tensors import tensor_of


def read_dataset(dataset: Dataset[Any], place: errors.Place) -> Rows:
    """A map-style Dataset, read whole, once. Items are tensors, tuples or dicts of tensors, arrays or numbers.

    Of a tuple the first parts are taken, one per variable; of a dict those named after the variables.
    Raises `DataError` if an item fails, or differs from the first in parts or shapes.
    """
    if isinstance(dataset, IterableDataset):
        raise errors.iterable_dataset(place)
    length = _length(dataset, place)
    first, named = _item(dataset, 0, place)
    columns: dict[str, list[Tensor]] = {name: [part] for name, part in first.items()}
    for index in range(1, length):
        item, _ = _item(dataset, index, place)
        if _form(item) != _form(first):
            raise errors.uneven_item(place, index, _form(item), _form(first))
        for name, part in item.items():
            columns[name].append(part)
    whole = {name: torch.stack(parts) for name, parts in columns.items()}
    return Named(whole) if named else Listed(tuple(whole.values()))


def _length(dataset: Any, place: errors.Place) -> int:
    try:
        length = len(dataset)
    except Exception as error:  # the Dataset is the caller's code, and may raise anything
        raise errors.iterable_dataset(place) from error
    if length == 0:
        raise errors.no_rows(place, (0,))
    return length


def _item(dataset: Dataset[Any], index: int, place: errors.Place) -> tuple[dict[str, Tensor], bool]:
    """The parts of an item that the law takes, and whether their names are the item's own."""
    try:
        item: object = dataset[index]
        if isinstance(item, Mapping):
            return {name: tensor_of(item[name], place) for name in place.chosen(item)}, True
        parts = item[: len(place.outputs)] if isinstance(item, tuple | list) else (item,)
        return {f"part {i}": tensor_of(part, place) for i, part in enumerate(parts)}, False
    except DataError as error:
        raise errors.failing_item(place, index, error.message) from error
    except Exception as error:  # the Dataset is the caller's code, and may raise anything
        raise errors.failing_item(place, index, f"{type(error).__name__}: {error}") from error


def _form(item: Mapping[str, Tensor]) -> str:
    """The shapes of an item's parts, for comparison and for messages."""
    return ", ".join(f"{name} of shape {tuple(part.shape)}" for name, part in item.items()) or "no parts"
