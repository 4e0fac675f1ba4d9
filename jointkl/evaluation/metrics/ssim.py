"""Structural similarity at several scales, and how much samples differ by it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jointkl.evaluation import errors
from jointkl.evaluation.metrics.intervals import of_mean
from jointkl.evaluation.metrics.value import Value

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The exponents of the five scales, the finest first (Wang et al. 2003)."""

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def scales(side: int) -> tuple[int, int]:
    """How many scales, each half the one before, leave an image of this side the window's 11 pixels, and the window:
    smaller than 11, and odd, for images that are."""
    count = 1
    while count < len(WEIGHTS) and side // 2**count >= WINDOW:
        count += 1
    window = min(WINDOW, side)
    return count, window - 1 + window % 2


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """The multi-scale structural similarity of each pair of images (n, C, H, W), values from 0 to 1: (n,), at most 1.

    Wang, Simoncelli and Bovik 2003, eq. 7: the product over scales of contrast and structure, with luminance at the
    coarsest, each to its exponent; means over pixels by a Gaussian window of 11 x 11, sigma 1.5, where it fits whole.
    A negative factor counts as 0. Images too small for five scales have as many as fit (176 pixels: 5, 28: 2, 8: 1 with
    a window of 7), the exponents of these divided by their sum; one scale is plain SSIM (Wang et al. 2004).

    torchmetrics takes the coarsest factor over the image reflected at its borders too, and so differs by about 0.01.
    """
    count, window = scales(min(a.shape[-2:]))
    exponents = torch.tensor(WEIGHTS[:count], dtype=a.dtype, device=a.device)
    exponents /= exponents.sum()
    offset = torch.arange(window, dtype=a.dtype, device=a.device) - (window - 1) / 2
    line = (-offset.square() / (2 * SIGMA**2)).exp()
    kernel = torch.outer(line / line.sum(), line / line.sum()).expand(a.shape[1], 1, -1, -1)
    total = torch.ones(len(a), dtype=a.dtype, device=a.device)
    for scale in range(count):
        luminance, structure = _compared(a, b, kernel)
        last = scale == count - 1
        factor = (luminance * structure if last else structure).flatten(1).mean(1)
        total = total * factor.clamp(min=0) ** exponents[scale]
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total


def _compared(a: Tensor, b: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance, and contrast times structure, at every pixel that the window fits around."""
    channels = kernel.shape[0]
    mean = F.conv2d(torch.cat([a, b, a * a, b * b, a * b]), kernel, groups=channels)
    of_a, of_b, aa, bb, ab = mean.chunk(5)
    var_a, var_b, cov = aa - of_a**2, bb - of_b**2, ab - of_a * of_b
    return (2 * of_a * of_b + C1) / (of_a**2 + of_b**2 + C1), (2 * cov + C2) / (var_a + var_b + C2)


def diversity(samples: Tensor, *, generator: torch.Generator | None = None) -> Value:
    """1 - the mean MS-SSIM of two different samples, images (n, C, H, W) from 0 to 1: 0 where all are one image.

    Rosca et al. 2017, after Odena et al. 2017: to be read against that of data, and without
    classes it mixes differences between with those within. Each sample stands in one random pair, so that pairs are
    independent: the interval is normal and accounts for finite samples. Raises `DataError` for fewer than 4 samples.
    """
    if len(samples) < 4:
        raise errors.too_few(len(samples), 4, "two pairs")
    images = samples.double().clamp(0, 1)
    order = torch.randperm(len(images), generator=generator)[: len(images) // 2 * 2].to(images.device)
    first, second = order.chunk(2)
    found = [ms_ssim(images[i], images[j]) for i, j in zip(first.split(256), second.split(256), strict=True)]
    each = 1 - torch.cat(found)
    count, window = scales(min(images.shape[-2:]))
    height, width = images.shape[-2:]
    fits = f"{height} x {width} pixels have room for {count} of the 5 scales, with a window of {window}"
    notes = () if count == len(WEIGHTS) else (fits,)
    details = {"pairs": len(each), "scales": count}
    return Value(float(each.mean()), of_mean(each), "normal: finite samples", len(order), details=details, notes=notes)
