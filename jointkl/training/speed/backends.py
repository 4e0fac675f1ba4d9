"""The ways to take a phase's steps, what keeps a phase out of each, and how each is prepared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType

import torch
from torch import Tensor

from jointkl.training.steps import PhaseStepper

Batch = Mapping[str, Tensor]
Take = Callable[[Batch], Tensor]
"""One step on a batch; returns the loss, 0-d, detached, on the device."""

WARM = 3
"""Steps before a capture: torch's libraries and the optimiser allocate in the first ones what they keep."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to take a step, on some types of `devices` (none named: on all).

    `build` prepares it for a phase and a batch; it may step. `seconds`: what preparing it costs, about; `saving`: the
    share of a step's time that it saves at best, about.
    """

    name: str
    devices: tuple[str, ...]
    seconds: float
    saving: float
    build: Callable[[PhaseStepper, Batch], Take]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a phase out of `ways`."""

    why: str
    ways: tuple[str, ...]
    holds: Callable[[PhaseStepper], bool]


# --- how each is prepared


def eager(stepper: PhaseStepper, batch: Batch) -> Take:
    return stepper.descend


def compiled(stepper: PhaseStepper, batch: Batch) -> Take:
    """The loss by `torch.compile`, its draws torch's own, in the order of eager: the same up to rounding."""
    emitted = stepper.program.emitted
    method = getattr(emitted, emitted.losses[stepper.phase.player])
    loss = torch.compile(method, dynamic=False, options={"fallback_random": True})
    return lambda batch: stepper.descend(batch, loss)


def captured(stepper: PhaseStepper, batch: Batch) -> Take:
    """The whole step as one CUDA graph: loss, backward, clipping, optimiser; its noise from torch's generator, which
    every replay moves on."""
    held = {key: value.clone() for key, value in batch.items()}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            stepper.descend(held)
    torch.cuda.current_stream().wait_stream(side)
    stepper.clear()  # so that the gradients are the graph's own
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = stepper.descend(held)
    return replayed(held, graph.replay, loss)


def replayed(held: Batch, replay: Callable[[], None], loss: Tensor) -> Take:
    """Steps of a graph that reads `held` and writes `loss`: the same tensors in every replay."""

    def take(batch: Batch) -> Tensor:
        for key, place in held.items():
            if batch[key].shape != place.shape:
                raise ValueError(f"a graph for {key} of shape {tuple(place.shape)} got {tuple(batch[key].shape)}")
            place.copy_(batch[key])
        replay()
        return loss.clone()

    return take


# --- what keeps a phase out


def names_in(emitted: object, method: str) -> frozenset[str]:
    """Every name in the code of a method of the emitted class, and of the methods that it names."""
    own, found, left = vars(type(emitted)), set[str](), [method]
    while left:
        codes: list[CodeType] = [own[left.pop()].__code__]
        while codes:
            code = codes.pop()
            codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
            new = set(code.co_names) - found
            found |= new
            left += [name for name in new if hasattr(own.get(name), "__code__")]
    return frozenset(found)


def _names(name: str) -> Callable[[PhaseStepper], bool]:
    def holds(stepper: PhaseStepper) -> bool:
        emitted = stepper.program.emitted
        return name in names_in(emitted, emitted.losses[stepper.phase.player])

    return holds


EAGER = "eager"

BACKENDS = (
    Backend(EAGER, (), 0.0, 0.0, eager),
    Backend("compile", ("cpu", "cuda"), 30.0, 0.3, compiled),
    Backend("graph", ("cuda",), 2.0, 0.8, captured),
)

OBSTACLES = (
    Obstacle("its step is closed", ("compile", "graph"), lambda stepper: stepper.whole is not None),
    Obstacle("double backward stays eager", ("compile", "graph"), _names("autograd")),
    Obstacle("its distributions are checked on the host", ("graph",), _names("dist")),
    Obstacle("it copies numbers from the host", ("graph",), _names("new_tensor")),
)


def obstacle(way: Backend, stepper: PhaseStepper) -> str | None:
    """Why a phase is not stepped this way; None where nothing is known against it."""
    return next((row.why for row in OBSTACLES if way.name in row.ways and row.holds(stepper)), None)


def available_on(device: torch.device) -> tuple[Backend, ...]:
    """The ways that this type of device has, eager first."""
    return tuple(way for way in BACKENDS if not way.devices or device.type in way.devices)
