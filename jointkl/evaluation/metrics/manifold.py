"""Precision, recall, density and coverage: each set against balls about the points of the other."""

from __future__ import annotations

import torch
from torch import Tensor

from jointkl.evaluation.metrics.distances import blocks, points, radii
from jointkl.evaluation.metrics.intervals import of_mean, wilson
from jointkl.evaluation.metrics.value import Value

GIVEN_DATA = "finite samples, the data's balls as they are"
GIVEN_SAMPLES = "finite data, the samples as they are"


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
    `of_equal`. The interval of density is normal, over samples with the data's balls as they are; that of coverage
    Wilson's, over data with the samples as they are. Raises `DataError` for k points or fewer.
    """
    x, y = points(samples), points(data).to(samples.device)
    of_y = radii(y, k)
    covered = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    held: list[Tensor] = []
    for _, distance in blocks(x, y):
        inside = distance <= of_y
        held.append(inside.sum(1))
        covered |= inside.any(0)
    per_sample = torch.cat(held).double() / k
    m, n, hits = len(x), len(y), int(covered.sum())
    equal = 1.0
    for i in range(1, k + 1):
        equal *= (n - i) / (m + n - i)
    notes = _notes(of_y, "data")
    return {
        "density": Value(float(per_sample.mean()), of_mean(per_sample), f"normal: {GIVEN_DATA}", m, n, {"k": k}, notes),
        "coverage": Value(
            hits / n, wilson(hits, n), f"Wilson's: {GIVEN_SAMPLES}", m, n, {"k": k, "of_equal": 1 - equal}, notes
        ),
    }


def _notes(radius: Tensor, whose: str) -> tuple[str, ...]:
    share = float((radius == 0).double().mean())
    return (f"{share:.0%} of the balls about the {whose} have no extent: points repeat",) if share > 0.01 else ()
