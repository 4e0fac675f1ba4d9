"""The machine under a run: its device, its threads, its memory, and who asks the run to end."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

import torch

from jointkl.diagnostics import Terminated
from jointkl.program import Program
from jointkl.semantics.layers import (
    Activation,
    Conv,
    Deconv,
    Dropout,
    Flatten,
    Layer,
    Linear,
    Norm,
    Own,
    Residual,
    Shape,
    Unflatten,
    grown,
    plan,
    shrunk,
)
from jointkl.semantics.model import Model, Net
from jointkl.training import errors

SMALL = 1_000_000
"""With fewer products a datum, and fewer parameters, a second CPU thread waits more than it computes."""


def device_of(name: str) -> torch.device:
    """`auto` is a GPU if there is one. Raises `DataError` for what torch cannot use here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        raise errors.unknown_device(name) from None
    if found.type not in ("cpu", "cuda"):
        raise errors.unknown_device(name)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise errors.no_gpu(name)
    return found


@contextmanager
def threads(program: Program, device: torch.device) -> Iterator[None]:
    """One CPU thread for small networks, unless the environment says how many."""
    work = sum(products(net) for net in program.model.nets.values() if net.heads)
    small = max(work, sum(p.numel() for p in program.parameters())) < SMALL
    if device.type != "cpu" or not small or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def products(net: Net) -> int:
    """How many weights a network multiplies with for one datum; of a class of the user's own nothing is known."""
    found = plan(net)
    size = net.inputs[found.image].shape[1:] if found.image is not None else (1, 1)
    return _products(found.layers, size)[0] + _products(found.head, (1, 1))[0]


def _products(layers: tuple[Layer, ...], size: Shape) -> tuple[int, Shape]:
    """Of layers that start from maps of `size`, and the size that they end with."""
    total = 0
    for layer in layers:
        match layer:
            case Linear():
                total += layer.weights
            case Conv(kernel=kernel, stride=stride):
                size = tuple(shrunk(n, kernel, stride) for n in size)
                total += layer.weights * math.prod(size)
            case Deconv(kernel=kernel, stride=stride, extra=extra):
                total += layer.weights * math.prod(size)
                size = tuple(grown(n, kernel, stride) + more for n, more in zip(size, extra, strict=True))
            case Unflatten(shape=shape):
                size = shape[1:]
            case Residual(layers=inner, shortcut=shortcut):
                total += 0 if shortcut is None else _products((shortcut,), size)[0]
                more, size = _products(inner, size)
                total += more
            case Norm() | Activation() | Dropout() | Flatten() | Own():
                pass
            case _:
                assert_never(layer)
    return total, size


@contextmanager
def memory(batch: int | None = None) -> Iterator[None]:
    """Raise a `DataError` where the device runs out of memory, for a batch of so many rows or at all."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and not any(said in str(error) for said in UNALLOCATED):
            raise
        raise (errors.too_large() if batch is None else errors.out_of_memory(batch)) from error


UNALLOCATED = ("can't allocate memory", "overflowed")
"""What torch says where a CPU has no memory, or no address, for a tensor."""


def numbers(model: Model) -> int:
    """How many a model's networks and params hold, about: norms and biases are left out, and all of a class of the
    user's own."""
    plans = [plan(net) for net in model.nets.values() if net.heads]
    nets = sum(_weights(found.layers) + _weights(found.head) for found in plans)
    return nets + sum(param.space.size for param in model.params.values())


def _weights(layers: tuple[Layer, ...]) -> int:
    inner = [
        part for layer in layers if isinstance(layer, Residual) for part in (*layer.layers, layer.shortcut) if part
    ]
    own = sum(layer.weights for layer in layers if isinstance(layer, Linear | Conv | Deconv))
    return own + (_weights(tuple(inner)) if inner else 0)


class EndRequest(threading.Event):
    """Set when the process is asked to end."""

    error: type[KeyboardInterrupt] = KeyboardInterrupt
    """What that ends with."""


@contextmanager
def interrupts() -> Iterator[EndRequest]:
    """Set by Ctrl-C and by SIGTERM, as job schedulers send it, so that no step is cut in two.

    The second Ctrl-C interrupts at once. A second SIGTERM changes nothing: one that is sent to all processes of a job
    comes once more from those that pass it on.
    """
    asked = EndRequest()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: object) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not asked.is_set():
            asked.error = ENDS[number]
            asked.set()

    before = {number: signal.getsignal(number) for number in ENDS}
    heard = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    for number in heard:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number in heard:
            signal.signal(number, before[number])


ENDS: dict[int, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
