"""Pictures of samples: points over the data in the plane, images in a grid."""

from __future__ import annotations

import io
import math
from typing import Literal

import torch
from torch import Tensor

from jointkl.semantics.spaces import Space

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


def points(values: Tensor, data: Tensor | None, title: str) -> bytes:
    """A PNG: samples (n, 2) over the data, both axes to one scale."""
    from matplotlib.figure import Figure  # 0.5 s, for points alone

    figure = Figure(figsize=(5, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_aspect("equal", adjustable="datalim")
    if data is not None:
        behind = data[:SHOWN].numpy()
        axes.scatter(behind[:, 0], behind[:, 1], s=6, color="0.75", linewidths=0, label="data")
    axes.scatter(values[:, 0].numpy(), values[:, 1].numpy(), s=4, color="C0", alpha=0.6, linewidths=0, label="samples")
    axes.set_title(title)
    axes.legend(loc="upper right", markerscale=3)
    return _png(figure)


def _png(figure: object) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def images(values: Tensor) -> bytes:
    """A PNG: images (n, H, W) or (n, C, H, W), values from 0 to 1, row by row in a grid."""
    from PIL import Image
    from torchvision.utils import make_grid  # 0.4 s, for images alone

    batch = values.unsqueeze(1) if values.dim() == 3 else values
    grid = make_grid(batch.float().clamp(0, 1), nrow=math.ceil(math.sqrt(len(batch))), padding=1, pad_value=0.5)
    scale = max(1, round(SIDE / grid.shape[-1]))
    large = grid.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    pixels = large.mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    content = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(content, format="png")
    return content.getvalue()
