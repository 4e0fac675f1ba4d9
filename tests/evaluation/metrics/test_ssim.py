"""Structural similarity: constants by formula, and torchmetrics' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import diversity, ms_ssim
from jointkl.evaluation.metrics.ssim import WEIGHTS, scales
from tests.bounds import SIGMAS, reach


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("side", "known"),
    [
        (8, (1, 7)),
        (2, (1, 1)),
        (11, (1, 11)),
        (28, (2, 11)),
        (32, (2, 11)),
        (64, (3, 11)),
        (176, (5, 11)),
        (512, (5, 11)),
    ],
)
def test_scales_that_fit(side: int, known: tuple[int, int]) -> None:
    assert scales(side) == known


def test_constant_images_differ_by_luminance() -> None:
    """Structure is equal; the luminance of the coarsest scale is (2ab + C1) / (a^2 + b^2 + C1), to its exponent."""
    a, b = 0.3, 0.8
    luminance = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    for side in (8, 28, 176):
        count, _ = scales(side)
        exponent = WEIGHTS[count - 1] / sum(WEIGHTS[:count])
        flat = torch.ones(1, 1, side, side, dtype=torch.float64)
        found = ms_ssim(a * flat, b * flat)
        assert float(found) == pytest.approx(luminance**exponent, abs=1e-9)


def test_equal_images_and_contrary_ones() -> None:
    x = noise(4, 3, 28, 28)
    torch.testing.assert_close(ms_ssim(x, x), torch.ones(4, dtype=torch.float64))
    assert float(ms_ssim(x, 1 - x).max()) == 0.0, "negative structure counts as none"


def product(factors: list[Tensor], count: int) -> Tensor:
    weights = torch.tensor(WEIGHTS[:count], dtype=torch.float64)
    return torch.stack(factors).clamp(min=0).pow((weights / weights.sum())[:, None]).prod(0)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (33, 3), (180, 3)])
def test_torchmetrics(side: int, channels: int) -> None:
    """Each scale by torchmetrics: contrast and structure as it gives them, at the coarsest scale its map without the
    border that it reflects."""
    functional = pytest.importorskip("torchmetrics.functional.image.ssim", reason="needs the extra `metrics`")
    x = noise(3, channels, side, side)
    y = (0.7 * x + 0.3 * noise(3, channels, side, side, seed=1)).clamp(0, 1)
    found = ms_ssim(x, y)
    count, _ = scales(side)
    factors: list[Tensor] = []
    for scale in range(count):
        if scale < count - 1:
            factors.append(functional._ssim_update(x, y, data_range=1.0, return_contrast_sensitivity=True)[1])
        else:
            whole = functional._ssim_update(x, y, data_range=1.0, return_full_image=True)[1]
            factors.append(whole[..., 5:-5, 5:-5].flatten(1).mean(1))
        x, y = (torch.nn.functional.avg_pool2d(v, 2) for v in (x, y))
    torch.testing.assert_close(found, product(factors, count), rtol=1e-6, atol=1e-9)


def test_small_images_by_scipy() -> None:
    """8 x 8: a window of 7 with sigma 1.5, where it fits whole; plain SSIM (Wang et al. 2004, eq. 13)."""
    line = np.exp(-((np.arange(7) - 3) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    x, y = noise(1, 1, 8, 8), noise(1, 1, 8, 8, seed=1)
    y = 0.6 * x + 0.4 * y

    def smooth(v: np.ndarray) -> np.ndarray:
        return convolve2d(v, window, mode="valid")

    a, b = x[0, 0].numpy(), y[0, 0].numpy()
    ma, mb = smooth(a), smooth(b)
    va, vb, cov = smooth(a * a) - ma**2, smooth(b * b) - mb**2, smooth(a * b) - ma * mb
    known = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    assert float(ms_ssim(x, y)) == pytest.approx(known.mean(), rel=1e-9)


@pytest.mark.statistical
def test_diversity() -> None:
    one = noise(1, 1, 28, 28)
    same = diversity(one.expand(20, -1, -1, -1))
    assert same.value == pytest.approx(0.0, abs=1e-12)
    assert same.notes == ("28 x 28 pixels have room for 2 of the 5 scales, with a window of 11",)
    varied = noise(401, 1, 8, 8)
    found = diversity(varied, generator=torch.Generator().manual_seed(0))
    assert (found.samples, found.details["pairs"]) == (400, 200)
    pairs = 1 - ms_ssim(varied[:200], varied[200:400])
    assert found.interval is not None
    error = (found.interval[1] - found.interval[0]) / 2 / 1.959963984540054
    assert SIGMAS * error == pytest.approx(reach(pairs), rel=0.5), "two estimates of one spread"
    assert found.value == pytest.approx(float(pairs.mean()), abs=2**0.5 * SIGMAS * error)
    assert not diversity(noise(4, 1, 180, 180)).notes
    with pytest.raises(DataError, match="3 points to judge"):
        diversity(noise(3, 1, 8, 8))
