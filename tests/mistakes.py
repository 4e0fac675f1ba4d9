"""Specs with one mistake each and what is said about them: a file of `tests/bad` for each error code.

    === semantics/unknown_net
    the spec
    === says
    the messages

`semantics` is the stage that finds the mistake, and `unknown_net.jkl` the name the spec is known by. To add one, write
it under a heading of its own into the file of its code, then `pytest tests/test_bad.py --update-golden`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "bad"
SEVERAL = "several"
"""The file of specs with more than one mistake."""

HEADING = re.compile(r"^=== (\w+)/(\w+)\n(.*?)(?=^=== |\Z)(?:=== says\n.*?(?=^=== |\Z))?", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Mistake:
    code: str
    """Of its message, or `SEVERAL`."""
    stage: str
    name: str
    spec: str


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


def read(path: Path) -> list[Mistake]:
    """The specs of a file, in order; line ends are kept, since a mistake may be made of them."""
    text = path.read_bytes().decode()
    return [Mistake(path.stem, *found) for found in HEADING.findall(text)]


def written(told: list[tuple[Mistake, str]]) -> str:
    """The file of some specs with what is said about each, without the last line's end."""
    return "".join(f"=== {m.stage}/{m.name}\n{m.spec}=== says\n{said}\n" for m, said in told).removesuffix("\n")


def every() -> list[Mistake]:
    """All of them, by stage and name."""
    return sorted((m for path in files() for m in read(path)), key=lambda m: (m.stage, m.name))
