"""Minibatches: the rows of each evidence law in a random order of their own, new in every pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jointkl.sources import Bound
from jointkl.sources.maps import memory
from jointkl.sources.streams import Array, Stream, at
from jointkl.training import errors

WITHOUT_EVIDENCE = "rows"
"""The key of a batch of a spec without evidence: it carries its length alone."""


SHARE = 0.25
"""The share of a GPU's free memory that resident data may take."""


class Feed:
    """The rows of one evidence law, `size` at a time.

    A pass is a random permutation, less the rows that do not fill its last batch. The permutations come from a
    generator of their own, so that nothing else that draws numbers moves them, and do not depend on where the rows lie.
    Rows that are not in memory are read by a thread, one batch ahead. `share` selects, from the row numbers of a batch,
    those that are read.
    """

    def __init__(
        self, bound: Bound, size: int, seed: int, device: torch.device, share: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.law = bound.law
        self.keys = bound.keys
        self.size = size
        self._share = share or (lambda rows: rows)
        self._bound = replace(bound, columns=placed(bound.columns, device))
        self._device = device
        streams = [c for c in bound.columns if isinstance(c, Stream) and c.resident is None]
        self._reader = ThreadPoolExecutor(1, "feed") if streams and all(c.ahead for c in streams) else None
        digest = hashlib.sha256(f"{seed} {bound.law}".encode()).digest()
        self._generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        self._begin()

    def _begin(self) -> None:
        self._state = self._generator.get_state()
        self._order = torch.randperm(len(self._bound), generator=self._generator)
        self._there = self._order.to(self._device)
        self._next = 0
        self._ahead: Future[tuple[Tensor, ...]] | None = None

    def whole(self) -> dict[str, Tensor]:
        """Every row, in the order of the data, by key. Raises `DataError` where memory does not hold them."""
        size = sum(column.nbytes for column in self._bound.columns if isinstance(column, Stream))
        if size > (room(self._device) if size else 0):
            raise errors.larger_than_memory(self.law, len(self._bound), size)
        every = torch.arange(len(self._bound))
        return self._sent(self._read(every, every.to(self._device)))

    def first(self) -> dict[str, Tensor]:
        """The first `size` rows of the data, by key. The place in the data stays."""
        first = self._share(torch.arange(self.size))
        return self._sent(self._read(first, first.to(self._device)))

    def draw(self) -> dict[str, Tensor]:
        """The next `size` rows, by key."""
        if self._next + self.size > len(self._order):
            self._begin()
        rows = self._ahead.result() if self._ahead else self._read(*self._wanted())
        self._next += self.size
        if self._reader is not None and self._next + self.size <= len(self._order):
            self._ahead = self._reader.submit(self._read, *self._wanted())
        else:
            self._ahead = None
        return self._sent(rows)

    def _wanted(self) -> tuple[Tensor, Tensor]:
        """The numbers of the next rows, on the CPU and on the device."""
        wanted = slice(self._next, self._next + self.size)
        return self._share(self._order[wanted]), self._share(self._there[wanted])

    def _read(self, here: Tensor, there: Tensor) -> tuple[Tensor, ...]:
        """The rows of every column, each where it lies."""
        return tuple(at(c, here if c.device.type == "cpu" else there) for c in self._bound.columns)

    def _sent(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        return {key: sent(column, self._device) for key, column in zip(self._bound.keys, rows, strict=True)}

    @property
    def place(self) -> Place:
        """Where in the data the run is."""
        return Place(self.law, self._state, self._next)

    @property
    def rows(self) -> int:
        """How many there are in all."""
        return len(self._bound)

    def go_to(self, place: Place) -> None:
        """Go to the place of another feed of the same rows, which used no more of them than there are."""
        self._generator.set_state(place.state)
        self._begin()
        self._next = place.used


def placed(columns: Sequence[Array], device: torch.device) -> tuple[Array, ...]:
    """Columns that are in memory, on the device as long as they fill no more than `SHARE` of what is free there."""
    left = SHARE * room(device) if device.type != "cpu" else 0
    found: list[Array] = []
    for column in columns:
        held = column if isinstance(column, Tensor) else column.resident
        fits = held is not None and held.nbytes <= left
        left -= held.nbytes if held is not None and fits else 0
        found.append(column.to(device) if fits else column)
    return tuple(found)


def sent(rows: Tensor, device: torch.device) -> Tensor:
    """Rows on the device. The copy to a GPU waits for nothing: its source is pinned."""
    if device.type == "cuda" and rows.device.type == "cpu":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows


def room(device: torch.device) -> int:
    """Bytes that may be used: what is free on a GPU, half of the machine's memory on a CPU, if that is known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return memory() // 2


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """The state of a feed's generator before its present pass, and how many rows of the pass are used up."""

    law: str
    state: Tensor
    used: int


class Minibatches:
    """One batch of all evidence laws together, `size` rows of each."""

    def __init__(self, data: Sequence[Bound], size: int, seed: int, device: torch.device) -> None:
        self.feeds = tuple(Feed(bound, size, seed, device) for bound in data)
        self._empty = {WITHOUT_EVIDENCE: torch.empty(size, 0, device=device)}

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(feed.place for feed in self.feeds)

    def go_to(self, places: Mapping[str, Place]) -> None:
        """Go to the places of a checkpoint, by law."""
        for feed in self.feeds:
            feed.go_to(places[feed.law])

    def whole(self) -> dict[str, Tensor]:
        """All rows of every evidence law, on the device: what a closed step sums its statistics over."""
        return {key: rows for feed in self.feeds for key, rows in feed.whole().items()}

    def first(self) -> dict[str, Tensor]:
        """A batch as `draw` gives it, but always the same. The place in the data stays."""
        return {key: rows for feed in self.feeds for key, rows in feed.first().items()} or self._empty

    def draw(self) -> dict[str, Tensor]:
        """The next batch: key -> (size, *shape), on the device."""
        if not self.feeds:
            return self._empty
        return {key: rows for feed in self.feeds for key, rows in feed.draw().items()}
