"""Mixtures of Gaussians in the plane, whose modes are known.

Points come from a generator of their own: the same options give the same points, whatever else draws numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jointkl.sources.request import Request


def ring8_modes() -> Tensor:
    """(8, 2): mode k stands at angle 2 pi k / 8 on the circle of radius 1."""
    angle = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    return torch.stack([angle.cos(), angle.sin()], dim=1).float()


def grid25_modes() -> Tensor:
    """(25, 2): mode 5 i + j stands at (a[i], a[j]) with a = (-4, -2, 0, 2, 4)."""
    axis = torch.tensor([-4.0, -2.0, 0.0, 2.0, 4.0])
    return torch.cartesian_prod(axis, axis)


def ring8(request: Request) -> tuple[Tensor, Tensor]:
    """Points (n, 2) and their modes (n,), eight modes of equal weight."""
    return _mixture(ring8_modes(), **request.options)


def grid25(request: Request) -> tuple[Tensor, Tensor]:
    """Points (n, 2) and their modes (n,), twenty-five modes of equal weight."""
    return _mixture(grid25_modes(), **request.options)


def _mixture(modes: Tensor, std: float, n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mode = torch.randint(len(modes), (n,), generator=generator)
    noise = torch.randn(n, 2, generator=generator)
    return modes[mode] + std * noise, mode
