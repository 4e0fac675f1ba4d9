"""What a step holds at its peak: every tensor's memory, from the operation that makes it until nothing holds it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WARM, RECORDED = 3, 3
"""Steps before recording, and recorded: the gradients that stand since the step before are no part of the first one's
sum, those of the recorded steps are."""


def peak(step: Callable[[], object], device: torch.device) -> int:
    """The most bytes that a step holds at once, of those it allocates: activations, noise, gradients. What stands
    between steps, weights and an optimiser's moments, is not counted, nor what an operation needs within itself.

    Python collects no garbage meanwhile: what it would release of others' is not the step's.
    """
    for _ in range(WARM):
        step()
    gc.collect()
    gc.disable()
    try:
        return _on_gpu(step, device) if device.type == "cuda" else _on_cpu(step)
    finally:
        gc.enable()


def _on_gpu(step: Callable[[], object], device: torch.device) -> int:
    """By the record of torch's own allocator."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    for _ in range(RECORDED):
        step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _on_cpu(step: Callable[[], object]) -> int:
    with Allocations() as held:
        for _ in range(RECORDED):
            step()
    return held.most


class Allocations(TorchDispatchMode):
    """Counts the bytes of storages made under it that are still there: `now`, and the `most` at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._there: dict[int, weakref.ref[UntypedStorage]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(found):
            if storage._cdata not in given and storage._cdata not in self._there:
                self._hold(storage)
        return found

    def _hold(self, storage: UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()

        def release(_: object) -> None:
            self.now -= size
            del self._there[key]

        self._there[key] = weakref.ref(storage, release)
        self.now += size
        self.most = max(self.most, self.now)


def _storages(values: Any) -> Iterator[UntypedStorage]:
    return (value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor))
