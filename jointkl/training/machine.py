"""The machine under a run: its device, its threads, and Ctrl-C."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

import torch

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
from jointkl.semantics.model import Net
from jointkl.training import errors

SMALL = 1_000_000
"""Below so many products a datum, and so many parameters, a second CPU thread waits more than it computes."""


def device_of(name: str) -> torch.device:
    """`auto` is a GPU if there is one. Raises `DataError` for what torch cannot use here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        raise errors.unknown_device(name) from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise errors.no_gpu()
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
def interrupts() -> Iterator[threading.Event]:
    """Set by Ctrl-C, so that no step is cut in two; the second Ctrl-C interrupts at once."""
    asked = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield asked
        return

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
