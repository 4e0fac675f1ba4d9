"""The ways to take a phase's steps, what keeps a phase out of each, and how each is prepared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType

import torch
from torch import Tensor

from jointkl.training.steps import Turn

Batch = Mapping[str, Tensor]
Take = Callable[[Batch], Tensor]
"""One step on a batch; returns the loss, 0-d, detached, on the device."""

WARM = 3
"""Steps before a capture: torch's libraries and the optimiser allocate in the first ones what they keep."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to take a step, on some types of `devices` (none named: on all).

    `build` prepares it for a phase and a batch; it may step. `seconds`: what preparing it costs, about; `saving`: the
    share of a step's time that it saves at best, about.
    """

    name: str
    devices: tuple[str, ...]
    seconds: float
    saving: float
    build: Callable[[Turn, Batch], Take]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps a phase out of `ways`."""

    why: str
    ways: tuple[str, ...]
    holds: Callable[[Turn], bool]


# --- how each is prepared


def eager(turn: Turn, batch: Batch) -> Take:
    return turn.descend


def compiled(turn: Turn, batch: Batch) -> Take:
    """The loss by `torch.compile`, its draws torch's own, in the order of eager: the same up to rounding."""
    emitted = turn.program.emitted
    method = getattr(emitted, emitted.losses[turn.phase.player])
    loss = torch.compile(method, dynamic=False, options={"fallback_random": True})
    return lambda batch: turn.descend(batch, loss)


def captured(turn: Turn, batch: Batch) -> Take:
    """The whole step as one CUDA graph: loss, backward, clipping, optimiser; its noise from torch's generator, which
    every replay moves on."""
    held = {key: value.clone() for key, value in batch.items()}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM):
            turn.descend(held)
    torch.cuda.current_stream().wait_stream(side)
    turn.clear()  # so that the gradients are the graph's own
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = turn.descend(held)
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


def named(emitted: object, method: str) -> frozenset[str]:
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


def _names(name: str) -> Callable[[Turn], bool]:
    def holds(turn: Turn) -> bool:
        emitted = turn.program.emitted
        return name in named(emitted, emitted.losses[turn.phase.player])

    return holds


EAGER = "eager"

WAYS = (
    Way(EAGER, (), 0.0, 0.0, eager),
    Way("compile", ("cpu", "cuda"), 30.0, 0.3, compiled),
    Way("graph", ("cuda",), 2.0, 0.8, captured),
)

OBSTACLES = (
    Obstacle("its step is closed", ("compile", "graph"), lambda turn: turn.whole is not None),
    Obstacle("double backward stays eager", ("compile", "graph"), _names("autograd")),
    Obstacle("its distributions are checked on the host", ("graph",), _names("dist")),
    Obstacle("it copies numbers from the host", ("graph",), _names("new_tensor")),
)


def obstacle(way: Way, turn: Turn) -> str | None:
    """Why a phase is not stepped this way; None where nothing is known against it."""
    return next((row.why for row in OBSTACLES if way.name in row.ways and row.holds(turn)), None)


def on(device: torch.device) -> tuple[Way, ...]:
    """The ways that this type of device has, eager first."""
    return tuple(way for way in WAYS if not way.devices or device.type in way.devices)
