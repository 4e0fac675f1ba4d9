"""The rounds of a run, and what they leave in its folder."""

from __future__ import annotations

import math
import time
from pathlib import Path

from jointkl.derivation.resolve import samplable
from jointkl.evaluation import samples
from jointkl.program import Program
from jointkl.training import errors, parallel, state
from jointkl.training.plan import Plan
from jointkl.training.progress import Show
from jointkl.training.record import Record
from jointkl.training.steps import Play, Turn, play, play_together
from jointkl.training.tuning import Choice, tune
from jointkl.training.ways import EAGER

READ = 50
"""Losses are read from the device once in at most so many rounds: a read waits for all that is under way."""

SHOW = 0.5
"""Seconds between two looks at the bar."""

SAVE = 600.0
"""Seconds of training after which a checkpoint is made, whatever the plan says."""


class Engine:
    """A run under way: `round`, `losses`, `seconds`, `checkpoint` as they stand.

    What it reads, saves and draws, and when, moves neither parameters nor random numbers.
    """

    def __init__(self, plan: Plan, program: Program) -> None:
        self.plan = plan
        self.program = program.to(plan.device)
        program.data_size = max(map(len, plan.bound), default=None)
        self.minibatches = parallel.shares(plan, program)
        closed = {step.player for step in program.objective.steps}
        rows = self.minibatches.whole() if closed else None
        self.turns = tuple(Turn(phase, program, rows if phase.player in closed else None) for phase in plan.phases)
        self.play: Play = play_together if plan.updates == "simultaneous" else play
        if isinstance(self.minibatches, parallel.Share):
            self.play = parallel.shared(plan, program, self.turns, self.minibatches)
        self.round = 0
        self.losses: dict[str, float] = {}
        self.seconds = 0.0
        self.checkpoint: Path | None = None

    def choose_ways(self) -> tuple[Choice, ...]:
        """Set how each phase steps: as the plan says, or as is fastest here. Nothing moves on."""
        plan = self.plan
        if plan.world.size > 1:
            return tuple(Choice(turn.phase.player, EAGER) for turn in self.turns)
        if plan.updates == "simultaneous":
            return ()
        ways = {turn.phase.player: plan.request.ways.get(turn.phase.player, plan.way) for turn in self.turns}
        return tune(self.program, self.turns, self.minibatches.first(), plan.rounds, ways)

    def restore(self, checkpoint: state.Checkpoint) -> None:
        """Stand where a checkpoint was made. Raises `DataError` where it does not fit the spec or the data."""
        state.restore(self.program, checkpoint)
        state.restore_training(self.turns, self.minibatches, self.program, checkpoint, self.plan.device)
        record = checkpoint.record
        self.round, self.seconds, self.losses = record.round, record.seconds, dict(record.losses)
        self.checkpoint = checkpoint.path

    def run(self, record: Record, show: Show) -> None:
        """The rounds that are left; the last ends with a checkpoint. Raises `KeyboardInterrupt` after Ctrl-C, which
        saves one too."""
        plan, total = self.plan, self.plan.rounds
        reading = max(1, min(READ, total // 100))
        draw, snapshot, turns = self.minibatches.draw, self.program.snapshot, self.turns
        if self.checkpoint is None:
            self._save(record)
        first = self.round
        start = shown_at = saved_at = time.perf_counter()  # moved on by what is no training: pictures and checkpoints
        before = self.seconds
        with plan.world.interrupts() as asked:
            for number in range(first + 1, total + 1):
                self.play(number, turns, draw, snapshot)
                self.round = number
                now = time.perf_counter()
                last = number == total
                stopped, due = plan.world.agreed(number, asked.is_set(), now - saved_at > SAVE)
                if last or stopped or now - shown_at > SHOW:
                    show(number, self._latest(), (number - first) / (now - start))
                    shown_at = now
                if last or number % reading == 0 or number == 1:
                    self.seconds = before + now - start
                    self._read(record)
                saving = last or stopped or due or number in plan.saved
                if saving:
                    self.seconds = before + now - start
                    self._save(record)
                    saved_at = now
                if number in plan.drawn:
                    self._draw(record)
                if saving or number in plan.drawn:
                    start += time.perf_counter() - now
                if stopped and not last:
                    raise KeyboardInterrupt

    def _latest(self) -> dict[str, float]:
        if self.plan.world.size > 1:
            return self.losses
        latest = {turn.phase.player: turn.last for turn in self.turns}
        return self.losses | {player: loss for player, loss in latest.items() if loss is not None}

    def _read(self, record: Record) -> None:
        """Losses from the device into the record. Raises `JklError` at the first that is not finite."""
        self._verify_losses()
        means: dict[str, float] = {}
        for turn in self.turns:
            if losses := [loss for _, loss in turn.read()]:
                means[turn.phase.player] = sum(losses) / len(losses)
        self.losses |= means
        record.losses(self.round, self.seconds, means)

    def _verify_losses(self) -> None:
        wrong = [
            (number, i)
            for i, turn in enumerate(self.turns)
            for number, loss in turn.unread()
            if not math.isfinite(loss)
        ]
        if wrong:
            number, i = min(wrong)
            raise self._not_finite(self.turns[i], "the loss", number)

    def _save(self, record: Record) -> None:
        """A checkpoint, unless a loss or a parameter is not finite: that is a `JklError`."""
        self._verify_losses()
        for turn in self.turns:
            if not all(bool(p.isfinite().all()) for p in turn.parameters):
                raise self._not_finite(turn, "a parameter", self.round)
        self.checkpoint = record.checkpoint(
            self.program, self.turns, self.minibatches, number=self.round, seconds=self.seconds, losses=self.losses
        )

    def _draw(self, record: Record) -> None:
        """Samples into the record: the same noise every time, the run's own random numbers left alone."""
        queries = samplable(self.program.derivation.facts)
        if not queries:
            return
        query = queries[0]
        data = self.plan.bound
        size = samples.COUNT[samples.kind_of(self.program, query.head[0], data)]
        values = samples.draw(self.program, query.text, size, seed=self.plan.seed)
        title = f"{query.text}, round {self.round}"
        samples.write(record.sample(self.round), self.program, values, data, title)

    def _not_finite(self, turn: Turn, what: str, number: int) -> Exception:
        loss = next(found for found in self.program.objective.losses if found.player == turn.phase.player)
        return errors.not_finite(loss.player, what, number, loss, self.checkpoint)
