"""A module run on noise that is given: each number that it draws, and its evidence, from a table of standard normals.

Of few numbers a row the mean over rows is a Gauss-Hermite sum, exact but for what two grids differ by. Of more, or
where a loss is no mean over rows, it is the mean over batches of scrambled Sobol points (Owen 1997), each batch with
points of its own, so that their spread gives a standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pyro.distributions
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from jointkl.audit.case import gradient
from jointkl.program import Program
from jointkl.reference import gaussian
from jointkl.reference.quadrature import MOST_DIMENSIONS, hermite

BATCHES, ROWS = 13, 8192
"""Batches of Sobol points, and the rows of each: 106,496 rows. Ten times as many confirm what seems wrong."""

MORE_BATCHES, MORE_ROWS = 17, 65536

CHUNK = 8192
"""So many nodes at a time."""

AGREE = 1e-7
"""Two grids whose sums differ by less, relative to the size of what is summed, are exact enough."""

COPIES = 3
"""Independent draws of one source that a batch gives: x, x', x''."""

Batch = dict[str, Tensor]
Loss = Callable[[Batch], Tensor]


class Unmeasured(Exception):
    """What a module draws is not noise that can be given: the reason."""


@dataclass(frozen=True, slots=True)
class Source:
    """One draw of a source's row: the keys of its columns, with their shapes, and their joint Gaussian."""

    keys: tuple[tuple[str, tuple[int, ...]], ...]
    law: gaussian.Normal

    @property
    def size(self) -> int:
        return len(self.law.mean)

    def columns(self, noise: Tensor) -> Batch:
        """The columns at noise (N, size)."""
        values = self.law.mean + noise @ torch.linalg.cholesky(self.law.cov).T
        parts = values.split([math.prod(shape) for _, shape in self.keys], -1)
        return {k: p.reshape(len(noise), *shape) for (k, shape), p in zip(self.keys, parts, strict=True)}


@dataclass(slots=True)
class Draws:
    """What a module draws of a batch of `rows` rows: the next columns of `noise`, (rows, columns), or zeros."""

    rows: int
    noise: Tensor | None = None
    taken: int = 0

    def normal(self, *shape: int) -> Tensor:
        whole = len(shape) if self.rows not in shape else shape.index(self.rows)
        if whole == len(shape) and self.rows != 1:
            raise Unmeasured("what is drawn once for all data among more noise than can be summed over")
        count = math.prod(shape) // self.rows
        start, self.taken = self.taken, self.taken + count
        if self.noise is None:
            return torch.zeros(shape, dtype=torch.float64)
        part = self.noise[:, start : self.taken]
        if self.rows == 1:
            return part.reshape(shape)
        rest = [n for i, n in enumerate(shape) if i != whole]
        return part.reshape(self.rows, *rest).movedim(0, whole)


class Asked(dict[str, Tensor]):
    """A batch that remembers which keys were read."""

    def __init__(self, batch: Mapping[str, Tensor]) -> None:
        super().__init__(batch)
        self.read = set[str]()

    def __getitem__(self, key: str) -> Tensor:
        self.read.add(key)
        return super().__getitem__(key)


@contextmanager
def drawn_by(program: Program, draws: Draws) -> Iterator[None]:
    """The module's normal draws are those of `draws`. Any other is refused with `Unmeasured`."""
    classes = cast(Any, Distribution)

    def sample(self: Any, shape: Sequence[int] = ()) -> Tensor:
        return self.loc + self.scale * draws.normal(*self._extended_shape(torch.Size(shape)))

    def held(self: Any, shape: Sequence[int] = ()) -> Tensor:
        return sample(self, shape).detach()

    before = cast(Any, Normal).sample, cast(Any, Normal).rsample
    validates, pyro_validates = classes._validate_args, pyro.distributions.is_validation_enabled()
    cast(Any, Normal).sample, cast(Any, Normal).rsample = held, sample
    classes.set_default_validate_args(False)
    pyro.enable_validation(False)
    program.emitted.normal = draws.normal
    try:
        yield
    finally:
        del program.emitted.normal
        cast(Any, Normal).sample, cast(Any, Normal).rsample = before
        classes.set_default_validate_args(validates)
        pyro.enable_validation(pyro_validates)


@dataclass(slots=True)
class Measured:
    """A gradient in expectation: exact (`error` None), or with a standard error."""

    value: Tensor
    error: Tensor | None = None
    rows: int = 0

    def deviation(self, exact: Tensor) -> float:
        """The largest distance from `exact` in standard errors. None is taken to be smaller than a batch's own bias,
        one in its rows, of what is not linear in means over the batch."""
        assert self.error is not None
        least = max(self.value.abs().max().item(), exact.abs().max().item(), 1e-3) / self.rows
        return ((self.value - exact).abs() / self.error.clamp(min=least)).max().item() if exact.numel() else 0.0


@dataclass(slots=True)
class Runner:
    """A program with its sources, every draw of each, run on given noise. `batchwise`: its losses are no means over
    rows."""

    program: Program
    sources: tuple[Source, ...]
    batchwise: bool = False
    _needs: dict[int, tuple[tuple[Source, ...], int]] = field(default_factory=dict[int, tuple[tuple[Source, ...], int]])

    def needed(self, loss: Loss) -> tuple[tuple[Source, ...], int]:
        """The sources that a loss reads, and how many numbers of noise a row takes, theirs first."""
        draws = Draws(1)
        batch = Asked(self._batch(self.sources, torch.zeros(1, sum(s.size for s in self.sources)).double()))
        with drawn_by(self.program, draws):
            loss(batch)
        used = tuple(s for s in self.sources if any(k in batch.read for k, _ in s.keys))
        return used, draws.taken + sum(s.size for s in used)

    @staticmethod
    def _batch(sources: Sequence[Source], noise: Tensor) -> Batch:
        """Evidence of the first columns of noise; a batch without evidence tells its size alone."""
        parts = noise.split([s.size for s in sources] + [noise.shape[1] - sum(s.size for s in sources)], 1)
        found: Batch = {"-": noise.new_zeros(len(noise))}
        for s, part in zip(sources, parts, strict=False):
            found |= s.columns(part)
        return found

    def run(self, loss: Loss, sources: Sequence[Source], noise: Tensor) -> Tensor:
        """A loss at noise (rows, columns)."""
        given = sum(s.size for s in sources)
        with drawn_by(self.program, Draws(len(noise), noise[:, given:])):
            return loss(self._batch(sources, noise))

    def measured(self, loss: Loss, own: Sequence[Tensor], least: float, more: bool = False) -> Measured:
        """The expected gradient of a loss, with errors relative to at least `least`; `more`: with ten times the rows
        instead of what was measured before. Raises `Unmeasured`."""
        sources, columns = self.needed(loss)
        if columns <= MOST_DIMENSIONS and not self.batchwise and not more:
            fine = self._summed(loss, own, sources, columns, coarse=False)
            if fine is not None:
                coarse = self._summed(loss, own, sources, columns, coarse=True)
                assert coarse is not None
                size = max(fine.abs().max().item(), least) if len(fine) else 1.0
                if not len(fine) or (fine - coarse).abs().max().item() < AGREE * size:
                    return Measured(fine)
        return self._averaged(loss, own, sources, columns, more)

    def _summed(
        self, loss: Loss, own: Sequence[Tensor], sources: Sequence[Source], columns: int, coarse: bool
    ) -> Tensor | None:
        """By quadrature over single rows; None where a loss cannot be mapped over them."""
        nodes, weights = hermite(columns, coarse)
        found = torch.zeros(sum(p.numel() for p in own), dtype=torch.float64)
        for part, share in zip(nodes.split(CHUNK), weights.split(CHUNK), strict=True):
            try:
                each = torch.func.vmap(lambda row: self.run(loss, sources, row.unsqueeze(0)))(part)
            except RuntimeError as error:
                if "vmap" not in str(error) and "functorch" not in str(error):
                    raise
                return None
            found = found + gradient((share * each).sum(), own)
        return found

    def _averaged(
        self, loss: Loss, own: Sequence[Tensor], sources: Sequence[Source], columns: int, more: bool
    ) -> Measured:
        batches, rows = (MORE_BATCHES, MORE_ROWS) if more else (BATCHES, ROWS)
        found = [gradient(self.run(loss, sources, sobol(columns, rows, k)), own) for k in range(batches)]
        stacked = torch.stack(found)
        return Measured(stacked.mean(0), stacked.std(0) / batches**0.5, rows)


def sobol(columns: int, rows: int, seed: int) -> Tensor:
    """Standard normal noise (rows, columns), evenly spread, its rows in no order."""
    chance = torch.Generator().manual_seed(seed)
    if not columns:
        return torch.zeros(rows, 0, dtype=torch.float64)
    points = torch.quasirandom.SobolEngine(columns, scramble=True, seed=seed).draw(rows, dtype=torch.float64)
    order = torch.randperm(rows, generator=chance)
    return torch.special.ndtri(points.clamp(1e-9, 1 - 1e-9))[order]
