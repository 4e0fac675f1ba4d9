"""Rows from a torch `Dataset`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from jointkl.diagnostics import DataError
from jointkl.sources import errors, streams
from jointkl.sources.columns import Listed, Named, Rows
from jointkl.sources.streams import Array, Index, Stream, places
from jointkl.sources.tensors import tensor_of


def read_dataset(dataset: Dataset[Any], place: errors.Place) -> Rows:
    """A map-style Dataset. Items are tensors, tuples or dicts of tensors, arrays or numbers.

    Of a tuple the first parts are taken, one per variable; of a dict those named after the variables. What fits into
    memory is read whole, once; of a larger one items are read where they are drawn, and each must then be the same
    every time. Raises `DataError` if an item fails, or differs from the first in parts or shapes.
    """
    if isinstance(dataset, IterableDataset):
        raise errors.iterable_dataset(place)
    length = _length(dataset, place)
    first, named = _item(dataset, 0, place)
    if sum(4 * length * part.numel() for part in first.values()) > streams.LARGE:
        whole: dict[str, Array] = {
            name: Stream(Items(dataset, name, length, first, place), (length, *part.shape), part.dtype, ahead=False)
            for name, part in first.items()
        }
        return Named(whole) if named else Listed(tuple(whole.values()))
    columns: dict[str, list[Tensor]] = {name: [part] for name, part in first.items()}
    for index in range(1, length):
        for name, part in _like(dataset, index, first, place).items():
            columns[name].append(part)
    whole = {name: torch.stack(parts) for name, parts in columns.items()}
    return Named(whole) if named else Listed(tuple(whole.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """A part of the items of a Dataset. It is the caller's code: no other thread calls it."""

    dataset: Dataset[Any]
    part: str
    length: int
    first: Mapping[str, Tensor]
    place: errors.Place

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Index) -> Tensor:
        rows = places(index, self.length).tolist()
        found = [_like(self.dataset, row, self.first, self.place)[self.part] for row in rows]
        return torch.stack(found) if found else self.first[self.part].new_empty(0, *self.first[self.part].shape)


def _like(dataset: Dataset[Any], index: int, first: Mapping[str, Tensor], place: errors.Place) -> dict[str, Tensor]:
    """An item that has the form of the first."""
    item, _ = _item(dataset, index, place)
    if _form(item) != _form(first):
        raise errors.uneven_item(place, index, _form(item), _form(first))
    return item


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
