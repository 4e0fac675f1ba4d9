"""What a run keeps to look at: a table of kinds of pictures, each of the same noise and the same data every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jointkl.derivation.facts import Facts
from jointkl.derivation.resolve import samplable
from jointkl.diagnostics import DataError
from jointkl.evaluation import pictures, routes, samples
from jointkl.evaluation.routes import Descent, Root, RoundTrip
from jointkl.program import Program
from jointkl.sources import Bound

COLUMNS, BANDS, ROWS = 10, 3, 8
"""Of images: how many stand beside each other, in how many bands data stand above what becomes of them, between how
many pairs of draws there is a way."""

TIES, PATHS, STEPS = 60, 12, 64
"""Of points: how many data are tied to what becomes of them, how many ways are drawn, through how many points."""

Data = Sequence[Bound]
Make = Callable[[Program, Data, str], bytes]


@dataclass(frozen=True, slots=True)
class Plan:
    """One picture that a run keeps: the kind, the variable that it shows, and what makes it, given a title."""

    kind: str
    variable: str
    make: Make


def plans(facts: Facts, data: Data) -> tuple[Plan, ...]:
    """The pictures of a run beside its samples."""
    return tuple(plan for find in KINDS for plan in find(facts, data))


def shows(facts: Facts, data: Data) -> bool:
    """Whether a run keeps anything to look at."""
    return bool(samplable(facts) or plans(facts, data))


def keep(program: Program, data: Data, path: Path, seed: int, when: str) -> tuple[Path, ...]:
    """Write all that a run shows: its samples to `path`, a `.png`, or `.npy` where they have no picture; beside it
    `-reconstruction`, `-interpolation` and `-traversal`, with the variable's name behind where there are several.

    `when` ends the titles. Torch's random state is left as it was. Raises `DataError` where a file cannot be written.
    """
    facts = program.derivation.facts
    written: list[Path] = []
    queries = samplable(facts)
    if queries:
        query = queries[0]
        size = samples.COUNT[samples.kind_of(program, query.head[0], data)]
        values = samples.draw(program, query.text, size, seed=seed)
        written.append(samples.write(path, program, values, data, f"{query.text}, {when}"))
    found = plans(facts, data)
    for plan in found:
        several = sum(other.kind == plan.kind for other in found) > 1
        name = f"{path.stem}-{plan.kind}" + (f"-{plan.variable}" if several else "")
        try:
            with fixed(program, seed):
                content = plan.make(program, data, when)
        except DataError:  # a law of the way has no distribution in this program: nothing of the objective keeps it
            continue
        samples.store(path.with_name(f"{name}.png"), content)
        written.append(path.with_name(f"{name}.png"))
    return tuple(written)


@contextmanager
def fixed(program: Program, seed: int) -> Iterator[None]:
    """Torch's random numbers from a seed on, afterwards as they were."""
    device = program.emitted.anchor.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


# --- data, and what they become when they are coded and drawn again


def reconstructions(facts: Facts, data: Data) -> Iterator[Plan]:
    for trip in routes.round_trips(facts.model):
        kind = pictures.kind_of(facts.model.space(trip.variable), samples.column(data, trip.variable))
        if kind is not None and _rows(facts, data, trip) is not None:
            yield Plan("reconstruction", trip.variable, _reconstruction(trip, kind))


def _rows(facts: Facts, data: Data, trip: RoundTrip) -> Bound | None:
    return next((bound for bound in data if bound.law == trip.evidence and len(bound)), None)


def _reconstruction(trip: RoundTrip, kind: pictures.Kind) -> Make:
    def make(program: Program, data: Data, when: str) -> bytes:
        count = TIES if kind == "points" else COLUMNS * BANDS
        stages = round_trip(program, data, trip, count)
        if kind == "points":
            ties = torch.stack([stages[0], stages[-1]], 1)
            return pictures.ways(ties, samples.column(data, trip.variable), f"{trip.text}, {when}", ("datum", "again"))
        shown = [stage for stage in stages if stage.shape == stages[0].shape]
        return pictures.images(banded(shown, COLUMNS), min(COLUMNS, len(shown[0])), len(shown))

    return make


@torch.no_grad()
def round_trip(program: Program, data: Data, trip: RoundTrip, count: int) -> list[Tensor]:
    """Rows of data, what each code makes of them, and the mean of what is drawn again: each (count, *shape), CPU."""
    bound = _rows(program.derivation.facts, data, trip)
    assert bound is not None
    chosen = torch.randperm(len(bound))[:count]
    model, device = program.model, program.emitted.anchor.device
    rows = bound.take(chosen)
    known = {v: rows[key].to(device) for v, key in zip(model.laws[trip.evidence].outputs, bound.keys, strict=True)}
    stages = [known[trip.variable]]
    laws = {law.text: law for law in model.laws.values()}
    for code in trip.codes:
        made = program.sample(code, batch={v: known[v] for v in laws[code].givens})
        known |= made
        stages += made.values()
    decoder = laws[trip.decoder]
    again = program.sample(trip.decoder, batch={v: known[v] for v in decoder.givens}, means=decoder.outputs)
    return [stage.float().cpu() for stage in (*stages, again[trip.variable])]


def banded(stages: Sequence[Tensor], columns: int) -> Tensor:
    """Images that belong together below each other: of each stage a row, then the next rows. Of less data than fill
    rows, the rows that are full, or the only one."""
    pieces = [stage.split(columns) for stage in stages]
    bands = [band for band in zip(*pieces, strict=True) if len(band[0]) == len(pieces[0][0])]
    return torch.cat([row for band in bands for row in band])


# --- ways from one draw to another


def interpolations(facts: Facts, data: Data) -> Iterator[Plan]:
    way = routes.descent(facts)
    kind = way and pictures.kind_of(facts.model.space(way.variable), samples.column(data, way.variable))
    if way is not None and kind is not None and way.moving:
        yield Plan("interpolation", way.variable, _interpolation(way, kind))


def _interpolation(way: Descent, kind: pictures.Kind) -> Make:
    def make(program: Program, data: Data, when: str) -> bytes:
        ends, steps = (PATHS, STEPS) if kind == "points" else (ROWS, COLUMNS)
        values = between(program, way, ends, steps)
        if kind == "points":
            title = f"{way.query.text} between draws of {', '.join(root.variable for root in way.moving)}, {when}"
            return pictures.ways(values, samples.column(data, way.variable), title, ("from", "to"))
        return pictures.images(values.flatten(0, 1), steps)

    return make


@torch.no_grad()
def between(program: Program, way: Descent, ends: int, steps: int) -> Tensor:
    """What is drawn on the ways between pairs of draws of the roots, the means of all that follows them:
    (ends, steps, *shape), on the CPU. Finite roots stay as they are at the start."""
    held: dict[str, Tensor] = {}
    for root in way.roots:
        start, end = (draw(program, root, ends) for _ in range(2))
        stay = start.unsqueeze(1).expand(ends, steps, *start.shape[1:])
        held[root.variable] = (stay if root.values else turned(start, end, steps, root.centre)).flatten(0, 1)
    found = program.sample(way.query.text, ends * steps, held=held, means=way.others)[way.variable]
    return found.float().cpu().unflatten(0, (ends, steps))


def turned(start: Tensor, end: Tensor, steps: int, centre: float | None) -> Tensor:
    """(n, *shape) twice to (n, steps, *shape), both ends among them.

    About a centre m: m + cos(s)(a - m) + sin(s)(b - m), s from 0 to pi/2. Of independent draws a, b of a Normal of mean
    m this is everywhere such a draw, as the points of a straight line are not; it is the spherical interpolation of
    White (2016) for a and b at right angles, as in many dimensions they nearly are. Without a centre, straight.
    """
    s = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device).view(1, steps, *[1] * (start.dim() - 1))
    a, b = start.unsqueeze(1), end.unsqueeze(1)
    if centre is None:
        return a + s * (b - a)
    angle = s * (math.pi / 2)
    return centre + angle.cos() * (a - centre) + angle.sin() * (b - centre)


def draw(program: Program, root: Root, count: int) -> Tensor:
    (value,) = program.sample(root.law, count).values()
    return value


# --- one finite variable gone through, all other noise the same


def traversals(facts: Facts, data: Data) -> Iterator[Plan]:
    way = routes.descent(facts)
    kind = way and pictures.kind_of(facts.model.space(way.variable), samples.column(data, way.variable))
    if way is not None and kind is not None and way.finite is not None:
        yield Plan("traversal", way.variable, _traversal(way, way.finite, kind))


def _traversal(way: Descent, root: Root, kind: pictures.Kind) -> Make:
    def make(program: Program, data: Data, when: str) -> bytes:
        points = kind == "points"
        count = samples.COUNT[kind] // root.values if points else COLUMNS
        values = through(program, way, root, count, means=() if points else way.others)
        if points:
            names = {f"{root.variable}={v}": x for v, x in zip(labels(program, root), values, strict=True)}
            title = f"{way.query.text} by {root.variable}, {when}"
            return pictures.points(names, samples.column(data, way.variable), title)
        return pictures.images(values.flatten(0, 1), count)

    return make


def labels(program: Program, root: Root) -> Sequence[int]:
    return program.model.space(root.variable).values or range(root.values)


@torch.no_grad()
def through(program: Program, way: Descent, root: Root, count: int, means: Sequence[str]) -> Tensor:
    """What is drawn at each value of a finite root, the other draws the same: (values, count, *shape), on the CPU."""
    held = {other.variable: draw(program, other, count) for other in way.roots if other != root}
    like = draw(program, root, count)
    found: list[Tensor] = []
    state = int(torch.randint(2**31, ()))
    for value in range(root.values):
        with fixed(program, state):
            at: Mapping[str, Tensor] = {root.variable: torch.full_like(like, value)}
            found.append(program.sample(way.query.text, count, held={**held, **at}, means=means)[way.variable])
    return torch.stack(found).float().cpu()


KINDS: tuple[Callable[[Facts, Data], Iterator[Plan]], ...] = (reconstructions, interpolations, traversals)
"""Each finds in a model what its kind of picture can show."""
