"""Pictures of samples: points over the data in the plane, images in a grid."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from jointkl.semantics.spaces import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["points", "images"]

SIDE = 512
"""Small images are enlarged, each pixel to a square, until the grid is about so many pixels wide."""

SHOWN = 2000
"""At most so many data are drawn behind the samples."""


def kind_of(space: Space, data: Tensor | None = None) -> Kind | None:
    """How values of a space are shown, or None: real[2] as points; [H,W] and [1 or 3,H,W] as images.

    Images have values from 0 to 1; those of a real space count as such where all their data lie there.
    """
    dims = space.shape
    if dims == (2,) and not space.discrete:
        return "points"
    if not (len(dims) == 2 or (len(dims) == 3 and dims[0] in (1, 3))) or min(dims[-2:]) < 2:
        return None
    if space.kind in ("unit", "binary"):
        return "images"
    within = data is not None and data.numel() > 0 and float(data.min()) >= 0 and float(data.max()) <= 1
    return "images" if space.kind in ("real", "positive") and within else None


def points(values: Mapping[str, Tensor], data: Tensor | None, title: str) -> bytes:
    """A PNG: samples (n, 2) by what they are called, over the data, both axes to one scale."""
    figure, axes = _plane(data, title)
    for i, (name, drawn) in enumerate(values.items()):
        x, y = drawn.T.numpy()
        axes.scatter(x, y, s=4, color=f"C{i}", alpha=0.6, linewidths=0, label=name)
    axes.legend(loc="upper right", markerscale=3)
    return _png(figure)


def ways(lines: Tensor, data: Tensor | None, title: str, ends: tuple[str, str]) -> bytes:
    """A PNG: lines (n, steps, 2) over the data, their ends marked and called so."""
    figure, axes = _plane(data, title)
    for i, line in enumerate(lines.numpy()):
        axes.plot(line[:, 0], line[:, 1], color=f"C{i % 10}" if len(line) > 2 else "0.45", linewidth=1, zorder=2)
    for place, name, colour in ((0, ends[0], "C0"), (-1, ends[1], "C3")):
        x, y = lines[:, place].T.numpy()
        axes.scatter(x, y, s=14, color=colour, linewidths=0, zorder=3, label=name)
    axes.legend(loc="upper right")
    return _png(figure)


def _plane(data: Tensor | None, title: str) -> tuple[Figure, Axes]:
    """A square with data in grey, both axes to one scale."""
    from matplotlib.figure import Figure  # 0.5 s, for points alone

    figure = Figure(figsize=(5, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_aspect("equal", adjustable="datalim")
    if data is not None:
        x, y = data[:SHOWN].T.numpy()
        axes.scatter(x, y, s=6, color="0.75", linewidths=0, label="data")
    axes.set_title(title, fontsize="medium")
    return figure, axes


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def images(values: Tensor, columns: int | None = None, band: int | None = None) -> bytes:
    """A PNG: images (n, H, W) or (n, C, H, W), values from 0 to 1, row by row in a grid; so many beside each other, by
    default as many as below; a white line after each `band` of so many rows."""
    from PIL import Image
    from torchvision.utils import make_grid  # 0.4 s, for images alone

    batch = (values.unsqueeze(1) if values.dim() == 3 else values).float().clamp(0, 1)
    columns = columns or math.ceil(math.sqrt(len(batch)))
    bands = batch.split(columns * band if band else len(batch))
    grids = [make_grid(part, nrow=columns, padding=1, pad_value=0.5) for part in bands]
    line = torch.ones_like(grids[0][:, :2])
    grid = torch.cat([part for shown in grids for part in (line, shown)][1:], 1)
    scale = max(1, round(SIDE / grid.shape[-1]))
    large = grid.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    pixels = large.mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    content = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(content, format="png")
    return content.getvalue()
