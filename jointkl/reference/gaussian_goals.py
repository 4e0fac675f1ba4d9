"""The exact value of what each player minimises in a linear-Gaussian model (docs/language.md, "Goals")."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from jointkl.reference.gaussian import GaussianModel, Path
from jointkl.reference.gaussian_densities import (
    Atom,
    Class,
    Product,
    Values,
    density,
    integral,
    joined,
    marginal,
    mean,
    pair,
    split,
)
from jointkl.reference.goals import EVERYONE, Undefined, scale
from jointkl.reference.players import Player, classifier, label, trains
from jointkl.reference.quadrature import MOST_DIMENSIONS, hermite
from jointkl.semantics.model import Dirac, Divergence, Evidence, Factor, Goal, Hinge

# --- divergences


@dataclass(frozen=True, slots=True)
class Entry:
    """One product on the left with log P - log Q on it, as (sign, atom); `constant` of it is the same everywhere."""

    path: Path
    atoms: tuple[tuple[float, Atom], ...]
    constant: float

    def at(self, values: Values) -> Tensor:
        return self.constant + sum((s * a.at(values) for s, a in self.atoms), torch.zeros((), dtype=torch.float64))


def entries(world: GaussianModel, d: Divergence, size: int) -> Iterator[Entry]:
    """KL(P || Q), one entry for each product on the left."""
    shown = label(world.model, d.left)
    head = tuple(v for v in d.left.head if world.model.space(v).kind != "finite")
    lefts = [split(world, p) for p in world.paths(d.left)]
    rights = [split(world, p) for p in world.paths(d.right)]
    for p in lefts:
        k = p.path.labels.get(shown) if shown is not None else None
        mine = [o for o in lefts if shown is None or o.path.labels.get(shown) == k]
        theirs = [q for q in rights if shown is None or q.path.labels.get(shown, k) == k]
        classes = [(-1.0, c) for q in theirs[:1] for c in _classes(world, q, p.path)]
        if len(theirs) > 1 and any(q.finite for q in theirs):
            raise Undefined("a classifier in a mixture")
        constant = 0.0
        if len(mine) == len(theirs) == 1:
            a, b = pair(world, mine[0], theirs[0], head, size)
            constant = math.log(mine[0].path.share) - math.log(theirs[0].path.share)
        else:
            a, b = (joined(world, parts, head, own, size) for parts, own in ((mine, True), (theirs, False)))
        signed = [*((1.0, atom) for atom in a), *((-1.0, atom) for atom in b)]
        yield Entry(p.path, (*signed, *classes), constant)


def _classes(world: GaussianModel, q: Product, path: Path) -> Iterator[Class]:
    for f in q.finite:
        (v,) = f.outputs
        if v not in path.labels:
            raise Undefined(f"{v} is finite and no label of a mixture")
        yield Class(world, f, world.model.space(v).values.index(path.labels[v]))


def kl(world: GaussianModel, d: Divergence, size: int) -> Tensor:
    found = torch.zeros((), dtype=torch.float64)
    for e in entries(world, d, size):
        drawn = world.drawn(e.path)
        inner = e.constant + sum((s * mean(world, drawn, a) for s, a in e.atoms), torch.zeros((), dtype=torch.float64))
        found = found + e.path.share * inner
    return found


def cross_entropy(world: GaussianModel, d: Divergence, size: int) -> Tensor:
    """E_P[-log Q]."""
    found = torch.zeros((), dtype=torch.float64)
    rights = [split(world, q) for q in world.paths(d.right)]
    head = tuple(v for v in d.right.head if world.model.space(v).kind != "finite")
    for p in world.paths(d.left):
        drawn = world.drawn(p)
        if len(rights) == 1:
            atoms: tuple[Atom, ...] = (
                *density(world, rights[0], head, False, size),
                *_classes(world, rights[0], p),
            )
        else:
            atoms = joined(world, rights, head, False, size)
        found = found - p.share * sum((mean(world, drawn, a) for a in atoms), torch.zeros((), dtype=torch.float64))
    return found


def bound(world: GaussianModel, d: Divergence, copies: int) -> Tensor:
    """E -log mean_K exp(-(log P - log Q)) over K copies of every variable drawn on the path but evidence and
    globals."""
    found = torch.zeros((), dtype=torch.float64)
    each = list(entries(world, d, 1))
    shown = label(world.model, d.left)
    if len({e.path.labels.get(shown) if shown else None for e in each}) < len(each):
        raise Undefined("importance weights over a hidden mixture")
    for e in each:
        drawn = world.drawn(e.path)
        common, own = int(drawn.shared.sum()), int((~drawn.shared).sum())
        if common + copies * own > MOST_DIMENSIONS:
            raise Undefined("too many dimensions to integrate over")
        nodes, weights = hermite(common + copies * own, world.coarse)
        logs: list[Tensor] = []
        for k in range(copies):
            noise = torch.zeros(len(nodes), common + own, dtype=torch.float64)
            noise[:, drawn.shared] = nodes[:, :common]
            noise[:, ~drawn.shared] = nodes[:, common + k * own : common + (k + 1) * own]
            logs.append(-e.at(drawn.at(noise)))
        worth = math.log(copies) - torch.logsumexp(torch.stack(logs), 0)
        found = found + e.path.share * (weights * worth).sum()
    return found


def verdicts(world: GaussianModel, d: Divergence, c: Factor) -> Tensor:
    """What of KL(P || Q) a classifier of Q has a say in: E_P[-log c(k|v)]."""
    found = torch.zeros((), dtype=torch.float64)
    for p in world.paths(d.left):
        (v,) = c.outputs
        place = world.model.space(v).values.index(p.labels[v])
        found = found - p.share * mean(world, world.drawn(p), Class(world, c, place))
    return found


def game(world: GaussianModel, d: Divergence, c: Factor, played: str) -> Tensor:
    """+ log c(k|v) (Su 42), or with the label flipped, - log c(1-k|v) (43), on each branch."""
    shown = label(world.model, d.left)
    assert shown is not None
    space = world.model.space(shown)
    if played != "minimax" and len(space.values) != 2:
        raise Undefined("flipped labels among more than two")
    found = torch.zeros((), dtype=torch.float64)
    for p in world.paths(d.left):
        k = space.values.index(p.labels[shown])
        sign, place = (1.0, k) if played == "minimax" else (-1.0, 1 - k)
        found = found + sign * p.share * mean(world, world.drawn(p), Class(world, c, place))
    return found


def slope(world: GaussianModel, d: Divergence) -> Tensor:
    """E_P ||gradient of the logit in what the classifier sees||^2."""
    (c,) = d.right.joint.branches[0].factors
    if len(world.model.space(c.outputs[0]).values) != 2 or c.at:
        raise Undefined("a slope of more than one logit")

    def square(values: Values) -> Tensor:
        seen = {v: x if x.requires_grad else x.detach().requires_grad_() for v, x in values.items()}
        logits = world.logits(c, seen)
        wanted = [seen[v] for v in c.givens]
        found = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), wanted, create_graph=True)
        return sum((s.square().sum(-1) for s in found), torch.zeros((), dtype=torch.float64))

    return sum(
        (p.share * integral(world, world.drawn(p), c.givens, square) for p in world.paths(d.left)),
        torch.zeros((), dtype=torch.float64),
    )


def moments(world: GaussianModel, d: Divergence) -> Tensor:
    """The closed KL of the Gaussian with the path's mean and variance of each number to N(0, 1)."""
    lefts, rights = ([split(world, p) for p in world.paths(side)] for side in (d.left, d.right))
    if len(lefts) > 1 or len(rights) > 1:
        raise Undefined("moments of a mixture")
    names = [v for f in rights[0].real if f not in lefts[0].real for v in f.outputs]
    for f in rights[0].real:
        if f not in lefts[0].real:
            law = world.law(f)
            standard = (
                not law.slopes and not law.offset.any() and torch.equal(law.cov, torch.eye(len(law.cov)).double())
            )
            if not standard or isinstance(world.model.laws[f.law].body, Evidence):
                raise Undefined("moments against what is no standard normal")
    middle, rows = world.drawn(lefts[0].path).stacked(names)
    spread = rows.square().sum(-1)
    return 0.5 * (middle.square() + spread - 1 - spread.log()).sum()


def divergence(world: GaussianModel, player: Player, goal: Goal, d: Divergence, size: int) -> Tensor:
    """One term, without its weight. Raises `Undefined`."""
    options = goal.options
    if d.name == "R1":
        return slope(world, d)
    if d.name == "CE":
        return cross_entropy(world, d, size)
    if "moments" in options.estimate:
        return moments(world, d)
    c = classifier(world.model, d)
    if c is not None and c.law in player.classifiers:
        return verdicts(world, d, c)
    if options.game is not None and c is not None and player.kind != "referee":
        if options.importance:
            raise Undefined("importance weights in a game are a heuristic")
        return game(world, d, c, options.game)
    if options.importance and player.kind != "referee":
        return bound(world, d, options.importance)
    return kl(world, d, size)


# --- goals


def objective(world: GaussianModel, player: Player, size: int = 1) -> Tensor:
    """What a player minimises: all terms of all goals that train it. `size` is N, for globals. Raises `Undefined`."""
    found = torch.zeros((), dtype=torch.float64)
    for goal in world.model.goals:
        for term in goal.terms:
            if isinstance(term, Hinge):
                worth = _hinge(world, player, goal, term, size)
            elif trains(world.model, player, goal, term):
                worth = float(term.weight) * divergence(world, player, goal, term, size)
            else:
                continue
            found = found + scale(world.model, goal) * worth
    return found


def _hinge(world: GaussianModel, player: Player, goal: Goal, h: Hinge, size: int) -> Tensor:
    """weight * max(0, margin + terms). What does not train the player is a number in it."""
    moving = [trains(world.model, player, goal, d) for d in h.terms]
    if not any(moving):
        return torch.zeros((), dtype=torch.float64)
    inside = torch.tensor(float(h.margin), dtype=torch.float64)
    for d, moves in zip(h.terms, moving, strict=True):
        worth = float(d.weight) * divergence(world, player if moves else EVERYONE, goal, d, size)
        inside = inside + (worth if moves else worth.detach())
    return float(h.weight) * inside.relu()


def kept_near(world: GaussianModel, player: Player) -> Tensor:
    """What `proximal=dirac(lam)` changes away from the snapshot: on each branch lam E||G(z) - G_old(z)||^2 stands in
    place of KL(branch || old branch), the referees at the snapshot's optimum. Raises `Undefined`."""
    found = torch.zeros((), dtype=torch.float64)
    before = GaussianModel(world.model, world.before, world.before, world.evidence)
    for goal in world.model.goals:
        lam = float(goal.options.dirac)
        for d in goal.terms if goal.options.proximal == "dirac" else ():
            if isinstance(d, Hinge) or not trains(world.model, player, goal, d):
                raise Undefined("a hinge or a stranger under proximal=dirac")
            head = tuple(v for v in d.left.head if world.model.space(v).kind != "finite")
            for p in world.paths(d.left):
                now, then = world.drawn(p), before.drawn(p)
                diracs = [f for f in p.factors if isinstance(world.model.laws[f.law].body, Dirac)]
                for f in diracs:
                    (mean, rows), (was, were) = now.stacked(f.outputs), then.stacked(f.outputs)
                    squares = (mean - was).square().sum() + (rows - were).square().sum()
                    (own,), (old,) = (marginal(w, split(world, p), head) for w in (world, before))
                    change = lam * squares - own.mean(now) + old.mean(now)
                    found = found + scale(world.model, goal) * float(d.weight) * p.share * change
    return found
