"""Log densities of products and mixtures in a linear-Gaussian model, and their means over what a path draws.

A log density is a sum of atoms: Gaussians of something linear, whose means are closed; mixtures of them and
classifiers, whose means are Gauss-Hermite sums over what they look at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jointkl.reference.gaussian import TINY, Drawn, GaussianModel, Normal, Path
from jointkl.reference.goals import Undefined
from jointkl.reference.quadrature import MOST_DIMENSIONS, hermite
from jointkl.semantics.model import Dirac, Factor

Values = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Log:
    """weight * log N(offset + sum of slopes[v] @ v; 0, cov)."""

    slopes: Mapping[str, Tensor]
    offset: Tensor
    cov: Tensor
    weight: float = 1.0

    def at(self, values: Values) -> Tensor:
        gap = self.offset + sum((values[v] @ s.T for v, s in self.slopes.items()), torch.zeros(()))
        return self.weight * Normal(torch.zeros_like(self.offset), self.cov).log_density(gap)

    def mean(self, drawn: Drawn) -> Tensor:
        mean, rows = self.offset, torch.zeros(1, dtype=torch.float64)
        for v, s in self.slopes.items():
            mean, rows = mean + s @ drawn.means[v], rows + s @ drawn.rows[v]
        inverse = torch.linalg.inv(self.cov)
        square = mean @ inverse @ mean + (inverse * (rows @ rows.T)).sum()
        return -0.5 * self.weight * (square + torch.logdet(self.cov) + len(mean) * math.log(2 * math.pi))


@dataclass(frozen=True, slots=True)
class Mixed:
    """log of a sum of shares of densities."""

    parts: tuple[tuple[float, tuple[Atom, ...]], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(v for _, atoms in self.parts for a in atoms for v in looked_at(a))

    def at(self, values: Values) -> Tensor:
        each = [math.log(share) + total(atoms, values) for share, atoms in self.parts]
        return torch.logsumexp(torch.stack(torch.broadcast_tensors(*each)), 0)


@dataclass(frozen=True, slots=True)
class Class:
    """log c(k | v) of a classifier, k the place of a value."""

    world: GaussianModel
    factor: Factor
    place: int

    def at(self, values: Values) -> Tensor:
        return self.world.logits(self.factor, values).log_softmax(-1)[:, self.place]


Atom = Log | Mixed | Class


def looked_at(a: Atom) -> tuple[str, ...]:
    match a:
        case Log(slopes=slopes):
            return tuple(slopes)
        case Mixed():
            return a.names
        case Class(factor=f):
            return f.givens


def total(atoms: Sequence[Atom], values: Values) -> Tensor:
    return sum((a.at(values) for a in atoms), torch.zeros((), dtype=torch.float64))


def mean(world: GaussianModel, drawn: Drawn, a: Atom) -> Tensor:
    """E of an atom over a path."""
    return a.mean(drawn) if isinstance(a, Log) else integral(world, drawn, looked_at(a), a.at)


def integral(world: GaussianModel, drawn: Drawn, names: Sequence[str], f: Callable[[Values], Tensor]) -> Tensor:
    """E f of some variables, by quadrature over their Gaussian. Raises `Undefined` for too many dimensions."""
    names = tuple(dict.fromkeys(names))
    middle, rows = drawn.stacked(names)
    if rows.shape[1] > rows.shape[0]:
        cov = rows @ rows.T
        if torch.linalg.eigvalsh(cov.detach()).min() > TINY:
            rows = torch.linalg.cholesky(cov)
    if rows.shape[1] > MOST_DIMENSIONS:
        raise Undefined("too many dimensions to integrate over")
    nodes, weights = hermite(rows.shape[1], world.coarse)
    parts = (middle + nodes @ rows.T).split([world.size(v) for v in names], -1)
    return (weights * f(dict(zip(names, parts, strict=True)))).sum()


# --- products and mixtures


@dataclass(frozen=True, slots=True)
class Product:
    """A path's factors: those of real variables, and the classifiers."""

    path: Path
    real: tuple[Factor, ...]
    finite: tuple[Factor, ...]


def split(world: GaussianModel, path: Path) -> Product:
    finite = tuple(f for f in path.factors if world.model.space(f.outputs[0]).kind == "finite")
    return Product(path, tuple(f for f in path.factors if f not in finite), finite)


def explicit(world: GaussianModel, factors: Sequence[Factor], own: bool, size: int) -> tuple[Log, ...] | None:
    """Each factor's density; a Dirac has one only away from its `own` path. None where one has none. What is of globals
    alone counts 1/`size`."""
    found: list[Log] = []
    for f in factors:
        body = world.model.laws[f.law].body
        if isinstance(body, Dirac) and (own or body.density is None):
            return None
        law = world.law(f, density=isinstance(body, Dirac))
        sizes = [world.size(v) for v in f.outputs]
        slopes = dict(zip(f.outputs, torch.eye(sum(sizes), dtype=torch.float64).split(sizes, 1), strict=True))
        slopes |= {v: -law.slopes[name] for name, v in world.given(f).items()}
        alone = all(world.model.variable(v).is_global for v in f.variables)
        found.append(Log(slopes, -law.offset, law.cov, 1 / size if alone else 1.0))
    return tuple(found)


def marginal(world: GaussianModel, p: Product, head: Sequence[str]) -> tuple[Log, ...]:
    """What the real factors generate of the head, as one Gaussian."""
    names = [v for f in p.real for v in f.outputs if v in head]
    if not names:
        return ()
    if any(world.model.variable(v).is_global for f in p.real for v in f.outputs):
        raise Undefined("a marginal with globals")
    normal = world.drawn(Path(1.0, p.real)).normal(names)
    sizes = [world.size(v) for v in names]
    slopes = dict(zip(names, torch.eye(sum(sizes), dtype=torch.float64).split(sizes, 1), strict=True))
    return (Log(slopes, -normal.mean, normal.cov),)


def density(world: GaussianModel, p: Product, head: Sequence[str], own: bool, size: int) -> tuple[Log, ...]:
    hidden = any(v not in head for f in p.real for v in f.outputs)
    found = None if hidden else explicit(world, p.real, own, size)
    return marginal(world, p, head) if found is None else found


def pair(
    world: GaussianModel, p: Product, q: Product, head: Sequence[str], size: int
) -> tuple[tuple[Log, ...], tuple[Log, ...]]:
    """log P and log Q of one product each; factors that both have, of visible variables, are left out of both."""
    both = [f for f in p.real if f in q.real and set(f.variables) <= set(head)]
    mine, theirs = ([f for f in side.real if f not in both] for side in (p, q))
    if all(v in head for f in (*mine, *theirs) for v in f.variables):
        a, b = explicit(world, mine, True, size), explicit(world, theirs, False, size)
        if a is not None and b is not None:
            return a, b
    return density(world, p, head, True, size), density(world, q, head, False, size)


def joined(
    world: GaussianModel, parts: Sequence[Product], head: Sequence[str], own: bool, size: int
) -> tuple[Atom, ...]:
    """The log density of a mixture, its labels hidden."""
    return (Mixed(tuple((p.path.share, density(world, p, head, own, size)) for p in parts)),)
