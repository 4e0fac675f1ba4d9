"""Curves: where a value is drawn is where it belongs; smoothing, thinning and ticks against their definitions."""

from __future__ import annotations

import math
import random
import re
from statistics import fmean
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointkl.evaluation.report import curves
from jointkl.evaluation.report.folder import Series

VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300)


def series(*values: float) -> Series:
    return Series("losses", "D", tuple(range(1, len(values) + 1)), tuple(values))


@given(VALUES)
def test_the_running_mean_is_a_mean_of_neighbours(values: list[float]) -> None:
    found = curves.smooth(values)
    reach = len(values) // (2 * curves.SMOOTH)
    scale = max(map(abs, values)) or 1.0
    for i, mean in enumerate(found):
        r = min(reach, i, len(values) - 1 - i)
        assert mean == pytest.approx(fmean(values[i - r : i + r + 1]), abs=1e-12 * scale * len(values))


def test_a_straight_line_stays_one() -> None:
    line = [3.0 - 0.5 * i for i in range(1000)]
    assert curves.smooth(line) == pytest.approx(line)
    noisy = [v + random.Random(i).gauss(0, 1) for i, v in enumerate(line)]
    rough, mild = (sum((a - b) ** 2 for a, b in zip(v, line, strict=True)) for v in (noisy, curves.smooth(noisy)))
    assert mild < rough / 10


def test_thinning_keeps_every_extreme_and_both_ends() -> None:
    values = [math.sin(i / 50) + (5 if i == 777 else 0) - (5 if i == 9001 else 0) for i in range(20_000)]
    kept = curves.thinned(range(20_000), values)
    assert len(kept) <= 2 * curves.POINTS + 2
    assert kept == sorted(kept)
    assert {(0, values[0]), (777, values[777]), (9001, values[9001]), (19_999, values[-1])} <= set(kept)
    assert curves.thinned([4, 7], [1.0, 2.0]) == [(4, 1.0), (7, 2.0)]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_numbers_within_the_range(low: float, width: float) -> None:
    ticks = curves.Axis(low, low + width, 0, 1).ticks(5)
    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-9 * width <= t <= low + width * (1 + 1e-9) for t in ticks)
    step = ticks[1] - ticks[0]
    assert f"{step:.0e}"[0] in "125"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0.5, 2000, [1, 10, 100, 1000]), (1e-9, 1e9, [1e-9, 1e-5, 1e-1, 1e3, 1e7]), (2, 90, [10]), (3, 8, [5])],
)
def test_ticks_of_decades(low: float, high: float, ticks: list[float]) -> None:
    found = curves.Axis(low, high, 0, 1, log=True).ticks(5)
    assert set(ticks) <= {float(f"{t:.3g}") for t in found}
    assert all(low <= t * (1 + 1e-9) <= high * (1 + 1e-6) for t in found)


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([1000.0, 10.0, 0.1], True),
        ([1.4, 1.2, 1.3], False),
        ([1000.0, -1.0], False),
        ([5.0], False),
        ([0.0, 9.0], False),
    ],
)
def test_positive_values_over_decades_stand_on_a_logarithmic_axis(values: list[float], log: bool) -> None:
    axis = curves.value_axis(values, values)
    assert axis.log is log
    for value in values:
        assert curves.TOP <= axis.place(value) <= curves.HEIGHT - curves.BOTTOM


def test_a_logarithm_is_a_straight_line_there() -> None:
    axis = curves.Axis(0.1, 1000, 100, 0, log=True)
    assert [axis.place(v) for v in (0.1, 1, 10, 1000)] == pytest.approx([100, 75, 50, 0])


def test_one_peak_does_not_press_the_curve_flat() -> None:
    values = [math.sin(i / 30) for i in range(1000)]
    values[500] = 1e6
    means = curves.smooth([math.sin(i / 30) for i in range(1000)])
    axis = curves.value_axis(values, means)
    assert -1.3 < axis.low < axis.high < 1.3


@pytest.mark.parametrize(
    "values", [[1.0], [2.0, 2.0, 2.0], [0.0, 0.0], [1e-12, 3e-12], [-5.0, 5.0], [1e300, 1.0], [-1e300, 1e300]]
)
def test_every_panel_is_a_drawing_with_its_points_inside(values: list[float]) -> None:
    root = ElementTree.fromstring(curves.panel(series(*values), 10))
    paths = [path.attrib for path in root.iter("path") if path.attrib["class"] in ("raw", "mean")]
    assert len(paths) == 2
    for path in paths:
        for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path["d"]):
            assert curves.LEFT <= float(x) <= curves.WIDTH - curves.RIGHT
            assert curves.TOP - 0.1 <= float(y) <= curves.HEIGHT - curves.BOTTOM + 0.1
    assert len(re.findall("[ML]", paths[0]["d"])) == len(values)


def test_a_panel_says_its_course_and_nobody_else_s_markup() -> None:
    shown = curves.panel(Series("losses", '<script>"x"', (1, 2), (3.0, 1.0)), 2)
    root = ElementTree.fromstring(shown)
    assert root.attrib["aria-label"] == '<script>"x": first 3, lowest 1, last 1'
    assert "<script" not in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.05, "0.05"), (-1.23456, "−1.235"), (25000.0, "25,000"), (1200.0, "1,200"), (3.14e-7, "3.14e−07"),
     (2.5e8, "2.5e+08"), (999.95, "1000")],
)  # fmt: skip
def test_numbers_are_short(value: float, shown: str) -> None:
    assert curves.number(value) == shown
