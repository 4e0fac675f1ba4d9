"""The audit of a spec: its emitted module against the reference, player by player.

The module judged is that of an instance of the spec, compiled by the very compiler under judgement: of a finite one
(`instance`), judged here, and of a linear-Gaussian one (`gaussian_judge`). Its losses are taken in their exact
expectation (`expectation`), and so are their gradients; what they should be is summed up from the joints alone
(`jointkl.reference`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import replace

import torch
from torch import Tensor

from jointkl import compiler
from jointkl.audit import gaussian_judge, over_data, referees, solutions, weights, written
from jointkl.audit.case import DATA_SIZE, Broken, Case, apart, broken, gradient, made
from jointkl.audit.expectation import Batch, Draws, Quantiles, TooMany, drawn_by, whole
from jointkl.audit.findings import EXACT, Finding, summed
from jointkl.audit.instance import instance
from jointkl.audit.making import NoInstance
from jointkl.audit.programs import programs
from jointkl.audit.sampling import sampling
from jointkl.diagnostics import JklError
from jointkl.objective.share import Passes
from jointkl.program import Program
from jointkl.reference import goals
from jointkl.reference.goals import Undefined
from jointkl.reference.laws import NotFinite
from jointkl.reference.players import Player
from jointkl.reference.tables import TooLarge
from jointkl.semantics.model import Goal, Hinge, Model

REASONS = {TooLarge: "more states than can be summed over", TooMany: "more outcomes than can be summed over"}


def audit(
    model: Model, seed: int = 0, lets: Mapping[str, str] | None = None, *, gradients_only: bool = False
) -> tuple[Finding, ...]:
    """The findings on a finite and a linear-Gaussian instance of a spec, whose constants `lets` overrides, and on the
    spec as written; or the finite instance's gradients alone."""
    found = _finite(model, seed, lets, gradients_only)
    if gradients_only:
        return found
    told = (replace(f, instance="as written") for f in _as_written(model, seed))
    return (*found, *gaussian_judge.audit(model, seed, lets), *told)


def _as_written(model: Model, seed: int) -> Iterator[Finding]:
    try:
        program = compiler.compile(model).double()
    except JklError as error:
        yield Finding("-", "the spec as written", None, error.reports[0].message)
        return
    except Exception as error:  # whatever is emitted, it must not fail
        yield Finding("-", f"the spec as written: {broken(error)}", math.inf)
        return
    yield from summed("law", written.laws(program, seed))
    yield from summed("player", over_data.players(program, seed))


def _finite(model: Model, seed: int, lets: Mapping[str, str] | None, gradients_only: bool) -> tuple[Finding, ...]:
    refused = ""
    for implicit in (False, True):
        try:
            found = instance(model, implicit=implicit)
            program = compiler.compile(compiler.parse(found.text, "<instance>", lets)).double()
        except NoInstance as reason:
            return (Finding("-", "the spec", None, str(reason)),)
        except JklError as error:
            refused = refused or error.reports[0].message
            continue
        except Exception as error:  # whatever is emitted, it must not fail
            return (Finding("-", f"the instance: {broken(error)}", math.inf),)
        gradients = tuple(verdicts(program, found.trunks, seed))
        return gradients if gradients_only else (*gradients, *sampled(program, found.trunks, seed))
    return (Finding("-", "the spec", None, f"its instance is refused: {refused}"),)


def verdicts(program: Program, trunks: Set[str] = frozenset(), seed: int = 0) -> Iterator[Finding]:
    """What is found of a program all of whose variables are finite and whose networks are tables."""
    try:
        case = made(program, trunks, seed)
    except NotFinite as reason:
        yield Finding("-", "the spec", None, str(reason))
        return
    for stranger in sorted(case.strangers()):
        yield Finding(stranger, "a player of no goal", math.inf)
    everyone = [(name or "+".join(sorted(p.members)), p) for name, p in case.players()]
    yield _order(case)
    for name, player in everyone:
        if player.kind == "free":
            yield _tried(name, "solution", solutions.solve_free, case, name, player)
    for name, player in everyone:
        if player.kind == "referee":
            try:
                yield from _referee(case, name, player)
            except Broken as error:
                yield Finding(name, f"gradient: {error}", math.inf)
    for name, player in everyone:
        if player.kind == "other":
            yield _tried(name, "gradient", loss, case, name, player, "gradient")
    yield from _passes(case)
    for name, _ in everyone:
        if name in program.emitted.losses:
            yield _tried(name, "batches of 1, 2, 20", sizes, case, name)
    yield from _hinges(case, trunks, everyone, seed)
    if all(p.kind == "other" for _, p in everyone):
        yield from _moved(case, trunks, everyone, seed)
    for name, player in everyone:
        if player.kind == "other" and name in case.program.emitted.solutions:
            yield _tried(name, "closed step", solutions.step, case, name, player)


TURNS = ("free", "referee", "other")


def _order(case: Case) -> Finding:
    """A round is: Free and closed steps; classifiers and critics; a snapshot; the others in order of declaration."""
    kinds = {name: player.kind for name, player in case.players()}
    phases = case.program.objective.phases
    turns = [TURNS.index(kinds[p.player]) for p in phases if p.player in kinds]
    others = [p.player for p in phases if kinds.get(p.player) == "other"]
    declared = [name for name in case.program.players if name in others]
    snapshots = [p.player for p in phases if p.snapshot]
    right = turns == sorted(turns) and others == declared and snapshots == others[:1]
    return Finding("-", "the order of a round", 0.0 if right else math.inf)


def sampled(program: Program, trunks: Set[str] = frozenset(), seed: int = 0) -> Iterator[Finding]:
    """What is found of the densities, samples and Pyro programs of a program as `verdicts` takes it."""
    try:
        case = made(program, trunks, seed)
    except NotFinite:
        return
    for name, player in case.players():
        if player.kind == "free":
            _tried(name, "solution", solutions.solve_free, case, name, player)
    yield from summed("law", sampling(case, seed))
    yield from summed("law", programs(case, seed))


def _tried(subject: str, what: str, judge: Callable[..., Finding], *arguments: object) -> Finding:
    """A finding, or why there is none."""
    try:
        return judge(*arguments)
    except Broken as error:
        return Finding(subject, f"{what}: {error}", math.inf)
    except (Undefined, NotFinite) as reason:
        return Finding(subject, what, None, str(reason))
    except (TooLarge, TooMany) as reason:
        return Finding(subject, what, None, REASONS[type(reason)])


def loss(case: Case, name: str, player: Player, what: str, more: Tensor | None = None) -> Finding:
    """A player's expected gradient against the exact one; who has no loss must have nothing to gain."""
    if case.short and player.kind == "other":
        raise Undefined(f"{case.short} cannot be brought to its optimum")
    own = case.parameters(player)
    whole = case.exact(player)
    exact = gradient(whole if more is None else whole + more, own)
    if name not in case.program.emitted.losses:
        return Finding(name, f"{what}: no loss", apart(exact, torch.zeros_like(exact), 1.0))
    error, deviates = case.compared(case.loss(name), own, exact)
    dropped = [g for g in case.model.goals if g.options.drop]
    why = "`drop` leaves out a residual" if dropped and player.kind == "other" else ""
    return Finding(name, what, error, why, deviates)


# --- referees


def _referee(case: Case, name: str, player: Player) -> Iterator[Finding]:
    """A classifier or critic wherever it stands, then at its optimum, where it stays."""
    found = {goal: referees.samples(case, name, player, goal) for goal in referees.critics(case, player)}
    if None in found.values():
        case.short = "a critic"
        yield Finding(name, "gradient", None, "a critic's samples have more outcomes than can be summed over")
        return
    known = {goal: s for goal, s in found.items() if s is not None}
    yield _tried(name, "gradient", _anywhere, case, name, player, known)
    for c, best in referees.classifiers(case, player):
        text = case.model.laws[c.law].text
        error = referees.optimise_classifier(case, player, c, best)
        if error > EXACT:
            case.short = text
            yield Finding(name, f"{text} at its optimum", None, "it shares what it is made of with other laws")
            return
        yield Finding(name, f"{text} reaches its optimum", error)
    for goal, s in known.items():
        sums = torch.stack([s.reference.sum(), s.moving.sum()])
        yield Finding(name, "one logistic loss a ratio", apart(sums, torch.ones_like(sums)))
        referees.optimise_critic(case, goal, s)
    if all(g.over is None for g in case.model.goals):
        yield _tried(name, "at the optimum: stationary", _stationary, case, name, player)


def _anywhere(case: Case, name: str, player: Player, known: Mapping[Goal, referees.Samples]) -> Finding:
    logistic = [referees.logistic(referees.logits(case, goal), s) for goal, s in known.items()]
    return loss(case, name, player, "gradient", sum(logistic, torch.zeros((), dtype=torch.float64)))


def _stationary(case: Case, name: str, player: Player) -> Finding:
    own = case.parameters(player)
    none = torch.zeros(sum(p.numel() for p in own), dtype=torch.float64)
    error, deviates = case.compared(case.loss(name), own, none, 1.0)
    return Finding(name, "at the optimum: stationary", error, deviates=deviates)


# --- other ways to the same gradients


def _passes(case: Case) -> Iterator[Finding]:
    """The losses together and in turn have the gradients of the losses apart, whatever is drawn."""
    program = case.program
    both = compiler.lower(program.derivation, Passes(together=True))
    if both.together is not None:
        from jointkl.emission.python import emit

        other = Program(program.derivation, both, emit(both, program.derivation.text())).double()
        other.load_state_dict(program.state_dict())
        other.data_size = program.data_size
        for name, player in case.players():
            if name in program.emitted.losses:
                yield _tried(name, "together", _same, case, name, player, other, _together)
    if program.objective.in_turn is not None:
        for name, player in case.players():
            if name in program.emitted.losses:
                yield _tried(name, "in turn", _same, case, name, player, program, _in_turn)


def _together(program: Program, name: str, batch: Batch) -> Tensor:
    losses = program.losses(batch)
    assert losses is not None
    return torch.stack(list(losses.values())).sum()


def _in_turn(program: Program, name: str, batch: Batch) -> Tensor:
    order = [p.player for p in program.objective.phases if p.player in program.emitted.losses]
    return dict(zip(order, program.in_turn(batch), strict=True))[name]


def _same(
    case: Case, name: str, player: Player, other: Program, way: Callable[[Program, str, Batch], Tensor]
) -> Finding:
    batch = {k: v.repeat(case.rows, *[1] * (v.dim() - 1)) for k, v in whole(case.sources).items()}
    mine = case.parameters(player)
    theirs = Case(other, case.counts, case.rows, case.before).parameters(player)
    worst = 0.0
    for seed in range(2):
        with drawn_by(Quantiles(seed)):
            a = gradient(case.loss(name)(batch), mine)
        with drawn_by(Quantiles(seed)):
            b = gradient(way(other, name, batch), theirs)
        worst = max(worst, apart(a, b))
    return Finding(name, way.__name__[1:].replace("_", " "), worst)


def sizes(case: Case, name: str) -> Finding:
    """One datum many times over has the loss of the datum."""
    rows = whole(case.sources)
    worst = 0.0
    for i in range(min(2, len(next(iter(rows.values()))))):
        found: list[Tensor] = []
        for n in (case.rows, 2 * case.rows, 20):
            batch = {k: v[i : i + 1].expand(n, *v.shape[1:]) for k, v in rows.items()}
            with drawn_by(Draws()), torch.no_grad():
                found.append(case.loss(name)(batch))
        worst = max(worst, *(apart(found[0], other) for other in found[1:]))
    return Finding(name, "batches of 1, 2, 20", worst)


NEAREST = 0.05
"""How near to its edge a hinge is taken: a mean over drawn rows must not stray beyond it."""


def _hinges(case: Case, trunks: Set[str], everyone: list[tuple[str, Player]], seed: int) -> Iterator[Finding]:
    """On either side of where a hinge opens: at the weights, among many, at which it is nearest to that."""
    model = case.model
    hinged = [(g, h) for g in model.goals for h in g.terms if isinstance(h, Hinge)]
    players = [(name, p) for name, p in everyone if p.kind == "other"]
    if not hinged or len(players) < len(everyone):
        return
    state = {k: v.clone() for k, v in case.program.state_dict().items()}
    before = case.before
    for goal, hinge in hinged:
        near: dict[bool, tuple[float, int]] = {}
        for k in range(60):
            weights.scatter(case.program, trunks, seed + 100 + k, 2.0 if k % 2 else 0.4)
            case.before = weights.held(case.program)
            inside = float(goals.inside(case.world(), goal, hinge, DATA_SIZE).detach())
            if abs(inside) < near.get(inside > 0, (math.inf, 0))[0] and abs(inside) > NEAREST:
                near[inside > 0] = (abs(inside), k)
        for open_, (_, k) in near.items():
            weights.scatter(case.program, trunks, seed + 100 + k, 2.0 if k % 2 else 0.4)
            case.program.snapshot()
            case.before = weights.held(case.program)
            for name, player in players:
                yield _tried(
                    name,
                    f"hinge {'open' if open_ else 'shut'}",
                    loss,
                    case,
                    name,
                    player,
                    f"hinge {'open' if open_ else 'shut'}",
                )
    case.program.load_state_dict(state)
    case.before = before


def _moved(case: Case, trunks: Set[str], everyone: list[tuple[str, Player]], seed: int) -> Iterator[Finding]:
    """Away from the snapshot, where nothing was replaced by its value there."""
    weights.scatter(case.program, trunks, seed + 77)
    for name, player in everyone:
        yield _tried(name, "away from the snapshot", loss, case, name, player, "away from the snapshot")
