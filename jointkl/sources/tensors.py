"""Anything array-like as a dense tensor of real numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jointkl.sources import errors

WIDER: dict[torch.dtype, torch.dtype] = {
    torch.bool: torch.uint8,
    torch.uint16: torch.int64,
    torch.uint32: torch.int64,
    torch.uint64: torch.float64,
}
"""Types that torch cannot compare, each with one that holds its values; uint64 beyond 2**53 is rounded."""


def tensor_of(value: object, place: errors.Place) -> Tensor:
    """A tensor, an array, or what numpy makes an array of, on the CPU and without graph.

    It may share its memory with `value`. Raises `DataError` for anything but real numbers.
    """
    try:
        if not isinstance(value, Tensor):
            return from_numpy(np.asanyarray(value))
        tensor = value.detach()
        if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
            raise TypeError(f"a {tensor.layout} tensor of {tensor.dtype}".replace("torch.", ""))
        return _wide(tensor.cpu())
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # RuntimeError: torch's own, meta tensors
        raise errors.not_numbers(place, f"{errors.kind_of(value)}: {_first_line(error)}") from error


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor of what an array holds, which it may share. Raises `TypeError` for anything but real numbers."""
    if array.dtype.kind not in "biuf":
        raise TypeError(f"values of type {array.dtype}")
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise TypeError("masked values")
    narrow = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    array = np.ascontiguousarray(array, dtype=narrow).reshape(array.shape)
    return _wide(torch.from_numpy(array if array.flags.writeable else array.copy()))


def _wide(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and tensor.itemsize < 4:
        return tensor.float()
    return tensor.to(WIDER.get(tensor.dtype, tensor.dtype))


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
