"""A run judged while it goes on: by what, how often, and when it has been long enough without anything better.

What is judged is a player's loss, `loss:G`, its mean over the rounds since the judgement before; or a metric of
`jointkl.evaluation.metrics.METRICS`, as `jointkl eval` finds it: against held-out rows, by the averages of parameters
where the run keeps any. The same seed every time, and nothing moves by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from jointkl.diagnostics import DataError
from jointkl.evaluation import judge
from jointkl.evaluation.held_out import held_out
from jointkl.evaluation.metrics.table import METRICS
from jointkl.program import Program
from jointkl.training.averages import Averages, standing_in
from jointkl.training.folder import errors as folder_errors
from jointkl.training.plan import Plan
from jointkl.training.watching import errors
from jointkl.training.watching.stop import LOSS, Stop, base

Measure = Callable[[], float | DataError]
"""The present value of a metric, or why there is none."""


def measure(asked: Stop, plan: Plan, program: Program, averages: Averages) -> Measure | None:
    """How the metric asked for is found; None for a loss, which is heard. Raises `DataError` for missing rows."""
    if asked.metric.startswith(LOSS):
        return None
    rows = held_out(plan.model, plan.given)

    def found() -> float | DataError:
        try:
            with standing_in(program, averages.named):
                evaluation = judge.evaluate(
                    program, rows, (base(asked.metric),), train=plan.bound, seed=plan.seed, given=set(plan.given)
                )
        except DataError as error:
            return error
        values = judge.keyed(evaluation)
        if asked.metric not in values:
            return errors.unknown_metric(asked.metric, tuple(values))
        return values[asked.metric].value

    return lambda: plan.group.from_first(found)


BADNESS: Mapping[str, Callable[[float], float]] = {
    "lower": lambda value: value,
    "higher": lambda value: -value,
    "nearer 0.5": lambda value: abs(value - 0.5),
    "nearer 1": lambda value: abs(value - 1.0),
}
"""What is smaller for a better value, by the direction in the metric's row."""


@dataclass(slots=True)
class Standing:
    """The state of the judging. `total`, `count`: the losses since the last judgement; `best`, of round `round`;
    `without`: how many judgements since then."""

    total: float = 0.0
    count: int = 0
    best: float | None = None
    round: int = 0
    without: int = 0


class Judge:
    """Judges a run under way, by losses that it hears or by what `measure` finds."""

    def __init__(self, asked: Stop, measure: Measure | None = None) -> None:
        self.asked = asked
        self.standing = Standing()
        self._measure = measure
        self._badness = BADNESS["lower" if measure is None else METRICS[base(asked.metric)].better]
        self.failed = ""
        """Why the last judgement found no value."""

    def verify(self) -> None:
        """Before the first round: the metric applies. Raises `DataError`."""
        found = self._measure() if self._measure is not None else None
        if isinstance(found, DataError):
            raise found

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
        """The values in round `number`, of which all losses were heard. None where the player did not step, which is no
        judgement, nor where the metric fails or is no finite number, which is no better one."""
        standing = self.standing
        value = self._value()
        if value is None:
            standing.without += bool(self.failed)
            return {}
        if standing.best is None or self._badness(value) < self._badness(standing.best):
            standing.best, standing.round, standing.without = value, number, 0
        else:
            standing.without += 1
        return {self.asked.metric: value}

    def _value(self) -> float | None:
        standing, self.failed = self.standing, ""
        if self._measure is not None:
            found = self._measure()
            if isinstance(found, DataError):
                self.failed = found.message
            elif not math.isfinite(found):
                self.failed = f"{self.asked.metric} is {found}"
            return None if isinstance(found, DataError) or self.failed else found
        if not standing.count:
            return None
        value = standing.total / standing.count
        standing.total, standing.count = 0.0, 0
        return value

    @property
    def over(self) -> bool:
        """Whether the run has gone on long enough without anything better."""
        return self.standing.without >= self.asked.patience

    def why_over(self) -> str:
        """Why the run is over."""
        found = self.standing
        if found.best is None:
            return (
                f"ended early: {self.asked.metric} said nothing in {found.without} judgements, at last: {self.failed}"
            )
        return (
            f"ended early: {self.asked.metric} was best after round {found.round}, {found.best:.4g}, and no better in"
            f" {found.without} judgements since; a larger --patience goes on"
        )

    def for_checkpoint(self) -> dict[str, Any]:
        """As a checkpoint keeps it."""
        return asdict(self.standing)

    def restore(self, path: Path, found: Mapping[str, Any] | None) -> None:
        """Stand as a checkpoint says. Raises `DataError` where it says nothing of the kind."""
        names = {field.name for field in fields(Standing)}
        if found is None or found.keys() != names:
            raise folder_errors.other_parameters(path, "it was not judged")
        self.standing = Standing(**found)
