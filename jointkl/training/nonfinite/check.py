"""What may stop being finite in a run, and how that is noticed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LOSS, GRADIENT, PARAMETER, MOMENT = "the loss", "the gradient", "a parameter", "a moment in the optimiser"
"""What may be not finite."""


class NotFinite(Exception):
    """What was noticed: `what` of a player is not finite in round `number`, or since.

    Where a distribution refused its parameters, which is the `cause`, that is only likely, and the player is unknown.
    """

    def __init__(self, player: str, what: str, number: int, cause: Exception | None = None) -> None:
        super().__init__(f"{what} of {player} is not finite in round {number}" if player else str(cause))
        self.player, self.what, self.number, self.cause = player, what, number, cause


def refused_by_distribution(error: Exception) -> bool:
    """Whether it is torch's that a value or a parameter of a distribution is outside its constraint, as a NaN is."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_globals.get("__name__", "").startswith("torch.distributions.")


def first_not_finite(tensors: Sequence[Tensor | None]) -> int | None:
    """The place of the first tensor that holds a number which is not finite. Waits for the device, once."""
    there = [i for i, tensor in enumerate(tensors) if tensor is not None]
    if not there:
        return None
    whole = torch.stack([found.isfinite().all() for found in tensors if found is not None]).tolist()
    return next((i for i, fine in zip(there, whole, strict=True) if not fine), None)
