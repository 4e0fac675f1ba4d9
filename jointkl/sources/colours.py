"""Digits in colour: what an image shows and which colour it has are two factors, as far apart as one likes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from jointkl.sources.request import Request
from jointkl.sources.scikit import digits
from jointkl.sources.streams import Array, chunks, from_bytes
from jointkl.sources.vision import mnist, seen

CLASSES = 10


def colour_mnist(request: Request) -> tuple[Array, ...]:
    """Images (N, 3, H, W), the digit (N,), its colour k (N,), and that colour's red, green and blue (N, 3).

    Colour k of K has hue (k + spread u) / K on the circle of colours, u uniform in [-1/2, 1/2], at full saturation: 0
    is red, 1/3 green, 2/3 blue. k is uniform and independent of the digit, but for the share `match` of the images,
    where it is digit K // 10. Ink of brightness b is painted b colour; paper, (1 - b) colour. All in 256 steps.
    """
    options = request.options
    grey, classes = _digits(request)
    assert isinstance(classes, Tensor)
    chance = torch.Generator().manual_seed(options["seed"])
    count, colours = len(classes), options["colours"]
    drawn = torch.randint(colours, (count,), generator=chance)
    matched = torch.rand(count, generator=chance) < options["match"]
    colour = torch.where(matched, classes * colours // CLASSES, drawn)
    noise = torch.rand(count, generator=chance) - 0.5
    ink = rgb((colour + options["spread"] * noise) / colours)
    images = torch.empty(count, 3, *grey.shape[2:], dtype=torch.uint8)
    for start, rows in chunks(grey):
        amount = rows if options["paint"] == "ink" else 1 - rows
        paint = ink[start : start + len(rows), :, None, None]
        images[start : start + len(rows)] = (255 * amount * paint).round().to(torch.uint8)
    return from_bytes(images), classes, colour, ink


def _digits(request: Request) -> tuple[Array, ...]:
    options = request.options
    if options["of"] == "mnist":
        return mnist(request)
    images, classes = digits(replace(request, options={**PLAIN, "split": options["split"]}))
    return seen(images, options), classes


PLAIN = {"threshold": None, "invert": False, "rotate": 0.0}


def rgb(hue: Tensor) -> Tensor:
    """Red, green and blue (N, 3) of hues (N,), a turn of the circle being 1, at full saturation and value."""
    primary = torch.tensor([0.0, 1 / 3, 2 / 3], dtype=torch.float64)
    distance = (hue.double().unsqueeze(1) - primary + 0.5).remainder(1) - 0.5
    return (2 - 6 * distance.abs()).clamp(0, 1).float()
