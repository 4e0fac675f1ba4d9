"""Rows from torch Datasets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from jointkl.semantics.spaces import Space
from jointkl.sources import bind

SPACES = {"x": Space("real", (2,)), "t": Space("finite", (), tuple(range(5)))}


class Made(Dataset[Any]):
    def __init__(self, item: Callable[[int], Any], length: int = 4) -> None:
        self.item, self.length, self.reads = item, length, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.item(index)


class Endless(IterableDataset[Any]):
    def __iter__(self):
        yield torch.ones(2)


class Unmeasured(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return torch.ones(2)


def point(i: int) -> torch.Tensor:
    return torch.tensor([float(i), -float(i)])


@pytest.mark.parametrize(
    "dataset",
    [
        Made(lambda i: (point(i), i)),
        Made(lambda i: [point(i).numpy(), torch.tensor(i), "left out"]),
        Made(lambda i: {"t": np.int64(i), "name": "left out", "x": point(i)}),
        Made(lambda i: torch.cat([point(i), torch.tensor([float(i)])])),
        TensorDataset(torch.stack([point(i) for i in range(4)]), torch.arange(4)),
    ],
    ids=["tuple", "list", "dict", "tensor", "TensorDataset"],
)
def test_items_are_read_by_position_or_name(spec, dataset):
    (data,) = bind(spec(SPACES, ("data", ("x", "t"))), {"data": dataset})
    assert data.columns[0].tolist() == [[0, 0], [1, -1], [2, -2], [3, -3]]
    assert data.columns[1].tolist() == [0, 1, 2, 3]


def test_every_item_is_read_once(spec):
    dataset = Made(lambda i: (point(i), i))
    (data,) = bind(spec(SPACES, ("data", ("x",))), {"data": dataset})
    assert len(data) == 4
    assert dataset.reads == 4


def _fails(i: int) -> Any:
    if i == 2:
        raise KeyError("no image")
    return point(i), i


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (Endless(), ["map-style", "`__getitem__`"]),
        (Unmeasured(), ["map-style", "length"]),
        (Made(_fails), ["item 2", "KeyError", "no image"]),
        (Made(lambda i: (point(i), i), length=0), ["at least one row"]),
        (Made(lambda i: (torch.ones(2 + i // 3), i)), ["item 3", "part 0 of shape (3,)", "part 0 of shape (2,)"]),
        (Made(lambda i: (point(i), i)[: 2 - i]), ["item 1", "part 1 of shape ()"]),
        (Made(lambda i: (point(i), "three")), ["item 0", "real numbers", "<U5"]),
        (Made(lambda i: (object(), i)), ["item 0", "real numbers"]),
        (Made(lambda i: {"x": point(i), "c": i}), ["`x`, `c`", "t: {0..4}"]),
        (Made(lambda i: (point(i), i + 3)), ["`t` of `data(x,t)`", "5 in row 2"]),
        (Made(lambda i: ()), ["found 0 arrays"]),
    ],
)
def test_wrong_datasets_are_refused(spec, refused, dataset, words):
    origin = f"the {type(dataset).__name__} given"
    refused(spec(SPACES, ("data", ("x", "t"))), {"data": dataset}, "data(x,t)", origin, *words)
