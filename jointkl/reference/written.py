"""The exact value of what a player minimises over some data, the laws as they are written.

It has a value where the paths of the goals draw evidence, finite variables and Diracs alone: the mean over the data
themselves and a sum over all else. Densities are read one datum at a time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from jointkl.reference import families
from jointkl.reference.goals import Undefined, scale
from jointkl.reference.laws import givens_of, points
from jointkl.reference.players import Player, divergences, trains
from jointkl.reference.values import Assignment, Weights, value
from jointkl.semantics.model import (
    Dirac,
    Distribution,
    Divergence,
    Evidence,
    Factor,
    Free,
    Goal,
    GoalOptions,
    Hinge,
    Joint,
    Law,
    Model,
    Side,
)

MOST_LEAVES = 2_000
"""Outcomes of a path, or values of what is hidden, that are summed over."""

Solved = Callable[[Law, Assignment], Tensor]
"""log P of each value of a Free law's variable, at its givens."""


@dataclass(slots=True)
class Written:
    """A model at some weights over `rows`: for each law bound to a source its data, by the law's own variables."""

    model: Model
    now: Weights
    before: Weights
    rows: Mapping[str, Sequence[Assignment]]
    solved: Solved
    _given: set[int] = field(default_factory=set[int])

    def __post_init__(self) -> None:
        self._given = {id(v) for rows in self.rows.values() for row in rows for v in row.values()}

    # --- densities

    def log_law(self, law: Law, at: Assignment, *, old: bool = False, summed: bool = False) -> Tensor:
        """log P(outputs | givens) at the values of the law's own variables. Evidence that is given counts as a
        constant, 0, unless it is `summed` with something else. Raises `Undefined`, `NotFinite`."""
        match law.body:
            case Distribution():
                return self._log_density(law, law.body, at, old)
            case Dirac(density=Distribution() as density):
                return self._log_density(law, density, at, old)
            case Dirac():
                raise Undefined(f"{law.text} has no density")
            case Free():
                return self.solved(law, at)[int(at[law.outputs[0]])]
            case Joint():
                found = self.log_joint(law.body, at, old=old, summed=summed)
                return found.detach() if old else found
            case Evidence():
                if summed or any(id(at[v]) not in self._given for v in law.outputs):
                    raise Undefined(f"{law.text} has no density")
                return torch.zeros((), dtype=torch.float64)

    def _log_density(self, law: Law, body: Distribution, at: Assignment, old: bool) -> Tensor:
        (v,) = law.outputs
        found = families.log_density(body.family, self.parameters(body, at, old), self.model.space(v), at[v])
        return found.detach() if old else found

    def parameters(self, body: Distribution, at: Assignment, old: bool = False) -> dict[str, Tensor]:
        weights = self.before if old else self.now
        return {name: value(self.model, weights, v, at) for name, v in body.parameters}

    def log_factor(self, f: Factor, at: Assignment, *, old: bool = False, summed: bool = False) -> Tensor:
        return self.log_law(self.model.laws[f.law], self._own(f, at), old=f.old or old, summed=summed)

    def _own(self, f: Factor, at: Assignment) -> dict[str, Tensor]:
        """The values of a law's own variables where it is applied, as far as they are known."""
        law = self.model.laws[f.law]
        found: dict[str, Tensor] = {}
        for u, v in law.bound(f).items():
            if isinstance(v, int):
                found[u] = torch.tensor(self.model.space(u).values.index(v))
            elif v in at:
                found[u] = at[v]
        return found

    def log_joint(self, body: Joint, at: Assignment, *, old: bool = False, summed: bool = False) -> Tensor:
        """log of the sum over branches, or of the one whose label is known."""
        branches = body.branches
        if body.label is not None and body.label in at:
            shown = self.model.space(body.label).values[int(at[body.label])]
            branches = tuple(b for b in branches if b.value == shown)
        several = summed or len(branches) > 1
        logs = [math.log(b.weight) + self._log_product(b.factors, at, old, several) for b in branches]
        return torch.stack(logs).logsumexp(0)

    def _log_product(self, factors: Sequence[Factor], at: Assignment, old: bool, summed: bool) -> Tensor:
        hidden = [v for f in factors for v in f.outputs if v not in at]
        spaces = [points(self.model.space(v)) for v in hidden]
        if math.prod(map(len, spaces)) > MOST_LEAVES:
            raise Undefined("what is hidden has too many values")
        summed = summed or bool(hidden)
        logs: list[Tensor] = []
        for chosen in itertools.product(*spaces):
            every = {**at, **dict(zip(hidden, chosen, strict=True))}
            parts = [self.log_factor(f, every, old=old, summed=summed) for f in factors]
            logs.append(torch.stack(parts).sum())
        return torch.stack(logs).logsumexp(0)

    # --- paths

    def drawn(self, body: Joint, at: Assignment, *, old: bool = False) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Every outcome of a joint, with its probability. Raises `Undefined`, `NotFinite`."""
        for b in body.branches:
            shown = dict(at)
            if b.label is not None and b.label in self.model.variables:
                shown[b.label] = torch.tensor(self.model.space(b.label).values.index(b.value or 0))
            share = torch.tensor(float(b.weight), dtype=torch.float64)
            yield from self._walked([replace(f, old=f.old or old) for f in b.factors], shown, share)

    def _walked(
        self, left: Sequence[Factor], at: dict[str, Tensor], share: Tensor
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        if not left:
            yield share, at
            return
        ready = next(f for f in left if all(g in at for g in f.givens))
        rest = [f for f in left if f is not ready]
        for p, outputs in self._outcomes(ready, at):
            yield from self._walked(rest, {**at, **outputs}, share * p)

    def _outcomes(self, f: Factor, at: Assignment) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        law, own = self.model.laws[f.law], self._own(f, at)
        match law.body:
            case Evidence(rows=rows):
                data = self.rows[rows]
                for row in data:
                    values = [row[u] for u in law.outputs]
                    yield torch.tensor(1 / len(data), dtype=torch.float64), dict(zip(f.outputs, values, strict=True))
            case Distribution() | Free():
                space = self.model.space(law.outputs[0])
                if space.support is None or space.support > MOST_LEAVES:
                    raise Undefined(f"{law.text} draws more than can be summed over")
                for x in points(space):
                    yield self.log_law(law, {**own, law.outputs[0]: x}, old=f.old).exp(), {f.outputs[0]: x}
            case Dirac(value=inner):
                found = value(self.model, self.before if f.old else self.now, inner, own)
                one = torch.ones((), dtype=torch.float64)
                yield one, {f.outputs[0]: found.expand(self.model.space(law.outputs[0]).shape)}
            case Joint():
                for p, inside in self.drawn(law.body, own, old=f.old):
                    yield p, {v: inside[u] for u, v in zip(law.outputs, f.outputs, strict=True)}

    def path(self, side: Side) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """The outcomes of the left side of a divergence: no two draws of evidence on a path, whose pairs are not all
        among some data, and no globals."""
        if _evidence(self.model, side.joint) > 1:
            raise Undefined("several draws of evidence on a path")
        found = list(itertools.islice(self.drawn(side.joint, {}), MOST_LEAVES + 1))
        if len(found) > MOST_LEAVES:
            raise Undefined("a path has too many outcomes")
        if any(self.model.variable(v).is_global for _, at in found for v in at):
            raise Undefined("globals")
        return [(p, at) for p, at in found if float(p.detach()) > 0]


def _evidence(model: Model, body: Joint) -> int:
    """The most draws of evidence on one path."""
    found: list[int] = []
    for b in body.branches:
        bodies = [model.laws[f.law].body for f in b.factors]
        inner = (_evidence(model, x) if isinstance(x, Joint) else int(isinstance(x, Evidence)) for x in bodies)
        found.append(sum(inner))
    return max(found)


# --- goals


def objective(w: Written, player: Player) -> Tensor:
    """What a player minimises over the data, up to a constant. Raises `Undefined`, `NotFinite`."""
    found = torch.zeros((), dtype=torch.float64)
    for goal in w.model.goals:
        for term in goal.terms:
            if isinstance(term, Hinge):
                found = found + scale(w.model, goal) * _hinge(w, player, goal, term)
            elif trains(w.model, player, goal, term):
                found = found + scale(w.model, goal) * float(term.weight) * term_value(w, player, goal, term)
    return found


def trained(model: Model, player: Player) -> bool:
    """Is there a term that trains the player?"""
    return any(trains(model, player, goal, d) for goal in model.goals for d in divergences(goal))


def _hinge(w: Written, player: Player, goal: Goal, h: Hinge) -> Tensor:
    if not any(trains(w.model, player, goal, d) for d in h.terms):
        return torch.zeros((), dtype=torch.float64)
    inside = torch.tensor(float(h.margin), dtype=torch.float64)
    for d in h.terms:
        if any(isinstance(w.model.laws[f.law].body, Evidence) for f in _factors(d.right)):
            raise Undefined("a hinge on a density of evidence")
        worth = float(d.weight) * term_value(w, player, goal, d)
        inside = inside + (worth if trains(w.model, player, goal, d) else worth.detach())
    return float(h.weight) * inside.relu()


def _factors(side: Side) -> Iterable[Factor]:
    return (f for b in side.joint.branches for f in b.factors)


def term_value(w: Written, player: Player, goal: Goal, d: Divergence) -> Tensor:
    """One term without its weight, up to a constant: the density of evidence that the path itself draws."""
    options = goal.options
    own = player.kind == "referee" and options.critic is None
    if "moments" in options.estimate or not (own or options == GoalOptions(estimate=options.estimate)):
        raise Undefined("an option that gives the goal another value")
    outcomes = w.path(d.left)
    found = torch.zeros((), dtype=torch.float64)
    for p, at in outcomes:
        shown = {v: at[v] for v in (*d.left.head, *givens_of(d.left)) if v in at}
        if d.name == "R1":
            found = found + p * _slope(w, d, shown)
            continue
        asked = {v: at[v] for v in (*d.right.head, *givens_of(d.right))}
        found = found - p * w.log_joint(d.right.joint, asked)
        if d.name == "KL":
            found = found + p * w.log_joint(d.left.joint, shown)
    if not bool(found.detach().isfinite()):
        raise Undefined("an infinite value")
    return found


def _slope(w: Written, d: Divergence, at: Assignment) -> Tensor:
    """||gradient of the logit in x||^2."""
    (c,) = d.right.joint.branches[0].factors
    law = w.model.laws[c.law]
    if len(c.givens) != 1 or c.at or len(w.model.space(law.outputs[0]).values) != 2:
        raise Undefined("a slope in several variables")
    x = at[c.givens[0]].detach().clone().requires_grad_()
    one, zero = (w.log_law(law, {law.givens[0]: x, law.outputs[0]: torch.tensor(k)}) for k in (1, 0))
    (slope,) = torch.autograd.grad(one - zero, x, create_graph=True)
    return slope.square().sum()
