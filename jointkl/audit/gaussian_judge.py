"""The emitted module of a linear-Gaussian instance against the reference: gradients along reparameterised paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from jointkl import compiler
from jointkl.audit import gaussian_case
from jointkl.audit.case import Broken, apart, gradient
from jointkl.audit.findings import Finding
from jointkl.audit.gaussian_case import GaussianCase, grid_gradient, made
from jointkl.audit.gaussian_instance import instance, widens
from jointkl.audit.making import NoInstance
from jointkl.audit.noise import Unmeasured
from jointkl.diagnostics import JklError
from jointkl.program import Program
from jointkl.reference import gaussian_goals
from jointkl.reference.goals import Undefined
from jointkl.reference.players import Player
from jointkl.semantics.model import Goal, Model

GAUSSIAN = "Gaussian"

CLOSE = 1e-6
"""Gauss-Hermite sums agree to this, relative to the size of what is compared."""

SUSPECT = 4.0
"""Standard errors beyond which ten times as many rows are asked."""


def audit(model: Model, seed: int = 0, lets: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """The findings on a linear-Gaussian instance of a spec, whose constants `lets` overrides: of vectors, or of numbers
    where that leaves a part unjudged."""
    found: tuple[Finding, ...] = ()
    for wide in (True, False) if widens(model) else (False,):
        found = _audited(model, wide, seed, lets)
        if all(f.error is not None for f in found):
            break
    return found


def _audited(model: Model, wide: bool, seed: int, lets: Mapping[str, str] | None) -> tuple[Finding, ...]:
    try:
        program = compiler.compile(compiler.parse(instance(model, wide=wide), "<instance>", lets)).double()
    except NoInstance as reason:
        return (_marked(Finding("-", "the spec", None, str(reason))),)
    except JklError as error:
        return (_marked(Finding("-", "the spec", None, f"its instance is refused: {error.reports[0].message}")),)
    except Exception as error:  # what is accepted must compile
        told = f"{type(error).__name__}: {error}".splitlines()[0]
        return (_marked(Finding("-", f"the compiler fails on its instance: {told}", math.inf)),)
    return tuple(verdicts(program, seed))


def verdicts(program: Program, seed: int = 0) -> Iterator[Finding]:
    """What is found of a program all of whose laws are linear-Gaussian."""
    yield from map(_marked, _verdicts(made(program, seed), seed))


def _marked(f: Finding) -> Finding:
    return replace(f, instance=GAUSSIAN, within=CLOSE)


def _verdicts(case: GaussianCase, seed: int) -> Iterator[Finding]:
    everyone = [(name or "+".join(sorted(p.members)), p) for name, p in case.players()]
    missing = ""
    for name, player in everyone:
        if player.kind == "referee":
            found, why = _referee(case, name, player)
            yield from found
            missing = missing or why
    for name, player in everyone:
        if player.kind == "other":
            yield Finding(name, "gradient", None, missing) if missing else _tried(case, name, player, "gradient")
    others = [(name, p) for name, p in everyone if p.kind == "other"]
    if not missing and any(g.options.proximal == "dirac" for g in case.model.goals) and len(others) == 1:
        yield _near(case, *others[0])
    if all(p.kind == "other" for _, p in everyone):
        gaussian_case.scatter(case.program, seed + 77)
        for name, player in everyone:
            yield _tried(case, name, player, "away from the snapshot")


def _near(case: GaussianCase, name: str, player: Player) -> Finding:
    """`proximal=dirac` away from the snapshot, at which it has no gradient: classifiers stay where they were best."""
    what = "proximal, away from the snapshot"
    own = case.parameters(player)
    with torch.no_grad():
        for k, p in enumerate(own):
            p.add_(0.1 * torch.cos(torch.arange(p.numel(), dtype=p.dtype) + k).reshape(p.shape))

    def exact(coarse: bool) -> Tensor:
        return case.exact(player)(coarse) + gaussian_goals.kept_near(case.world(coarse), player)

    return _attempt(name, what, lambda: _loss(case, name, player, what, grid_gradient(exact, own)))


def _tried(case: GaussianCase, name: str, player: Player, what: str) -> Finding:
    """A player's expected gradient against the exact one, or why there is none."""
    own = case.parameters(player)
    return _attempt(name, what, lambda: _loss(case, name, player, what, grid_gradient(case.exact(player), own)))


def _attempt(name: str, what: str, judge: Callable[[], Finding]) -> Finding:
    try:
        return judge()
    except Broken as error:
        return Finding(name, f"{what}: {error}", math.inf)
    except (Undefined, Unmeasured) as reason:
        return Finding(name, what, None, str(reason))


def _loss(case: GaussianCase, name: str, player: Player, what: str, exact: Tensor, least: float = 1e-3) -> Finding:
    """Who has no loss must have nothing to gain."""
    own = case.parameters(player)
    if name not in case.program.emitted.losses:
        return Finding(name, f"{what}: no loss", apart(exact, torch.zeros_like(exact), 1.0))
    dropped = [g for g in case.model.goals if g.options.drop]
    why = "`drop` leaves out a residual" if dropped and player.kind == "other" else ""
    for more in (False, True):
        found = case.runner.measured(case.loss(name), own, least, more)
        if found.error is None:
            return Finding(name, what, apart(found.value, exact, least), why)
        deviation = found.deviation(exact)
        if deviation < SUSPECT or why:
            break
    return Finding(name, what, deviation, why, deviates=True)


# --- classifiers and critics


def _referee(case: GaussianCase, name: str, player: Player) -> tuple[list[Finding], str]:
    """A classifier wherever it stands; then it, or a critic, at its optimum; why it could not be put there."""
    found: list[Finding] = []
    if not player.critics:
        found.append(_tried(case, name, player, "gradient"))
    try:
        gaussian_case.optimise_classifiers(case, player)
        for goal in gaussian_case.critics(case, player):
            found += _critic(case, name, player, goal)
    except (Undefined, Unmeasured) as reason:
        return found, f"{name} has no exact optimum: {reason}"
    except Broken as error:
        return [*found, Finding(name, f"loss: {error}", math.inf)], f"{name} has no loss"
    return found, ""


def _critic(case: GaussianCase, name: str, player: Player, goal: Goal) -> Iterator[Finding]:
    assert goal.options.critic is not None
    critic = goal.options.critic[0]
    s = gaussian_case.samples(case, name, critic)
    gaussian_case.optimise_critic(case, goal, s)
    sums = torch.tensor([sum(share for share, _ in part) for part in (s.reference, s.moving)])
    yield Finding(name, f"{critic}: one logistic loss", apart(sums, torch.ones_like(sums)))
    own = case.parameters(player)
    none = gradient(torch.zeros(()), own)
    what = f"{critic} at the optimum: stationary"
    yield _attempt(name, what, lambda: _loss(case, name, player, what, none, 1.0))
