"""Classifiers and critics: their losses, the samples that a critic is trained on, and both at their optimum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from jointkl.audit import weights
from jointkl.audit.case import Case, gradient
from jointkl.audit.expectation import TooMany
from jointkl.audit.findings import EXACT
from jointkl.reference.laws import FiniteModel, points
from jointkl.reference.players import Player, classifier, divergences, label, trainables
from jointkl.reference.tables import Table
from jointkl.reference.values import value
from jointkl.semantics.model import (
    Constant,
    Distribution,
    Factor,
    Goal,
    Indexed,
    Joint,
    NetCall,
    Operation,
    ParameterRef,
    Value,
    VariableRef,
    base,
)

STEPS = 4
"""Least squares are exact at the first where the log odds are linear."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The densities of the samples labelled 1 and of those labelled 0, at each input of a critic."""

    reference: Tensor
    moving: Tensor


def samples(case: Case, name: str, player: Player, goal: Goal) -> Samples | None:
    """What a critic is trained on. None where that cannot be told."""
    assert goal.options.critic is not None
    try:
        return _read(case, name, player, goal.options.critic[0])
    except TooMany:
        return _whole(case, goal)


def _read(case: Case, name: str, player: Player, critic: str) -> Samples:
    """Read off the gradient of the module's loss in the critic's table.

    Of -E_r log sigma(l) - E_m log sigma(-l) the gradient in l(v) is m(v) sigma(l) - r(v) sigma(-l): two values of l
    tell r and m apart. What the player minimises besides is taken off.
    """
    table, gates = weights.last(case.program, critic), weights.gate_values(case.program, critic)
    kept = [p.detach().clone() for p in table.parameters()]
    slopes: list[Tensor] = []
    levels = [torch.tensor(v, dtype=torch.float64) for v in (0.0, 1.0)]
    try:
        for logit in levels:
            with torch.no_grad():
                table.weight.zero_()
                table.bias.fill_(float(logit))
            whole = gradient(case.expected(case.loss(name)), [table.weight])
            slopes.append(((whole - gradient(case.exact(player), [table.weight]))[: len(gates)]) / gates)
    finally:
        with torch.no_grad():
            for p, before in zip(table.parameters(), kept, strict=True):
                p.copy_(before)
    (a, b), (s, t) = slopes, (v.sigmoid() for v in levels)
    both = (b - a) / (t - s)  # m + r
    reference = s * both - a
    return Samples(reference, both - reference)


def _whole(case: Case, goal: Goal) -> Samples | None:
    """Where a critic sees the whole head, and nothing beside it has a density: the joints themselves, the second as the
    reference."""
    assert goal.options.critic is not None
    net, values = goal.options.critic
    d = next(iter(divergences(goal)))
    names = sorted(d.left.head, key=lambda v: (list(case.model.variables).index(base(v)), v))
    factors = [f for side in (d.left, d.right) for b in side.joint.branches for f in b.factors]
    apart = any(
        isinstance(case.model.laws[f.law].body, Distribution) and set(f.variables) <= set(names) for f in factors
    )
    if values or apart or len(list(divergences(goal))) > 1 or len(names) != len(case.model.nets[net].inputs):
        return None
    world = case.world()
    p, q = (world.side(side).over(names).detach().reshape(-1) for side in (d.left, d.right))
    return Samples(q, p)


def logits(case: Case, goal: Goal) -> Tensor:
    """A critic's value at each of its inputs, differentiable in all that it is made of."""
    assert goal.options.critic is not None
    net, values = goal.options.critic
    model, now = case.model, weights.now(case.program)
    if not values:
        rows = [torch.tensor([b for b, _ in x], dtype=torch.float64) for x in weights.inputs(case.program, net)]
        return torch.stack([now.layers[net](x.unsqueeze(0)).reshape(()) for x in rows])
    names = tuple(dict.fromkeys(v for each in values for v in variables(each)))
    found: list[Tensor] = []
    for chosen in itertools.product(*(points(model.space(v)) for v in names)):
        at = dict(zip(names, chosen, strict=True))
        found.append(value(model, now, NetCall(net, values), at).reshape(()))
    return torch.stack(found)


def variables(v: Value) -> Iterator[str]:
    match v:
        case VariableRef(name=name):
            yield name
        case NetCall(inputs=inner) | Operation(operands=inner):
            for i in inner:
                yield from variables(i)
        case Indexed(value=inner, indices=indices):
            for i in (inner, *indices):
                yield from variables(i)
        case Constant() | ParameterRef():
            return


def logistic(logit: Tensor, s: Samples) -> Tensor:
    """-E_r log sigma(l) - E_m log sigma(-l)."""
    return -(s.reference * logsigmoid(logit)).sum() - (s.moving * logsigmoid(-logit)).sum()


def critics(case: Case, player: Player) -> Iterator[Goal]:
    """The goals whose critic a player holds, one for each critic."""
    seen: set[str] = set()
    for goal in case.model.goals:
        if goal.options.critic is not None and goal.options.critic[0] in player.critics - seen:
            seen.add(goal.options.critic[0])
            yield goal


def optimise_critic(case: Case, goal: Goal, s: Samples) -> None:
    """l = log r - log m in the critic's table."""
    assert goal.options.critic is not None
    critic = goal.options.critic[0]
    table, gates = weights.last(case.program, critic), weights.gate_values(case.program, critic)
    with torch.no_grad():
        table.weight.zero_()
        table.bias.zero_()
        table.weight[0, : len(gates)] = (s.reference.log() - s.moving.log()) / gates


# --- classifiers


def classifiers(case: Case, player: Player) -> Iterator[tuple[Factor, Table]]:
    """Each classifier of a player with its optimum c(k|v): the share of the samples at v that branch k drew."""
    seen: set[str] = set()
    for goal in case.model.goals:
        for d in divergences(goal):
            c = classifier(case.model, d)
            if c is None or c.law in seen or c.law not in player.classifiers:
                continue
            seen.add(c.law)
            world = case.world()
            shown = label(case.model, d.left)
            both = world.side(d.left).summed((*c.givens, *c.outputs))
            assert shown is not None
            joint = both.over((*c.givens, shown)).detach()
            yield c, Table((*c.givens, shown), joint / joint.sum(-1, keepdim=True))


def optimise_classifier(case: Case, player: Player, c: Factor, best: Table) -> float:
    """Set the player's tables so that the classifier is the best one; how far its probabilities still are from it.

    Its log odds are linear in the last layers and params that it is made of: least squares, and a second step for what
    is linear in its neighbourhood alone.
    """
    own = _adjustable(case, player, trainables(case.model, c.law))
    wanted = best.values.log()
    error = math.inf
    for _ in range(STEPS):
        found = _log_table(case.world(), c, best.names)
        error = (found.exp() - best.values).abs().max().item()
        if error < EXACT / 1000 or not own:
            break
        odds = (found - found[..., :1])[..., 1:].flatten()
        rest = (wanted - wanted[..., :1])[..., 1:].flatten() - odds.detach()
        slopes = torch.autograd.grad(odds, own, torch.eye(len(odds), dtype=odds.dtype), is_grads_batched=True)
        rows = torch.cat([g.reshape(len(odds), -1) for g in slopes], 1)
        step = torch.linalg.lstsq(rows, rest.unsqueeze(-1), driver="gelsd").solution.squeeze(-1)
        with torch.no_grad():
            for p, part in zip(own, step.split([p.numel() for p in own]), strict=True):
                p.add_(part.reshape(p.shape))
    return error


def _adjustable(case: Case, player: Player, members: frozenset[str]) -> list[Tensor]:
    """The last layers and params among what a classifier is made of, but for trunks and what other laws are made of."""
    inside = {c.net for c in weights.nested(case.model)}
    others = [law for law in case.model.laws if law not in player.classifiers]
    inside |= {
        m for law in others if not isinstance(case.model.laws[law].body, Joint) for m in trainables(case.model, law)
    }
    found: list[Tensor] = []
    for m in sorted(members - inside):
        if m in case.program.emitted.nets:
            found += list(weights.last(case.program, m).parameters())
        elif m in case.program.emitted.params:
            found.append(weights.raw(case.program, case.program.emitted.params[m]))
    return found


def _log_table(world: FiniteModel, c: Factor, names: Sequence[str]) -> Tensor:
    return world.factor(c).over(names).log()
