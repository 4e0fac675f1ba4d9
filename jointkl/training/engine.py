"""The rounds of a run, and what they leave in its folder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jointkl.evaluation import gallery
from jointkl.program import Program
from jointkl.training.averages import Averages, standing_in
from jointkl.training.distributed import data_parallel
from jointkl.training.folder import checkpoints
from jointkl.training.folder.record import Record
from jointkl.training.machine import memory, threads
from jointkl.training.nonfinite import errors as nonfinite_errors
from jointkl.training.nonfinite.check import (
    LOSS,
    MOMENT,
    PARAMETER,
    NotFinite,
    first_not_finite,
    refused_by_distribution,
)
from jointkl.training.plan import Plan
from jointkl.training.precision import arithmetic
from jointkl.training.schedules import rate
from jointkl.training.speed.autotune import Choice, tune
from jointkl.training.speed.backends import EAGER
from jointkl.training.steps import PhaseStepper, Play, play, play_in_turn, play_together
from jointkl.training.watching.early_stopping import Judge, measure
from jointkl.training.watching.progress import Show

READ = 50
"""Losses are read from the device once in at most so many rounds: reading waits for everything under way."""

UNREAD = 100_000
"""At most so many losses wait to be read, unless a single round takes more steps."""

SHOW = 0.5
"""Seconds between two looks at the bar."""

SAVE = 600.0
"""Seconds of training after which a checkpoint is made, whatever the plan says."""


class Engine:
    """A run under way: `round`, `losses`, `seconds`, `checkpoint` as they stand.

    Reading, saving and drawing, however often, move neither parameters nor random numbers.
    """

    def __init__(self, plan: Plan, program: Program) -> None:
        self.plan = plan
        self.program = program.to(plan.device)
        program.data_sizes = {b.law: len(b) for b in plan.bound}
        self.minibatches = data_parallel.minibatches_for(plan, program)
        closed = {step.player for step in program.objective.steps}
        rows = self.minibatches.whole() if closed else None
        self.steppers = tuple(
            PhaseStepper(phase, program, rows if phase.player in closed else None, rate(phase, plan.rounds))
            for phase in plan.phases
        )
        self.play: Play = play_together if plan.updates == "simultaneous" else play
        if isinstance(self.minibatches, data_parallel.SharedMinibatches):
            self.play = data_parallel.parallel_play(plan, program, self.steppers, self.minibatches)
        self.averages = Averages(plan.phases, program)
        self.judge = Judge(plan.stop, measure(plan.stop, plan, program, self.averages)) if plan.stop else None
        self.round = 0
        self.losses: dict[str, float] = {}
        self.seconds = 0.0
        self.checkpoint: Path | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The machine and the networks' arithmetic as rounds need them."""
        plan = self.plan
        with (
            threads(self.program, plan.device),
            memory(plan.batch),
            arithmetic(self.program, plan.precision),
            data_parallel.batchwide(plan, self.program),
        ):
            yield

    def verify(self) -> None:
        """Check before the first round that the metric which judges the run applies. Changes nothing. Raises
        `DataError`."""
        if self.judge:
            with self.at_work():
                self.judge.verify()

    def choose_ways(self) -> tuple[Choice, ...]:
        """Set how each phase steps: as the plan says, or in the way that is fastest here. Changes nothing else."""
        plan = self.plan
        if plan.group.size > 1:
            return tuple(Choice(stepper.phase.player, EAGER) for stepper in self.steppers)
        if plan.updates == "simultaneous":
            return ()
        choices = tune(self.program, self.steppers, self.minibatches.first(), plan.rounds, plan.ways)
        if self.program.objective.in_turn is not None and all(choice.way == EAGER for choice in choices):
            self.play = play_in_turn
        return choices

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Go back to where a checkpoint was made. Raises `DataError` where it does not fit the spec or the data."""
        checkpoints.restore(self.program, checkpoint)
        checkpoints.restore_training(self.steppers, self.minibatches, self.program, checkpoint, self.plan.device)
        self.averages.restore(checkpoint.path, checkpoints.averages_of(checkpoint))
        record = checkpoint.record
        if self.judge:
            self.judge.restore(checkpoint.path, record.judged)
        self.round, self.seconds, self.losses = record.round, record.seconds, dict(record.losses)
        self.checkpoint = checkpoint.path

    def run(self, record: Record, show: Show) -> None:
        """Run the rounds that are left. The last one, or the one in which judging ends the run, ends with a checkpoint.
        Raises `KeyboardInterrupt` after Ctrl-C and `Terminated` after SIGTERM, both with a checkpoint, and
        `NotFinite`."""
        plan, judge, averages = self.plan, self.judge, self.averages
        total = self.round if judge and judge.over else plan.rounds
        steps = sum(stepper.phase.repeat for stepper in self.steppers)
        reading = max(1, min(READ, plan.rounds // 100, UNREAD // max(1, steps)))
        draw, snapshot, steppers = self.minibatches.draw, self.program.snapshot, self.steppers
        if self.checkpoint is None:
            self._save(record)
        first = self.round
        start = shown_at = saved_at = time.perf_counter()  # moved on by what is no training: pictures and checkpoints
        before = self.seconds
        with plan.group.interrupts() as asked:
            for number in range(first + 1, total + 1):
                try:
                    self.play(number, steppers, draw, snapshot)
                except Exception as error:  # of any kind: that a parameter is not finite explains more
                    raise self._cause(error, number) from error
                averages.move(number)
                self.round = number
                now = time.perf_counter()
                last = number == total
                stopped, due = plan.group.agreed(number, asked.is_set(), now - saved_at > SAVE)
                judging = judge is not None and judge.due(number)
                if last or judging or number % reading == 0 or number == 1:
                    self.seconds = before + now - start
                    self._read(record)
                best = judging and self._judge(record)
                last = last or (judge is not None and judge.over)
                if last or stopped or now - shown_at > SHOW:
                    show(number, self._latest(), (number - first) / (now - start))
                    shown_at = now
                saving = last or stopped or best or due or number in plan.saved
                drawing = number in plan.drawn or (last and bool(plan.drawn))
                if drawing:  # before the checkpoint: a run that is killed in between draws again
                    self._verify()
                    self._draw(record)
                if saving:
                    self.seconds = before + now - start
                    self._save(record)
                    saved_at = now
                if saving or drawing or judging:
                    start += time.perf_counter() - now
                if stopped and not last:
                    raise asked.error()
                if last:
                    return

    def _cause(self, error: Exception, number: int) -> Exception:
        """Why a step of round `number` failed: `NotFinite` where something no longer is, else the error itself. Of
        several processes perhaps this one alone has failed, so the others cannot be asked."""
        refused = refused_by_distribution(error)
        if self.plan.group.size > 1:
            return nonfinite_errors.refused_parameters(number, error, self.plan.group.size) if refused else error
        try:
            self._verify()
        except NotFinite as found:
            return found
        return NotFinite("", LOSS, number, error) if refused else error

    def _latest(self) -> dict[str, float]:
        if self.plan.group.size > 1:
            return self.losses
        latest = {stepper.phase.player: stepper.last for stepper in self.steppers}
        return self.losses | {player: loss for player, loss in latest.items() if loss is not None}

    def _read(self, record: Record) -> None:
        """Read losses from the device into the record. Raises `NotFinite` at the first that is not finite."""
        self._verify_losses()
        means: dict[str, float] = {}
        for stepper in self.steppers:
            if losses := [loss for _, loss in stepper.read()]:
                means[stepper.phase.player] = sum(losses) / len(losses)
                if self.judge:
                    self.judge.hear(stepper.phase.player, losses)
        self.losses |= means
        record.losses(self.round, self.seconds, means)

    def _judge(self, record: Record) -> bool:
        """Judge the run as it stands; whether it is the best so far."""
        assert self.judge is not None
        values = self.judge.judge(self.round)
        if values or self.judge.failed:
            record.metrics(self.round, values, self.judge.failed)
        return self.judge.standing.round == self.round

    def _verify_losses(self) -> None:
        wrong = [
            (number, i)
            for i, stepper in enumerate(self.steppers)
            for number, loss in stepper.unread()
            if not math.isfinite(loss)
        ]
        if wrong:
            number, i = min(wrong)
            raise NotFinite(self.steppers[i].phase.player, LOSS, number)

    def _verify(self) -> None:
        """Raises `NotFinite` where a loss, a parameter or a moment of an optimiser is not."""
        self._verify_losses()
        for stepper in self.steppers:
            for what, tensors in ((PARAMETER, stepper.parameters), (MOMENT, stepper.moments)):
                if first_not_finite(tensors) is not None:
                    raise NotFinite(stepper.phase.player, what, self.round)

    def _save(self, record: Record) -> None:
        """A checkpoint. Raises `NotFinite` as `_verify` does."""
        self._verify()
        record.sync()
        self.checkpoint = record.checkpoint(
            self.program, self.steppers, self.minibatches,
            number=self.round, seconds=self.seconds, losses=self.losses,
            averages=self.averages.for_checkpoint(), judged=self.judge.for_checkpoint() if self.judge else None,
        )  # fmt: skip

    def _draw(self, record: Record) -> None:
        """Draw pictures into the record, from the averages where there are any. The noise is the same every time, and
        the run's own random numbers are left alone."""
        when = f"round {self.round}"
        with standing_in(self.program, self.averages.named):
            record.draw(
                self.round, lambda path: gallery.keep(self.program, self.plan.bound, path, self.plan.seed, when)
            )
