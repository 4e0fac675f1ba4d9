"""Each phase's steps in the way that is fastest on this machine, tried before the first round and then undone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from jointkl.program import Program
from jointkl.training.speed import errors
from jointkl.training.speed.backends import BACKENDS, EAGER, Backend, Batch, Take, available_on, obstacle
from jointkl.training.steps import PhaseStepper

AUTO = "auto"

LEAST = 500
"""A phase of fewer steps is over before it is tuned."""

MARGIN = 0.95
"""A way is kept whose step takes less than this share of eager's: what is between is noise."""

BLOCKS, BLOCK, LIMIT = 5, 10, 2.0
"""A step's time is that of the fastest of so many blocks of so many steps; after so many seconds no block is begun."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds to prepare a way for a phase, and of a step then."""

    way: str
    preparing: float
    step: float


@dataclass(frozen=True, slots=True)
class Choice:
    """How a player steps. `trials` is empty where nothing was measured; `notes` say why ways were left, by way."""

    player: str
    way: str
    trials: tuple[Trial, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


def verify(way: str | None, device: torch.device) -> str:
    """The way asked for, a name or `auto`. None: on a GPU `auto`; elsewhere eager, so that the same seed gives the same
    bits. Raises `DataError`."""
    if way is None:
        return AUTO if device.type == "cuda" else EAGER
    names = (AUTO, *(row.name for row in BACKENDS))
    if way not in names:
        raise errors.unknown_way(way, names)
    if way != AUTO and way not in {row.name for row in available_on(device)}:
        raise errors.way_without_device(way, device.type)
    return way


def tune(
    program: Program,
    steppers: Sequence[PhaseStepper],
    batch: Batch,
    rounds: int,
    ways: Mapping[str, str],
    clock: Clock = time.perf_counter,
) -> tuple[Choice, ...]:
    """Set every stepper's `take`, and say what was chosen and why. A way that fails is left out, with a note.

    `ways`: by player, the way asked for, a name or `auto`.

    Parameters, buffers, optimisers and torch's random numbers are afterwards as before, bit for bit.
    """
    choices: list[Choice] = []
    for stepper in steppers:
        steps = rounds // stepper.phase.every * stepper.phase.repeat
        with undone(program, stepper.optimizer):
            choice, stepper.take = _chosen(program, stepper, batch, steps, ways[stepper.phase.player], clock)
        choices.append(choice)
    return tuple(choices)


def pays_off(way: Backend, eager: float, steps: int) -> bool:
    """Whether so many steps, of `eager` seconds each, may save more than preparing the way costs."""
    return way.saving * eager * steps > way.seconds


def fastest(trials: Sequence[Trial]) -> str:
    """Of ways that are prepared already, eager first: eager, unless another is clearly faster."""
    eager, *others = trials
    best = min(others, key=lambda trial: trial.step, default=eager)
    return best.way if best.step < MARGIN * eager.step else eager.way


def _chosen(
    program: Program, stepper: PhaseStepper, batch: Batch, steps: int, way: str, clock: Clock
) -> tuple[Choice, Take]:
    player, device = stepper.phase.player, program.emitted.anchor.device
    eager, *others = [row for row in available_on(device) if way == AUTO or row.name in (EAGER, way)]
    why = {row.name: found for row in others if (found := obstacle(row, stepper))}
    takes, trials = {EAGER: eager.build(stepper, batch)}, list[Trial]()
    if way == AUTO and steps < LEAST:
        return Choice(player, EAGER), takes[EAGER]
    if len(why) == len(others):
        return Choice(player, EAGER, notes=why), takes[EAGER]
    if way == AUTO:
        trials.append(Trial(EAGER, 0.0, timed(takes[EAGER], batch, device, clock)))
    for row in others:
        if row.name in why:
            continue
        if trials and not pays_off(row, trials[0].step, steps):
            why[row.name] = f"{steps} steps are too few to pay for it"
            continue
        begin = clock()
        try:
            take = row.build(stepper, batch)
            take(batch)
            wait(device)
            prepared = clock() - begin
            if trials:
                trials.append(Trial(row.name, prepared, timed(take, batch, device, clock)))
        except Exception as error:  # of torch's compilers and of capture, in many types; eager fails by itself
            why[row.name] = f"failed: {type(error).__name__}: {first_line(error)}"
            continue
        takes[row.name] = take
    chosen = fastest(trials) if trials else next(name for name in (way, EAGER) if name in takes)
    return Choice(player, chosen, tuple(trials), why), takes[chosen]


def timed(take: Take, batch: Batch, device: torch.device, clock: Clock) -> float:
    """Seconds of a step, at best."""
    take(batch)
    wait(device)
    found: list[float] = []
    begin = now = clock()
    while len(found) < BLOCKS and now - begin <= LIMIT:
        start = clock()
        for _ in range(BLOCK):
            take(batch)
        wait(device)
        now = clock()
        found.append((now - start) / BLOCK)
    return min(found)


def wait(device: torch.device) -> None:
    """Until the device has done what it was told: until then a clock measures the telling."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no message"


@contextmanager
def undone(program: Program, optimizer: Optimizer) -> Iterator[None]:
    """Steps in here leave no trace. Every tensor keeps its address, which a captured graph has written down."""
    device = program.emitted.anchor.device
    cuda = [device] if device.type == "cuda" else []
    before = [(tensor, tensor.detach().clone()) for tensor in program.parameters()]
    slots = {id(slot): slot.clone() for slot in _slots(optimizer)}
    with torch.random.fork_rng(devices=cuda), buffers_kept(program):
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)
                for slot in _slots(optimizer):  # of torch's Adam, RMSprop and SGD all begin at zero
                    slot.copy_(slots[id(slot)]) if id(slot) in slots else slot.zero_()
            optimizer.zero_grad(set_to_none=True)


@contextmanager
def buffers_kept(program: Program) -> Iterator[None]:
    """Buffers are afterwards as before, each at its address, also where a module has put another tensor there."""
    before = [
        (part._buffers, name, buffer, buffer.clone())
        for part in program.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for places, name, buffer, value in before:
                buffer.copy_(value)
                places[name] = buffer


def _slots(optimizer: Optimizer) -> Iterator[Tensor]:
    for slots in optimizer.state.values():
        yield from (value for value in slots.values() if isinstance(value, Tensor))


def text_of(choices: Sequence[Choice]) -> str | None:
    """One line for the user; None where every phase is eager and nothing was tried."""
    parts = [_choice(choice) for choice in choices if choice.trials or choice.notes or choice.way != EAGER]
    return f"steps: {'; '.join(parts)}" if parts else None


def _choice(choice: Choice) -> str:
    times = {trial.way: f"{trial.step * 1e3:.3g} ms" for trial in choice.trials}
    chosen = " ".join((choice.player, choice.way, *([times[choice.way]] if times else ())))
    others = [f"{name} {text}" for name, text in times.items() if name != choice.way]
    others += [f"{name}: {why}" for name, why in choice.notes.items()]
    return f"{chosen} ({', '.join(others)})" if others else chosen
