"""Laws and joints of a linear-Gaussian model: every real variable is affine in standard normal noise.

A law gives its output as a linear function of its givens and noise of its own; a product is such functions one after
another, so that any variables of it are Gaussian in closed form, and what is hidden is left out of them. A mixture is
its branches. All of it is differentiable in the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from jointkl.reference.goals import Undefined
from jointkl.reference.values import Assignment, Weights, value
from jointkl.semantics.model import Dirac, Distribution, Evidence, Factor, Joint, Model, Side, Value

TINY = 1e-9
"""A covariance whose least eigenvalue is below is of a law without a density."""


@dataclass(frozen=True, slots=True)
class Normal:
    """A Gaussian over some variables side by side."""

    mean: Tensor
    cov: Tensor

    def log_density(self, v: Tensor) -> Tensor:
        """At values (.., d)."""
        gap = v - self.mean
        square = (gap @ torch.linalg.inv(self.cov) * gap).sum(-1)
        return -0.5 * (square + torch.logdet(self.cov) + len(self.mean) * math.log(2 * math.pi))

    def detached(self) -> Normal:
        return Normal(self.mean.detach(), self.cov.detach())


@dataclass(frozen=True, slots=True)
class Linear:
    """A law: outputs = offset + sum of slopes[given] @ given + spread @ noise."""

    offset: Tensor
    slopes: Mapping[str, Tensor]
    spread: Tensor

    @property
    def cov(self) -> Tensor:
        return self.spread @ self.spread.T


@dataclass(frozen=True, slots=True)
class Path:
    """Factors in the order in which they are drawn, joints opened, what they hide renamed apart; `share` is the product
    of the weights of the branches taken, `labels` the values of the labels shown."""

    share: float
    factors: tuple[Factor, ...]
    labels: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(v for f in self.factors for v in f.outputs)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The variables of a path: mean (d,) and coefficients (d, noise); `shared` says of each number of noise whether
    evidence or a global is made of it."""

    means: Mapping[str, Tensor]
    rows: Mapping[str, Tensor]
    shared: Tensor

    def normal(self, names: Sequence[str]) -> Normal:
        """The marginal of some variables. Raises `Undefined` where it has no density."""
        mean, rows = self.stacked(names)
        cov = rows @ rows.T
        if len(cov) and torch.linalg.eigvalsh(cov.detach()).min() < TINY:
            raise Undefined(f"{', '.join(names)} have no density")
        return Normal(mean, cov)

    def stacked(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        return torch.cat([self.means[v] for v in names]), torch.cat([self.rows[v] for v in names])

    def at(self, noise: Tensor) -> dict[str, Tensor]:
        """The values (N, d) of all variables at noise (N, n)."""
        return {v: self.means[v] + noise @ self.rows[v].T for v in self.means}


@dataclass(slots=True)
class GaussianModel:
    """A linear-Gaussian model at some weights; `before` are those of the snapshot, `evidence` the joint of the columns
    of each law bound to a source. `coarse` takes fewer nodes in sums that are not closed."""

    model: Model
    now: Weights
    before: Weights
    evidence: Mapping[str, Normal]
    coarse: bool = False
    _known: dict[tuple[str, bool, tuple[tuple[int, int], ...]], Linear] = field(
        default_factory=dict[tuple[str, bool, tuple[tuple[int, int], ...]], Linear]
    )

    def size(self, name: str) -> int:
        return self.model.space(name).size

    # --- laws

    def law(self, f: Factor, density: bool = False) -> Linear:
        """A law applied, over the law's own givens; `density`: a Dirac's `density=`."""
        body = self.model.laws[f.law].body
        key = (f"{f.law} density" if density else f.law, f.old, f.at)
        if key not in self._known:
            if isinstance(body, Dirac) and density:
                if body.density is None:
                    raise Undefined(f"{self.model.laws[f.law].text} has no density")
                body = body.density
            found = self._law(f, body)
            if f.old:
                slopes = {g: s.detach() for g, s in found.slopes.items()}
                found = Linear(found.offset.detach(), slopes, found.spread.detach())
            self._known[key] = found
        return self._known[key]

    def _law(self, f: Factor, body: object) -> Linear:
        law = self.model.laws[f.law]
        if isinstance(body, Evidence):
            normal = self._marginal(body.rows, law.outputs)
            return Linear(normal.mean, {}, torch.linalg.cholesky(normal.cov))
        size = self.size(law.outputs[0])
        match body:
            case Dirac(value=mean):
                scale = torch.zeros(size, 0, dtype=torch.float64)
            case Distribution(family="Normal", parameters=found):
                mean = dict(found)["loc"]
                offset, slopes = self._affine(f, dict(found)["scale"], size)
                if any(s.abs().max() > TINY for s in slopes.values()):
                    raise Undefined(f"the spread of {law.text} depends on its givens")
                scale = torch.diag(offset)
            case _:
                raise Undefined(f"{law.text} is not linear-Gaussian")
        offset, slopes = self._affine(f, mean, size)
        return Linear(offset, slopes, scale)

    def _marginal(self, rows: str, names: Sequence[str]) -> Normal:
        source, joint = self.model.laws[rows], self.evidence[rows]
        place, start = dict[str, list[int]](), 0
        for v in source.outputs:
            place[v] = list(range(start, start + self.size(v)))
            start += self.size(v)
        kept = [i for v in names for i in place[v]]
        return Normal(joint.mean[kept], joint.cov[kept][:, kept])

    def _affine(self, f: Factor, v: Value, size: int) -> tuple[Tensor, dict[str, Tensor]]:
        """What a value is at zero, and its slopes; verified at one more point. Raises `Undefined`."""
        law, weights = self.model.laws[f.law], self.before if f.old else self.now
        fixed = {law.givens[i]: torch.tensor(self.model.space(law.givens[i]).values.index(k)) for i, k in f.at}
        names = [g for i, g in enumerate(law.givens) if i not in dict(f.at)]
        if any(self.model.space(g).kind == "finite" for g in names):
            raise Undefined(f"{law.text} is given a finite variable")

        def at(point: Tensor) -> Tensor:
            parts = point.split([self.size(g) for g in names])
            given = {g: p.reshape(self.model.space(g).shape) for g, p in zip(names, parts, strict=True)}
            return self._spread_out(value(self.model, weights, v, {**fixed, **given}), size)

        basis = torch.eye(sum(self.size(g) for g in names), dtype=torch.float64)
        offset = at(torch.zeros(len(basis), dtype=torch.float64))
        columns = [at(e) - offset for e in basis]
        elsewhere = torch.linspace(-1.3, 0.9, len(basis), dtype=torch.float64)
        there = offset + sum((c * float(e) for c, e in zip(columns, elsewhere, strict=True)), torch.zeros_like(offset))
        if (at(elsewhere) - there).abs().max() > 1e-8:
            raise Undefined(f"{law.text} is not linear in its givens")
        slopes, start = dict[str, Tensor](), 0
        for g in names:
            slopes[g] = torch.stack(columns[start : start + self.size(g)], -1)
            start += self.size(g)
        return offset, slopes

    @staticmethod
    def _spread_out(found: Tensor, size: int) -> Tensor:
        """Scalars fill the event."""
        found = found.to(torch.float64)
        return found.reshape(-1) if found.numel() == size else found.expand(size)

    def given(self, f: Factor) -> dict[str, str]:
        """The law's own name for each given, by the variable that stands there."""
        law = self.model.laws[f.law]
        free = [g for i, g in enumerate(law.givens) if i not in dict(f.at)]
        return dict(zip(free, f.givens, strict=True))

    # --- paths

    def paths(self, side: Side) -> tuple[Path, ...]:
        """A path for each choice of branches, its factors ordered."""
        found: list[Path] = []
        for b in side.joint.branches:
            labels = {b.label: b.value} if b.label is not None and b.value is not None else {}
            for path in self._opened(Path(float(b.weight), (), labels), b.factors, set(side.head)):
                found.append(replace(path, factors=self._ordered(path.factors)))
        return tuple(found)

    def _opened(self, done: Path, rest: Sequence[Factor], taken: set[str]) -> Iterator[Path]:
        if not rest:
            yield done
            return
        f, *others = rest
        law = self.model.laws[f.law]
        if not isinstance(law.body, Joint):
            yield from self._opened(replace(done, factors=(*done.factors, f)), others, taken | set(f.variables))
            return
        taken = taken | {v for g in (*done.factors, *rest) for v in g.variables}
        for inner in law.body.branches:
            names, known = law.bound(f), set(taken)
            labels = dict(done.labels)
            if inner.label in law.outputs and inner.value is not None:
                labels[str(names[inner.label])] = inner.value
            for v in (v for g in inner.factors for v in g.variables):
                if v not in names:
                    fresh = v
                    while fresh in known:
                        fresh += "'"
                    known.add(fresh)
                    names[v] = fresh
            factors = [replace(g.applied(names), old=g.old or f.old) for g in inner.factors]
            path = Path(done.share * float(inner.weight), done.factors, labels)
            yield from self._opened(path, [*factors, *others], known)

    @staticmethod
    def _ordered(factors: Sequence[Factor]) -> tuple[Factor, ...]:
        """Each after what it is given, where that is generated."""
        made = {v for f in factors for v in f.outputs}
        found: list[Factor] = []
        rest = list(factors)
        while rest:
            known = {v for f in found for v in f.outputs}
            ready = next((f for f in rest if set(f.givens) & made <= known), None)
            if ready is None:
                raise Undefined("factors in a cycle")
            rest.remove(ready)
            found.append(ready)
        return tuple(found)

    def drawn(self, path: Path) -> Drawn:
        """Every variable of a path. Raises `Undefined` where a finite one is drawn."""
        laws = [self.law(f) for f in path.factors]
        total = sum(law.spread.shape[1] for law in laws)
        means, rows = dict[str, Tensor](), dict[str, Tensor]()
        shared, start = list[bool](), 0
        for f, law in zip(path.factors, laws, strict=True):
            count = law.spread.shape[1]
            own = torch.nn.functional.pad(law.spread, (start, total - start - count))
            mean = law.offset
            for name, g in self.given(f).items():
                if g not in means:
                    raise Undefined(f"{g} is given and not generated")
                mean = mean + law.slopes[name] @ means[g]
                own = own + law.slopes[name] @ rows[g]
            everyone = any(self.model.variable(v).is_global for v in f.outputs)
            shared += [everyone or isinstance(self.model.laws[f.law].body, Evidence)] * count
            start += count
            sizes = [self.size(v) for v in f.outputs]
            for v, m, r in zip(f.outputs, mean.split(sizes), own.split(sizes), strict=True):
                means[v], rows[v] = m, r
        return Drawn(means, rows, torch.tensor(shared, dtype=torch.bool))

    # --- finite laws of real givens

    def logits(self, f: Factor, values: Mapping[str, Tensor]) -> Tensor:
        """The logits (N, K) of a classifier at values (N, d) of its givens."""
        law = self.model.laws[f.law]
        weights = self.before if f.old else self.now
        names = [g for g in law.givens if g in self.given(f)]
        where = [values[self.given(f)[g]] for g in names]
        fixed = {law.givens[i]: torch.tensor(self.model.space(law.givens[i]).values.index(k)) for i, k in f.at}

        def one(*parts: Tensor) -> Tensor:
            at = {g: p.reshape(self.model.space(g).shape) for g, p in zip(names, parts, strict=True)}
            return logits(self.model, weights, f.law, {**fixed, **at})

        return torch.func.vmap(one)(*where)


def logits(model: Model, weights: Weights, key: str, at: Assignment) -> Tensor:
    """The logits (K,) of a finite law for one datum. Raises `Undefined`."""
    body = model.laws[key].body
    assert isinstance(body, Distribution)
    match body.family, [(n, value(model, weights, v, at)) for n, v in body.parameters]:
        case "Bernoulli", [("logits", found)]:
            return torch.stack([torch.zeros_like(found), found])
        case "Bernoulli", [("probs", found)]:
            return torch.stack([(1 - found).log(), found.log()])
        case "Categorical", [("logits", found)]:
            return found
        case "Categorical", [("probs", found)]:
            return found.log()
        case _:
            raise Undefined(f"{model.laws[key].text} is no classifier of real variables")
