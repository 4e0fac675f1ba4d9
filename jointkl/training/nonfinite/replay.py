"""Where a run that is no longer finite went wrong: its last rounds again, from the newest checkpoint, each watched.

Losses are read only every so many rounds. Resume is exact, so what was not looked at can be looked at afterwards: the
first step whose loss, gradient, new parameter or moment is not finite, and at that very state which term of the loss it
was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyro
import torch
from torch import Tensor

from jointkl.emission import python
from jointkl.objective.ir import Loss, Term
from jointkl.program import Program
from jointkl.training.engine import Engine
from jointkl.training.folder import checkpoints
from jointkl.training.folder.tensors import random_states, set_random_states
from jointkl.training.nonfinite.check import GRADIENT, LOSS, MOMENT, PARAMETER, NotFinite, first_not_finite
from jointkl.training.steps import Compute, PhaseStepper

Batch = Mapping[str, Tensor]
Terms = Callable[[Batch], tuple[dict[int, Tensor], dict[str, Tensor]]]
"""A batch to what each term of a loss is worth, by its place, and the noise drawn, by key."""


@dataclass(frozen=True, slots=True, eq=False)
class Instant:
    """Everything that a step depends on, before it: its batch, the program's tensors, the random states."""

    number: int
    batch: Batch
    tensors: Mapping[str, Tensor]
    random: Mapping[str, Tensor]

    @classmethod
    def now(cls, program: Program, batch: Batch, number: int) -> Instant:
        tensors = {name: value.detach().clone() for name, value in program.emitted.state_dict().items()}
        return cls(number, batch, tensors, random_states(program.emitted.anchor.device))

    def back(self, program: Program) -> None:
        """Put the program back there."""
        program.emitted.load_state_dict(self.tensors)
        set_random_states(self.random, program.emitted.anchor.device)


class NotFiniteStep(NotFinite):
    """The first step that is not finite: the player's, at an instant; `loss` is what its loss was, `parameter` the
    first one that the gradient, the new parameters or their moments are not finite in; `together`: all stepped at
    once."""

    def __init__(
        self, player: str, what: str, instant: Instant, loss: float, parameter: str = "", *, together: bool = False
    ) -> None:
        super().__init__(player, what, instant.number)
        self.instant, self.loss, self.parameter, self.together = instant, loss, parameter, together


class WatchedStepper(PhaseStepper):
    """A phase, stepped eagerly, that raises `Found` at its first step that is not finite."""

    batch: Batch
    """The batch of the round, where all players step at once."""
    together = False
    _instant: Instant
    _value = math.nan

    def __init__(self, stepper: PhaseStepper) -> None:
        super().__init__(stepper.phase, stepper.program, stepper.whole, stepper.rate)
        loss = self.loss
        self.loss = lambda batch: self._finite(loss(batch))

    def begin(self, number: int) -> None:
        super().begin(number)
        if self.together:
            self._instant = Instant.now(self.program, self.batch, number)

    def step(self, batch: Batch, number: int, compute: Compute | None = None) -> None:
        self._instant = Instant.now(self.program, batch if self.whole is None else self.whole, number)
        super().step(batch, number, compute and (lambda batch: self._finite(compute(batch))))
        if self.whole is not None:
            self._finite(self._losses[-1])
            self._verify(PARAMETER, self.parameters)

    def note(self, loss: Tensor, number: int) -> None:
        super().note(self._finite(loss), number)

    def clip_gradient(self) -> None:
        self._verify(GRADIENT, [parameter.grad for parameter in self.parameters])
        super().clip_gradient()

    def advance(self) -> None:
        super().advance()
        self._verify(PARAMETER, self.parameters)
        self._verify(MOMENT, self.moments)

    def _finite(self, loss: Tensor) -> Tensor:
        self._value = loss.item()
        if not math.isfinite(self._value):
            raise self._found(LOSS)
        return loss

    def _verify(self, what: str, tensors: Sequence[Tensor | None]) -> None:
        place = first_not_finite(tensors)
        if place is not None:
            raise self._found(what, names_of(self.program, self.parameters)[place])

    def _found(self, what: str, parameter: str = "") -> NotFiniteStep:
        return NotFiniteStep(self.phase.player, what, self._instant, self._value, parameter, together=self.together)


def names_of(program: Program, parameters: Sequence[Tensor]) -> list[str]:
    known = {id(parameter): name for name, parameter in program.emitted.named_parameters()}
    return [known[id(parameter)] for parameter in parameters]


def replay(engine: Engine, until: int) -> NotFiniteStep | None:
    """The first step since the newest checkpoint that is not finite, the program standing before it. None where none is
    met up to round `until`: then the steps depend on something that no checkpoint holds, or a GPU rounded otherwise.

    Distributions are not asked whether their parameters are in order, so that the loss is a number. Raises `DataError`
    where the checkpoint cannot be read again.
    """
    program, minibatches = engine.program, engine.minibatches
    if engine.checkpoint is None:
        return None
    checkpoint = checkpoints.load(engine.checkpoint, program)
    steppers = [WatchedStepper(stepper) for stepper in engine.steppers]
    checkpoints.restore(program, checkpoint)
    checkpoints.restore_training(steppers, minibatches, program, checkpoint, engine.plan.device)

    def draw() -> Batch:
        batch = minibatches.draw()
        for stepper in steppers:
            stepper.batch = batch
        return batch

    for stepper in steppers:
        stepper.together = engine.plan.updates == "simultaneous" and stepper.whole is None
    try:
        with pyro.validation_enabled(False):
            for number in range(checkpoint.record.round + 1, until + 1):
                engine.play(number, steppers, draw, program.snapshot)
    except NotFiniteStep as found:
        found.instant.back(program)
        return found
    return None


@dataclass(frozen=True, slots=True)
class TermValue:
    """What a term of a loss was worth, and whether it is it that was not finite, or its gradient."""

    term: Term
    value: float
    guilty: bool


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """A step that is not finite, looked at: the terms of its loss, and the noise.

    `given`: the loss is the same again on the batch with that noise, whatever the random numbers.
    """

    found: NotFiniteStep
    terms: tuple[TermValue, ...]
    noise: Mapping[str, Tensor]
    given: bool


def examine(program: Program, found: NotFiniteStep) -> Finding:
    """Which terms of the loss it was, evaluated apart at the step's own state and noise."""
    together = program.objective.together if found.together else None
    loss = together or next(loss for loss in program.objective.losses if loss.player == found.player)
    places = [i for i, term in enumerate(loss.terms) if not together or term.player == found.player]
    found.instant.back(program)
    with pyro.validation_enabled(False):
        worth, noise = terms_of(program, loss)(found.instant.batch)
        terms = tuple(TermValue(loss.terms[i], worth[i].item(), _guilty(program, found, worth[i])) for i in places)
        noise = {key: value.detach() for key, value in noise.items()}
        return Finding(found, terms, noise, _reproduced(program, found, noise))


def terms_of(program: Program, loss: Loss) -> Terms:
    """A loss of the program by its terms, on its networks and parameters as they are: the lines of the emitted loss."""
    source = python.terms(program.objective, loss, "terms")
    scope = dict(type(program.emitted).normal.__globals__)
    exec(compile(source, "<terms of a loss>", "exec"), scope)
    return partial(scope["terms"], program.emitted)


def _guilty(program: Program, found: NotFiniteStep, value: Tensor) -> bool:
    if found.what == LOSS:
        return not math.isfinite(value.item())
    if found.what != GRADIENT or not value.requires_grad:
        return False
    own = program.parameters_of(found.player)
    return first_not_finite(torch.autograd.grad(value, own, retain_graph=True, allow_unused=True)) is not None


def _reproduced(program: Program, found: NotFiniteStep, noise: Mapping[str, Tensor]) -> bool:
    """Whether the noise is all that is random in the loss: at other random numbers it is the same with it."""
    found.instant.back(program)
    torch.manual_seed(found.number)
    again = program.loss(found.player, {**found.instant.batch, **noise})
    found.instant.back(program)
    return torch.allclose(again.detach(), again.new_tensor(found.loss), equal_nan=True)
