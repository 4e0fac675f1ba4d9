"""One input through check, derive and compile: how it ends, and what to show where it ends wrongly."""

from __future__ import annotations

import re
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import jointkl
from jointkl.derivation.derive import Derivation
from jointkl.diagnostics import JklError
from tests.fuzz.emitted import verify_file, verify_module

SECONDS = 5.0
"""Of processor time for one input, which takes some thousandths of one."""

FORMATS = (Derivation.text, Derivation.latex, Derivation.markdown, Derivation.html)

ENDS = ("refused", "emitted")

Made = TypeVar("Made")


class TooLong(BaseException):
    """An input took its time and more; nothing between here and there catches it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `TooLong` inside after so many seconds of this process's own time, whatever else the machine does."""

    def ring(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def outcome(text: str, name: str = "<text>") -> str:
    """`refused`, `emitted`, or what went wrong and where."""
    try:
        with limited(SECONDS):
            return _ended(text, name)
    except TooLong as late:
        return f"longer than {SECONDS} s in {_place(late)}"
    except Exception as error:
        told = str(error).splitlines()
        return f"{type(error).__name__} in {_place(error)}: {told[0][:60] if told else ''}"


def _ended(text: str, name: str) -> str:
    """What `check` and `derive` refuse `compile` refuses with the same words, and writes nothing of."""
    model = _refused(lambda: jointkl.parse(text, name))
    if isinstance(model, JklError):
        return "refused"
    derivation = _refused(lambda: jointkl.derive(model))
    emitted = _refused(lambda: jointkl.python(model))
    if isinstance(derivation, JklError) or isinstance(emitted, JklError):
        assert str(derivation) == str(emitted), "check and compile do not agree"
        return "refused"
    assert FORMATS[len(text) % len(FORMATS)](derivation)
    verify_file(emitted, verify_module(emitted))
    return "emitted"


def _refused(step: Callable[[], Made]) -> Made | JklError:
    """What a step makes, or its refusal, which says something of the mistake."""
    try:
        return step()
    except JklError as error:
        found = error
    assert found.reports
    assert all(r.severity == "error" and r.message for r in found.reports)
    assert str(found).startswith("error[")
    return found


def _place(error: BaseException) -> str:
    """The innermost function of jointkl, or of the test."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/jointkl/" in f.filename] or frames
    return f"{'/'.join(ours[-1].filename.split('/')[-2:])}:{ours[-1].name}"


def shrunk(text: str, still: Callable[[str], bool], tries: int = 2000) -> str:
    """Without the lines, then the words, then the characters that it does not take to be wrong."""
    for pattern in (r"[^\n]*\n|[^\n]+", r"\s*\S+|\s+", r"(?s)."):
        pieces, i = re.findall(pattern, text), 0
        while i < len(pieces) and tries > 0:
            tries -= 1
            fewer = pieces[:i] + pieces[i + 1 :]
            if still("".join(fewer)):
                pieces = fewer
            else:
                i += 1
        text = "".join(pieces)
    return text
