"""The exact expectation of an emitted loss: over the data, its given noise and its own discrete draws.

A loss is a sum of batch means, so its expectation is that of a batch of one datum. That batch is mapped (`vmap`) over
all values of the data and over all outcomes of each discrete draw that the emitted code makes, and each is weighted by
its probability: no Monte-Carlo error is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyro
import torch
from hypothesis import reject
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

from jointkl.program import Program
from tests.properties.exact import grid
from tests.properties.specs import Evidence, Spec

MOST = 40_000
"""Outcomes that are summed over; a spec with more is not drawn."""

Batch = dict[str, Tensor]


@dataclass
class Draws:
    """What the emitted code draws. Without `chosen` it is recorded; else the next places of `chosen` are taken."""

    chosen: Tensor | None = None
    calls: list[tuple[int, int]] = field(default_factory=list)
    taken: int = 0
    log_prob: Tensor | float = 0.0

    def sample(self, d: Distribution, shape: torch.Size) -> Tensor:
        """In place of `Categorical.sample` and `Bernoulli.sample`."""
        full = d._extended_shape(torch.Size(shape))
        many, values = math.prod(full), (d.probs.shape[-1] if isinstance(d, Categorical) else 2)
        self.calls.append((many, values))
        dtype = torch.long if isinstance(d, Categorical) else d.probs.dtype
        if self.chosen is None:
            return torch.zeros(full, dtype=dtype)
        places = self.chosen[self.taken : self.taken + many].reshape(full)
        self.taken += many
        if isinstance(d, Categorical):
            probs = d.probs.detach().expand(*full, values).gather(-1, places.unsqueeze(-1)).squeeze(-1)
        else:
            p = d.probs.detach().expand(full)
            probs = torch.where(places == 1, p, 1 - p)
        self.log_prob = self.log_prob + probs.log().sum()
        return places.to(dtype)


@contextmanager
def intercepted(draws: Draws) -> Iterator[None]:
    """Discrete draws are those of `draws`; distributions do not look at values, which vmap cannot."""
    sampled = (Bernoulli.sample, Categorical.sample)
    validates, pyro_validates = Distribution._validate_args, pyro.distributions.is_validation_enabled()
    Bernoulli.sample = Categorical.sample = lambda self, shape=(): draws.sample(self, shape)
    Distribution.set_default_validate_args(False)
    pyro.enable_validation(False)
    try:
        yield
    finally:
        Bernoulli.sample, Categorical.sample = sampled
        Distribution.set_default_validate_args(validates)
        pyro.enable_validation(pyro_validates)


def expectation(
    loss: Callable[[Batch], Tensor], batch: Mapping[str, Tensor], weights: Tensor, copies: int = 1
) -> Tensor:
    """sum over rows of weights * E{loss of a batch of that row, `copies` times over}."""
    rows = {k: v.unsqueeze(1).expand(-1, copies, *v.shape[1:]) for k, v in batch.items()}
    recorded = Draws()
    with intercepted(recorded), torch.no_grad():
        loss({k: v[0] for k, v in rows.items()})
    sizes = [values for many, values in recorded.calls for _ in range(many)]
    n = len(weights)
    if math.prod(sizes) * n > MOST:
        reject()
    ranges = [torch.arange(n), *(torch.arange(s) for s in sizes)]
    outcomes = torch.cartesian_prod(*ranges).reshape(-1, 1 + len(sizes))

    def one(place: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        draws = Draws(chosen)
        with intercepted(draws):
            found = loss({k: v[place] for k, v in rows.items()})
        assert draws.taken == len(sizes)
        return found, torch.as_tensor(draws.log_prob, dtype=torch.float64)

    losses, log_probs = torch.func.vmap(one)(outcomes[:, 0], outcomes[:, 1:])
    assert losses.shape == (len(outcomes),), f"a loss is a number, not {list(losses.shape[1:])}"
    probabilities = weights[outcomes[:, 0]] * log_probs.exp().expand(len(outcomes))
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0, dtype=torch.float64))
    return (probabilities * losses).sum()


def data(spec: Spec, program: Program) -> tuple[Batch, Tensor]:
    """All values of the evidence as a batch, and how often each occurs.

    Evidence of several laws is independent, and so are two draws of one law: `x` and its copy `x'`.
    """
    batch: Batch = {}
    weights = torch.ones(1, dtype=torch.float64)
    for law in spec.evidence:
        assert isinstance(law.body, Evidence)
        keys = [program.model.batch_key(law.key, v) for v in law.outputs]
        for primes in ("", "'", "''"):
            if primes and not any(f'"{k}{primes}"' in program.source for k in keys):
                continue
            counts = torch.tensor(law.body.counts, dtype=torch.float64)
            known = len(weights)
            batch = {k: v.repeat_interleave(len(counts), 0) for k, v in batch.items()}
            for k, column in zip(keys, grid(spec, law.outputs), strict=True):
                batch[k + primes] = column.repeat(known, *([1] * (column.dim() - 1)))
            weights = (weights[:, None] * (counts / counts.sum())).flatten()
    if not batch:
        batch = {"nothing": torch.zeros(1)}
    return batch, weights


def expected(spec: Spec, program: Program, player: str, copies: int = 1) -> Tensor:
    """The exact expectation of a player's loss over the data and the emitted code's own draws."""
    batch, weights = data(spec, program)
    return expectation(lambda b: program.loss(player, b), batch, weights, copies)
