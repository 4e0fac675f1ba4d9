"""What each goal is audited against: divergences from the joints themselves, never from the derivation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from jointkl.audit.tables import Table, aligned, product, spread, summed
from jointkl.audit.world import World
from jointkl.derivation.players import Player, classifier, trains
from jointkl.semantics.model import Divergence, Evidence, Factor, Goal, Hinge

COPIES = 2
"""Importance-weighted copies in a small world: the bound's derivation does not depend on their number."""


def target(world: World, player: Player, goal: Goal) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for term in goal.terms:
        if isinstance(term, Hinge):
            inside = [d for d in term.terms if trains(world.derivation.model, player, goal, d)]
            if inside:
                value = float(term.margin) + sum(_divergence(world, player, goal, d) for d in term.terms)
                total = total + float(term.weight) * torch.as_tensor(value).relu()
        elif trains(world.derivation.model, player, goal, term):
            total = total + _divergence(world, player, goal, term)
    return total


def _divergence(world: World, player: Player, goal: Goal, d: Divergence) -> Tensor:
    weight = float(d.weight)
    if d.name == "CE":
        return weight * _cross_entropy(world, d)
    left = d.left.joint
    labels = len(left.branches) if left.label in d.left.head else 1
    options = goal.options
    if "moments" in options.estimate:
        return weight * moment_kl(world, world.side(d.left))
    c = classifier(world.derivation.model, d)
    if c is not None and options.game is not None and player.kind != "classifier":
        return weight * labels * _game(world, d, c, options.game)
    if options.importance and player.kind != "classifier":
        return weight * _importance_bound(world, d)
    return weight * labels * _kl(world, d)


def _kl(world: World, d: Divergence) -> Tensor:
    """sum over the head of P (log P - log Q), evidence and Diracs as the tables they are."""
    p = world.side(d.left)
    q = aligned(spread(world.side(d.right), p.names, world.size), p.names)
    return (p.values * (p.values.log() - q.values.log())).sum()


def _cross_entropy(world: World, d: Divergence) -> Tensor:
    p = world.side(d.left)
    factors = [world.law(f) for b in d.right.joint.branches for f in b.factors]
    if len(d.right.joint.branches) > 1:
        q = world.side(d.right)
    else:
        whole = product(factors)
        givens = {v for b in d.right.joint.branches for f in b.factors for v in f.givens}
        q = summed(whole, set(d.right.head) | givens)
    density = aligned(summed(p, set(q.names)), q.names)
    return -(density.values * q.values.log()).sum()


def _game(world: World, d: Divergence, c: Factor, game: str) -> Tensor:
    """minimax: sum_k w_k KL(branch_k || m), each over what c sees; nonsaturating: KL(m || other), own branch moving."""
    names = (*c.givens, *c.outputs)
    both = aligned(summed(world.side(d.left), set(names)), names).values
    m = both.sum(-1, keepdim=True)
    if game == "minimax":
        share = both.flatten(0, -2).sum(0)
        return (both * (both.log() - m.log() - share.log())).sum()
    total = torch.zeros((), dtype=torch.float64)
    for k in range(both.shape[-1]):
        mine, other = both[..., k], both[..., 1 - k].detach()
        mixed = mine + other
        total = total + (mixed * (mixed.log() - (other / other.sum()).log())).sum()
    return total


def _importance_bound(world: World, d: Divergence) -> Tensor:
    """E -log mean_K q(x, z_k)/p(z_k | x), from the joints themselves."""
    p, q = world.side(d.left), world.side(d.right)
    q = aligned(spread(q, p.names, world.size), p.names)
    model = world.derivation.model
    factors = d.left.joint.branches[0].factors
    shared = {v for f in factors if isinstance(model.laws[f.law].body, Evidence) for v in f.outputs}
    evidence = summed(p, shared)
    x = aligned(spread(evidence, p.names, world.size), p.names)
    log_ratio = Table(p.names, (p.values / x.values).log() - q.values.log())
    return copies(world, factors, log_ratio)


def copies(world: World, path: Sequence[Factor], total: Table) -> Tensor:
    model = world.derivation.model
    shared = {v for f in path if isinstance(model.laws[f.law].body, Evidence) for v in f.outputs}
    density = product([world.law(f) for f in path])
    wanted = {v for v in total.names} | shared
    density = summed(density, wanted)
    evidence = summed(density, shared)
    drawn = tuple(v for v in density.names if v not in shared)
    log_ratio = aligned(spread(total, density.names, world.size), density.names)
    kept = tuple(sorted(shared))
    p = aligned(density, (*kept, *drawn)).values
    r = aligned(log_ratio, (*kept, *drawn)).values
    n = math.prod(p.shape[len(kept) :]) if drawn else 1
    p, r = p.reshape(-1, n), r.reshape(-1, n)
    x = aligned(evidence, kept).values.reshape(-1, 1)
    given = p / x
    pairs = given[:, :, None] * given[:, None, :]
    bound = -torch.logsumexp(
        torch.stack([(-r[:, :, None]).expand_as(pairs), (-r[:, None, :]).expand_as(pairs)]), 0
    ) + math.log(COPIES)
    return (x[:, :, None] * pairs * bound).sum()


def moment_kl(world: World, marginal: Table) -> Tensor:
    """KL of N(mean, var) from N(0, 1), the variable's values being -1, 0, 1, ..."""
    points = torch.arange(len(marginal.values), dtype=torch.float64) - 1.0
    mean = (marginal.values * points).sum()
    var = (marginal.values * (points - mean) ** 2).sum()
    return 0.5 * (mean**2 + var - 1 - var.log())
