"""Replicas of one program as one: their parameters stacked, their losses computed at once by `torch.func.vmap`.

The replicas do not interact: each slice of the gradient of the summed losses is the gradient of that replica's loss,
and a step of an elementwise optimiser on the stack is a step of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pyro.distributions import validation_enabled
from torch import Tensor, nn
from torch.func import vmap

from jointkl.objective.ir import Objective
from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.training.minibatches import Minibatches
from jointkl.training.phases import Phase
from jointkl.training.seeds import errors
from jointkl.training.seeds.vmap_overrides import Overriding, Streams
from jointkl.training.steps import Compute, PhaseStepper

Slots = tuple[tuple[dict[str, Any], str, int], ...]
"""Where a module and its parts hold their tensors, and the number of each: one that is held twice has two places."""


class VmappedProgram:
    """The programs of R replicas, taken as one `Program` by those who train it.

    Every parameter and buffer is stacked, (R, *shape), and those of the programs are views of the stacks, so that a
    change of one shows in the other. `latest` are the losses, (R,), of the last call, by player.
    """

    def __init__(self, programs: Sequence[Program], streams: Streams) -> None:
        self.programs = tuple(programs)
        self.streams = streams
        self.latest: dict[str, Tensor] = {}
        self._emitted = programs[0].emitted
        self._places = torch.arange(len(programs), device=self._emitted.anchor.device)
        self._tensors = dict(self._stacked())
        self._slots: Slots = tuple(self._places_of())

    def _stacked(self) -> Iterator[tuple[str, Tensor]]:
        for named in ("named_parameters", "named_buffers"):
            every = [dict(getattr(program.emitted, named)()) for program in self.programs]
            for name, first in every[0].items():
                if name == "anchor":  # a constant
                    continue
                stack = torch.stack([own[name].detach() for own in every])
                for own, part in zip(every, stack, strict=True):
                    own[name].data = part
                parameter = isinstance(first, nn.Parameter)
                yield name, nn.Parameter(stack, first.requires_grad) if parameter else stack

    def _places_of(self) -> Iterator[tuple[dict[str, Any], str, int]]:
        own = [*self._emitted.named_parameters(), *self._emitted.named_buffers()]
        names = {id(tensor): name for name, tensor in own}
        numbers = {name: i for i, name in enumerate(self._tensors)}
        for part in self._emitted.modules():
            for parts in (part._parameters, part._buffers):
                for name, tensor in parts.items():
                    if tensor is not None and names[id(tensor)] in numbers:
                        yield parts, name, numbers[names[id(tensor)]]

    @property
    def model(self) -> Model:
        return self.programs[0].model

    @property
    def objective(self) -> Objective:
        return self.programs[0].objective

    def parameters(self) -> list[nn.Parameter]:
        return [stack for stack in self._tensors.values() if isinstance(stack, nn.Parameter)]

    def buffers(self) -> list[Tensor]:
        return [stack for stack in self._tensors.values() if not isinstance(stack, nn.Parameter)]

    def parameters_of(self, player: str) -> list[nn.Parameter]:
        """The stacks that `player` trains, in the order of its parameters in each program."""
        first = self.programs[0]
        names = {id(parameter): name for name, parameter in first.emitted.named_parameters()}
        found = [self._tensors[names[id(parameter)]] for parameter in first.parameters_of(player)]
        return [stack for stack in found if isinstance(stack, nn.Parameter)]

    def loss(self, player: str, batch: Mapping[str, Tensor]) -> Tensor:
        """The sum of the replicas' losses, 0-d; `batch` holds a batch for each, (R, B, *shape)."""
        return self._sums({player: self._call(self.programs[0].emitted.losses[player], batch)})[player]

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Every player's, as `Program.losses` has them."""
        return self._sums(self._call("together", batch)) if self.objective.together is not None else None

    def _sums(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.latest |= {player: own.detach() for player, own in losses.items()}
        return {player: own.sum() for player, own in losses.items()}

    def snapshot(self) -> None:
        """Renew the old copies of all replicas."""
        if self.objective.old_nets or self.objective.old_params:
            self._call("snapshot")

    def _call(self, method: str, *arguments: Any) -> Any:
        """A method of the emitted module for all replicas at once: each result with R in front."""
        compute = getattr(self._emitted, method)

        def one(place: Tensor, tensors: Sequence[Tensor], *own: Any) -> Any:
            with Overriding(self.streams, place), holding(self._slots, tensors), validation_enabled(False):
                found = compute(*own)
            return place if found is None else found

        return vmap(one)(self._places, tuple(self._tensors.values()), *arguments)


@contextmanager
def holding(slots: Slots, tensors: Sequence[Tensor]) -> Iterator[None]:
    """Modules with these tensors in the place of their own, which return afterwards. What a module puts in the place of
    a tensor is copied into it. `torch.func.functional_call` does the same, but its search for the places by name takes
    longer than a small network."""
    before = [parts[name] for parts, name, _ in slots]
    try:
        for parts, name, i in slots:
            parts[name] = tensors[i]
        yield
        for parts, name, i in slots:
            if parts[name] is not tensors[i]:
                with torch.no_grad():
                    tensors[i].copy_(parts[name])
    finally:
        for (parts, name, _), tensor in zip(slots, before, strict=True):
            parts[name] = tensor


class VmappedStepper(PhaseStepper):
    """A phase of all replicas: one optimiser over the stacks. `steppers` are those of the replicas by themselves, which
    know their losses and their parts of the optimiser's tensors from the last `share`."""

    def __init__(
        self, phase: Phase, stack: VmappedProgram, steppers: Sequence[PhaseStepper], seeds: Sequence[int]
    ) -> None:
        # the stack has all that a stepper asks of a program, and is none
        super().__init__(phase, stack, steppers[0].whole, steppers[0].rate)  # pyright: ignore[reportArgumentType]
        self.stack = stack
        self.steppers = tuple(steppers)
        self.seeds = tuple(seeds)

    def step(self, batch: Mapping[str, Tensor], number: int, compute: Compute | None = None) -> None:
        """As a `PhaseStepper` does; a closed step one replica after the other."""
        if self.whole is None:
            super().step(batch, number, compute)
            return
        for i in self.stack.streams.each():
            with errors.of_seed(self.seeds[i]):
                self.steppers[i].step(batch, number)

    def clip_gradient(self) -> None:
        if self.phase.clip is not None:
            clip_each(self.parameters, self.phase.clip)

    def note(self, loss: Tensor, number: int) -> None:
        """Keep the losses, (R,), of which `loss` is the sum."""
        self._losses.append(self.stack.latest[self.phase.player])
        self._rounds.append(number)

    def share(self) -> None:
        """Give each replica's stepper its unread losses, and views of the optimiser's tensors."""
        if self._losses:
            for stepper, own in zip(self.steppers, torch.stack(self._losses, 1).cpu(), strict=True):
                for number, loss in zip(self._rounds, own, strict=True):
                    stepper.note(loss, number)
            self._losses, self._rounds = [], []
        for i, stepper in enumerate(self.steppers):
            for stack, parameter in zip(self.parameters, stepper.parameters, strict=True):
                slots = self.optimizer.state.get(stack, {})
                stepper.optimizer.state[parameter] = {name: _part(name, value, i) for name, value in slots.items()}

    def gather(self) -> None:
        """Stack the optimiser's tensors of the replicas' steppers, as a checkpoint has set them."""
        slots: dict[int, dict[str, Tensor]] = {}
        for place, _ in enumerate(self.parameters):
            every = [stepper.optimizer.state.get(stepper.parameters[place], {}) for stepper in self.steppers]
            if every[0]:
                slots[place] = {n: v if n == COUNT else torch.stack([s[n] for s in every]) for n, v in every[0].items()}
        self.restore((), slots)


COUNT = "step"
"""The slot of torch's optimisers that counts steps: it is the same for all replicas."""


def _part(name: str, value: Any, i: int) -> Any:
    return value[i] if isinstance(value, Tensor) and name != COUNT else value


def clip_each(parameters: Sequence[nn.Parameter], bound: float) -> None:
    """`torch.nn.utils.clip_grad_norm_` of each replica by itself: its gradient times min(1, bound / (norm + 1e-6))."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in gradients])
    shares = (bound / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(shares.view(-1, *[1] * (gradient.dim() - 1)))


class VmappedMinibatches:
    """The minibatches of the replicas, each in its own order: key -> (R, B, *shape)."""

    def __init__(self, every: Sequence[Minibatches]) -> None:
        self.every = tuple(every)

    def first(self) -> dict[str, Tensor]:
        return _together([minibatches.first() for minibatches in self.every])

    def draw(self) -> dict[str, Tensor]:
        return _together([minibatches.draw() for minibatches in self.every])


def _together(batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {key: torch.stack([batch[key] for batch in batches]) for key in batches[0]}
