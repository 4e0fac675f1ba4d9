"""Exponential moving averages of parameters, and how they stand in for them.

What batch norm and spectral norm keep beside parameters is never averaged: an average is used with those of the live
networks. A param with a constraint is averaged before its map into the space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from jointkl.program import Program
from jointkl.training.folder import errors as folder_errors
from jointkl.training.phases import Phase


class Averages:
    """The averages of the players whose phases ask for one: m <- ema m + (1 - ema) w after each round in which the
    player stepped, from its first parameters on."""

    def __init__(self, phases: Sequence[Phase], program: Program) -> None:
        self.program = program
        names = {id(parameter): name for name, parameter in program.emitted.named_parameters()}
        self._own = {
            phase: {names[id(parameter)]: parameter for parameter in program.parameters_of(phase.player)}
            for phase in phases
            if phase.ema is not None
        }
        self._means = {phase: [w.detach().clone() for w in own.values()] for phase, own in self._own.items()}
        self._moves = [
            (phase.every, get_ema_multi_avg_fn(phase.ema or 0.0), self._means[phase], list[Tensor](own.values()))
            for phase, own in self._own.items()
        ]

    def move(self, number: int) -> None:
        """Round `number` is over."""
        for every, move, means, parameters in self._moves:
            if number % every == 0:
                move(means, parameters, None)

    @property
    def named(self) -> dict[str, Tensor]:
        """By the parameter's name."""
        means = zip(self._own.values(), self._means.values(), strict=True)
        return {name: mean for own, found in means for name, mean in zip(own, found, strict=True)}

    def for_checkpoint(self) -> dict[str, Tensor]:
        """As a checkpoint names them."""
        owners = [f"average/{phase.player}/{name}" for phase, own in self._own.items() for name in own]
        return dict(zip(owners, self.named.values(), strict=True))

    def restore(self, path: Path, found: Mapping[str, Tensor]) -> None:
        """Be those of a checkpoint. Raises `DataError` where it has others."""
        verify(path, found, self.program)
        own = self.named
        for name in sorted(own.keys() ^ found.keys()):
            what = "missing" if name in own else "not asked for"
            raise folder_errors.other_parameters(path, f"the average of {name} is {what}")
        for name, mean in own.items():
            mean.copy_(found[name])


def verify(path: Path, found: Mapping[str, Tensor], program: Program) -> None:
    """Averages of a checkpoint are those of parameters of a program. Raises `DataError`."""
    own = dict(program.emitted.named_parameters())
    for name, mean in found.items():
        if name not in own or mean.shape != own[name].shape or mean.dtype != own[name].dtype:
            raise folder_errors.other_parameters(path, f"the average of {name} is none of its parameters'")


@contextmanager
def standing_in(program: Program, averages: Mapping[str, Tensor]) -> Iterator[None]:
    """Averages, by the parameter's name, in the place of their parameters; these are afterwards as before, bit for bit
    and at the same address."""
    own = dict(program.emitted.named_parameters())
    live = {name: own[name].data for name in averages}
    try:
        for name, average in averages.items():
            own[name].data = average.to(own[name].device)
        yield
    finally:
        for name, value in live.items():
            own[name].data = value
