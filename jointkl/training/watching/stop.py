"""By what a run is judged while it goes on, how often, and how long it goes on without anything better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jointkl.derivation.players import Player
from jointkl.evaluation.metrics.table import METRICS
from jointkl.training.phases import Phase, holder
from jointkl.training.watching import errors

LOSS = "loss:"
"""A player's loss as a metric begins with it."""

PATIENCE = 10
"""How many judgements without anything better end a run, by default."""

JUDGEMENTS = 50
"""How many judgements are spread over a run, by default."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Judge by `metric` in every round that `every` divides; end where `patience` judgements in a row were no better
    than the best before."""

    metric: str
    patience: int
    every: int


def stop(
    metric: str | None,
    patience: int | None,
    every: int | None,
    table: Sequence[Phase],
    players: Sequence[Player],
    rounds: int,
) -> Stop | None:
    """What is asked for, completed by defaults; None where nothing judges the run. Raises `DataError`."""
    if metric is None:
        for name, value in (("patience", patience), ("judge_every", every)):
            if value is not None:
                raise errors.nothing_to_judge(name)
        return None
    for name, value in (("patience", patience), ("judge_every", every)):
        if value is not None and value < 1:
            raise errors.too_few(name, value)
    known = tuple(f"{LOSS}{phase.player}" for phase in table)
    if metric.startswith(LOSS):
        named = metric.removeprefix(LOSS)
        metric = f"{LOSS}{holder(named, players) or named}"
    if metric not in known and base(metric) not in METRICS:
        raise errors.unknown_metric(metric, known, tuple(METRICS))
    return Stop(
        metric,
        PATIENCE if patience is None else patience,
        max(1, rounds // JUDGEMENTS) if every is None else every,
    )


def base(metric: str) -> str:
    """`mmd` of `mmd of q(x)`."""
    return metric.partition(" of ")[0]
