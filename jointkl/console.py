"""What the command line prints and reads beside its verbs: colours, messages, `NAME=VALUE`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

import click

from jointkl.diagnostics import DataError, JklError, printable
from jointkl.exposition.text import Colours

WRONG = 1
"""Exit code: the spec or the data is wrong."""

PAINT: Colours = (
    (r"(error(?:\[[\w-]+\])?:)", {"fg": "red", "bold": True}),
    (r"((?:warning(?:\[[\w-]+\])?|note):)", {"fg": "yellow", "bold": True}),
    (r" +\| +(\^+.*)", {"fg": "red"}),
    (r" +\| +(-+(?: .*)?)$", {"fg": "blue"}),
    (r" *(\d+ \|)", {"fg": "blue"}),
    (r" *(-->)", {"fg": "blue"}),
    (r"(?: *= )?(help:)", {"fg": "green"}),
)
"""How a line of a message begins, and the colour of the part in brackets: headline, carets, causes, places, help."""


def say(text: str) -> None:
    """A message on the error stream, in colour if that is a terminal."""
    show("\n".join(map(printable, text.split("\n"))), PAINT, err=True)


def show(text: str, table: Colours, *, err: bool = False) -> None:
    """Text in the colours of a table, if the stream is a terminal."""
    color = False if os.environ.get("NO_COLOR") else None
    click.echo("\n".join(paint(line, table) for line in text.split("\n")), err=err, color=color)


def paint(line: str, table: Colours = PAINT) -> str:
    """A line with its part in colour."""
    for pattern, style in table:
        if found := re.match(pattern, line):
            return line[: found.start(1)] + click.style(found[1], **style) + line[found.end(1) :]
    return line


def refuse(error: JklError | DataError) -> int:
    """Say what the user can mend; returns the exit code."""
    say(str(error) if isinstance(error, JklError) else f"error: {error}")
    return WRONG


P = ParamSpec("P")


def together(verb: Callable[P, None]) -> Callable[P, None]:
    """A verb that torchrun may start several times, as one: one of the processes speaks for all."""

    @wraps(verb)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return verb(*arguments, **named)
        from jointkl.training.distributed.processes import joined

        with joined():
            return verb(*arguments, **named)

    return run


def pairs(flag: str, texts: Iterable[str], form: str) -> dict[str, str]:
    """`NAME=VALUE` texts by name. Raises `DataError`."""
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not sign or not name or not value:
            raise DataError(f"{flag} {text}: expected {form}")
        if name in found:
            raise DataError(f"{flag}: `{name}` is given twice, as {found[name]} and as {value}")
        found[name] = value
    return found


@contextmanager
def telling(quiet: bool) -> Generator[None]:
    """What is done to data and takes long is said while it is done."""
    import logging

    class Saying(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"note: {record.getMessage()}")

    logger, handler = logging.getLogger("jointkl"), Saying()
    before = logger.level
    if not quiet:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def example(*lines: str) -> str:
    return "\b\nFor example:\n" + "\n".join(f"  {line}" for line in lines)
