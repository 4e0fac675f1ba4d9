"""The derivation checked in numbers: every player's derived gradient against autograd of the exact target.

The spec's factor graph is instantiated in small finite worlds: each variable takes a few values, each law is a table
whose logits depend on what its networks and params are called, so that laws that share a network share parameters.
There every divergence is an exact sum, a classifier's optimum and a critic's ratio are known, and the expected gradient
of a derived loss (pathwise, by the score function or by enumeration alike) is that of a finite sum. What is checked is
the derivation of this spec, not the code emitted for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jointkl.audit.tables import MOST_STATES, Table, TooLarge, added_all, aligned, detached, product, scaled, summed
from jointkl.audit.targets import COPIES, copies, moment_kl, target
from jointkl.audit.world import VALUES, World
from jointkl.derivation.derive import Derivation
from jointkl.derivation.expr import Entry, Inside, Moments, Penalty
from jointkl.derivation.players import Player, divergences, trains
from jointkl.semantics.model import Divergence, Goal

WORLDS = 3
"""Random worlds per spec."""

TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Finding:
    """One player's gradient of one goal: its largest error over the worlds, relative to the gradient's size."""

    player: str
    goal: int
    target: str
    error: float | None
    why: str = ""
    """Why it is not audited, or why a failure is expected."""

    @property
    def met(self) -> bool:
        return self.error is not None and self.error < TOLERANCE

    @property
    def verdict(self) -> str:
        if self.error is None:
            return f"not audited: {self.why}"
        if self.met:
            return "met"
        return f"not met, as expected: {self.why}" if self.why else "NOT MET"

    @property
    def failed(self) -> bool:
        """A failure that nothing in the spec asks for."""
        return self.error is not None and not self.met and not self.why


def audit(derivation: Derivation, seed: int = 0) -> tuple[Finding, ...]:
    """The findings for every player and goal, over `WORLDS` random worlds."""
    findings: list[Finding] = []
    for player in derivation.facts.players:
        for number, goal in enumerate(derivation.model.goals):
            entries = [e for e in derivation.losses[player.name] if e.goal == number]
            targeted = [t for t in divergences(goal) if trains(derivation.model, player, goal, t)]
            if not entries and not targeted:
                continue
            findings.append(_finding(derivation, player, number, goal, entries, seed))
    return tuple(findings)


def _finding(
    derivation: Derivation, player: Player, number: int, goal: Goal, entries: list[Entry], seed: int
) -> Finding:
    target, why = _stated(derivation, player, goal, entries)
    if why:
        return Finding(player.name, number, target, None, why)
    worst = 0.0
    try:
        for k in range(WORLDS):
            world = World(derivation, seed + k, player)
            derived, exact = _gradients(world, player, number, goal, entries)
            size = max(exact.abs().max().item(), derived.abs().max().item(), 1e-3)
            worst = max(worst, (derived - exact).abs().max().item() / size)
    except TooLarge:
        return Finding(player.name, number, target, None, f"more than {MOST_STATES:,} states")
    biased = goal.options.drop and player.kind == "other"
    return Finding(player.name, number, target, worst, "`drop` leaves out a residual" if biased else "")


def _stated(derivation: Derivation, player: Player, goal: Goal, entries: Sequence[Entry]) -> tuple[str, str]:
    """The target's name, and why it is not audited if it is not."""
    options = goal.options
    if player.kind == "free":
        return "the exact minimiser", ""
    if player.kind == "critic" and goal.options.critic and goal.options.critic[0] in player.members:
        return "the density ratio", ""
    if any(isinstance(t.atom, Penalty) for e in entries for t in e.terms):
        return "the gradient penalty", "a slope has no meaning among finitely many values"
    if any(e.softmax is not None for e in entries):
        return "none", "a heuristic"
    if player.kind == "classifier":
        return "joint KL", ""
    if options.importance:
        return f"the importance bound ({COPIES} copies)", ""
    if options.game == "minimax":
        return "2 JSD", ""
    if options.game == "nonsaturating":
        return "KL(m || other branch)", ""
    if "moments" in options.estimate:
        return "the moment KL", ""
    if all(isinstance(t, Divergence) and t.name == "CE" for t in goal.terms):
        return "cross-entropy", ""
    return "joint KL", ""


def text(name: str, findings: Sequence[Finding]) -> str:
    """The findings as a table: player, goal, target, error, verdict."""
    rows = [("player", "goal", "target", "error", "verdict")]
    rows += [
        (f.player, str(f.goal + 1), f.target, "-" if f.error is None else f"{f.error:.1e}", f.verdict) for f in findings
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
    worlds = f"{name}: {WORLDS} random worlds, {VALUES} values a variable, float64; errors relative to the gradient"
    return "\n".join([worlds, *(f"  {line}" for line in lines)])


def _gradients(
    world: World, player: Player, number: int, goal: Goal, entries: Sequence[Entry]
) -> tuple[Tensor, Tensor]:
    """The derived gradient and the exact one, flattened over what the player trains."""
    if player.kind == "free":
        return _free_gradients(world, player, number)
    if player.kind == "critic" and goal.options.critic and goal.options.critic[0] in player.members:
        return _critic_gradients(world, player, goal.options.critic[0])
    weights = [world.theta[m] for m in player.members if m in world.theta]
    return _grad(_derived(world, entries), weights), _grad(target(world, player, goal), weights)


def _grad(value: Tensor, weights: Sequence[Tensor]) -> Tensor:
    if not value.requires_grad:
        return torch.zeros(4 * len(weights), dtype=torch.float64)
    found = torch.autograd.grad(value, weights, allow_unused=True)
    return torch.cat([torch.zeros(4, dtype=torch.float64) if g is None else g for g in found])


def _free_gradients(world: World, player: Player, number: int) -> tuple[Tensor, Tensor]:
    """At a Free law's solution the divergence has no gradient in its logits."""
    entry = next(e for e in world.derivation.losses[player.name] if e.goal == number)
    solved = detached(world.solution(entry))
    logits = solved.values.log().requires_grad_()
    world.overrides[player.laws[0]] = Table(solved.names, logits.softmax(-1))
    goal = world.derivation.model.goals[number]
    (found,) = torch.autograd.grad(target(world, player, goal), [logits])
    return found.flatten(), torch.zeros_like(found).flatten()


def _critic_gradients(world: World, player: Player, critic: str) -> tuple[Tensor, Tensor]:
    """At l = log reference/moving the logistic loss has no gradient in l."""
    up, down = world.critic_samples(player, critic)
    logit = world.ratios[critic].values.clone().requires_grad_()
    sigmoid = torch.nn.functional.logsigmoid
    loss = -(up.values.detach() * sigmoid(logit) + aligned(down, up.names).values.detach() * sigmoid(-logit)).sum()
    (found,) = torch.autograd.grad(loss, [logit])
    return found.flatten(), torch.zeros_like(found).flatten()


def _derived(world: World, entries: Sequence[Entry]) -> Tensor:
    """The derived loss as an exact sum whose gradient is the expected gradient of the emitted one."""
    total = torch.zeros((), dtype=torch.float64)
    hinges: dict[Inside, Tensor] = {}
    for e in entries:
        value = float(e.weight) * _expected(world, e)
        if e.hinge is None:
            total = total + value
        else:
            hinges[e.hinge] = hinges.get(e.hinge, torch.tensor(float(e.hinge.margin), dtype=torch.float64)) + value
    for hinge, value in hinges.items():
        total = total + float(hinge.weight) * value.relu()
    return total


def _expected(world: World, e: Entry) -> Tensor:
    path = product([world.law(f) for f in e.path])
    for w in e.weights:
        weight = world.atom(w, e)
        path = product([path, Table(weight.names, weight.values.exp())])
    if e.importance:
        return _bound(world, e, path)
    total = torch.zeros((), dtype=torch.float64)
    for t in e.terms:
        if isinstance(t.atom, Moments):
            total = total + float(t.coefficient) * moment_kl(world, summed(path, {t.atom.variable}))
            continue
        under = detached(path) if t.detached else path
        total = total + float(t.coefficient) * _mean(world, under, world.atom(t.atom, e))  # N = 1: 1/N counts 1
    return total


def _mean(world: World, path: Table, values: Table) -> Tensor:
    density = summed(path, set(values.names))
    return (aligned(density, values.names).values * values.values).sum()


def _bound(world: World, e: Entry, path: Table) -> Tensor:
    """E -log mean exp(-sum) over `COPIES` draws of what the path draws given its evidence."""
    total = added_all([scaled(world.atom(t.atom, e), float(t.coefficient)) for t in e.terms])
    return copies(world, e.path, total)
