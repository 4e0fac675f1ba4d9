"""One round: every phase's steps, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from jointkl.program import Program
from jointkl.training import errors, schedules
from jointkl.training.optimizers import optimizer
from jointkl.training.phases import REFEREES, Phase
from jointkl.training.schedules import Rate

SECOND = ("exp_avg_sq", "square_avg")
"""The mean of squared gradients, as torch's optimisers name it."""

Play = Callable[[int, Sequence["PhaseStepper"], Callable[[], Mapping[str, Tensor]], Callable[[], None]], None]
"""How a round is played: its number, the phases, how to draw a batch and how to renew the old copies."""


Compute = Callable[[Mapping[str, Tensor]], Tensor]
"""A batch to a loss."""


class PhaseStepper:
    """A phase with its optimiser, and its unread losses, which stay on the device until they are read.

    A player with a closed step takes that instead of its optimiser's, on `whole`, the whole evidence. `rate`: the
    learning rate by the round, where it changes.
    """

    def __init__(
        self, phase: Phase, program: Program, whole: Mapping[str, Tensor] | None = None, rate: Rate | None = None
    ) -> None:
        self.phase = phase
        self.whole = whole
        self.rate = rate
        self.program = program
        self.parameters = program.parameters_of(phase.player)
        self.optimizer = optimizer(phase, self.parameters)
        alone = len(self.parameters) == len(list(program.parameters()))
        self.inputs = None if alone else self.parameters
        """What gradients are taken for. None: everything, which spares torch the search."""
        self.take: Compute = self.descend
        """How a step on a batch is taken; returns its loss, detached."""
        self.loss: Compute = lambda batch: program.loss(phase.player, batch)
        self.solve: Callable[[Mapping[str, Tensor]], Any] = lambda rows: program.solve(phase.player, rows)
        self.mean: Callable[[Tensor], Tensor] = lambda losses: losses
        """The mean of the losses of several processes, taken when they are read."""
        self._losses: list[Tensor] = []
        self._rounds: list[int] = []
        self._unread: list[tuple[int, float]] = []

    def begin(self, number: int) -> None:
        """Prepare for the first step of round `number`."""
        if self.rate is not None:
            schedules.set_rate(self.optimizer, self.rate(number))

    def step(self, batch: Mapping[str, Tensor], number: int, compute: Compute | None = None) -> None:
        """One step of the player's optimiser on its loss, or its closed step, in round `number`. `compute`: another way
        to the same loss."""
        if self.whole is not None:
            with torch.no_grad():
                self._losses.append(self.program.loss(self.phase.player, self.whole))
            self._rounds.append(number)
            try:
                self.solve(self.whole)
            except RuntimeError as error:  # torch's LinAlgError, which its stubs do not know
                if "linalg" not in str(error):
                    raise
                raise errors.degenerate(self.phase.player, number) from None
            return
        self.note(self.take(batch) if compute is None else self.descend(batch, compute), number)

    def descend(self, batch: Mapping[str, Tensor], compute: Compute | None = None) -> Tensor:
        """One step of the optimiser on the player's loss, or on `compute`, the same loss; returns it, detached."""
        loss = compute(batch) if compute else self.loss(batch)
        self.clear()
        loss.backward(inputs=self.inputs)
        self.clip_gradient()
        self.advance()
        return loss.detach()

    def clear(self) -> None:
        """Drop the gradients, as the optimiser's `zero_grad` does, without its bookkeeping, which takes 1 to 2% of a
        small network's step."""
        for parameter in self.parameters:
            parameter.grad = None

    def clip_gradient(self) -> None:
        """Clip the norm of the gradient."""
        if self.phase.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.phase.clip)

    def advance(self) -> None:
        """One step of the optimiser along the gradient."""
        self.optimizer.step()

    @property
    def moments(self) -> list[Tensor | None]:
        """The mean of each parameter's squared gradients, where the optimiser keeps one. It overflows long before the
        gradient does, and the parameter is then never moved again."""
        kept = (self.optimizer.state.get(parameter, {}) for parameter in self.parameters)
        return [next((slots[name] for name in SECOND if name in slots), None) for slots in kept]

    def note(self, loss: Tensor, number: int) -> None:
        """Keep the loss of a step in round `number` until it is read."""
        self._losses.append(loss.detach())
        self._rounds.append(number)

    @property
    def last(self) -> float | None:
        """The newest loss that is not read yet. Waits for the device."""
        if self._losses:
            return self._losses[-1].item()
        return self._unread[-1][1] if self._unread else None

    def unread(self) -> list[tuple[int, float]]:
        """Round and loss of every step since the last `read`. Waits for the device."""
        values = self.mean(torch.stack(self._losses)).tolist() if self._losses else []
        self._unread += zip(self._rounds, values, strict=True)
        self._losses, self._rounds = [], []
        return self._unread

    def read(self) -> list[tuple[int, float]]:
        """As `unread`; afterwards none is left."""
        found, self._unread = self.unread(), []
        return found

    def optimizer_options(self) -> dict[str, Any]:
        """The options of the optimiser: all but its parameters, and a rate that the round gives."""
        left = {"params"} if self.rate is None else {"params", "lr"}
        return {name: value for name, value in self.optimizer.param_groups[0].items() if name not in left}

    def restore(self, unread: Iterable[tuple[int, float]], slots: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Set the unread losses, and the optimiser's tensors by the place of their parameter."""
        self._losses, self._rounds, self._unread = [], [], list(unread)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})


def play(
    number: int,
    steppers: Sequence[PhaseStepper],
    draw: Callable[[], Mapping[str, Tensor]],
    snapshot: Callable[[], None],
) -> None:
    """Round `number`. Its phases share a minibatch; each repeated step takes a fresh one.

    The old copies are renewed if a classifier or critic stepped in this round, or if the run has neither.
    """
    batch = draw()
    due = not any(stepper.phase.kind in REFEREES for stepper in steppers)
    for stepper in steppers:
        phase = stepper.phase
        if phase.snapshot and due:
            snapshot()
        if number % phase.every:
            continue
        stepper.begin(number)
        for i in range(phase.repeat):
            stepper.step(batch if i == 0 else draw(), number)
        due = due or phase.kind in REFEREES


def play_in_turn(
    number: int,
    steppers: Sequence[PhaseStepper],
    draw: Callable[[], Mapping[str, Tensor]],
    snapshot: Callable[[], None],
) -> None:
    """Round `number` as `play` has it, up to rounding, with what several players make of the minibatch computed once.
    A round in which not every player steps is left to `play`."""
    if any(number % stepper.phase.every for stepper in steppers):
        play(number, steppers, draw, snapshot)
        return
    batch = draw()
    losses = steppers[0].program.in_turn(batch)
    for stepper in steppers:
        stepper.begin(number)
        stepper.step(batch, number, lambda batch: next(losses))
        for _ in range(stepper.phase.repeat - 1):
            stepper.step(draw(), number)


def play_together(
    number: int,
    steppers: Sequence[PhaseStepper],
    draw: Callable[[], Mapping[str, Tensor]],
    snapshot: Callable[[], None],
    losses: Callable[[Mapping[str, Tensor]], dict[str, Tensor] | None] | None = None,
) -> None:
    """Round `number` for simultaneous updates: closed steps, a snapshot, all gradients at the same parameters, all
    steps.

    One backward serves all players where the program was compiled for it: `losses`, by default the program's, are then
    all of them at once.
    """
    batch = draw()
    for stepper in steppers:
        if stepper.whole is not None:
            stepper.step(batch, number)
    snapshot()
    stepping = [stepper for stepper in steppers if stepper.whole is None]
    for stepper in stepping:
        stepper.begin(number)
        stepper.clear()
    found = (losses or stepping[0].program.losses)(batch) if stepping else {}
    if found is not None:
        torch.autograd.backward([loss for loss in found.values() if loss.requires_grad])
    else:
        found = {stepper.phase.player: stepper.loss(batch) for stepper in stepping}
        for stepper in stepping:
            found[stepper.phase.player].backward(inputs=stepper.parameters)
    for stepper in stepping:
        stepper.note(found[stepper.phase.player], number)
    for stepper in stepping:
        stepper.clip_gradient()
    for stepper in stepping:
        stepper.advance()
