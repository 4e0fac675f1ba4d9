"""Mode coverage where the answer is known: a chi-square, a count, an entropy."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import mode_coverage
from jointkl.sources import load
from jointkl.sources.modes import MODES, modes
from tests.bounds import SIGMAS, fewest, share_reach

RING = MODES["ring8"]()


def around(counts: list[int], std: float = 0.01, seed: int = 0) -> Tensor:
    """So many samples about each mode."""
    place = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return RING[place] + std * torch.randn(len(place), 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.statistical
def test_data_themselves() -> None:
    """In the plane the squared distance in standard deviations is exponential: P(< 3) = 1 - exp(-9/2) = 98.9 %. Twice
    n times the KL of the shares of M modes is a chi-square of M - 1."""
    inside = 1 - math.exp(-4.5)
    for source in MODES:
        known = modes(source, {})
        assert known is not None
        centres, std = known
        found = mode_coverage(load(source, {"n": 20_000})[0], centres, std)
        assert found["modes"].value == len(centres)
        assert found["modes"].interval is None
        assert found["high_quality"].value == pytest.approx(inside, abs=share_reach(inside, 20_000))
        kl = found["reverse_kl"]
        assert kl.interval is not None
        assert kl.interval[0] <= kl.value
        assert 2 * kl.details["high_quality"] * kl.value < chi2.isf(1e-7, len(centres) - 1)


@pytest.mark.statistical
def test_the_widths_are_the_sources_own() -> None:
    """Of the standard deviation of n normals, the standard error is its 1 / sqrt(2 n)."""
    for source, options in (("ring8", {"std": 0.2}), ("grid25", {}), ("grid25", {"std": 0.01})):
        known = modes(source, options)
        assert known is not None
        points, place = load(source, {**options, "n": 50_000})
        off = points - known[0][place]
        assert float(off.std()) == pytest.approx(known[1], rel=SIGMAS / math.sqrt(2 * off.numel()))
    assert modes("digits", {}) is None


@pytest.mark.parametrize(
    ("counts", "kl"),
    [([200, 0, 0, 0, 0, 0, 0, 0], math.log(8)), ([100, 0, 0, 100, 0, 0, 0, 0], math.log(4)), ([50] * 8, 0.0)],
)
def test_collapse(counts: list[int], kl: float) -> None:
    found = mode_coverage(around(counts, std=0.001), RING, 0.01)
    assert found["modes"].value == sum(c > 0 for c in counts)
    assert found["modes"].details == {"of": 8}
    assert found["high_quality"].value == 1.0
    assert found["reverse_kl"].value == pytest.approx(kl, abs=1e-12)
    assert {v.samples for v in found.values()} == {sum(counts)}


def test_only_samples_of_high_quality_count() -> None:
    """As in PacGAN's code: those at 3 standard deviations and beyond are no evidence of a mode."""
    off = torch.zeros(4, 2)
    off[:, 0] = torch.tensor([0.0, 0.0299, 0.0301, 0.5])
    found = mode_coverage(torch.cat([RING[1] + off, around([60, 0, 0, 0, 0, 0, 0, 0], 0.0)]), RING, 0.01)
    assert found["high_quality"].value == pytest.approx(62 / 64)
    assert found["modes"].value == 2
    share = torch.tensor([60 / 62, 2 / 62])
    assert found["reverse_kl"].value == pytest.approx(float((share * (8 * share).log()).sum()), abs=1e-6)


def test_nothing_of_high_quality() -> None:
    found = mode_coverage(torch.zeros(50, 2), RING, 0.01)
    assert (found["modes"].value, found["high_quality"].value) == (0, 0.0)
    assert found["reverse_kl"].value == pytest.approx(math.log(8))
    assert "largest" in found["reverse_kl"].notes[0]
    few = mode_coverage(around([3, 3, 3, 3, 3, 3, 3, 3], 0.0), RING, 0.01)["reverse_kl"]
    assert few.interval is None
    assert "fewer than 5" in few.notes[0]


@pytest.mark.statistical
@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_how_often_the_intervals_hold_the_truth(tilt: float) -> None:
    share = torch.softmax(tilt * torch.linspace(0, 1, 8, dtype=torch.float64), 0)
    truth = float((share * (8 * share).log()).sum())
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(300):
        place = torch.multinomial(share, 400, replacement=True, generator=generator)
        interval = mode_coverage(RING[place], RING, 0.01)["reverse_kl"].interval
        assert interval is not None
        held += interval[0] <= truth <= interval[1]
    assert held >= fewest(0.94, 300)


def test_what_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="standard deviation 0"):
        mode_coverage(torch.zeros(5, 2), RING, 0.0)
    with pytest.raises(DataError, match="0 points to judge"):
        mode_coverage(torch.zeros(0, 2), RING, 0.01)
    with pytest.raises(DataError, match="not finite"):
        mode_coverage(torch.full((5, 2), torch.nan), RING, 0.01)
