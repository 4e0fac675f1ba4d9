"""Minibatches: each evidence law's rows in an order of their own, drawn anew for every pass."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jointkl.sources import Bound

WITHOUT_EVIDENCE = "rows"
"""The key of a batch of a spec without evidence: it carries its length alone."""


class Feed:
    """The rows of one evidence law, `size` at a time.

    A pass is a random permutation; rows that do not fill its last batch are left out of it. The permutations come from
    a generator of their own, so that nothing else that draws numbers moves them.
    """

    def __init__(self, bound: Bound, size: int, seed: int, device: torch.device) -> None:
        self.law = bound.law
        self.size = size
        self._bound = replace(bound, columns=tuple(column.to(device) for column in bound.columns))
        self._device = device
        digest = hashlib.sha256(f"{seed} {bound.law}".encode()).digest()
        self._generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        self._begin()

    def _begin(self) -> None:
        self._state = self._generator.get_state()
        self._order = torch.randperm(len(self._bound), generator=self._generator).to(self._device)
        self._next = 0

    def whole(self) -> dict[str, Tensor]:
        """Every row, in the order of the data, by key."""
        return self._bound.take(torch.arange(len(self._bound), device=self._device))

    def first(self) -> dict[str, Tensor]:
        """The first `size` rows of the data, by key: nothing moves on."""
        return self.take(self.first_rows())

    def first_rows(self) -> Tensor:
        """Their numbers."""
        return torch.arange(self.size, device=self._device)

    def rows(self) -> Tensor:
        """The numbers of the next `size` rows."""
        if self._next + self.size > len(self._order):
            self._begin()
        start, self._next = self._next, self._next + self.size
        return self._order[start : self._next]

    def take(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows by their numbers, by key."""
        return self._bound.take(rows)

    def draw(self) -> dict[str, Tensor]:
        """The next `size` rows, by key."""
        return self.take(self.rows())

    @property
    def place(self) -> Place:
        """Where in the data the run stands."""
        return Place(self.law, self._state, self._next)

    def go_to(self, place: Place) -> None:
        """Stand where another feed of the same rows stood."""
        self._generator.set_state(place.state)
        self._begin()
        self._next = place.used


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
        """Stand where others stood; `places` by law."""
        for feed in self.feeds:
            feed.go_to(places[feed.law])

    def whole(self) -> dict[str, Tensor]:
        """All rows of every evidence law, on the device: what a closed step sums its statistics over."""
        return {key: rows for feed in self.feeds for key, rows in feed.whole().items()}

    def first(self) -> dict[str, Tensor]:
        """A batch as `draw` gives it, always the same; nothing moves on."""
        return {key: rows for feed in self.feeds for key, rows in feed.first().items()} or self._empty

    def draw(self) -> dict[str, Tensor]:
        """The next batch: key -> (size, *shape), on the device."""
        if not self.feeds:
            return self._empty
        return {key: rows for feed in self.feeds for key, rows in feed.draw().items()}
