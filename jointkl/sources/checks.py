"""Values against the space of their variable."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jointkl.semantics.spaces import Kind, Space
from jointkl.sources import errors, streams
from jointkl.sources.streams import Array, chunks, each

LOG = logging.getLogger(__name__)

SIMPLEX_TOLERANCE = 1e-4
"""How far the sum of a simplex may be from 1."""

COUNTED = 2**24
"""Up to here float32 holds every whole number."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a kind of space admits.

    `holds` maps values (N, *shape) to booleans (N, ...) over the leading axes, one for each number, vector or matrix
    that stands or falls alone. `mend` is what to do, of the variable `{name}` and its `{dims}`.
    """

    words: str
    holds: Callable[[Tensor], Tensor]
    mend: str


def _simplex(values: Tensor) -> Tensor:
    return (values >= 0).all(-1) & ((values.sum(-1) - 1).abs() <= SIMPLEX_TOLERANCE)


def _cholesky(values: Tensor) -> Tensor:
    lower = (values.triu(1) == 0).flatten(-2).all(-1) & values.isfinite().flatten(-2).all(-1)
    return lower & (values.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


def _natural(values: Tensor) -> Tensor:
    return (values >= 0) & (values <= COUNTED) & (values == values.floor())


CHECKS: dict[Kind, Check] = {
    "real": Check(
        "finite float32 numbers", lambda v: v.isfinite(), "leave out or fill in the rows that are not finite"
    ),
    "positive": Check(
        "finite float32 numbers above 0",
        lambda v: (v > 0) & v.isfinite(),
        "declare `var {name}: real{dims}`, or leave such rows out",
    ),
    "unit": Check(
        "numbers from 0 to 1",
        lambda v: (v >= 0) & (v <= 1),
        "scale the values into 0 to 1 (bytes: divide by 255), or declare `var {name}: real{dims}`",
    ),
    "binary": Check(
        "each number exactly 0 or 1",
        lambda v: (v == 0) | (v == 1),
        "cut the values (`values > 0.5`; `digits` has threshold=0.5), or declare `var {name}: unit{dims}`",
    ),
    "natural": Check(
        f"whole numbers from 0 to {COUNTED}", _natural, "round the values, or declare `var {name}: real{dims}`"
    ),
    "simplex": Check(
        f"numbers from 0 whose sum is 1 within {SIMPLEX_TOLERANCE:g}",
        _simplex,
        "divide each row by its sum (`values / values.sum(-1, keepdims=True)`)",
    ),
    "cholesky": Check(
        "lower triangular matrices with a diagonal above 0",
        _cholesky,
        "give Cholesky factors (`torch.linalg.cholesky`), not covariances",
    ),
}


def stored(values: Array, space: Space, place: errors.Place) -> Array:
    """Values (N, *space.shape) of any real dtype as float32 numbers, or int64 indices for a finite space.

    A tensor gives a fresh one. Of a stream every row is read once, some at a time; it stays a stream if what it gives
    is larger than `streams.LARGE`, else it becomes a tensor. Continuous values are checked as float32 holds them,
    discrete ones as they were given. Raises `DataError` at the first row with a value outside the space.
    """
    if isinstance(values, Tensor):
        result = _converted(values, space, copy=True)
        _verify(values, result, space, place, 0)
        return result
    dtype = torch.int64 if space.kind == "finite" else torch.float32
    made = each(values, space.shape, lambda rows: _converted(rows, space), dtype)
    result = None if made.nbytes > streams.LARGE else torch.empty(made.shape, dtype=dtype)
    if result is None:
        LOG.info("%s: %s rows, read once to check them", place, f"{len(values):,}")
    for start, rows in chunks(values):
        found = _converted(rows, space)
        _verify(rows, found, space, place, start)
        if result is not None:
            result[start : start + len(rows)] = found
    return made if result is None else result


def _converted(values: Tensor, space: Space, copy: bool = False) -> Tensor:
    """Values as they are held, whether or not they lie in the space."""
    if space.kind != "finite":
        return values.to(torch.float32, copy=copy, memory_format=torch.contiguous_format)
    values = _comparable(values)
    known, order = torch.tensor(space.values, dtype=torch.int64, device=values.device).sort()
    return order[torch.searchsorted(known.to(values.dtype), values.contiguous()).clamp(max=len(known) - 1)]


def _comparable(values: Tensor) -> Tensor:
    return values.to(torch.float64 if values.is_floating_point() else torch.int64)


def _verify(values: Tensor, result: Tensor, space: Space, place: errors.Place, start: int) -> None:
    """Raises `DataError` at the first of the rows from `start` on that is not in the space."""
    if space.kind == "finite":
        values = _comparable(values)
        holds = torch.tensor(space.values, dtype=torch.int64)[result] == values
    else:
        holds = CHECKS[space.kind].holds(values if space.discrete else result)
    rows = holds.flatten(1).all(1) if holds.dim() > 1 else holds
    if bool(rows.all()):
        return
    row = int((~rows).nonzero()[0])
    position = tuple((~holds[row]).nonzero()[0].tolist()) if holds.dim() > 1 else ()
    expected, mend = _words(space, place)
    raise errors.wrong_value(place, expected, _shown(values[(row, *position)]), position, start + row, mend)


def _words(space: Space, place: errors.Place) -> tuple[str, str]:
    """What is expected of a value, and what to do where it is not so."""
    if space.kind == "finite":
        mend = f"give the values themselves, or declare the space that `{place.variable}` has (`{{0..9}}`)"
        return f"a value of {space}", mend
    check = CHECKS[space.kind]
    dims = f"[{','.join(map(str, space.dims))}]" if space.dims else ""
    return f"{space}, {check.words}", check.mend.format(name=place.variable, dims=dims)


def _shown(value: Tensor) -> str:
    """A number, or the first eight of several with their sum."""
    numbers = list(map(str, value.flatten().numpy()))
    if value.dim() == 0:
        return numbers[0]
    return f"[{', '.join(numbers[:8])}{', ...' if len(numbers) > 8 else ''}] (sum {float(value.double().sum()):g})"
