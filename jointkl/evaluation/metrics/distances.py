"""Euclidean distances between two sets of points, in blocks of rows, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from jointkl.evaluation import errors

NUMBERS = 2**22
"""A block holds at most so many distances: 32 MiB."""


def points(values: Tensor) -> Tensor:
    """Values (n, *shape) as points (n, d), float64. Raises `DataError` where one is not finite."""
    flat = (
        values.detach().to(torch.float64).flatten(1) if values.dim() > 1 else values.detach().to(torch.float64)[:, None]
    )
    if not bool(flat.isfinite().all()):
        raise errors.points_not_finite(int((~flat.isfinite().all(1)).sum()), len(flat))
    return flat


def blocks(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The first row of each block, and the distances (rows, m) of a's points (n, d) from b's (m, d).

    Differences are taken before they are squared: equal points are at distance 0 exactly.
    """
    rows = max(1, NUMBERS // max(1, len(b)))
    for start in range(0, len(a), rows):
        part = a[start : start + rows]
        yield start, torch.cdist(part, b, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(a: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and places of the k points of b nearest to each of a: two of (n, k), ascending."""
    found = [distance.topk(k, largest=False) for _, distance in blocks(a, b)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def others(a: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and places of the k other points nearest to each, two of (n, k), ascending. Raises `DataError` for k
    points or fewer."""
    if len(a) <= k:
        raise errors.too_few(len(a), k + 1, f"the {k} nearest others of each")
    found: list[tuple[Tensor, Tensor]] = []
    for start, distance in blocks(a, a):
        own = torch.arange(len(distance), device=a.device)
        distance[own, start + own] = torch.inf
        values, places = distance.topk(k, largest=False)
        found.append((values, places))
    return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])


def radii(a: Tensor, k: int) -> Tensor:
    """The distance of each point from its k-th nearest other one, (n,). Raises `DataError` for k points or fewer."""
    return others(a, k)[0][:, -1]


def median(a: Tensor, most: int = 1000) -> float:
    """The median distance between two different points among at most `most`, evenly spread over the rows; of those at
    distance 0, more than half, the median of the others. Raises `DataError` where all points are one."""
    chosen = a[torch.linspace(0, len(a) - 1, min(len(a), most)).round().long().to(a.device)]
    found = torch.nn.functional.pdist(chosen)
    value = found.median() if len(found) else found.sum()
    if not value > 0:
        found = found[found > 0]
        if not len(found):
            raise errors.no_spread()
        value = found.median()
    return float(value)
