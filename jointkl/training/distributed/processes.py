"""The processes of a run: torchrun starts them; they join, agree, and end with one message.

A process alone is a group of one, in which everything is agreed on already.
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
from jointkl.training.distributed import errors
from jointkl.training.machine import ENDS, EndRequest, interrupts

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for another: the first one's checkpoints and pictures take time too."""

PATIENCE = 5.0
"""Seconds that a process which has lost another waits for the first one to report it."""

PERIOD, MOST = 0.5, 1000
"""Seconds, about, after which the processes agree whether to stop or to save, and the most rounds in between."""

FAILED, TOLD, SPEAKER, FOUND, BEFORE = "failed", "told", "speaker", "found", "before"
"""Keys of the store that the processes share: the failure of one; that the first process reports it; which process does
if the first is dead; that the first has found what the others wait for; whether the first on a machine is done."""

GROUPS = itertools.count()
"""Counts the groups that this process has joined. The number is the same in every process; each group has its own keys
in the store."""


class ProcessGroup:
    """One process, alone: number `rank` of `size`, and `local` on its machine. The first one writes and speaks.

    `folder`: the run's, once there is one.
    """

    rank, size, local = 0, 1, 0
    folder: Path | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """The device of this process. Raises `DataError` where there is none for it."""
        return device

    def settle(self) -> None:
        """Wait until every process has decided what it will do. Raises what any of them found wrong."""

    def first_of_machine_first(self, find: Callable[[], T]) -> T:
        """What each process finds. The first on each machine goes before its others, however long it takes, so that
        what it fetches or converts is already there for them."""
        return find()

    def from_first(self, find: Callable[[], T]) -> T:
        """What the first process finds, handed to all. An error there is raised in all."""
        return find()

    def first_alone(self, find: Callable[[], T]) -> T | None:
        """What the first process finds, however long it takes; the others wait for it and get None."""
        return find()

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        return [value]

    def agreed(self, number: int, stop: bool, due: bool) -> tuple[bool, bool]:
        """After round `number`: whether any process asks to stop, and whether any asks to save."""
        return stop, due

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        return values

    def interrupts(self) -> AbstractContextManager[EndRequest]:
        """Set when the user asks to stop."""
        return interrupts()


ALONE = ProcessGroup()


class JoinedGroup(ProcessGroup):
    """One process of several. They agree over gloo, whatever their gradients go over."""

    def __init__(self, asked: EndRequest) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.local = int(os.environ.get("LOCAL_RANK", "0"))
        self._asked = asked
        self._store = dist.distributed_c10d._get_default_store()
        self._place = f"jointkl/{next(GROUPS)}/"
        self._gloo: Any = dist.new_group(backend="gloo", timeout=TIMEOUT)
        self._settled = self._failed = False
        self._next = 0
        self._last: tuple[int, float] | None = None

    def device(self, device: torch.device) -> torch.device:
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

    def first_of_machine_first(self, find: Callable[[], T]) -> T:
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
        """Exchange what has gone wrong in each process, if anything. Raises what one of them found."""
        for rank, found in enumerate(self.gathered(failure and portable(failure))):
            if found is not None:
                self._settled = True
                raise (failure or self._named(rank, found)) if self.first else Elsewhere()

    def from_first(self, find: Callable[[], T]) -> T:
        box: list[Any] = [None, None]
        failure: Exception | None = None
        if self.first:
            try:
                box[0] = find()
            except Exception as error:
                failure, box[1] = error, portable(error)
        dist.broadcast_object_list(box, 0, group=self._gloo)
        if box[1] is not None:
            raise failure or Elsewhere()
        return box[0]

    def first_alone(self, find: Callable[[], T]) -> T | None:
        if self.first:
            try:
                return find()
            finally:
                self._store.set(self._place + FOUND, "")
        while not self._store.check([self._place + FOUND]) and not self._asked.is_set():
            time.sleep(0.1)
        return None

    def gathered(self, value: T) -> list[T]:
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self._gloo)
        return found

    def agreed(self, number: int, stop: bool, due: bool) -> tuple[bool, bool]:
        """The processes exchange this only now and then: after as many rounds as the slowest makes in `PERIOD`."""
        if number < self._next:
            return False, False
        now = time.perf_counter()
        before, then = self._last or (number, now - PERIOD)
        pace = (now - then) / max(1, number - before)
        flags = torch.tensor([stop, due, pace], dtype=torch.float64)
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._gloo)
        self._last = number, now
        self._next = number + int(min(MOST, max(1.0, PERIOD / flags[2].item())))
        return bool(flags[0]), bool(flags[1])

    def mean(self, values: Tensor) -> Tensor:
        found = values.detach().cpu().double()
        dist.all_reduce(found, group=self._gloo)
        return found / self.size

    @contextmanager
    def interrupts(self) -> Iterator[EndRequest]:
        """Set by Ctrl-C and SIGTERM, which torchrun hands on; who has not ended half a minute later it kills, so that
        a second one changes nothing here."""
        with ExitStack() as stack:
            stack.push(_handled(signal.SIGINT, self._asked))
            yield self._asked

    def ending(self, error: Exception) -> Exception:
        """What this process raises when `error` ends it. One process reports to the user: the first, if it lives."""
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
        """Leave the group, unless a process has failed: leaving would wait for all."""
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
        """The failure that another process has left in the store."""
        if not self._store.check([self._place + FAILED]):
            return None
        return self._named(*pickle.loads(bytes.fromhex(self._store.get(self._place + FAILED).decode())))

    def _named(self, rank: int, error: Exception) -> Exception:
        return errors.failed_elsewhere(rank, self.size, error) if isinstance(error, DataError) else error


def portable(error: Exception) -> Exception:
    """An error that another process can raise."""
    return error if isinstance(error, DataError | JklError) else RuntimeError(f"{type(error).__name__}: {error}")


def is_lost(error: Exception) -> bool:
    """Whether this process waited for another in vain. An error out of a backward pass says so in its text alone."""
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text


_joined: list[JoinedGroup] = []
"""The group that this process has joined: at most one at a time, as torch.distributed has one default group."""


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """The group of this process: itself alone, or all that torchrun started with it, by the variables that it sets.

    Where they end with an error, one of them raises it, the first if it lives, and the others raise `Elsewhere`. Only
    the first prints anything.
    """
    if _joined or os.environ.get("WORLD_SIZE", "1") == "1":
        yield _joined[-1] if _joined else ProcessGroup()
        return
    if own := not dist.is_initialized():
        _meet()
    asked = EndRequest()
    with ExitStack() as stack:
        stack.push(_handled(signal.SIGTERM, asked))
        group = JoinedGroup(asked)
        if own:
            atexit.register(group.leave)
        _joined.append(group)
        stack.callback(_joined.clear)
        if not group.first:
            nothing = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nothing))
            stack.enter_context(redirect_stderr(nothing))
        try:
            yield group
        except Exception as error:
            told = group.ending(error)
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
    """A name that only the processes of this start share. torchrun's store outlives the processes that it restarts,
    with all that they wrote."""
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
    """The first process's word, once all others have repeated it; until then each gets it, behind its own word."""
    met = [store.get(key).decode() if store.check([key := f"{MET}{rank}"]) else "" for rank in range(1, size)]
    for rank, heard in enumerate(met, 1):
        if heard not in ("", word):
            store.set(f"{NAMED}{rank}", f"{heard} {word}")
    return word if all(heard == word for heard in met) else ""


def _name_heard(store: Store, rank: int, word: str) -> str:
    """The first process's word, if it has answered this process and not an earlier one of its rank; repeats it then."""
    if not store.check([key := f"{NAMED}{rank}"]):
        return ""
    own, _, name = store.get(key).decode().partition(" ")
    if own != word:
        return ""
    store.set(f"{MET}{rank}", name)
    return name


MET, NAMED = "jointkl/met/", "jointkl/named/"
"""Keys of the word that each process sends, and of the first one's answer."""


def _handled(number: int, asked: EndRequest) -> Callable[..., None]:
    """Let a signal set `asked`; returns what restores the old handler, called as `__exit__` is. After an error the new
    handler stays: when one process fails, torchrun sends SIGTERM to the rest, which must not cut off their report."""
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
