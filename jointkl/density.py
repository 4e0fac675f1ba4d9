"""The distributions of a program's laws, and densities: exact, summed over what is hidden, or importance-sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from jointkl.derivation.expr import LogFactor, LogMarginal
from jointkl.derivation.facts import Facts
from jointkl.derivation.resolve import resolve
from jointkl.derivation.rules.marginalise import log_density
from jointkl.diagnostics import DataError
from jointkl.emission.names import key_of
from jointkl.semantics.model import Dirac, Distribution, Evidence, Factor, Free, Joint, Law, Model
from jointkl.semantics.scope import Refused

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
class Densities:
    """The densities of a model. `distribution` is that of a law applied to values; `anchor` has dtype and device."""

    facts: Facts
    distribution: Callable[[Factor, Values], Any]
    anchor: Tensor

    def log_prob(self, name: str, batch: Values, particles: int) -> Tensor:
        """log density of each datum, (N,), as `Program.log_prob` says. Raises `DataError`."""
        query = resolve(self.facts, name)
        missing = [v for v in (*query.head, *query.givens) if v not in batch]
        if missing:
            raise DataError(f"the density of {query.text} needs {', '.join(missing)} in the batch")
        total: Tensor | float = 0.0
        for part in self._parts(name):
            match part:
                case Factor():
                    total = total + self._log_factor(part, batch)
                case Marginal():
                    total = total + self._log_marginal(part, batch, particles)
        assert isinstance(total, Tensor)
        return total

    def proposals(self, name: str) -> tuple[str, ...]:
        """The laws that what is hidden in a density is drawn from, by importance sampling; none where it is exact.

        Raises `DataError` where the density cannot be evaluated at all.
        """
        marginals = [part for part in self._parts(name) if isinstance(part, Marginal)]
        return tuple(self.facts.model.laws[f.law].text for part in marginals for f in part.proposals)

    def copies(self, name: str, particles: int) -> int:
        """How many values of what is hidden `log_prob` holds at once for each datum; 1 where nothing is. Raises
        `DataError` where the density cannot be evaluated."""
        marginals = [part for part in self._parts(name) if isinstance(part, Marginal)]
        return max((particles if part.proposals else self._count(part.hidden) for part in marginals), default=1)

    def _count(self, hidden: Iterable[str]) -> int:
        return math.prod(self.facts.model.space(v).support or 1 for v in hidden)

    def _parts(self, name: str) -> list[Factor | Marginal]:
        query = resolve(self.facts, name)
        if len(query.branches) != 1:
            raise DataError(f"the density of the mixture {query.text} is not evaluated")
        try:
            terms = log_density(self.facts, query.branches[0][1], query.head, Fraction(1))
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
                    found.append(self._marginal(factors, hidden, {*query.head, *query.givens}))
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
        while (found := self._proposal(hidden - known, known, own)) is not None:
            chain.append(found)
            known.update(found.outputs)
        chain += [f for f in factors if f.outputs[0] in hidden - known]
        return Marginal(factors, hidden, tuple(chain))

    def _proposal(self, wanted: frozenset[str], known: set[str], own: set[str]) -> Factor | None:
        for law in self.facts.model.laws.values():
            given = law.givens and set(law.givens) <= known
            if isinstance(law.body, Distribution) and set(law.outputs) <= wanted and given and law.key not in own:
                return Factor(law.key, law.outputs, law.givens)
        return None

    def _log_factor(self, f: Factor, values: Values) -> Tensor:
        missing = [v for v in f.variables if v not in values]
        law = self.facts.model.laws[f.law]
        if missing:
            raise DataError(f"the density of {law.text} needs {', '.join(missing)} in the batch")
        return self.distribution(f, values).log_prob(self._drawn(law, values[f.outputs[0]]))

    def _drawn(self, law: Law, value: Tensor) -> Tensor:
        """A value as the law itself would draw it: of a finite variable it may be an index, where a Bernoulli draws
        floats."""
        bernoulli = isinstance(law.body, Distribution) and law.body.family == "Bernoulli"
        return value.to(self.anchor.dtype) if bernoulli else value

    def _log_marginal(self, part: Marginal, values: Values, particles: int) -> Tensor:
        rows = len(next(iter(values.values())))
        drawn = dict(values)
        weight: Tensor | float = 0.0
        if not part.proposals:
            drawn |= self._every(sorted(part.hidden), rows)
        for f in part.proposals:
            r = self.distribution(f, drawn).expand(torch.Size((particles, rows)))
            drawn[f.outputs[0]] = r.sample()
            if f not in part.factors:
                weight = weight - r.log_prob(drawn[f.outputs[0]])
        for f in part.factors:
            if f not in part.proposals:
                weight = weight + self._log_factor(f, drawn)
        assert isinstance(weight, Tensor)
        return weight.logsumexp(0) - (math.log(particles) if part.proposals else 0.0)

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


def law_at(model: Model, emitted: Any, f: Factor, values: Mapping[str, Tensor]) -> Any:
    """The distribution of a factor at the values of its givens, by the emitted class. Raises `DataError`."""
    name = key_of(f.law, "old" if f.old else "")
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
