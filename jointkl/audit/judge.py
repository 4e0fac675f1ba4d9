"""The audit of a spec: its emitted module against the reference, player by player.

The module judged is that of a finite instance (`instance`), compiled by the very compiler under judgement. Its losses
are taken in their exact expectation (`expectation`), and so are their gradients; what they should be is summed up from
the joints alone (`jointkl.reference`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set

import torch
from torch import Tensor

from jointkl import compiler
from jointkl.audit import referees, solutions, weights
from jointkl.audit.case import Case, apart, gradient, made
from jointkl.audit.expectation import Batch, Quantiles, TooMany, drawn_by, whole
from jointkl.audit.findings import Finding
from jointkl.audit.instance import NoInstance, instance
from jointkl.diagnostics import JklError
from jointkl.objective.share import Passes
from jointkl.program import Program
from jointkl.reference.goals import Undefined
from jointkl.reference.laws import NotFinite
from jointkl.reference.players import Player
from jointkl.reference.tables import TooLarge
from jointkl.semantics.model import Model

REASONS = {TooLarge: "more states than can be summed over", TooMany: "more outcomes than can be summed over"}


def audit(model: Model, seed: int = 0, lets: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """The findings on a finite instance of a spec, whose constants `lets` overrides."""
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
        return tuple(verdicts(program, found.trunks, seed))
    return (Finding("-", "the spec", None, f"its instance is refused: {refused}"),)


def verdicts(program: Program, trunks: Set[str] = frozenset(), seed: int = 0) -> Iterator[Finding]:
    """What is found of a program all of whose variables are finite and whose networks are tables."""
    try:
        case = made(program, trunks, seed)
    except NotFinite as reason:
        yield Finding("-", "the spec", None, str(reason))
        return
    for stranger in sorted(case.strangers()):
        yield Finding(stranger, "a player of no goal", float("inf"))
    everyone = [(name or "+".join(sorted(p.members)), p) for name, p in case.players()]
    for name, player in everyone:
        if player.kind == "free":
            yield _tried(name, "solution", solutions.solve_free, case, name, player)
    for name, player in everyone:
        if player.kind == "referee":
            yield from _referee(case, name, player)
    for name, player in everyone:
        if player.kind == "other":
            yield _tried(name, "gradient", loss, case, name, player, "gradient")
    yield from _passes(case)
    if all(p.kind == "other" for _, p in everyone):
        yield from _moved(case, trunks, everyone, seed)
    for name, player in everyone:
        if player.kind == "other" and name in case.program.emitted.solutions:
            yield _tried(name, "closed step", solutions.step, case, name, player)


def _tried(subject: str, what: str, judge: Callable[..., Finding], *arguments: object) -> Finding:
    """A finding, or why there is none."""
    try:
        return judge(*arguments)
    except (Undefined, NotFinite) as reason:
        return Finding(subject, what, None, str(reason))
    except (TooLarge, TooMany) as reason:
        return Finding(subject, what, None, REASONS[type(reason)])


def loss(case: Case, name: str, player: Player, what: str, more: Tensor | None = None) -> Finding:
    """A player's expected gradient against the exact one; who has no loss must have nothing to gain."""
    own = case.parameters(player)
    whole = case.exact(player)
    exact = gradient(whole if more is None else whole + more, own)
    if name not in case.program.emitted.losses:
        return Finding(name, f"{what}: no loss", apart(exact, torch.zeros_like(exact), 1.0))
    found = gradient(case.expected(lambda batch: case.program.loss(name, batch)), own)
    dropped = [g for g in case.model.goals if g.options.drop]
    why = "`drop` leaves out a residual" if dropped and player.kind == "other" else ""
    return Finding(name, what, apart(found, exact), why)


# --- referees


def _referee(case: Case, name: str, player: Player) -> Iterator[Finding]:
    """A classifier or critic wherever it stands, then at its optimum, where it stays."""
    yield _tried(name, "gradient", _anywhere, case, name, player)
    for c, best in referees.classifiers(case, player):
        text = case.model.laws[c.law].text
        yield Finding(name, f"{text} reaches its optimum", referees.optimise_classifier(case, player, c, best))
    for goal in referees.critics(case, player):
        assert goal.options.critic is not None
        critic = goal.options.critic[0]
        found = referees.samples(case, name, player, critic)
        sums = torch.stack([found.reference.sum(), found.moving.sum()])
        yield Finding(name, f"{critic}: one logistic loss", apart(sums, torch.ones_like(sums)))
        referees.optimise_critic(case, critic, found)
    alone = all(g.over is None for g in case.model.goals)
    if alone:
        yield _tried(name, "at the optimum: stationary", _stationary, case, name, player)


def _anywhere(case: Case, name: str, player: Player) -> Finding:
    more = torch.zeros((), dtype=torch.float64)
    for goal in referees.critics(case, player):
        assert goal.options.critic is not None
        found = referees.samples(case, name, player, goal.options.critic[0])
        more = more + referees.logistic(referees.logits(case, goal), found)
    return loss(case, name, player, "gradient", more)


def _stationary(case: Case, name: str, player: Player) -> Finding:
    own = case.parameters(player)
    found = gradient(case.expected(lambda batch: case.program.loss(name, batch)), own)
    return Finding(name, "at the optimum: stationary", apart(found, torch.zeros_like(found), 1.0))


# --- other ways to the same gradients


def _passes(case: Case) -> Iterator[Finding]:
    """The losses together and in turn have the gradients of the losses apart, whatever is drawn."""
    program = case.program
    both = compiler.lower(program.derivation, Passes(together=True))
    if both.together is not None:
        from jointkl.emission.python import emit

        other = Program(program.derivation, both, emit(program.derivation, both)).double()
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
    return sum(losses.values(), torch.zeros(()))  # type: ignore[return-value]


def _in_turn(program: Program, name: str, batch: Batch) -> Tensor:
    order = [p.player for p in program.objective.phases if p.player in program.emitted.losses]
    return dict(zip(order, program.in_turn(batch), strict=True))[name]


def _same(
    case: Case, name: str, player: Player, other: Program, way: Callable[[Program, str, Batch], Tensor]
) -> Finding:
    batch = whole(case.sources)
    mine = case.parameters(player)
    theirs = Case(other, case.counts, case.rows, case.before).parameters(player)
    worst = 0.0
    for seed in range(3):
        with drawn_by(Quantiles(seed)):
            a = gradient(case.program.loss(name, batch), mine)
        with drawn_by(Quantiles(seed)):
            b = gradient(way(other, name, batch), theirs)
        worst = max(worst, apart(a, b))
    return Finding(name, way.__name__[1:].replace("_", " "), worst)


def _moved(case: Case, trunks: Set[str], everyone: list[tuple[str, Player]], seed: int) -> Iterator[Finding]:
    """Away from the snapshot, where nothing was replaced by its value there."""
    weights.scatter(case.program, trunks, seed + 77)
    for name, player in everyone:
        yield _tried(name, "away from the snapshot", loss, case, name, player, "away from the snapshot")
