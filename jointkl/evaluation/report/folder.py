"""What stands in a run's folder, read for a report: by fixed names, of bounded size, nothing from outside the folder.

A run that goes on, or was killed in the middle of a line, is read as far as it is whole; what was left out is a note.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from jointkl.diagnostics import printable
from jointkl.evaluation import errors

SPEC, CONFIG, METRICS, SAMPLES, JUDGED = "spec.jkl", "config.json", "metrics.jsonl", "samples", "eval.json"

REPLICAS = "replicas.json"
"""Stands in a folder whose parts are runs of several seeds."""

LARGEST: Mapping[str, int] = {SPEC: 2**20, CONFIG: 2**22, METRICS: 2**26, JUDGED: 2**22}
"""How many bytes of a file are read at most."""

PICTURE, ALL_PICTURES, WIDEST = 2**22, 2**25, 8192
"""Bytes of one picture and of all, and the pixels of a side."""

FRAMES, ENTRIES, SERIES = 40, 1_000_000, 64
"""How many pictures of a kind are shown, how many files are listed (a run keeps fewer), how many curves are drawn."""

HUGE = 1e300
"""Larger numbers are as good as infinite."""

_NAME = re.compile(r"(?P<round>\d{8,12})(?:-(?P<kind>[a-z]+)(?:-(?P<variable>\w{1,40}))?)?\.(?P<ending>png|npy|npz)")


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with its size in pixels; `kind` is empty for samples, `variable` where there is only one."""

    round: int
    kind: str
    variable: str
    content: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Series:
    """Finite numbers by round, in order; the group is where a line of the metrics had them: `losses`."""

    group: str
    name: str
    rounds: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Folder:
    """`last` and `seconds` are those of the last whole line of the metrics; `numbers` the samples kept without a
    picture; `judged` what `jointkl eval` left, if it did; `notes` what could not be read."""

    path: Path
    spec: str
    config: Mapping[str, Any]
    series: tuple[Series, ...]
    last: int
    seconds: float
    pictures: tuple[Picture, ...]
    numbers: tuple[str, ...]
    judged: Mapping[str, Any] | None
    notes: tuple[str, ...] = field(default=())


def read(path: Path) -> Folder:
    """Raises `DataError` for a folder that is no run, or whose spec or options cannot be read."""
    if (path / REPLICAS).is_file():
        raise errors.many_runs(path)
    notes: list[str] = []
    spec = _whole(path, SPEC)
    try:
        text = spec.decode("utf-8")
    except UnicodeDecodeError as error:
        raise errors.unreadable(path / SPEC, f"no text in UTF-8: {error.reason}") from None
    config = _json(_whole(path, CONFIG))
    if not isinstance(config, dict):
        raise errors.unreadable(path / CONFIG, "no JSON object")
    series, last, seconds = _metrics(path, notes)
    pictures, numbers = _pictures(path, notes)
    return Folder(path, text, config, series, last, seconds, pictures, numbers, _judged(path, notes), tuple(notes))


def within(folder: Path, path: Path) -> bool:
    """Whether a path is a file of the folder itself: no link out of it, no device, no pipe."""
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def _whole(folder: Path, name: str) -> bytes:
    path = folder / name
    if not within(folder, path):
        raise errors.no_run(folder, name)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST[name] + 1)
    except OSError as error:
        raise errors.unreadable(path, error.strerror or str(error)) from None
    if len(content) > LARGEST[name]:
        raise errors.unreadable(path, f"larger than {LARGEST[name] >> 20} MiB")
    return content


def _json(content: bytes) -> Any:
    """What JSON says, or None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _judged(folder: Path, notes: list[str]) -> Mapping[str, Any] | None:
    if not within(folder, folder / JUDGED):
        return None
    try:
        found = _json(_whole(folder, JUDGED))
    except errors.DataError:
        found = None
    if not isinstance(found, dict):
        notes.append(f"{JUDGED} cannot be read, and is left out")
        return None
    return found


# --- metrics


def _metrics(folder: Path, notes: list[str]) -> tuple[tuple[Series, ...], int, float]:
    """The curves of the run, the last round that has a line, and its seconds."""
    path = folder / METRICS
    if not within(folder, path):
        notes.append(f"there is no {METRICS}: the run has recorded nothing yet")
        return (), 0, 0.0
    with path.open("rb") as file:
        content = file.read(LARGEST[METRICS] + 1)
    if len(content) > LARGEST[METRICS]:
        notes.append(f"of {METRICS} the first {LARGEST[METRICS] >> 20} MiB are read")
        content = content[: content.rfind(b"\n", 0, LARGEST[METRICS]) + 1]
    found: dict[tuple[str, str], dict[int, float]] = {}
    last, seconds, bad = 0, 0.0, list[int]()
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        record = _json(line)
        if not isinstance(record, dict) or type(record.get("round")) is not int or not 0 <= record["round"] < 2**53:
            bad.append(number)
            continue
        last = max(last, record["round"])
        seconds = finite(record.get("seconds")) or seconds
        for key, value in _numbers(record):
            if key in found or len(found) < SERIES:
                found.setdefault(key, {})[record["round"]] = value
    if bad == [len(lines)]:
        notes.append(f"the last line of {METRICS} is cut short and left out: the run was ended while it wrote it")
    elif bad:
        shown = ", ".join(map(str, bad[:5])) + (", …" if len(bad) > 5 else "")
        notes.append(f"{len(bad)} lines of {METRICS} are not whole and left out: {shown}")
    series = tuple(Series(*key, *zip(*sorted(by.items()), strict=True)) for key, by in found.items())
    return series, last, seconds


def _numbers(record: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    """The finite numbers of a line by what they are of and whose: `("losses", "G")`."""
    for group, values in record.items():
        if isinstance(values, dict):
            for name, value in values.items():
                if (number := finite(value)) is not None:
                    yield (printable(group)[:60], printable(name)[:60]), number


def finite(value: object) -> float | None:
    """A number as JSON has it, or None for anything else: infinities, and what is so large that a sum may be one."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if abs(number) <= HUGE else None


# --- pictures


def _pictures(folder: Path, notes: list[str]) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """The pictures of `samples/`, of too many some evenly chosen, the first and the last among them."""
    place = folder / SAMPLES
    try:
        names = sorted(path.name for path in islice(place.iterdir(), ENTRIES)) if place.is_dir() else []
    except OSError:
        names = []
    known = [found for name in names if (found := _NAME.fullmatch(name)) is not None]
    by_kind: dict[tuple[str, str], list[re.Match[str]]] = {}
    for found in known:
        if found["ending"] == "png":
            by_kind.setdefault((found["kind"] or "", found["variable"] or ""), []).append(found)
    pictures, left_out, room = list[Picture](), list[str](), ALL_PICTURES
    for (kind, variable), all_ in by_kind.items():
        for found in _spread(all_, FRAMES):
            picture = _picture(folder, place / found[0], int(found["round"]), kind, variable)
            if picture is None or len(picture.content) > room:
                left_out.append(found[0])
            else:
                room -= len(picture.content)
                pictures.append(picture)
    if left_out:
        shown = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
        notes.append(f"{len(left_out)} of the pictures are left out, being no PNG of the folder or too large: {shown}")
    pictures.sort(key=lambda p: (p.round, p.kind, p.variable))
    return tuple(pictures), tuple(found[0] for found in known if found["ending"] != "png")


def _spread(items: Sequence[re.Match[str]], most: int) -> list[re.Match[str]]:
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _picture(folder: Path, path: Path, number: int, kind: str, variable: str) -> Picture | None:
    """A PNG by its first bytes, which tell its size (PNG specification, sec. 11.2.2); None for anything else."""
    if not within(folder, path):
        return None
    try:
        with path.open("rb") as file:
            content = file.read(PICTURE + 1)
    except OSError:
        return None
    if len(content) > PICTURE or len(content) < 24 or content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", content[16:24])
    if not (0 < width <= WIDEST and 0 < height <= WIDEST):
        return None
    return Picture(number, kind, variable, content, width, height)
