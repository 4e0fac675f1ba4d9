"""A number that judges, with what is known of its accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from jointkl.evaluation import errors


@dataclass(frozen=True, slots=True)
class Value:
    """A metric's estimate. Never infinite or no number: making one that is raises `DataError`.

    `interval` covers the quantity estimated with probability 95 %, as far as `accounts` says; None where no honest one
    is known. `samples` and `data` are how many of each the estimate rests on. `details` are numbers beside it, `notes`
    what the reader should know of this one.
    """

    value: float
    interval: tuple[float, float] | None
    accounts: str
    samples: int = 0
    data: int = 0
    details: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for number in (self.value, *(self.interval or ()), *self.details.values()):
            if not math.isfinite(number):
                raise errors.not_a_number(number)
