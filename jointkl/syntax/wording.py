"""How a mistake of form is put into words: the report, the mended line, the list of what could stand there."""

from __future__ import annotations

from collections.abc import Iterable

from jointkl.diagnostics import Report, Span
from jointkl.syntax.stop import END, STATEMENTS, Stop, mended, replaced

TOKENS: dict[str, str] = {
    "NAME": "a name",
    "INT": "a whole number",
    "NUMBER": "a number",
    "STRING": "a quoted text",
    "DIRECTION": "`minimize`",
    "GLOBAL": "`global`",
    "OLD": "`old`",
    "SUM": "`sum`",
}
"""What a message calls the terminals that are no fixed word."""


def report(
    stop: Stop,
    message: str,
    *help: str,
    label: str = "",
    span: Span | None = None,
    causes: tuple[tuple[Span, str], ...] = (),
) -> Report:
    place = span or (gap(stop) if stop.kind == END else stop.span)
    return Report("E-SYNTAX", message, place, label, causes, help=help)


def gap(stop: Stop) -> Span:
    """The place right behind the word before."""
    end = stop.before.end
    return Span(stop.source, end, end)


def word_or_gap(stop: Stop) -> Span:
    """Where to point if something is missing: at a word on the same line, else where it should have stood."""
    return stop.span if stop.same_line else gap(stop)


def instead(stop: Stop, message: str, new: str, *help: str, label: str = "") -> Report:
    """The word is wrong, and `new`, spaced as it is to be, is what to write in its place."""
    line = mended(stop.source, stop.span.start, stop.span.end, new)
    write = help or ((f"write `{new.strip()}`:",) if new.strip() else ("leave it out:",))
    return report(stop, message, *write, line, label=label)


def rather(stop: Stop, message: str, word: Span, new: str, help: str, label: str = "") -> Report:
    """`word` is not the right one; `new` is."""
    return report(stop, message, help, replaced(word, new), label=label, span=word)


def missing(stop: Stop, message: str, new: str, *help: str, causes: tuple[tuple[Span, str], ...] = ()) -> Report:
    """`new`, spaced as it is to be, is missing between the word before and this one."""
    end = stop.before.end
    line = mended(stop.source, end, stop.span.start if stop.same_line else end, new)
    label = f"expected `{new.strip()}` {'before this' if stop.same_line else 'here'}"
    write = help or (f"write `{new.strip()}`:",)
    return report(stop, message, *write, line, label=label, span=word_or_gap(stop), causes=causes)


def listed(words: Iterable[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def described(expected: frozenset[str]) -> str:
    """What could stand there, in at most five words: the closest first, what says the same said once."""
    rest = set(expected) - {END}
    words: list[str] = []
    for group, also, word in (
        ({"var"}, {*STATEMENTS, "DIRECTION", "NAME"}, "a new statement"),
        ({"+", "-", "*", "/", "@"}, set[str](), "an operator"),
        ({"NUMBER"}, {"INT", "SUM"}, "a number"),
    ):
        if group <= rest:
            rest -= group | also
            words.append(word)
    near = sorted(rest, key=lambda kind: (kind not in ("NAME", "=", ":", ",", ")", "]", "}"), kind))
    return listed([*(TOKENS.get(kind, f"`{kind}`") for kind in near[: 5 - len(words)]), *words])
