"""The losses and closed steps of a spec as it is written, over some data: exact where its paths draw evidence, finite
variables and Diracs alone.

A slope has no meaning on a finite instance. What R1 adds to a loss is what the loss has over that of the spec without
it, the same numbers drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from jointkl import compiler
from jointkl.audit.case import Case, apart, batch_rows, broken, gradient
from jointkl.audit.expectation import Batch, TooMany, expected
from jointkl.audit.findings import Finding
from jointkl.audit.written import ROWS, STEPPED, Spec, judged, made, weights
from jointkl.diagnostics import JklError
from jointkl.program import Program
from jointkl.reference.goals import Undefined, scale
from jointkl.reference.players import Player, trains
from jointkl.reference.written import objective, term_value, trained
from jointkl.semantics.model import Divergence, Goal, Model

MOST_NUMBERS = 400_000
"""A network with more numbers than this is not asked for its gradients."""


def players(program: Program, seed: int = 0) -> Iterator[Finding]:
    """Free laws at their solutions, gradients, then closed steps, of a program in double precision, whose weights are
    set anew."""
    with torch.random.fork_rng([]):
        spec = made(program, seed)
        case = Case(program, {}, 1, weights(program))
        everyone = [(name, p) for name, p in case.players() if name and trained(spec.model, p)]
        yield from _players(spec, case, everyone)


def _players(spec: Spec, case: Case, everyone: list[tuple[str, Player]]) -> Iterator[Finding]:
    for name, player in everyone:
        if player.kind == "free":
            yield judged(name, "solution: stationary", _solution, spec, player)
    for name, player in everyone:
        if name in spec.program.emitted.losses and sum(p.numel() for p in case.parameters(player)) <= MOST_NUMBERS:
            yield judged(name, "gradient over data", _gradient, spec, case, name, player)
    yield from _slopes(spec, case, everyone)
    for name, player in everyone:
        if player.kind == "other" and name in spec.program.emitted.solutions:
            yield judged(name, "closed step: stationary", _step, spec, case, name, player)


def _solution(spec: Spec, player: Player) -> float:
    spec.known.clear()
    exact = objective(spec.reference(max(ROWS)), player)
    slope = gradient(exact, list(spec.known.values()))
    return apart(slope, torch.zeros_like(slope), 1.0)


def _gradient(spec: Spec, case: Case, name: str, player: Player) -> float:
    """Batches of several sizes; not fewer rows than the goals' copies need."""
    worst = 0.0
    own = case.parameters(player)
    least = batch_rows(spec.model)
    for n in (n for n in ROWS if n >= least):
        exact = gradient(objective(spec.reference(n), player), own)
        batch = spec.batch(n)

        def loss(_: Batch, batch: Batch = batch) -> Tensor:
            try:
                return spec.program.loss(name, batch)
            except Exception as error:  # whatever is emitted, it must not fail
                raise broken(error) from error

        try:
            found = gradient(expected(loss, ()), own)
        except TooMany:
            if n == min(ROWS):
                raise
            continue
        worst = max(worst, apart(found, exact))
    return worst


def _step(spec: Spec, case: Case, name: str, player: Player) -> float:
    """After a closed step the goal has no gradient, the Free laws as they were."""
    own = case.parameters(player)
    spec.known.clear()
    before = gradient(objective(spec.reference(), player), own).abs().max().item()
    _verify_determined(spec)
    try:
        spec.program.solve(name, spec.batch(STEPPED))
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise Undefined("too few data to determine the step") from error
    except Exception as error:  # whatever is emitted, it must not fail
        raise broken(error) from error
    slope = gradient(objective(spec.reference(), player), own)
    return apart(slope, torch.zeros_like(slope), max(before, 1.0))


def _verify_determined(spec: Spec) -> None:
    """Each value of a Free law has more data than a scale, or a covariance of theirs, needs. Raises `Undefined`."""
    sizes = [p.space.dims[-1] for p in spec.model.params.values() if p.space.kind == "cholesky"]
    widest = max(sizes, default=1)
    shares: dict[object, Tensor] = {}
    for (law, *_), logits in spec.known.items():
        shares[law] = shares.get(law, torch.zeros(())) + logits.detach().softmax(-1)
    if any(float(share.min()) < widest + 2 for share in shares.values()):
        raise Undefined("too few data to determine the step")


# --- R1


def _slopes(spec: Spec, case: Case, everyone: list[tuple[str, Player]]) -> Iterator[Finding]:
    for goal in spec.model.goals:
        for d in goal.terms:
            if not isinstance(d, Divergence) or not d.row.penalty:
                continue
            for name, player in everyone:
                if trains(spec.model, player, goal, d):
                    yield judged(name, "R1 over data", _slope, spec, case, name, player, goal, d)


def _slope(spec: Spec, case: Case, name: str, player: Player, goal: Goal, d: Divergence) -> float:
    try:
        other = compiler.compile(_without(spec.model, goal, d)).double().eval()
    except JklError as error:
        raise Undefined("without it the spec is refused") from error
    if name not in other.emitted.losses:
        raise Undefined("it is all of the loss")
    other.load_state_dict(spec.program.state_dict(), strict=False)
    n = max(ROWS)
    own, theirs = case.parameters(player), Case(other, {}, 1, case.before).parameters(player)
    term = float(d.weight) * term_value(spec.reference(n), player, goal, d)
    exact = gradient(scale(spec.model, goal) * term, own)
    try:
        whole, rest = (
            gradient(_drawn_alike(p, name, spec.batch(n)), q) for p, q in ((spec.program, own), (other, theirs))
        )
    except Exception as error:  # whatever is emitted, it must not fail
        raise broken(error) from error
    return apart(whole - rest, exact)


def _without(model: Model, goal: Goal, d: Divergence) -> Model:
    left = replace(goal, terms=tuple(t for t in goal.terms if t is not d))
    goals = tuple(left if g is goal else g for g in model.goals)
    return replace(model, goals=tuple(g for g in goals if g.terms))


def _drawn_alike(program: Program, name: str, batch: Batch) -> Tensor:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return program.loss(name, batch)
