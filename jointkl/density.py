"""The distributions of a program's laws, and densities: exact, summed over what is hidden, or importance-sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from jointkl.derivation.expr import LogFactor, LogMarginal
from jointkl.derivation.facts import Facts
from jointkl.derivation.inline import paths_of
from jointkl.derivation.marginals import log_density
from jointkl.derivation.players import divergences
from jointkl.derivation.resolve import Query, resolve
from jointkl.diagnostics import DataError, Refused
from jointkl.objective.ir import function_key
from jointkl.semantics.model import Dirac, Distribution, Evidence, Factor, Free, Joint, Law, Model, Side, base
from jointkl.semantics.spaces import CONSTRAINT, Space

MOST_SUMMED = 1024
"""What is hidden is summed exactly where it has no more values than this, else importance-sampled."""

Values = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Marginal:
    """A product of laws with `hidden` variables, each with the law that proposes it; with none they are summed over."""

    factors: tuple[Factor, ...]
    hidden: frozenset[str]
    proposals: tuple[Factor, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """One product of a query, of a mixture with its share and the value of a visible label. `once` are its densities
    of globals alone, `parts` the others."""

    share: float
    value: int | None
    once: tuple[Factor, ...]
    parts: tuple[Factor | Marginal, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """`log_prob` (N,), and of `particles` weighted draws for each datum the effective number, (N,): both None where the
    density is exact."""

    log_prob: Tensor
    particles: int | None = None
    effective: Tensor | None = None

    @property
    def poor(self) -> bool:
        """Do a few draws carry the estimate of most data: fewer than one in a hundred, or than two of at least ten?"""
        if self.effective is None or self.particles is None or not len(self.effective):
            return False
        return float(self.effective.median()) < min(self.particles / 5, max(2.0, self.particles / 100))


@dataclass(frozen=True, slots=True)
class _Part:
    """log of a density, (N,), and the relative variance of its estimate by one draw, None where it is exact."""

    log: Tensor
    variance: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Densities:
    """The densities of a model. `distribution` is that of a law applied to values; `anchor` has dtype and device."""

    facts: Facts
    distribution: Callable[[Factor, Values], Any]
    anchor: Tensor

    def estimate(self, name: str, batch: Values, particles: int) -> Estimate:
        """log density of each datum, as `Program.log_prob` says. Raises `DataError`."""
        query = resolve(self.facts, name)
        missing = [v for v in (*query.head, *query.givens) if v not in batch]
        if missing:
            raise DataError(f"the density of {query.text} needs {', '.join(missing)} in the batch")
        verify_globals(self.facts.model, batch)
        branches = self._branches(name)
        once = self._once(branches[0], batch)
        if not any(b.parts for b in branches):
            assert once is not None
            return Estimate(once)
        n = rows(self.facts.model, {v: batch[v] for v in (*query.head, *query.givens)}, 1)
        made = self._mixed(query, branches, [self._product(b.parts, batch, n, particles) for b in branches], batch, n)
        log = made.log if once is None else made.log + once / n
        if made.variance is None:
            return Estimate(log)
        return Estimate(log, particles, particles / (1 + made.variance))

    def _once(self, branch: Branch, batch: Values) -> Tensor | None:
        """The densities of the globals, a 0-d tensor: they are what all branches have in common."""
        logs = [self._log_factor(f, batch) for f in branch.once]
        return torch.stack(logs).sum() if logs else None

    def _product(self, parts: Iterable[Factor | Marginal], batch: Values, n: int, particles: int) -> _Part:
        """Relative variances of independent factors add, as long as they are small."""
        log, variances = self.anchor.new_zeros(n), list[Tensor]()
        for part in parts:
            match part:
                case Factor():
                    log = log + self._log_factor(part, batch)
                case Marginal():
                    made = self._log_marginal(part, batch, n, particles)
                    log = log + made.log
                    variances += [made.variance] if made.variance is not None else []
        return _Part(log, torch.stack(variances).sum(0) if variances else None)

    def _mixed(self, query: Query, branches: tuple[Branch, ...], made: list[_Part], batch: Values, n: int) -> _Part:
        """log sum of share * density over the branches; of those with the datum's own label, where it is given."""
        if len(branches) == 1 and branches[0].value is None:
            return made[0]
        logs: list[Tensor] = []
        for b, part in zip(branches, made, strict=True):
            log = part.log + math.log(b.share)
            if b.value is not None and query.label is not None:
                v = query.label[0]
                own = batch[v] == self.facts.model.space(v).values.index(b.value)
                log = torch.where(own.expand(n), log, log.new_full((), -math.inf))
            logs.append(log)
        stacked = torch.stack(logs)
        whole = stacked.logsumexp(0)
        if all(part.variance is None for part in made):
            return _Part(whole)
        shares = torch.where(whole == -math.inf, 0.0, (stacked - whole).exp())  # where all are 0, none has a share
        variances = [torch.zeros_like(whole) if part.variance is None else part.variance for part in made]
        return _Part(whole, (shares.square() * torch.stack(variances)).sum(0))

    def proposals(self, name: str) -> tuple[str, ...]:
        """The laws that what is hidden in a density is drawn from, by importance sampling; none where it is exact.

        Raises `DataError` where the density cannot be evaluated at all.
        """
        laws = (f.law for part in self._marginals(name) for f in part.proposals)
        return tuple(dict.fromkeys(self.facts.model.laws[law].text for law in laws))

    def copies(self, name: str, particles: int) -> int:
        """How many values of what is hidden `log_prob` holds at once for each datum; 1 where nothing is. Raises
        `DataError` where the density cannot be evaluated."""
        marginals = self._marginals(name)
        return max((particles if part.proposals else self._count(part.hidden) for part in marginals), default=1)

    def _marginals(self, name: str) -> list[Marginal]:
        return [part for b in self._branches(name) for part in b.parts if isinstance(part, Marginal)]

    def _count(self, hidden: Iterable[str]) -> int:
        return math.prod(self.facts.model.space(v).support or 1 for v in hidden)

    def _branches(self, name: str) -> tuple[Branch, ...]:
        query = resolve(self.facts, name)
        found: list[Branch] = []
        for i, (share, path) in enumerate(query.branches):
            parts = self._parts(query, path)
            once = tuple(p for p in parts if isinstance(p, Factor) and all(map(self._is_global, p.variables)))
            value = query.label[1][i] if query.label else None
            found.append(Branch(float(share), value, once, tuple(p for p in parts if p not in once)))
        for v in filter(self._is_global, query.head):
            verify_one_law(query, v)
        return tuple(found)

    def _is_global(self, v: str) -> bool:
        return self.facts.model.variable(v).is_global

    def _parts(self, query: Query, path: tuple[Factor, ...]) -> list[Factor | Marginal]:
        visible = {*query.head, *query.givens}
        try:
            terms = log_density(_knowing(self.facts, visible), path, query.head, Fraction(1))
        except Refused as refused:
            raise DataError(f"{query.text}: {refused.report.message}", *refused.report.help) from None
        found: list[Factor | Marginal] = []
        for term in terms:
            match term.atom:
                case LogFactor(factor=f):
                    self._verify(f)
                    found.append(f)
                case LogMarginal(branches=((_, factors),), hidden=hidden):
                    for f in factors:
                        self._verify(f)
                    found.append(self._marginal(factors, hidden, visible))
                case _:
                    raise DataError(f"the density of {query.text} cannot be evaluated")
        return found

    def _verify(self, f: Factor) -> None:
        law = self.facts.model.laws[f.law]
        match law.body:
            case Distribution() | Free():
                return
            case Dirac():
                what = "a Dirac"
            case Evidence():
                what = "evidence"
            case Joint():
                what = "a mixture inside a product"
        raise DataError(f"{law.text} is {what}: it can be sampled, not evaluated")

    def _marginal(self, factors: tuple[Factor, ...], hidden: frozenset[str], visible: set[str]) -> Marginal:
        """Hidden variables are proposed one after another by laws that give them from what is known; the others, and
        only they, by their own prior."""
        if math.prod(self.facts.model.space(v).support or math.inf for v in hidden) <= MOST_SUMMED:
            return Marginal(factors, hidden)
        chain: list[Factor] = []
        own, known = {f.law for f in factors}, set(visible)
        laws = tuple(dict.fromkeys(law for law in _beside(self.facts, own) if law not in own))
        while (found := self._proposal(laws, hidden - known, known)) is not None:
            chain.append(found)
            known.update(found.outputs)
        chain += [f for f in factors if f.outputs[0] in hidden - known]
        return Marginal(factors, hidden, tuple(chain))

    def _proposal(self, laws: Iterable[str], wanted: frozenset[str], known: set[str]) -> Factor | None:
        for law in (self.facts.model.laws[key] for key in laws):
            if isinstance(law.body, Distribution) and set(law.outputs) <= wanted and set(law.givens) <= known:
                return Factor(law.key, law.outputs, law.givens)
        return None

    def _log_factor(self, f: Factor, values: Values) -> Tensor:
        missing = [v for v in f.variables if v not in values]
        law = self.facts.model.laws[f.law]
        if missing:
            raise DataError(f"the density of {law.text} needs {', '.join(missing)} in the batch")
        value = self._drawn(law, values[f.outputs[0]])
        return _log_prob(self.distribution(f, values), value, self.facts.model.space(f.outputs[0]))

    def _drawn(self, law: Law, value: Tensor) -> Tensor:
        """A value as the law itself would draw it: of a finite variable it may be an index, where a Bernoulli draws
        floats."""
        bernoulli = isinstance(law.body, Distribution) and law.body.family == "Bernoulli"
        return value.to(self.anchor.dtype) if bernoulli else value

    def _log_marginal(self, part: Marginal, values: Values, n: int, particles: int) -> _Part:
        drawn = dict(values)
        weight = self.anchor.new_zeros(particles if part.proposals else 1, n)
        if not part.proposals:
            drawn |= self._every(sorted(part.hidden), n)
        for f in part.proposals:
            r = self.distribution(f, drawn).expand(torch.Size((particles, n)))
            drawn[f.outputs[0]] = r.sample()
            if f not in part.factors:
                weight = weight - r.log_prob(drawn[f.outputs[0]])
        for f in part.factors:
            if f not in part.proposals:
                weight = weight + self._log_factor(f, drawn)
        total = weight.logsumexp(0)
        if not part.proposals:
            return _Part(total)
        counted = (2 * total - (2 * weight).logsumexp(0)).exp().detach()
        effective = torch.where(total == -math.inf, 1.0, counted)  # of draws that all weigh nothing, as of one
        return _Part(total - math.log(particles), particles / effective - 1)

    def _every(self, hidden: list[str], rows: int) -> dict[str, Tensor]:
        """All values of the hidden variables together, each (how many, rows, *shape)."""
        spaces = [self.facts.model.space(v) for v in hidden]
        found: dict[str, Tensor] = {}
        left = self._count(hidden)
        place = torch.arange(left, device=self.anchor.device)
        for v, space in zip(hidden, spaces, strict=True):
            own = space.support or 1
            left //= own
            index = place // left % own
            if space.kind != "finite":
                bits = torch.arange(space.size, device=self.anchor.device)
                index = (index[:, None] >> bits & 1).to(self.anchor.dtype).reshape(-1, *space.shape)
            found[v] = index[:, None].expand(-1, rows, *index.shape[1:])
        return found


def _knowing(facts: Facts, visible: set[str]) -> Facts:
    """The facts with globals that are `visible` as any other known variable: only a hidden one would have to be
    integrated out for all data at once."""
    model = facts.model
    known = {v: replace(one, is_global=one.is_global and v not in visible) for v, one in model.variables.items()}
    return replace(facts, model=replace(model, variables=known))


def _beside(facts: Facts, own: set[str]) -> Iterator[str]:
    """The laws that a goal trains to be the posterior of a joint with these laws, its variational posterior first: what
    stands left of it in a KL; what stands right of it in a KL or CE; what its branch of a mixture is told from."""
    terms = [t for goal in facts.model.goals for t in divergences(goal) if t.weight > 0]
    for t in terms:
        if t.row.own and own <= _laws(facts, t.right).keys():
            yield from _laws(facts, t.left)
    for t in terms:
        if not t.row.penalty and own <= _laws(facts, t.left).keys():
            yield from _laws(facts, t.right)
            yield from _laws(facts, t.left) if t.row.own else ()


def _laws(facts: Facts, side: Side) -> dict[str, None]:
    """The laws on a side's paths, in sampling order."""
    return {f.law: None for _, path in paths_of(facts, side) for f in path}


def _log_prob(distribution: Any, value: Tensor, space: Space) -> Tensor:
    """log density: of a value of its space that the law never draws, -inf. Raises `ValueError` for one that the space
    has not."""
    inside = distribution.support.check(value)
    if bool(inside.all()) or not _in_space(space, value):
        return distribution.log_prob(value)
    shape = torch.broadcast_shapes(inside.shape, distribution.batch_shape)
    wide = distribution.expand(shape)
    place = inside.reshape(*inside.shape, *[1] * len(wide.event_shape))
    found = wide.log_prob(torch.where(place, value, wide.sample()))
    return torch.where(inside, found, found.new_full((), -math.inf))


def _in_space(space: Space, value: Tensor) -> bool:
    if space.kind == "finite":
        return bool(((value >= 0) & (value < len(space.values))).all())
    return bool(getattr(constraints, CONSTRAINT[space.kind]).check(value).all())


def rows(model: Model, values: Values, otherwise: int) -> int:
    """How many data `values` are, by variable or a batch's key: globals have no rows."""
    local = (t for key, t in values.items() if not _is_global(model, key))
    return next((len(t) for t in local), otherwise)


def verify_globals(model: Model, values: Values) -> None:
    """A global's value has its own shape, without rows. Raises `DataError`."""
    for key, value in values.items():
        if _is_global(model, key) and tuple(value.shape) != (shape := model.space(key).shape):
            raise DataError(
                f"{key} is one value for all data: it has the shape {shape}, not {tuple(value.shape)}",
                "a law at several values of it takes a call for each",
            )


def _is_global(model: Model, key: str) -> bool:
    return base(key) in model.variables and model.variable(key).is_global


def verify_one_law(query: Query, v: str) -> None:
    """A global of a mixture's head has one law, whatever the branch of a datum. Raises `DataError`."""
    if len({f for _, path in query.branches for f in path if v in f.outputs}) > 1:
        raise DataError(
            f"{v} is one value for all data, and the branches of {query.text} have other laws of it",
            "name a branch alone, or give it one law beside the mixture",
        )


def law_at(model: Model, emitted: Any, f: Factor, values: Mapping[str, Tensor]) -> Any:
    """The distribution of a factor at the values of its givens, by the emitted class. Raises `DataError`."""
    name = function_key(f.law, "old" if f.old else "")
    if name not in emitted.laws:
        raise DataError(f"{name} has no distribution of its own: nothing in the objective keeps or determines it")
    function = getattr(emitted, emitted.laws[name])
    givens = model.laws[f.law].givens
    places = {i: model.space(givens[i]).values.index(value) for i, value in f.at}
    known = {i: emitted.full(float(place)) for i, place in places.items()}
    return function(*(known[i] if i in known else values[str(g)] for i, g in enumerate(f.arguments)))


def finite_mean(distribution: Any) -> Tensor | None:
    """The mean of a Pyro distribution, or None where there is none: of classes, of a Cauchy."""
    try:
        mean = distribution.mean
    except NotImplementedError:
        return None
    return mean if bool(mean.isfinite().all()) else None
