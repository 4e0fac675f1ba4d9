"""Values against the space of their variable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jointkl.semantics.spaces import Kind, Space
from jointkl.sources import errors

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


def stored(values: Tensor, space: Space, place: errors.Place) -> Tensor:
    """Values (N, *space.shape) of any real dtype as a fresh float32 tensor, or int64 indices for a finite space.

    Continuous values are checked as float32 holds them, discrete ones as they were given.
    Raises `DataError` at the first row with a value outside the space.
    """
    if space.kind == "finite":
        return _indices(values, space, place)
    check = CHECKS[space.kind]
    result = values.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    mend = check.mend.format(name=place.variable, dims=f"[{','.join(map(str, space.dims))}]" if space.dims else "")
    _verify(check.holds(values if space.discrete else result), values, f"{space}, {check.words}", mend, place)
    return result


def _indices(values: Tensor, space: Space, place: errors.Place) -> Tensor:
    values = values.to(torch.float64 if values.is_floating_point() else torch.int64)
    known, order = torch.tensor(space.values, dtype=torch.int64).sort()
    found = torch.searchsorted(known.to(values.dtype), values.contiguous()).clamp(max=len(known) - 1)
    mend = f"give the values themselves, or declare the space that `{place.variable}` has (`{{0..9}}`)"
    _verify(known[found] == values, values, f"a value of {space}", mend, place)
    return order[found]


def _verify(holds: Tensor, values: Tensor, expected: str, mend: str, place: errors.Place) -> None:
    rows = holds.flatten(1).all(1) if holds.dim() > 1 else holds
    if bool(rows.all()):
        return
    row = int((~rows).nonzero()[0])
    position = tuple((~holds[row]).nonzero()[0].tolist()) if holds.dim() > 1 else ()
    raise errors.wrong_value(place, expected, _shown(values[(row, *position)]), position, row, mend)


def _shown(value: Tensor) -> str:
    """A number, or the first eight of several with their sum."""
    numbers = list(map(str, value.flatten().numpy()))
    if value.dim() == 0:
        return numbers[0]
    return f"[{', '.join(numbers[:8])}{', ...' if len(numbers) > 8 else ''}] (sum {float(value.double().sum()):g})"
