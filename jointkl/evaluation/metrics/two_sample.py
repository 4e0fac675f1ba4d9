"""Can a nearest-neighbour classifier tell samples from data?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jointkl.evaluation import errors
from jointkl.evaluation.metrics.distances import nearest, points
from jointkl.evaluation.metrics.intervals import wilson
from jointkl.evaluation.metrics.value import Value


def two_sample(
    samples: Tensor, data: Tensor, k: int | None = None, *, generator: torch.Generator | None = None
) -> Value:
    """The held-out accuracy of a k-nearest-neighbour classifier between samples and data, as many of each: the
    classifier two-sample test of Lopez-Paz and Oquab 2017 (C2ST-KNN), with their k, the root of the
    number of points it learns from (an even one is made odd, so that no vote is tied).

    A random half of either set is learnt from, the other half judged. 1/2 where both come from one distribution, 1
    where they can be told apart. Details: the accuracy of each kind (data taken for samples, or samples copied from
    data, show there: Xu et al. 2018), and `p`, the probability of at least so many right by chance, exact
    binomial. The interval is Wilson's and accounts for the finite number of points judged, the classifier as it is.
    Raises `DataError` for fewer than 4 of either.
    """
    n = min(len(samples), len(data))
    if n < 4:
        raise errors.too_few(n, 4, "learning from one half and judging the other")
    half = n // 2
    parts = [_halves(values, n, half, generator) for values in (points(samples), points(data).to(samples.device))]
    known = torch.cat([part[0] for part in parts])
    label = torch.cat([torch.ones(half), torch.zeros(half)]).to(known.device)
    order = torch.randperm(len(known), generator=generator).to(known.device)  # points at one distance take turns
    known, label = known[order], label[order]
    k = min(k or math.isqrt(len(known)) | 1, len(known))
    said = [label[nearest(part[1], known, k)[1]].mean(1) for part in parts]
    right = [int((said[0] > 0.5).sum()), int((said[1] <= 0.5).sum())]
    judged = [len(s) for s in said]
    hits, total = sum(right), sum(judged)
    return Value(
        hits / total,
        wilson(hits, total),
        "Wilson's: finite points judged, the classifier as it is",
        n,
        n,
        {
            "of_samples": right[0] / judged[0],
            "of_data": right[1] / judged[1],
            "k": k,
            "p": _by_chance(hits, total),
        },
    )


def _halves(values: Tensor, n: int, half: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(values), generator=generator)[:n].to(values.device)
    return values[order[:half]], values[order[half:]]


def _by_chance(hits: int, total: int) -> float:
    from scipy.stats import binomtest

    return float(binomtest(hits, total, 0.5, alternative="greater").pvalue)
