"""The processes of a run: torchrun starts them; they join, agree, and end with one message.

A process alone is a world of one, in which everything is agreed on already.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pickle
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from jointkl.diagnostics import DataError, Elsewhere, JklError
from jointkl.training import errors
from jointkl.training.machine import ENDS, Asked, interrupts

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""So long a process waits for another: the first one's checkpoints and pictures take time too."""

PATIENCE = 5.0
"""So many seconds a process that has lost another waits for the first one to tell of it."""

PERIOD, MOST = 0.5, 1000
"""Seconds, about, after which the processes agree whether to stop or to save, and the most rounds in between."""

FAILED, TOLD, SPEAKER, FOUND, BEFORE = "failed", "told", "speaker", "found", "before"
"""What stands in the store that the processes share: a failure; that the first one tells of it; who does if not; that
it has found what the others wait for; whether what goes before the others on a machine has."""

WORLDS = itertools.count()
"""How many worlds there were before, the same number in every process: each has a place of its own in the store."""


class World:
    """One process, alone: number `rank` of `size`, and `local` on its machine. The first one writes and speaks.

    `folder`: the run's, once there is one.
    """

    rank, size, local = 0, 1, 0
    folder: Path | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def own(self, device: torch.device) -> torch.device:
        """The device of this process. Raises `DataError` where there is none for it."""
        return device

    def settle(self) -> None:
        """Every process has decided what it will do. Raises what one of them found wrong."""

    def in_turn(self, find: Callable[[], T]) -> T:
        """What each process finds, one of each machine before its others, however long it takes: what it fetches or
        converts is then there."""
        return find()

    def told(self, find: Callable[[], T]) -> T:
        """What the first process finds, in all of them. What goes wrong there has gone wrong for all."""
        return find()

    def awaited(self, find: Callable[[], T]) -> T | None:
        """What the first process finds, however long it takes; the others find nothing, once it has."""
        return find()

    def every(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        return [value]

    def agreed(self, number: int, stop: bool, due: bool) -> tuple[bool, bool]:
        """After round `number`: whether to stop, and whether to save, as any process asks."""
        return stop, due

    def mean(self, values: Tensor) -> Tensor:
        """Of a tensor of each process."""
        return values

    def interrupts(self) -> AbstractContextManager[Asked]:
        """Set when the user asks to stop."""
        return interrupts()


ALONE = World()


class Joined(World):
    """One process of several. They agree over gloo, whatever their gradients go over."""

    def __init__(self, asked: Asked) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local = int(os.environ.get("LOCAL_RANK", "0"))
        self._asked = asked
        self._store = dist.distributed_c10d._get_default_store()
        self._place = f"jointkl/{next(WORLDS)}/"
        self._group: Any = dist.new_group(backend="gloo", timeout=TIMEOUT)
        self._settled = self._failed = False
        self._next = 0
        self._last: tuple[int, float] | None = None

    def own(self, device: torch.device) -> torch.device:
        if device.type != "cuda":
            return device
        if device.index is not None:
            raise errors.one_gpu_for_all(str(device))
        if self.local >= torch.cuda.device_count():
            raise errors.few_gpus(self.local, torch.cuda.device_count())
        torch.cuda.set_device(self.local)
        return device

    def settle(self) -> None:
        self._gather(None)
        self._settled = True

    def in_turn(self, find: Callable[[], T]) -> T:
        place = f"{self._place}{BEFORE}/{self.rank - self.local}"
        if self.local == 0:
            fine = False
            try:
                found = find()
                fine = True
                return found
            finally:
                self._store.set(place, str(fine))
        while not self._store.check([place]) and not self._asked.is_set():
            time.sleep(0.1)
        if self._store.check([place]) and self._store.get(place) != b"True":
            self._gather(None)  # it comes there with what went wrong
        return find()

    def _gather(self, failure: Exception | None) -> None:
        """All processes come here, each with what has gone wrong if it has. Raises what one of them found."""
        for rank, found in enumerate(self.every(failure and portable(failure))):
            if found is not None:
                self._settled = True
                raise (failure or self._named(rank, found)) if self.first else Elsewhere()

    def told(self, find: Callable[[], T]) -> T:
        box: list[Any] = [None, None]
        failure: Exception | None = None
        if self.first:
            try:
                box[0] = find()
            except Exception as error:
                failure, box[1] = error, portable(error)
        dist.broadcast_object_list(box, 0, group=self._group)
        if box[1] is not None:
            raise failure or Elsewhere()
        return box[0]

    def awaited(self, find: Callable[[], T]) -> T | None:
        if self.first:
            try:
                return find()
            finally:
                self._store.set(self._place + FOUND, "")
        while not self._store.check([self._place + FOUND]) and not self._asked.is_set():
            time.sleep(0.1)
        return None

    def every(self, value: T) -> list[T]:
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self._group)
        return found

    def agreed(self, number: int, stop: bool, due: bool) -> tuple[bool, bool]:
        """Found out now and then: after as many rounds as the slowest process makes in `PERIOD`."""
        if number < self._next:
            return False, False
        now = time.perf_counter()
        before, then = self._last or (number, now - PERIOD)
        pace = (now - then) / max(1, number - before)
        flags = torch.tensor([stop, due, pace], dtype=torch.float64)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._group)
        self._last = number, now
        self._next = number + int(min(MOST, max(1.0, PERIOD / flags[2].item())))
        return bool(flags[0]), bool(flags[1])

    def mean(self, values: Tensor) -> Tensor:
        found = values.detach().cpu().double()
        dist.all_reduce(found, group=self._group)
        return found / self.size

    @contextmanager
    def interrupts(self) -> Iterator[Asked]:
        """Set by Ctrl-C and SIGTERM, which torchrun hands on; who has not ended half a minute later it kills, so that
        a second one changes nothing here."""
        with ExitStack() as stack:
            stack.push(_handled(signal.SIGINT, self._asked))
            yield self._asked

    def ending(self, error: Exception) -> Exception:
        """What this process raises where `error` ends it: one tells the user, the first one if it lives."""
        if isinstance(error, Elsewhere):
            return error
        lost = is_lost(error)
        try:
            if not self._settled and not lost:
                self._gather(error)
            self._failed = True
            return self._agreed_ending(error, lost)
        except Elsewhere as elsewhere:
            return elsewhere
        except Exception as other:  # of the first process, what another found; or the store is gone with its machine
            if isinstance(other, DataError | JklError):
                return other
            self._failed = True
            return error

    def leave(self) -> None:
        """Leave the group, unless this process ended before the others, or they before it: it would wait for them."""
        if dist.is_initialized() and not self._failed:
            dist.destroy_process_group()

    def _agreed_ending(self, error: Exception, lost: bool) -> Exception:
        if self.first:
            self._store.set(self._place + TOLD, "")
            return (self._failure() or errors.process_lost(self.folder)) if lost else error
        if not lost:
            self._store.set(self._place + FAILED, pickle.dumps((self.rank, portable(error))).hex())
            return Elsewhere()
        end = time.monotonic() + PATIENCE
        while not self._store.check([self._place + TOLD]) and time.monotonic() < end:
            time.sleep(0.1)
        alone = not self._store.check([self._place + TOLD]) and self._store.add(self._place + SPEAKER, 1) == 1
        return (self._failure() or errors.process_lost(self.folder)) if alone else Elsewhere()

    def _failure(self) -> Exception | None:
        """What another process has left word of."""
        if not self._store.check([self._place + FAILED]):
            return None
        return self._named(*pickle.loads(bytes.fromhex(self._store.get(self._place + FAILED).decode())))

    def _named(self, rank: int, error: Exception) -> Exception:
        return errors.failed_elsewhere(rank, self.size, error) if isinstance(error, DataError) else error


def portable(error: Exception) -> Exception:
    """An error that another process can raise."""
    return error if isinstance(error, DataError | JklError) else RuntimeError(f"{type(error).__name__}: {error}")


def is_lost(error: Exception) -> bool:
    """Did this process wait for another in vain? What ends a backward pass says so in its text alone."""
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text


_worlds: list[Joined] = []
"""The world that this process has joined: one at a time, as torch.distributed has one default group."""


@contextmanager
def joined() -> Iterator[World]:
    """The world of this process: itself alone, or all that torchrun started with it, by the variables that it sets.

    Where these end with an error one of them raises it, the first if it lives, and the others `Elsewhere`. Others than
    the first print nothing.
    """
    if _worlds or os.environ.get("WORLD_SIZE", "1") == "1":
        yield _worlds[-1] if _worlds else World()
        return
    if own := not dist.is_initialized():
        _meet()
    asked = Asked()
    with ExitStack() as stack:
        stack.push(_handled(signal.SIGTERM, asked))
        world = Joined(asked)
        if own:
            atexit.register(world.leave)
        _worlds.append(world)
        stack.callback(_worlds.clear)
        if not world.first:
            nothing = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nothing))
            stack.enter_context(redirect_stderr(nothing))
        try:
            yield world
        except Exception as error:
            told = world.ending(error)
            if told is error:
                raise
            raise told from error


def _meet() -> None:
    """Join the group of all processes, by the variables that torchrun sets. Raises `DataError`."""
    try:
        store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        own = PrefixStore(_agreed_name(store, rank, size), store)
        dist.init_process_group(store=own, rank=rank, world_size=size, timeout=TIMEOUT)
    except (ValueError, RuntimeError, OSError) as error:  # of the variables, and of the network
        raise errors.not_met(error) from error


def _agreed_name(store: Store, rank: int, size: int) -> str:
    """A name that the processes of this start alone have: torchrun's store outlives those that it starts again, with
    all that they have written."""
    word, end = secrets.token_hex(8), time.monotonic() + TIMEOUT.total_seconds()
    if rank:
        store.set(f"{MET}{rank}", word)
    while time.monotonic() < end:
        name = _name_heard(store, rank, word) if rank else _name_given(store, size, word)
        if name:
            return name
        time.sleep(0.02)
    raise TimeoutError("one of them has not come")


def _name_given(store: Store, size: int, word: str) -> str:
    """The first process's word, once all others have repeated it; until then each is told it behind its own."""
    met = [store.get(key).decode() if store.check([key := f"{MET}{rank}"]) else "" for rank in range(1, size)]
    for rank, heard in enumerate(met, 1):
        if heard not in ("", word):
            store.set(f"{NAMED}{rank}", f"{heard} {word}")
    return word if all(heard == word for heard in met) else ""


def _name_heard(store: Store, rank: int, word: str) -> str:
    """The first process's word, if it has answered this one and not one before it. It is then repeated."""
    if not store.check([key := f"{NAMED}{rank}"]):
        return ""
    own, _, name = store.get(key).decode().partition(" ")
    if own != word:
        return ""
    store.set(f"{MET}{rank}", name)
    return name


MET, NAMED = "jointkl/met/", "jointkl/named/"
"""What each process says of itself, and what the first one answers."""


def _handled(number: int, asked: Asked) -> Callable[..., None]:
    """A signal sets `asked` until what is returned is called, as an exit is. After an error it still does: torchrun
    sends SIGTERM to those that live on when one process has failed, and what they tell should not be cut off."""
    if threading.current_thread() is not threading.main_thread():
        return lambda *_: None

    def ask(number: int, frame: object) -> None:
        if not asked.is_set():
            asked.error = ENDS[number]
            asked.set()

    before = signal.signal(number, ask)

    def restore(kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if kind is None or not issubclass(kind, Exception):
            signal.signal(number, before)

    return restore
