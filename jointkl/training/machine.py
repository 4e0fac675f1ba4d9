"""The machine under a run: its device, its threads, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from jointkl.program import Program
from jointkl.training import errors

SMALL = 1_000_000
"""Below so many parameters a second CPU thread waits more than it computes."""


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
    small = sum(p.numel() for p in program.parameters()) < SMALL
    if device.type != "cpu" or not small or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
