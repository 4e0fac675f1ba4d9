"""A dry run: everything is built and each phase takes a few steps, which are timed and undone."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console, Group
from rich.table import Table
from torch import Tensor, nn

from jointkl.program import Program
from jointkl.training.engine import Engine
from jointkl.training.speed.autotune import undone, wait
from jointkl.training.speed.memory import peak
from jointkl.training.steps import play_together

STEPS, LIMIT = 20, 2.0
"""A step's time is the median of so many steps; after so many seconds no further one is begun."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Applied:
    """A network in a step: the shapes of what it was given and gave when it was first applied, and how often."""

    net: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    times: int


@dataclass(frozen=True, slots=True)
class PhaseCost:
    """A phase, or all that step at once: `steps` of it in the run, the first `losses` by player, bytes that a step
    holds at its `peak` beyond what stands between steps, and `seconds` of one."""

    players: str
    way: str
    steps: int
    losses: Mapping[str, float]
    parameters: int
    networks: tuple[Applied, ...]
    peak: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a run would be: `batch` has the shape and type of each key, `parameters` each network's."""

    device: str
    rounds: int
    batch: Mapping[str, tuple[Shape, str]]
    parameters: Mapping[str, int]
    parts: tuple[PhaseCost, ...]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of all the run's steps; pictures and checkpoints come on top."""
        return sum(part.steps * part.seconds for part in self.parts)


def rehearse(engine: Engine) -> Rehearsal:
    """Nothing of the engine or its program has moved afterwards, bit for bit. Raises what a step raises."""
    plan, program = engine.plan, engine.program
    batch = engine.minibatches.first()
    with engine.at_work(), ExitStack() as stack:
        for stepper in engine.steppers:
            stack.enter_context(undone(program, stepper.optimizer))
        seen = {players: _shapes(program, step) for players, step in _acts(engine, batch)}
        losses = {stepper.phase.player: stepper.read()[0][1] for stepper in engine.steppers}
        ways = {choice.player: choice.way for choice in engine.choose_ways()}
        parts = []
        for players, step in _acts(engine, batch):
            steppers = [stepper for stepper in engine.steppers if stepper.phase.player in players]
            parts.append(
                PhaseCost(
                    players=", ".join(players),
                    way=ways.get(players[0], "eager"),
                    steps=plan.rounds // steppers[0].phase.every * steppers[0].phase.repeat,
                    losses={player: losses[player] for player in players},
                    parameters=sum(p.numel() for stepper in steppers for p in stepper.parameters),
                    networks=seen[players],
                    peak=peak(step, plan.device),
                    seconds=_seconds(step, plan.device),
                )
            )
    return Rehearsal(
        device=str(plan.device),
        rounds=plan.rounds,
        batch={key: (tuple(rows.shape), str(rows.dtype).removeprefix("torch.")) for key, rows in batch.items()},
        parameters={name: sum(p.numel() for p in net.parameters()) for name, net in program.nets.items()},
        parts=tuple(parts),
        notes=plan.notes,
    )


def _acts(engine: Engine, batch: Mapping[str, Tensor]) -> Iterator[tuple[tuple[str, ...], Callable[[], None]]]:
    """Who steps together, and how."""
    steppers = engine.steppers
    if engine.plan.updates == "simultaneous":
        players = tuple(stepper.phase.player for stepper in steppers)
        yield players, lambda: play_together(1, steppers, lambda: batch, engine.program.snapshot)
        return
    for stepper in steppers:
        yield (stepper.phase.player,), lambda stepper=stepper: stepper.step(batch, 1)


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    found: list[float] = []
    begin = time.perf_counter()
    while len(found) < STEPS and time.perf_counter() - begin < LIMIT:
        start = time.perf_counter()
        step()
        wait(device)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def _shapes(program: Program, step: Callable[[], None]) -> tuple[Applied, ...]:
    with _listening(program) as heard:
        step()
    return tuple(Applied(name, *calls[0], len(calls)) for name, calls in heard.items())


Call = tuple[tuple[Shape, ...], tuple[Shape, ...]]


@contextmanager
def _listening(program: Program) -> Iterator[dict[str, list[Call]]]:
    """The shapes of every call of a network, by its name in the spec."""
    heard: dict[str, list[Call]] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], object], None]:
        def hear(net: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            heads = output if isinstance(output, tuple) else (output,)
            heard.setdefault(name, []).append((_sizes(inputs), _sizes(heads)))

        return hear

    handles = [net.register_forward_hook(hook(name)) for name, net in program.nets.items()]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _sizes(values: tuple[object, ...]) -> tuple[Shape, ...]:
    return tuple(tuple(value.shape) for value in values if isinstance(value, Tensor))


# --- as it is printed

WIDTH = 160
"""Columns where there is no terminal."""


def show(found: Rehearsal) -> None:
    """Print the dry run."""
    Console(width=None if sys.stdout.isatty() else WIDTH).print(tables(found))


def tables(found: Rehearsal) -> Group:
    """The dry run as tables."""
    data = ", ".join(f"{key} {_size(shape)} {kind}" for key, (shape, kind) in found.batch.items() if shape[1:] != (0,))
    networks = Table("network", "parameters", "applied by", "to", "gives", "times", box=None, header_style="bold")
    for part in found.parts:
        for net in part.networks:
            row = (net.net, f"{found.parameters[net.net]:,}", part.players, _all(net.inputs), _all(net.outputs))
            networks.add_row(*row, str(net.times))
    phases = Table(box=None, header_style="bold")
    for name in ("phase", "trains", "loss at first", "memory", "step", "steps", "in all"):
        phases.add_column(name, justify="left" if name == "phase" else "right")
    for part in found.parts:
        loss = ", ".join(f"{value:.4g}" for value in part.losses.values())
        cost = (_bytes(part.peak), f"{part.seconds * 1e3:.3g} ms", f"{part.steps:,}")
        phases.add_row(part.players, f"{part.parameters:,}", loss, *cost, duration(part.seconds * part.steps))
    applied = (networks, "") if networks.row_count else ()
    return Group(
        f"on {found.device}: {found.rounds:,} rounds, each of a batch of {data or 'no data'}",
        "",
        *applied,
        phases,
        "",
        f"the whole run: about {duration(found.seconds)}, pictures and checkpoints left out",
    )


def duration(seconds: float) -> str:
    """Two units at most: `3 min 20 s`."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _bytes(size: int) -> str:
    unit = next((unit for unit in ("KiB", "MiB") if size < 1024 ** (2 if unit == "KiB" else 3)), "GiB")
    return f"{size / 1024 ** {'KiB': 1, 'MiB': 2, 'GiB': 3}[unit]:.3g} {unit}"


def _size(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "1"


def _all(shapes: tuple[Shape, ...]) -> str:
    return ", ".join(map(_size, shapes))
