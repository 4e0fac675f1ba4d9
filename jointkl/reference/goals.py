"""The exact value of what each player minimises (docs/language.md, "Goals"), differentiable in the weights.

    KL(P || Q) = E_P[log P - log Q]      CE(P || Q) = E_P[-log Q]      max(0, m + terms): of the exact value

A goal is taken as a whole times the number of labels, where all its labelled mixtures show as many: the constant that
the derivation takes it with (SCALE). A term of globals alone counts 1/N.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from jointkl.reference.laws import FiniteModel
from jointkl.reference.players import Player, classifier, divergences, label, labels, trains
from jointkl.reference.tables import Table, mean, product
from jointkl.semantics.model import Branch, Divergence, Evidence, Factor, Goal, Hinge, Joint, Model, Side


class Undefined(Exception):
    """The reference gives no value to this: the reason."""


def objective(world: FiniteModel, player: Player, size: int = 1) -> Tensor:
    """What a player minimises: all terms of all goals that train it. `size` is N, for globals.

    Raises `Undefined`, `NotFinite`, `TooLarge`.
    """
    found = torch.zeros((), dtype=torch.float64)
    for goal in world.model.goals:
        found = found + scale(world.model, goal) * _goal(world, player, goal, size)
    return found


def scale(model: Model, goal: Goal) -> int:
    """The number of labels that all labelled mixtures of a goal show; 1 where they show different numbers."""
    counts = {n for d in divergences(goal) if (n := labels(model, d)) > 1}
    return counts.pop() if len(counts) == 1 else 1


def _goal(world: FiniteModel, player: Player, goal: Goal, size: int) -> Tensor:
    found = torch.zeros((), dtype=torch.float64)
    for term in goal.terms:
        if isinstance(term, Divergence):
            if trains(world.model, player, goal, term):
                found = found + float(term.weight) * divergence(world, player, goal, term, size)
        elif any(trains(world.model, player, goal, d) for d in term.terms):
            found = found + hinge(world, player, goal, term, size)
    return found


def hinge(world: FiniteModel, player: Player, goal: Goal, h: Hinge, size: int) -> Tensor:
    """weight * max(0, margin + terms). What does not train the player is a number in it."""
    inside = torch.tensor(float(h.margin), dtype=torch.float64)
    for d in h.terms:
        worth = float(d.weight) * divergence(world, player, goal, d, size)
        inside = inside + (worth if trains(world.model, player, goal, d) else worth.detach())
    return float(h.weight) * inside.relu()


def inside(world: FiniteModel, goal: Goal, h: Hinge, size: int) -> Tensor:
    """What a hinge takes the positive part of."""
    worth = [float(d.weight) * divergence(world, EVERYONE, goal, d, size) for d in h.terms]
    return torch.stack([torch.tensor(float(h.margin), dtype=torch.float64), *worth]).sum()


EVERYONE = Player(frozenset(), "other")


def divergence(world: FiniteModel, player: Player, goal: Goal, d: Divergence, size: int) -> Tensor:
    """One term, without its weight."""
    options = goal.options
    if d.name == "R1":
        raise Undefined("a slope has no meaning among finitely many values")
    if "moments" in options.estimate and d.name == "KL":
        raise Undefined("moments have no meaning among finitely many values")
    if d.name == "CE":
        return cross_entropy(world, d, size)
    c = classifier(world.model, d)
    if c is not None and c.law in player.classifiers:
        return logistic(world, d, c)
    if options.game is not None and c is not None and player.kind != "referee":
        if options.importance:
            raise Undefined("importance weights in a game are a heuristic")
        return game(world, d, c, options.game)
    if options.importance and player.kind != "referee":
        return bound(world, d, options.importance)
    return kl(world, d, size)


def logistic(world: FiniteModel, d: Divergence, c: Factor) -> Tensor:
    """E_P[-log c(y|v)], what a classifier makes of samples that stand still: all that its KL trains it by."""
    table = world.factor(c)
    return -mean(world.side(d.left).detached(), Table(table.names, _log(table.values)))


def kl(world: FiniteModel, d: Divergence, size: int = 1) -> Tensor:
    """E_P[log P - log Q]; with globals in the head, per datum: what is of globals alone counts 1/N."""
    shared = [v for v in d.left.head if world.model.variable(v).is_global]
    p = world.side(d.left)
    if not shared:
        q = world.side(d.right)
        return mean(p, Table(p.names, _log(p.values) - _log(q.over(p.names))))
    found = torch.zeros((), dtype=torch.float64)
    for sign, side in ((1, d.left), (-1, d.right)):
        for t, share in _parts(world, side, size):
            found = found + sign * mean(p, Table(t.names, _log(t.values))) / share
    return found


def _parts(world: FiniteModel, side: Side, size: int) -> Iterator[tuple[Table, int]]:
    """What a product with globals is made of, each with what it is divided by: N where it is of globals alone. Factors
    that share what is beyond the head are one, that summed out. Raises `Undefined` for a mixture."""
    if len(side.joint.branches) > 1:
        raise Undefined("a mixture with globals")
    pending = [f for b in side.joint.branches for f in b.factors]
    while pending:
        own = [pending.pop(0)]
        while joined := [f for f in pending if not _hidden(side, own).isdisjoint(f.variables)]:
            own += joined
            pending = [f for f in pending if f not in joined]
        hidden = _hidden(side, own)
        made = product(world.factor(f) for f in own)
        t = made.summed(set(made.names) - hidden) if hidden else made
        yield t, size if all(world.model.variable(v).is_global for v in t.names) and t.names else 1


def _hidden(side: Side, factors: Iterable[Factor]) -> set[str]:
    """The variables of factors beyond the head."""
    return {v for f in factors for v in f.variables} - set(side.head)


def _log(values: Tensor) -> Tensor:
    """log, -inf at 0, where it has no gradient."""
    return torch.where(values > 0, torch.where(values > 0, values, 1.0).log(), -torch.inf)


def cross_entropy(world: FiniteModel, d: Divergence, size: int = 1) -> Tensor:
    """E_P[-log Q]: Q's variables all stand in P's head."""
    p, q = world.side(d.left), world.side(d.right)
    if not any(world.model.variable(v).is_global for v in q.names):
        return -mean(p, Table(q.names, _log(q.values)))
    found = torch.zeros((), dtype=torch.float64)
    for t, share in _parts(world, d.right, size):
        found = found - mean(p, Table(t.names, _log(t.values))) / share
    return found


def game(world: FiniteModel, d: Divergence, c: Factor, played: str) -> Tensor:
    """The classifier's own value, + log c(k|v) (Su 42), or with the label flipped, - log c(1-k|v) (43), on each branch;
    the classifier stands still."""
    shown = label(world.model, d.left)
    assert shown is not None
    both = world.side(d.left)
    table = world.factor(c).detached()
    found = torch.zeros((), dtype=torch.float64)
    values = range(world.size(shown))
    if played != "minimax" and len(values) != 2:
        raise Undefined("flipped labels among more than two")
    for k in values:
        log_c = table.at(shown, k if played == "minimax" else 1 - k)
        sign = 1 if played == "minimax" else -1
        found = found + sign * mean(both.at(shown, k), Table(log_c.names, _log(log_c.values)))
    return found


# --- the importance-weighted bound


def paths(model: Model, side: Side) -> Iterator[tuple[float, Branch]]:
    """A side's products, joints opened, hidden variables renamed apart: (share, branch), a branch for each choice."""
    for b in side.joint.branches:
        yield from _opened(model, float(b.weight), (), b.factors, b)


def _opened(
    model: Model, share: float, done: tuple[Factor, ...], rest: tuple[Factor, ...], b: Branch
) -> Iterator[tuple[float, Branch]]:
    if not rest:
        yield share, replace(b, factors=done)
        return
    f, *others = rest
    body = model.laws[f.law].body
    if not isinstance(body, Joint):
        yield from _opened(model, share, (*done, f), tuple(others), b)
        return
    taken = {v for g in (*done, *rest) for v in g.variables}
    for inner in body.branches:
        names = model.laws[f.law].bound(f)
        for v in (v for g in inner.factors for v in g.variables):
            if v not in names:
                fresh = v
                while fresh in taken:
                    fresh += "'"
                taken.add(fresh)
                names[v] = fresh
        factors = tuple(replace(g.applied(names), old=g.old or f.old) for g in inner.factors)
        yield from _opened(model, share * float(inner.weight), done, (*factors, *others), b)


def bound(world: FiniteModel, d: Divergence, copies: int) -> Tensor:
    """E -log mean_K exp(-(log P - log Q)) over K copies of every variable drawn on the path but evidence and globals
    (Burda et al. 2016, eq. 8), branch by branch of a labelled mixture."""
    found = torch.zeros((), dtype=torch.float64)
    shown = label(world.model, d.left)
    p, q = world.side(d.left), world.side(d.right)
    ratio = Table(p.names, _log(p.values) - _log(q.over(p.names)))
    opened = list(paths(world.model, d.left))
    if shown is not None and len(opened) != world.size(shown):
        raise Undefined("importance weights over a hidden mixture")
    if shown is None and len(opened) != 1:
        raise Undefined("importance weights over a hidden mixture")
    for share, b in opened:
        at = ratio if shown is None else ratio.at(shown, world.place(shown, b.value or 0))
        found = found + share * _bound(world, b.factors, at, copies)
    return found


def _bound(world: FiniteModel, path: Iterable[Factor], ratio: Table, copies: int) -> Tensor:
    factors = tuple(path)
    shared = [v for f in factors for v in f.outputs if _is_shared(world, f, v)]
    density = product(world.factor(f) for f in factors).summed({*ratio.names, *shared})
    own = [v for v in density.names if v not in shared]
    marginal = density.summed(shared)
    given = Table(density.names, density.values / marginal.over(density.names))
    names = tuple(f"{v}#{k}" for k in range(copies) for v in own)
    drawn = product(
        (marginal, *(given.renamed({v: v if v in shared else f"{v}#{k}" for v in given.names}) for k in range(copies)))
    )
    each = [
        ratio.renamed({v: v if v in shared else f"{v}#{k}" for v in ratio.names}).over((*shared, *names))
        for k in range(copies)
    ]
    shape = torch.broadcast_shapes(*(e.shape for e in each))
    logs = torch.stack([-e.expand(shape) for e in each])
    worth = torch.log(torch.tensor(float(copies), dtype=torch.float64)) - logs.logsumexp(0)
    return mean(drawn, Table((*shared, *names), worth.expand(drawn.over((*shared, *names)).shape)))


def _is_shared(world: FiniteModel, f: Factor, v: str) -> bool:
    return isinstance(world.model.laws[f.law].body, Evidence) or world.model.variable(v).is_global
