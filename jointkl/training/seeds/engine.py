"""The rounds of several seeds at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from jointkl.program import Program
from jointkl.training.averages import Averages
from jointkl.training.engine import Engine
from jointkl.training.folder import checkpoints
from jointkl.training.folder.record import Record
from jointkl.training.nonfinite.check import NotFinite
from jointkl.training.plan import Plan
from jointkl.training.seeds import errors, summary
from jointkl.training.seeds.vmap_overrides import Streams
from jointkl.training.seeds.vmapped import VmappedMinibatches, VmappedProgram, VmappedStepper
from jointkl.training.speed.autotune import MARGIN, Choice, first_line
from jointkl.training.speed.backends import EAGER
from jointkl.training.steps import play, play_together

TRIES = 9
"""How often the gradients of all seeds are timed for a number of threads."""

Records = Sequence[Record]
"""One for each seed, in their order."""


class AllAverages:
    """The averages of all seeds; their parameters are views of the stacks."""

    def __init__(self, every: Sequence[Averages]) -> None:
        self.every = tuple(every)

    def move(self, number: int) -> None:
        """Round `number` is over."""
        for averages in self.every:
            averages.move(number)


class SeedsEngine(Engine):
    """The engines of all seeds as one. A round is a round of each; each engine reads, saves and draws by itself."""

    def __init__(
        self, plans: Sequence[Plan], checkpoints: Sequence[checkpoints.Checkpoint] = (), threads: int | None = None
    ) -> None:
        """Start from the first parameters of each seed, or from a checkpoint of each, all of one round. `threads`: how
        many of the CPU; by default as many as one seed takes, or all, whichever is measured to be faster."""
        self.threads = threads
        self._counts: tuple[int, ...] = ()
        self.plan = plans[0]
        self.seeds = tuple(plan.seed for plan in plans)
        self.streams = Streams(self.plan.device)
        compiled = self.plan.compiled
        self.engines: list[Engine] = []
        for i, plan in enumerate(plans):
            torch.manual_seed(plan.seed)
            engine = Engine(plan, Program(compiled.derivation, compiled.objective, compiled.source))
            if checkpoints:
                engine.restore(checkpoints[i])
            self.streams.append()
            self.engines.append(engine)
        first = self.engines[0]
        self.stack = VmappedProgram([engine.program for engine in self.engines], self.streams)
        every = zip(*(engine.steppers for engine in self.engines), strict=True)
        self.stacked = tuple(VmappedStepper(steppers[0].phase, self.stack, steppers, self.seeds) for steppers in every)
        for stepper in self.stacked:
            stepper.gather()
        self.steppers = self.stacked
        self.program: Any = self.stack
        self.minibatches: Any = VmappedMinibatches([engine.minibatches for engine in self.engines])
        self.averages: Any = AllAverages([engine.averages for engine in self.engines])
        self.judge = None
        self.play = play_together if self.plan.updates == "simultaneous" else play
        self.round, self.seconds, self.losses, self.checkpoint = first.round, first.seconds, {}, first.checkpoint

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """As for one seed, but on the CPU threads that were asked for, or were fastest."""
        before = torch.get_num_threads()
        with super().at_work():
            alone = torch.get_num_threads()
            self._counts = (alone, before) if alone < before else ()
            if self.threads is not None:
                torch.set_num_threads(self.threads)
            try:
                yield
            finally:
                torch.set_num_threads(alone)

    def choose_ways(self) -> tuple[Choice, ...]:
        """All are eager. Raises `DataError` for a loss that cannot be computed for all seeds at once."""
        with self._undone():
            self._try()
            if self.threads is None and self._counts:
                self.threads = self._fastest()
        return (
            () if self.plan.updates == "simultaneous" else tuple(Choice(t.phase.player, EAGER) for t in self.steppers)
        )

    def _try(self) -> None:
        """The gradient of each loss on a first batch."""
        batch, stack = self.minibatches.first(), self.stack
        player = ""
        try:
            if self.play is play_together and (losses := stack.losses(batch)):
                torch.autograd.backward([loss for loss in losses.values() if loss.requires_grad])
            for stepper in self.stacked:
                player = stepper.phase.player
                if stepper.whole is None:
                    stack.loss(player, batch).backward(inputs=stepper.inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of vmap, in many types
            raise errors.not_vmapped(player, first_line(error), self.seeds) from error

    def _fastest(self) -> int:
        """Whether one seed's number of threads or torch's own is faster. The second thread of a small network may wait
        more than it computes, above all where other programs want the processor."""
        times: dict[int, list[float]] = {count: [] for count in self._counts}
        for _ in range(TRIES):
            for count, taken in times.items():
                torch.set_num_threads(count)
                start = time.perf_counter()
                self._try()
                taken.append(time.perf_counter() - start)
        alone, most = (statistics.median(taken[1:]) for taken in times.values())
        found = self._counts[1] if most < MARGIN * alone else self._counts[0]
        torch.set_num_threads(found)
        return found

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Steps in here are undone."""
        tensors = [*self.stack.parameters(), *self.stack.buffers()]
        before, states = [tensor.detach().clone() for tensor in tensors], self.streams.states
        yield
        for stepper in self.stacked:
            stepper.clear()
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        self.streams.states = states

    def _latest(self) -> dict[str, float]:
        self._share()
        every = [engine._latest() for engine in self.engines]
        return {player: found.mean for player, found in summary.spread(every).items()}

    def _verify(self) -> None:
        self._share()
        self._each(lambda i: self.engines[i]._verify())

    def _read(self, record: Records) -> None:
        self._share()
        self._each(lambda i: self.engines[i]._read(record[i]))

    def _save(self, record: Records) -> None:
        self._verify()
        self._each(lambda i: self.engines[i]._save(record[i]))  # with the random numbers of each
        self.checkpoint = self.engines[0].checkpoint
        if self.round:
            folder, losses = record[0].folder.parent, [engine._latest() for engine in self.engines]
            summary.write(folder, self.seeds, self.round, losses)

    def _draw(self, record: Records) -> None:
        self._each(lambda i: self.engines[i]._draw(record[i]))

    def _share(self) -> None:
        """Bring the engine of each seed to where this one is."""
        for stepper in self.stacked:
            stepper.share()
        for engine in self.engines:
            engine.round, engine.seconds = self.round, self.seconds

    def _each(self, act: Callable[[int], None]) -> None:
        """Act for each seed, by its place, with its random numbers in torch's generators. Raises `SeedNotFinite`."""
        for i in self.streams.each():
            try:
                with errors.of_seed(self.seeds[i]):
                    act(i)
            except NotFinite as noticed:
                raise SeedNotFinite(noticed, i) from noticed.cause


class SeedNotFinite(NotFinite):
    """What was noticed of the seed at place `at`."""

    def __init__(self, noticed: NotFinite, at: int) -> None:
        super().__init__(noticed.player, noticed.what, noticed.number, noticed.cause)
        self.at = at
