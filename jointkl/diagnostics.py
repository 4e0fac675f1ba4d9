"""Where a mistake is, what it is, and what to write instead.

A `Report` is a value: every mistake is built by a named constructor in the room that finds it, span first, and its
text is laid out here, in one place, by `render`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]


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
    matters; `help` is what to write instead, its further lines being code.
    """

    code: str
    message: str
    span: Span
    label: str = ""
    causes: tuple[tuple[Span, str], ...] = ()
    notes: tuple[str, ...] = ()
    help: tuple[str, ...] = ()
    severity: Severity = "error"


class JklError(Exception):
    """The spec, or the data it was given, is wrong. `reports` holds every mistake found, in order of place."""

    def __init__(self, reports: Report | Iterable[Report]) -> None:
        found = (reports,) if isinstance(reports, Report) else tuple(reports)
        self.reports = tuple(sorted(found, key=lambda r: (r.span.source.name, r.span.start)))
        super().__init__("\n\n".join(render(r) for r in self.reports))


class DataError(Exception):
    """The data, a run's folder or an option of the run is wrong: nothing of the spec to point at."""

    def __init__(self, message: str, *help: str) -> None:
        self.message = message
        self.help = help
        super().__init__("\n".join([message, *(f"help: {h}" for h in help)]))


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
    return "\n".join(lines)


def _frame(span: Span, label: str, gutter: int, mark: str) -> list[str]:
    text = span.source.line(span.line)
    shown = text.expandtabs(1)
    first = span.column - 1
    width = max(1, min(span.end - span.start, len(text) - first))
    number = str(span.line).rjust(gutter)
    underline = f"{' ' * first}{mark * width} {label}".rstrip()
    return [f"{number} | {shown}", f"{' ' * gutter} | {underline}"]


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
