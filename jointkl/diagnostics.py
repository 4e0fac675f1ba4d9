"""Where a mistake is, what it is, and what to write instead.

A `Report` is a value: every mistake is built by a named constructor in the room that finds it, span first, and its
text is laid out here, in one place, by `render`.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Literal

Severity = Literal["error", "warning"]

MOST_TOLD = 50
"""Of more mistakes than this these are told, and the number of the others."""

COLUMNS, BEFORE, LONGEST = 110, 40, 600
"""A source line is shown on so many columns, from so many before the mistake on if it is longer; nothing else that is
told takes a line of more characters than the last."""


@dataclass(frozen=True, slots=True)
class Source:
    """A spec's text and the name it was read under."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """Line `number`, counted from 1, without its end."""
        lines = self.text.split("\n")
        return lines[number - 1].rstrip("\r") if 1 <= number <= len(lines) else ""


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `start <= i < end` of a source."""

    source: Source = field(repr=False)
    start: int
    end: int

    @property
    def line(self) -> int:
        """Line of the first character, from 1."""
        return self.source.text.count("\n", 0, self.start) + 1

    @property
    def column(self) -> int:
        """Column of the first character, from 1."""
        return self.start - (self.source.text.rfind("\n", 0, self.start) + 1) + 1

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line}:{self.column}"


NOWHERE = Span(Source("<made>", ""), 0, 0)


@dataclass(frozen=True, slots=True)
class Report:
    """One mistake or warning.

    `span` is the place, `label` what stands there; `causes` are other places that made it one; `notes` say why it
    matters; `help` is what to write instead, its further lines being code. `said` is the message in parts, its formulas
    as values, for a page that sets them.
    """

    code: str
    message: str
    span: Span
    label: str = ""
    causes: tuple[tuple[Span, str], ...] = ()
    notes: tuple[str, ...] = ()
    help: tuple[str, ...] = ()
    severity: Severity = "error"
    said: tuple[object, ...] = ()


class JklError(Exception):
    """The spec, or the data it was given, is wrong. `reports` holds every mistake found, in order of place; where
    `stopped`, the search ended with these."""

    def __init__(self, reports: Report | Iterable[Report], *, stopped: bool = False) -> None:
        found = (reports,) if isinstance(reports, Report) else tuple(reports)
        self.reports = tuple(sorted(found, key=lambda r: (r.span.source.name, r.span.start)))
        self.stopped = stopped
        super().__init__(self.reports)

    def __str__(self) -> str:
        told = [render(r) for r in self.reports[:MOST_TOLD]]
        others = len(self.reports) - len(told)
        if others:
            told.append(f"and {others} more {'mistakes' if others > 1 else 'mistake'}")
        elif self.stopped:
            told.append(f"and maybe more: after {len(told)} mistakes nobody looked on")
        return "\n\n".join(told)


class Refused(Exception):
    """One mistake: what is being made cannot be finished, the rest of the spec still can."""

    def __init__(self, report: Report) -> None:
        self.report = report
        super().__init__(report.message)


class DataError(Exception):
    """The data, a run's folder or an option of the run is wrong: nothing of the spec to point at."""

    def __init__(self, message: str, *help: str) -> None:
        self.message = _lines(message)
        self.help = tuple(map(_lines, help))
        super().__init__("\n".join([self.message, *(f"help: {h}" for h in self.help)]))


def says(slots: str, message: str, *help: str) -> Callable[..., DataError]:
    """A mistake that is data alone: a message and help whose `slots`, named as in `str.format`, are its arguments."""
    names = slots.split()
    named = {slot for text in (message, *help) for _, slot, _, _ in Formatter().parse(text) if slot}
    assert named == set(names), f"the slots of {message!r} are {named}"

    def mistake(*values: object) -> DataError:
        given = dict(zip(names, values, strict=True))
        return DataError(*(text.format_map(given) for text in (message, *help)))

    return mistake


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as job schedulers do."""


class Elsewhere(DataError):
    """What ended this process of several is told by another one."""

    def __init__(self) -> None:
        super().__init__("another process of this run tells why it ended")


def render(report: Report) -> str:
    """A report as text: headline, place, the source line with a caret, causes, notes, help."""
    places = [(report.span, report.label), *report.causes]
    gutter = max((len(str(span.line)) for span, _ in places), default=1)
    blank = " " * gutter + " |"
    lines = [f"{report.severity}[{report.code}]: {report.message}"]
    if report.span.source.name:
        lines.append(f"{' ' * gutter}--> {report.span}")
    lines.append(blank)
    for i, (span, label) in enumerate(places):
        lines += _frame(span, label, gutter, "^" if i == 0 else "-")
        lines.append(blank)
    for note in report.notes:
        lines.append(f"{' ' * gutter} = {note}")
    if report.help:
        lines.append(f"{' ' * gutter} = help: {report.help[0]}")
        lines += [f"{' ' * gutter}   {line}" for line in report.help[1:]]
    if lines[-1] == blank:
        lines.pop()
    return "\n".join(_legible(line) for line in lines)


def _frame(span: Span, label: str, gutter: int, mark: str) -> list[str]:
    line = span.source.line(span.line)
    first = span.column - 1
    begin, end = _window(line, first)
    last = max(first, min(span.end - span.start + first, end))
    left, right = "…" * (begin > 0), "…" * (end < len(line))
    shown = f"{left}{printable(line[begin:end])}{right}"
    margin = " " * (len(left) + _columns(line[begin:first]))
    underline = f"{margin}{mark * max(1, _columns(line[first:last]))} {label}".rstrip()
    return [f"{str(span.line).rjust(gutter)} | {shown}", f"{' ' * gutter} | {underline}"]


def _window(line: str, first: int) -> tuple[int, int]:
    """The part of a line to show: all of it, or what fits on `COLUMNS` around the character at `first`."""
    if len(line) <= COLUMNS and _columns(line) <= COLUMNS:
        return 0, len(line)
    begin = max(0, first - BEFORE)
    while _columns(line[begin:first]) > BEFORE:
        begin += 1
    end = min(len(line), begin + COLUMNS)
    while _columns(line[begin:end]) > COLUMNS:
        end -= 1
    return begin, end


def _columns(text: str) -> int:
    """The width of a text on a terminal, as it is printed."""
    return len(text) if text.isascii() else sum(map(_width, printable(text)))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def printable(text: str) -> str:
    """A text on one line whose characters do nothing else: no control of the terminal, no turned direction, nothing
    that cannot be written as UTF-8. Tabs and spaces of all kinds are spaces."""
    return text if text.isprintable() else "".join(map(_printed, text))


def _printed(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character == "\t" or unicodedata.category(character) == "Zs" else "\ufffd"


def _legible(line: str) -> str:
    """A line as it is told: its middle left out where it is very long, on one line and without control characters."""
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    return printable(line)


def _lines(text: str) -> str:
    """The first lines of a text, as they are told."""
    return "\n".join(map(_legible, text.split("\n")[:MOST_TOLD]))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one most likely meant, or None."""
    candidates: Sequence[str] = sorted(set(known))
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if close:
        return close[0]
    same_letters = [c for c in candidates if c.lower() == name.lower()]
    return same_letters[0] if same_letters else None


def did_you_mean(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Help for an unknown name: the nearest known one, or nothing."""
    guess = nearest(name, known)
    return (f"did you mean `{guess}`?",) if guess else ()
