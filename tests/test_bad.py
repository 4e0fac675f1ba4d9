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

BAD = Path(__file__).parent / "bad"


def elaborated(text: str, name: str) -> Model:
    """A comment `# --let K=3` at the start of a line overrides a constant."""
    return jointkl.parse(text, name, dict(re.findall(r"^# --let (\w+)=(.*)$", text, re.MULTILINE)))


CHECKS: dict[str, Callable[[str, str], object]] = {
    "syntax": parse_text,
    "semantics": elaborated,
    "derivation": lambda text, name: jointkl.derive(elaborated(text, name)),
    "emission": lambda text, name: jointkl.python(elaborated(text, name)),
}
"""What finds the mistakes of each folder."""

SPECS = sorted(path for folder in CHECKS for path in (BAD / folder).glob("*.jkl"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_is_explained(path: Path, golden: Callable[[Path, str], None]) -> None:
    text = path.read_bytes().decode("utf-8")
    with pytest.raises(JklError) as found:
        CHECKS[path.parent.name](text, path.name)
    assert all(report.help for report in found.value.reports), "a mistake without a word on how to mend it"
    assert len(found.value.reports) == 1 or path.stem.startswith("several")
    golden(path.with_suffix(".txt"), str(found.value))


def test_every_output_has_its_spec() -> None:
    outputs = {path.with_suffix(".jkl") for folder in CHECKS for path in (BAD / folder).glob("*.txt")}
    assert outputs == set(SPECS)
