"""The Frechet distance of features, each set taken for a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jointkl.evaluation import errors
from jointkl.evaluation.metrics.distances import points
from jointkl.evaluation.metrics.intervals import around
from jointkl.evaluation.metrics.value import Value


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """A mean (d,), a covariance (d, d) and its symmetric root, float64."""

    mean: Tensor
    covariance: Tensor
    root: Tensor


def gaussian(mean: Tensor, covariance: Tensor) -> Gaussian:
    """With the root by eigenvectors; eigenvalues below 0, which are rounding, count as 0."""
    mean, covariance = mean.double(), covariance.double()
    values, vectors = torch.linalg.eigh(covariance)
    return Gaussian(mean, covariance, (vectors * values.clamp(min=0).sqrt()) @ vectors.T)


def fitted(features: Tensor) -> Gaussian:
    """The Gaussian of the features' mean and unbiased covariance, over n - 1."""
    return gaussian(features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1))


def between(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), the squared 2-Wasserstein distance of two Gaussians (Dowson
    and Landau 1982). The trace of the root is the sum of the singular values of S_a^(1/2) S_b^(1/2): no root of a
    product is taken, and no imaginary part has to be dropped."""
    joint = torch.linalg.svdvals(a.root @ b.root).sum()
    found = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * joint
    return max(0.0, float(found))


def frechet(samples: Tensor, data: Tensor, *, generator: torch.Generator | None = None) -> Value:
    """The Frechet distance of features of samples (m, d) and of data (n, d): FID where they are Inception's.

    Heusel et al. 2017, eq. 6, means and unbiased covariances plugged in, as their code does. That estimator is biased
    upwards, by about d^2 / n for d features, so that values compare only at one m and n (Binkowski et al.
    2018). The interval is normal by the delta method, from the influence of each point on the distance,
    2 (m_a - m_b)'(x - m_a) + (x - m_a)' (1 - T) (x - m_a) - tr((1 - T) S_a), T the matrix of the optimal map from a's
    Gaussian to b's: it accounts for finite samples and data, not for the bias. Detail `extrapolated` takes the first
    order of that away, 2 F(m, n) - the mean F of two random halves (after Chong and Forsyth 2020). Raises
    `DataError` for fewer than 4 of either.
    """
    x, y = points(samples), points(data).to(samples.device)
    m, n, d = len(x), len(y), x.shape[1]
    if min(m, n) < 4:
        raise errors.too_few(min(m, n), 4, "the covariance of two halves")
    a, b = fitted(x), fitted(y)
    value = between(a, b)
    variance = float(_influence(x, a, b).var()) / m + float(_influence(y, b, a).var()) / n
    halves = [_halves(values, generator) for values in (x, y)]
    of_halves = [between(fitted(p), fitted(q)) for p, q in zip(*halves, strict=True)]
    few = f"{min(m, n)} points for {d} features: the bias is large"
    return Value(
        value,
        around(value, variance),
        "normal, delta method: finite samples and data, not the bias upwards",
        m,
        n,
        {"features": d, "extrapolated": 2 * value - sum(of_halves) / 2},
        (few,) if min(m, n) < 2 * d else (),
    )


def _influence(x: Tensor, a: Gaussian, b: Gaussian) -> Tensor:
    """The influence of each of x on the distance of a, fitted to x, from b: (n,), of mean about 0."""
    values, vectors = torch.linalg.eigh(b.root @ a.covariance @ b.root)
    kept = values > values.max().clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    inverse = torch.where(kept, values.clamp(min=0).rsqrt(), 0.0)
    half = b.root @ vectors * inverse.sqrt()
    centred = x - a.mean
    moved = (centred @ half).square().sum(1)
    return 2 * centred @ (a.mean - b.mean) + centred.square().sum(1) - moved


def _halves(values: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(values), generator=generator).to(values.device)
    half = len(values) // 2
    return values[order[:half]], values[order[half:]]
