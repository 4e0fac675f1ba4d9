"""Precision, recall, density and coverage: each set against balls about the points of the other."""

from __future__ import annotations

import torch
from torch import Tensor

from jointkl.evaluation.metrics.distances import blocks, nearest, others, points, radii
from jointkl.evaluation.metrics.intervals import of_mean, wilson
from jointkl.evaluation.metrics.value import Value

GIVEN_DATA = "finite samples, the data's balls as they are"


def precision_recall(samples: Tensor, data: Tensor, k: int = 3) -> dict[str, Value]:
    """`precision` and `recall` of samples (m, *shape) and data (n, *shape) as in Kynkaanniemi et al. 2019, eq. 1-2,
    who take k = 3 and as many samples as data, in the features of a network.

    A set's manifold is the union of closed balls about its points, each up to that point's k-th nearest other one.
    Precision is the share of samples in the data's manifold, recall the share of data in the samples'. The intervals
    are Wilson's: precision's accounts for finite samples, the data's balls as they are, and recall's the other way
    round; neither for how the manifold itself depends on its points. Raises `DataError` for k points or fewer.
    """
    x, y = points(samples), points(data).to(samples.device)
    of_x, of_y = radii(x, k), radii(y, k)
    covered = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    hits = 0
    for start, distance in blocks(x, y):
        hits += int((distance <= of_y).any(1).sum())
        covered |= (distance <= of_x[start : start + len(distance), None]).any(0)
    m, n, recalled = len(x), len(y), int(covered.sum())
    notes = _notes(of_y, "data")
    return {
        "precision": Value(hits / m, wilson(hits, m), f"Wilson's: {GIVEN_DATA}", m, n, {"k": k}, notes),
        "recall": Value(
            recalled / n, wilson(recalled, n), "Wilson's: finite data, the samples' balls as they are",
            m, n, {"k": k}, _notes(of_x, "samples"),
        ),
    }  # fmt: skip


def density_coverage(samples: Tensor, data: Tensor, k: int = 5) -> dict[str, Value]:
    """`density` and `coverage` of samples (m, *shape) and data (n, *shape) as in Naeem et al. 2020, who take
    k = 5: about each datum the ball up to its k-th nearest other one;

        density = sum_j #{balls that hold sample j} / km,        coverage = #{balls that hold a sample} / n.

    Where both come from one continuous distribution, density has mean 1, and coverage
    1 - (n-1)...(n-k) / (m+n-1)...(m+n-k), whatever the distribution; that is coverage's detail
    `of_equal`. The interval of density is normal, over samples with the data's balls as they are. That of coverage
    accounts for finite samples and data, and is about the mean of coverage at this m and n. One datum moves the balls
    of others, so that they are hit or missed together: it is Wilson's for so many independent data as have the
    jackknife's variance (Efron and Stein 1981: on average no less than the true one, here up to twice it). Raises
    `DataError` for k points or fewer.
    """
    x, y = points(samples), points(data).to(samples.device)
    m, n = len(x), len(y)
    far, places = others(y, max(k, min(k + 1, n - 1)))
    of_y = far[:, k - 1]
    held = torch.cat([(distance <= of_y).sum(1) for _, distance in blocks(x, y)])
    per_sample = held.double() / k
    near, which = nearest(y, x, min(2, m))
    covered = near[:, 0] <= of_y
    wider = near[:, 0] <= far[:, -1] if n > k + 1 else torch.ones_like(covered)
    alone = covered & (near[:, 1] > of_y) if m > 1 else covered
    variance = _without_one(covered, wider, places[:, :k], alone, which[:, 0], m)
    hits, equal = int(covered.sum()), 1.0
    for i in range(1, k + 1):
        equal *= (n - i) / (m + n - i)
    notes = _notes(of_y, "data")
    return {
        "density": Value(float(per_sample.mean()), of_mean(per_sample), f"normal: {GIVEN_DATA}", m, n, {"k": k}, notes),
        "coverage": Value(
            hits / n, wilson(hits, n, variance), "Wilson's, with the jackknife's variance: finite samples and data",
            m, n, {"k": k, "of_equal": 1 - equal}, notes,
        ),
    }  # fmt: skip


def _without_one(covered: Tensor, wider: Tensor, places: Tensor, alone: Tensor, which: Tensor, m: int) -> float:
    """The jackknife's variance of coverage over data and samples: what it would be without each of them.

    Without a datum, those that have it among their k nearest, at `places` (n, k), take the `wider` ball up to the next
    one; without a sample, those are missed whose ball holds it `alone`, the sample at `which`.
    """
    n, k = places.shape
    gained = (wider & ~covered).double()[:, None].expand(n, k).flatten()
    moved = torch.zeros(n, dtype=torch.float64, device=covered.device).scatter_add_(0, places.flatten(), gained)
    without_datum = (covered.sum() - covered.double() + moved) / (n - 1)
    lost = torch.zeros(m, dtype=torch.float64, device=covered.device).scatter_add_(0, which, alone.double()) / n
    return (n - 1) * float(without_datum.var(correction=0)) + (m - 1) * float(lost.var(correction=0))


def _notes(radius: Tensor, whose: str) -> tuple[str, ...]:
    share = float((radius == 0).double().mean())
    return (f"{share:.0%} of the balls about the {whose} have no extent: points repeat",) if share > 0.01 else ()
