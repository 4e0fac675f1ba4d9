"""The tables that scikit-learn ships: digits, iris, wine."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from jointkl.sources.request import Request

TEST_SHARE = 0.2
"""The share of each class that is kept for the test."""


def digits(request: Request) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 8, 8) from 0 (paper) to 1 (ink) and classes (N,).

    Images are turned first, then inverted, then cut at the threshold, so that the corners a turn uncovers are paper.
    """
    from sklearn.datasets import load_digits

    options = request.options
    table: Any = load_digits()
    rows = part(table.target, options["split"])
    images = torch.from_numpy(table.images[rows]).float().div(16).unsqueeze(1)
    images = turned(images, options["rotate"])
    if options["invert"]:
        images = 1 - images
    if options["threshold"] is not None:
        images = (images > options["threshold"]).float()
    return images, torch.from_numpy(table.target[rows]).long()


def iris(request: Request) -> tuple[Tensor, Tensor]:
    """Measurements (150, 4) in cm and species (150,)."""
    from sklearn.datasets import load_iris

    return _table(load_iris())


def wine(request: Request) -> tuple[Tensor, Tensor]:
    """Measurements (178, 13), each in its own unit, and growers (178,)."""
    from sklearn.datasets import load_wine

    return _table(load_wine())


def part(classes: np.ndarray, split: str) -> np.ndarray:
    """The rows of a part, ascending: `test` is `TEST_SHARE` of each class, `train` the rest, `all` everything.

    The choice is fixed: numpy guarantees the stream of `RandomState`.
    """
    random = np.random.RandomState(0)
    test = np.zeros(len(classes), dtype=bool)
    for value in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == value))
        test[members[: round(TEST_SHARE * len(members))]] = True
    chosen = {"train": ~test, "test": test, "all": np.ones_like(test)}
    return np.flatnonzero(chosen[split])


def turned(images: Tensor, degrees: float) -> Tensor:
    """Images (N, 1, H, W), H = W, turned counterclockwise about their centre, bilinear; what comes into view is 0.

    Quarter turns are exact; the remainder, below 90 degrees, is interpolated.
    """
    quarters, rest = divmod(degrees, 90)
    images = torch.rot90(images, int(quarters) % 4, dims=(2, 3))
    if rest == 0:
        return images
    angle = torch.deg2rad(torch.tensor(float(rest)))
    cos, sin = angle.cos(), angle.sin()
    zero = torch.zeros(())
    towards = torch.stack([torch.stack([cos, -sin, zero]), torch.stack([sin, cos, zero])])
    grid = affine_grid(towards.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False).clamp(0, 1)


def _table(table: Any) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(table.data).float(), torch.from_numpy(table.target).long()
