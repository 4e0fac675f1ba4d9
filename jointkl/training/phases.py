"""Who steps when, and how: the phases of the objective with the options of `train` and the caller's settings.

Settings are text by name: `{"lr": "1e-4", "D.repeat": "2"}`. What is said of one player takes precedence over what is
said of everyone, and within each a setting over the spec. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jointkl.derivation.players import Player
from jointkl.diagnostics import NOWHERE, Refused, Span
from jointkl.objective import ir
from jointkl.semantics.catalogue import Option, OptionValue
from jointkl.semantics.constants import GREATEST
from jointkl.semantics.goals import FOR_A_PLAYER, FOR_EVERYONE, TRAIN, check_train_value
from jointkl.semantics.model import Model, TrainOptions
from jointkl.training import errors

STEPS = 5000
"""Rounds of a run where neither the spec nor the caller says."""

OPTIONS: Mapping[str, Option] = {row.name: row for row in TRAIN}

REFEREES = ("classifier", "critic")
"""The kinds of players that others are trained by."""

GENERATING = frozenset({"ema"})
"""Options that, said of everyone, concern those who generate alone."""

Settings = Mapping[str, object]
Values = dict[str, OptionValue]


@dataclass(frozen=True, slots=True)
class Length:
    """What concerns the whole run. At most one of `steps` and `epochs` is given."""

    batch: int
    steps: int | None
    epochs: float | None
    seed: int
    updates: str = "alternating"
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class Phase:
    """One player's phase: in each round that `every` divides, `repeat` steps of its optimiser.

    `snapshot`: the old copies are renewed before it. `weight_decay` is decoupled; `clip` bounds the gradient's norm.
    `lr` is the largest rate: it rises over `warmup` rounds and then follows `schedule`. `ema`: the decay of the average
    of the player's parameters; None keeps none.
    """

    player: str
    kind: str
    snapshot: bool
    optimizer: str
    lr: float
    betas: tuple[float, float]
    weight_decay: float
    clip: float | None
    every: int
    repeat: int
    schedule: str = "constant"
    warmup: int = 0
    ema: float | None = None


def length(model: Model, settings: Settings) -> Length:
    """Batch, steps or epochs, and seed. Raises `DataError` or `JklError`."""
    said = _said(model.train, lambda t: t.target is None, None)
    stated = {key: _value(key, key, text) for key, text in settings.items() if key in FOR_EVERYONE}
    for values, where in ((said, "train(...)"), (stated, "settings")):
        if "steps" in values and "epochs" in values:
            raise errors.steps_and_epochs(where)
    if "steps" in stated or "epochs" in stated:
        said = {name: value for name, value in said.items() if name not in ("steps", "epochs")}
    found: dict[str, Any] = {name: said.get(name, OPTIONS[name].default) for name in sorted(FOR_EVERYONE)} | stated
    return Length(**found)


def rounds(found: Length, batch: int, data: Sequence[int]) -> int:
    """How many rounds the run has; `data` are the sizes of its evidence. An epoch passes over the largest."""
    if found.steps is not None:
        return found.steps
    if found.epochs is None:
        return STEPS
    if not data:
        raise errors.epochs_without_data()
    return math.ceil(found.epochs * (max(data) // batch))


def phases(model: Model, objective: ir.Objective, players: Sequence[Player], settings: Settings) -> tuple[Phase, ...]:
    """The table of phases, in the order of a round. Raises `DataError` or `JklError`.

    A Free law has none: its step keeps nothing, and the losses that need its solution take it themselves.
    """
    stepping = [p for p in objective.phases if p.kind != "free"]
    if not stepping:
        raise errors.nobody(model.source.name)
    everyone: Values = {name: row.default for name, row in OPTIONS.items() if row.default is not None}
    everyone |= _said(model.train, lambda t: t.target is None, None)
    own: dict[str, Values] = {p.name: _said(model.train, lambda t, p=p: t.target in p.members, p.name) for p in players}
    stated: dict[str, Values] = {p.name: {} for p in players}
    for key, text in settings.items():
        player, name = _addressed(key, players)
        value = _value(key, name, text)
        said = everyone if player is None else stated[player]
        if player is not None and said.get(name, value) != value:
            raise errors.set_twice(key, player)
        said[name] = value
    for player in players:
        if player.kind == "free" and (own[player.name] or stated[player.name]):
            raise errors.closed_step(player.name)
    judging = {name: value for name, value in everyone.items() if name not in GENERATING}
    table = tuple(
        _phase(p, (judging if p.kind in REFEREES else everyone) | own[p.player] | stated[p.player]) for p in stepping
    )
    if length(model, settings).updates == "simultaneous":
        for phase in table:
            if (phase.every, phase.repeat) != (1, 1):
                raise errors.not_at_once(phase.player, phase.every, phase.repeat)
    return table


def _phase(phase: ir.Phase, values: Mapping[str, Any]) -> Phase:
    return Phase(
        phase.player,
        phase.kind,
        phase.snapshot,
        values["optimizer"],
        float(values["lr"]),
        (float(values["beta1"]), float(values["beta2"])),
        float(values["weight_decay"]),
        None if values.get("clip") is None else float(values["clip"]),
        values["every"],
        values["repeat"],
        values["schedule"],
        values["warmup"],
        float(values["ema"]) if values.get("ema") else None,
    )


def _said(statements: Sequence[TrainOptions], concerns: Any, player: str | None) -> Values:
    """The options of the `train` statements that concern somebody; two different values are refused."""
    found: Values = {}
    places: dict[str, Span] = {}
    for statement in statements:
        if not concerns(statement):
            continue
        for name, value in statement.options:
            if found.get(name, value) != value:
                raise errors.twice(name, player, places[name], statement.span)
            found[name], places[name] = value, statement.span
    return found


def _addressed(key: str, players: Sequence[Player]) -> tuple[str | None, str]:
    """`D.repeat` as the player that is or holds D, and the option; None where everyone is meant."""
    whom, dot, name = key.rpartition(".")
    if name not in OPTIONS:
        raise errors.unknown_option(key, name, tuple(OPTIONS))
    names = tuple(p.name for p in players)
    if not dot:
        if name in FOR_A_PLAYER:
            raise errors.players_only(key, name, names)
        return None, name
    if name in FOR_EVERYONE:
        raise errors.everyones_only(key, name)
    found = holder(whom, players)
    if found is None:
        raise errors.unknown_player(key, whom, names, (m for p in players for m in p.members))
    return found, name


def holder(whom: str, players: Sequence[Player]) -> str | None:
    """The player of that name, or that holds the member of that name."""
    named = next((p.name for p in players if whom == p.name), None)
    return named or next((p.name for p in players if whom in p.members), None)


def _value(key: str, name: str, given: object) -> OptionValue:
    """The text of a setting as a value of its option."""
    row, text = OPTIONS[name], str(given).strip()
    try:
        value: OptionValue = {"integer": int, "number": float}.get(row.type, str)(text)
    except ValueError:
        raise errors.not_a_value(key, text, row) from None
    if (row.choices and value not in row.choices) or (isinstance(value, float) and not math.isfinite(value)):
        raise errors.not_a_value(key, text, row)
    if isinstance(value, int | float) and abs(value) >= GREATEST:
        raise errors.too_great(key)
    try:
        check_train_value(name, value, NOWHERE)
    except Refused as refused:
        raise errors.out_of_range(key, refused.report.message, text) from None
    return value
