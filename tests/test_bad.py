"""Specs with one mistake each, beside what is said about it: what is wrong, where, what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import jointkl
from jointkl.diagnostics import JklError
from jointkl.semantics.model import Model
from jointkl.syntax.parse import parse_text
from tests import mistakes
from tests.mistakes import Mistake


def elaborated(text: str, name: str) -> Model:
    """A comment `# --let K=3` at the start of a line overrides a constant."""
    return jointkl.parse(text, name, dict(re.findall(r"^# --let (\w+)=(.*)$", text, re.MULTILINE)))


CHECKS: dict[str, Callable[[str, str], object]] = {
    "syntax": parse_text,
    "semantics": elaborated,
    "derivation": lambda text, name: jointkl.derive(elaborated(text, name)),
    "emission": lambda text, name: jointkl.python(elaborated(text, name)),
}
"""What finds the mistakes of each stage."""


@pytest.mark.parametrize("path", mistakes.files(), ids=lambda path: path.stem)
def test_they_are_explained(path: Path, golden: Callable[[Path, str], None]) -> None:
    told: list[tuple[Mistake, str]] = []
    for m in mistakes.read(path):
        with pytest.raises(JklError) as found:
            CHECKS[m.stage](m.spec, f"{m.name}.jkl")
        codes = {report.code for report in found.value.reports}
        assert m.code in (mistakes.SEVERAL, *codes), f"{m.name} is a mistake of {codes}"
        assert m.code == mistakes.SEVERAL or len(found.value.reports) == 1, f"{m.name} is more than one mistake"
        assert all(report.help for report in found.value.reports), f"not a word on how to mend {m.name}"
        told.append((m, str(found.value)))
    golden(path, mistakes.written(told))


def test_every_mistake_is_read() -> None:
    """A heading that is misspelt would hide what stands under it."""
    headings = [line for path in mistakes.files() for line in path.read_text("utf-8").split("\n") if line[:3] == "==="]
    assert len(mistakes.every()) * 2 == len(headings)
    assert len({(m.stage, m.name) for m in mistakes.every()}) == len(mistakes.every())
