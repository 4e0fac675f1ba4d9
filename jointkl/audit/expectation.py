"""The exact expectation of what an emitted module computes: over the evidence and over its own discrete draws.

A loss is a batch mean of terms, so its expectation is that of a batch as small as its copies allow: one row, or as many
as it shifts. That batch is mapped (`torch.func.vmap`) over all values of the evidence in each row and over all outcomes
of each draw that the module makes, each weighted by its probability: no Monte Carlo error is left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pyro.distributions
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

MOST_OUTCOMES = 20_000
"""So many outcomes are summed over."""

Batch = dict[str, Tensor]
Loss = Callable[[Batch], Tensor]


class TooMany(Exception):
    """More outcomes than can be summed over."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One source: the keys of its columns, their values at each of its rows, (rows, *shape), and the rows' shares."""

    columns: Mapping[str, Tensor]
    shares: Tensor


@dataclass(slots=True)
class Draws:
    """What the module draws. Without `chosen` it is recorded; else the next places of `chosen` are taken."""

    chosen: Tensor | None = None
    calls: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    taken: int = 0
    log_prob: Tensor | float = 0.0

    def sample(self, d: Any, shape: Sequence[int]) -> Tensor:
        full = d._extended_shape(torch.Size(shape))
        categorical = isinstance(d, Categorical)
        many, values = math.prod(full), (d.probs.shape[-1] if categorical else 2)
        self.calls.append((many, values))
        dtype = torch.long if categorical else d.probs.dtype
        if self.chosen is None:
            return torch.zeros(full, dtype=dtype)
        places = self.chosen[self.taken : self.taken + many].reshape(full)
        self.taken += many
        if categorical:
            probs = d.probs.detach().expand(*full, values).gather(-1, places.unsqueeze(-1)).squeeze(-1)
        else:
            p = d.probs.detach().expand(full)
            probs = torch.where(places == 1, p, 1 - p)
        self.log_prob = self.log_prob + probs.log().sum()
        return places.to(dtype)


class Quantiles:
    """Draws that depend on their shape alone, so that two codes that draw in another order draw the same values: the
    k-th number of a draw has the k-th multiple of the golden ratio as its quantile."""

    def __init__(self, seed: int = 0) -> None:
        self.offset = 0.137 * seed

    def sample(self, d: Any, shape: Sequence[int]) -> Tensor:
        full = d._extended_shape(torch.Size(shape))
        u = ((torch.arange(math.prod(full), dtype=torch.float64) * 0.6180339887498949 + self.offset) % 1).reshape(full)
        if isinstance(d, Categorical):
            return (
                (d.probs.detach().expand(*full, -1).cumsum(-1) < u.unsqueeze(-1))
                .sum(-1)
                .clamp(max=d.probs.shape[-1] - 1)
            )
        return (u < d.probs.detach().expand(full)).to(d.probs.dtype)


@contextmanager
def drawn_by(draws: Draws | Quantiles) -> Iterator[None]:
    """Discrete draws are those of `draws`; distributions do not look at values, which vmap cannot."""
    classes = cast(Any, (Bernoulli, Categorical))
    before = [c.sample for c in classes]
    validates, pyro_validates = Distribution._validate_args, pyro.distributions.is_validation_enabled()
    for c in classes:
        c.sample = lambda self, shape=(): draws.sample(self, shape)
    Distribution.set_default_validate_args(False)
    pyro.enable_validation(False)
    try:
        yield
    finally:
        for c, sample in zip(classes, before, strict=True):
            c.sample = sample
        Distribution.set_default_validate_args(validates)
        pyro.enable_validation(pyro_validates)


def expected(loss: Loss, sources: Sequence[Rows], rows: int = 1, most: int = MOST_OUTCOMES) -> Tensor:
    """E of a loss on a batch of `rows` rows, each drawn from every source. Raises `TooMany`."""
    sizes = [len(s.shares) for s in sources for _ in range(rows)]
    if math.prod(sizes) > most:
        raise TooMany
    batches = torch.cartesian_prod(*(torch.arange(n) for n in sizes)).reshape(-1, len(sizes)) if sizes else None
    recorded = Draws()
    with drawn_by(recorded), torch.no_grad():
        loss(_batch(sources, rows, None if batches is None else batches[0]))
    outcomes = [values for many, values in recorded.calls for _ in range(many)]
    if math.prod((*sizes, *outcomes)) > most:
        raise TooMany
    ranges = [torch.arange(n) for n in (*sizes, *outcomes)]
    every = torch.cartesian_prod(*ranges).reshape(-1, len(ranges)) if ranges else torch.zeros(1, 0, dtype=torch.long)

    def one(place: Tensor) -> tuple[Tensor, Tensor]:
        draws = Draws(place[len(sizes) :])
        with drawn_by(draws):
            found = loss(_batch(sources, rows, place[: len(sizes)]))
        weight = torch.as_tensor(draws.log_prob, dtype=torch.float64)
        for k, s in enumerate(sources):
            for i in range(rows):
                weight = weight + s.shares.log()[place[k * rows + i]]
        return found, weight

    found, weights = torch.func.vmap(one)(every)
    return (weights.exp().expand(len(every)) * found).sum()


APART = 7919
"""What the module draws must not be the stream that the evidence is drawn by."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over independent batches, and its standard error, number by number."""

    mean: Tensor
    error: Tensor

    def deviation(self, exact: Tensor) -> float:
        """The largest distance from `exact` in standard errors; what does not vary must be equal, but for rounding."""
        gap = (self.mean - exact).abs()
        still = self.error <= 1e-9 * self.mean.abs().max().clamp(min=1e-3)
        far = torch.where(still, torch.where(gap < 1e-8, 0.0, torch.inf), gap / self.error.clamp(min=1e-300))
        return far.max().item() if far.numel() else 0.0


def estimated(
    f: Callable[[Batch], Tensor], sources: Sequence[Rows], batches: int, size: int, seed: int = 0
) -> Estimate:
    """The mean of f over `batches` batches of `size` rows of every source, the module drawing what it draws."""
    chance = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    with torch.random.fork_rng([]):
        torch.manual_seed(seed + APART)
        for _ in range(batches):
            places = [torch.multinomial(s.shares, size, replacement=True, generator=chance) for s in sources]
            batch = {k: v[p] for p, s in zip(places, sources, strict=True) for k, v in s.columns.items()}
            found.append(f(batch or {"-": torch.zeros(size, dtype=torch.float64)}))
    stacked = torch.stack(found)
    return Estimate(stacked.mean(0), stacked.std(0) / batches**0.5)


def _batch(sources: Sequence[Rows], rows: int, place: Tensor | None) -> Batch:
    if not sources or place is None:
        return {"-": torch.zeros(rows, dtype=torch.float64)}
    found: Batch = {}
    for k, s in enumerate(sources):
        for key, values in s.columns.items():
            found[key] = values[place[k * rows : (k + 1) * rows]]
    return found


def whole(sources: Sequence[Rows], most: int = 4096) -> Batch:
    """Every combination of the sources' rows, as one batch, whatever their shares. Raises `TooMany`."""
    sizes = [len(s.shares) for s in sources]
    if math.prod(sizes) > most:
        raise TooMany
    if not sources:
        return {"-": torch.zeros(4, dtype=torch.float64)}
    places = torch.tensor(list(itertools.product(*map(range, sizes))))
    return {key: v[places[:, k]] for k, s in enumerate(sources) for key, v in s.columns.items()}
