"""A run judged while it goes on: by what, how often, and when it has been long enough without anything better.

What is judged is a player's loss, `loss:G`: its mean over the rounds since the judgement before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from jointkl.derivation.players import Player
from jointkl.training import errors
from jointkl.training.phases import Phase, holder

LOSS = "loss:"
"""A player's loss as a metric begins with it."""

PATIENCE = 10
"""Judgements without anything better, where nobody says how many."""

JUDGEMENTS = 50
"""So many are spread over a run, where nobody says how often."""


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
    """What is asked for, with what nobody said. Raises `DataError`."""
    if metric is None:
        for name, value in (("patience", patience), ("judge_every", every)):
            if value is not None:
                raise errors.nothing_to_judge(name)
        return None
    for name, value in (("patience", patience), ("judge_every", every)):
        if value is not None and value < 1:
            raise errors.too_few(name, value)
    known = tuple(f"{LOSS}{phase.player}" for phase in table)
    player = holder(metric.removeprefix(LOSS), players) if metric.startswith(LOSS) else None
    if f"{LOSS}{player}" not in known:
        raise errors.unknown_metric(metric, known)
    return Stop(
        f"{LOSS}{player}",
        PATIENCE if patience is None else patience,
        max(1, rounds // JUDGEMENTS) if every is None else every,
    )


@dataclass(slots=True)
class Standing:
    """How the judging stands. `total`, `count`: the losses since the last judgement; `best`, in round `round`, and
    `without`, the judgements since then."""

    total: float = 0.0
    count: int = 0
    best: float | None = None
    round: int = 0
    without: int = 0


class Judge:
    """Judges a run under way."""

    def __init__(self, asked: Stop) -> None:
        self.asked = asked
        self.standing = Standing()

    def due(self, number: int) -> bool:
        return number % self.asked.every == 0

    def hear(self, player: str, losses: Iterable[float]) -> None:
        """Losses as they are read, in the order of their rounds. Added one by one: how many are read at once must not
        move the sum's last bit."""
        if self.asked.metric == f"{LOSS}{player}":
            for loss in losses:
                self.standing.total += loss
                self.standing.count += 1

    def judge(self, number: int) -> Mapping[str, float]:
        """The values in round `number`, of which all losses were heard; none where the player never stepped."""
        standing = self.standing
        if not standing.count:
            return {}
        value = standing.total / standing.count
        standing.total, standing.count = 0.0, 0
        if standing.best is None or value < standing.best:
            standing.best, standing.round, standing.without = value, number, 0
        else:
            standing.without += 1
        return {self.asked.metric: value}

    @property
    def over(self) -> bool:
        """Whether the run has gone on long enough without anything better."""
        return self.standing.without >= self.asked.patience

    def told(self) -> str:
        """Why the run is over."""
        found = self.standing
        return (
            f"ended early: {self.asked.metric} was best after round {found.round}, {found.best:.4g}, and no better in"
            f" {found.without} judgements since; a larger --patience goes on"
        )

    def kept(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        return asdict(self.standing)

    def restore(self, path: Path, found: Mapping[str, Any] | None) -> None:
        """Stand as a checkpoint says. Raises `DataError` where it says nothing of the kind."""
        names = {field.name for field in fields(Standing)}
        if found is None or found.keys() != names:
            raise errors.other_parameters(path, "it was not judged")
        self.standing = Standing(**found)
