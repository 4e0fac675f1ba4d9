"""Expectations over standard normal noise: Gauss-Hermite sums."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

NODES: dict[int, tuple[int, int]] = {0: (1, 1), 1: (128, 96), 2: (96, 80), 3: (36, 30), 4: (16, 13)}
"""How many nodes each of so many dimensions has: finely, and coarsely to see what the error is."""

MOST_DIMENSIONS = max(NODES)


@functools.cache
def hermite(dimensions: int, coarse: bool = False) -> tuple[Tensor, Tensor]:
    """Nodes (N, dimensions) and weights (N,) of the standard normal: at most `MOST_DIMENSIONS`."""
    if not dimensions:
        return torch.zeros(1, 0, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    x, w = np.polynomial.hermite_e.hermegauss(NODES[dimensions][coarse])
    one, share = torch.tensor(x), torch.tensor(w / w.sum())
    nodes = torch.cartesian_prod(*[one] * dimensions).reshape(-1, dimensions)
    weights = torch.cartesian_prod(*[share] * dimensions).reshape(-1, dimensions).prod(-1)
    return nodes, weights
