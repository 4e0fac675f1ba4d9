"""Curves as SVG: one player a panel, what was recorded thin and pale, its running mean over it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jointkl.evaluation.report.folder import Series
from jointkl.exposition.styles import escaped_html

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 220, 52, 20, 10, 24
"""The panel and its margins, in the units of its own."""

SMOOTH = 40
"""The running mean goes over one in so many of the values."""

POINTS = 400
"""Of more values than twice as many, the lowest and the highest of neighbours are drawn."""

DECADES = 30.0
"""Positive values whose ends have a larger ratio stand on a logarithmic axis."""

TAIL = 0.005
"""Of a linear axis the share of values at either end that may lie beyond it."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of numbers laid out from `start` to `end`, and where its ticks stand."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self.floor)))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    @property
    def floor(self) -> float:
        return self.low * 1e-3 if self.log else -math.inf

    def ticks(self, most: int) -> list[float]:
        return _decades(self.low, self.high, most) if self.log else _round_numbers(self.low, self.high, most)


def smooth(values: Sequence[float]) -> list[float]:
    """The centred running mean, its window narrower towards the ends: as long as the values.

    A mean lies between the values: what rounding adds to a difference of sums is cut off there.
    """
    reach, low, high = len(values) // (2 * SMOOTH), min(values), max(values)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    found: list[float] = []
    for i in range(len(values)):
        r = min(reach, i, len(values) - 1 - i)
        found.append(min(max((sums[i + r + 1] - sums[i - r]) / (2 * r + 1), low), high) if r else values[i])
    return found


def panel(series: Series, rounds: int) -> str:
    """A curve from round 0 to `rounds`, as a picture with a title that says its course."""
    means = smooth(series.values)
    x = Axis(0, max(rounds, series.rounds[-1], 1), LEFT, WIDTH - RIGHT)
    y = value_axis(series.values, means)
    raw = _path(series.rounds, series.values, x, y)
    mean = _path(series.rounds, means, x, y)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    told = escaped_html(f"{series.name}: {course(series)}")
    return "\n".join(
        [
            f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">',
            *(_across(v, y) for v in y.ticks(5)),
            *(_below(v, x) for v in x.ticks(5)),
            f'<svg x="{LEFT}" y="{TOP}" width="{wide + 4}" height="{high}" viewBox="{LEFT} {TOP} {wide + 4} {high}">',
            f'<path class="raw" d="{raw}"/>',
            f'<path class="mean" d="{mean}"/>',
            f'<circle class="dot" cx="{x.place(series.rounds[-1]):.1f}" cy="{y.place(means[-1]):.1f}" r="3"/>',
            "</svg>",
            f'<text x="{LEFT - 7}" y="{HEIGHT - BOTTOM + 16}" text-anchor="end">round</text>',
            "</svg>",
        ]
    )


def course(series: Series) -> str:
    """First, lowest and last value, the last two of the running mean."""
    means = smooth(series.values)
    return f"first {number(series.values[0])}, lowest {number(min(means))}, last {number(means[-1])}"


def value_axis(values: Sequence[float], means: Sequence[float]) -> Axis:
    """Logarithmic where all is positive and goes over decades; else from the smallest to the largest value but for a
    few beyond, and all of the running mean."""
    low, high = min(values), max(values)
    log = low > 0 and high / low > DECADES
    if not log:
        ordered = sorted(values)
        beyond = int(TAIL * len(ordered))
        low, high = min(ordered[beyond], *means), max(ordered[-1 - beyond], *means)
    margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    if log:
        return Axis(low / 1.2, high * 1.2, HEIGHT - BOTTOM, TOP, log=True)
    return Axis(low - margin, high + margin, HEIGHT - BOTTOM, TOP)


def _path(rounds: Sequence[int], values: Sequence[float], x: Axis, y: Axis) -> str:
    points = [(x.place(r), y.place(v)) for r, v in thinned(rounds, values)]
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)


def thinned(rounds: Sequence[int], values: Sequence[float]) -> list[tuple[int, float]]:
    """All points, or of each of `POINTS` runs of neighbours the lowest and the highest, in order."""
    pairs = list(zip(rounds, values, strict=True))
    if len(pairs) <= 2 * POINTS:
        return pairs
    kept = {0, len(pairs) - 1}
    for i in range(POINTS):
        run = range(i * len(pairs) // POINTS, (i + 1) * len(pairs) // POINTS)
        key: Callable[[int], float] = values.__getitem__
        kept |= {min(run, key=key), max(run, key=key)}
    return [pairs[i] for i in sorted(kept)]


# --- axes


def _across(value: float, y: Axis) -> str:
    at = y.place(value)
    line = f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
    return line + f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{number(value)}</text>'


def _below(value: float, x: Axis) -> str:
    at = x.place(value)
    return f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(value)}</text>'


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within a range, at most so many, at least two where there are."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= most)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [i * step for i in range(first, last + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    """Powers of ten within a range, every n-th of too many; of less than two also their doubles and fivefolds."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    if last - first < 1:
        return [m * 10.0**e for e in range(first - 1, last + 1) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    every = math.ceil((last - first + 1) / most)
    return [10.0**e for e in range(first, last + 1, every)]


def number(value: float) -> str:
    """As short as tells: `0.05`, `1,200`, `25,000`, `3.1e-07`."""
    size = abs(value)
    if size and not 1e-4 <= size < 1e6:
        return f"{value:.3g}".replace("-", "−")
    shown = f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"
    return shown.replace("-", "−")
