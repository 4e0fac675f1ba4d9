"""Expressions as text that knows how tightly it binds."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

CHOICE, SUM, PRODUCT, ATOM = range(4)


@dataclass(frozen=True, slots=True)
class Text:
    """`rank` is CHOICE for `a if c else b`, SUM for `a + b`, PRODUCT for `a * b` or `-a`, ATOM for what never needs
    brackets."""

    text: str
    rank: int

    @property
    def atom(self) -> str:
        return self.text if self.rank == ATOM else f"({self.text})"

    @property
    def factor(self) -> str:
        return self.text if self.rank >= PRODUCT and not self.text.startswith("-") else f"({self.text})"

    @property
    def first(self) -> str:
        """Before a plus or a minus."""
        return self.text if self.rank > CHOICE else f"({self.text})"

    @property
    def summand(self) -> str:
        """After a plus."""
        return self.first if not self.text.startswith("-") else f"({self.text})"


def quoted(text: str) -> str:
    """A string of Python between double quotes, whatever it holds."""
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def documented(text: str) -> str:
    """Text that may stand between three quotes."""
    return text.replace("\\", "\\\\").replace('"""', "'''").rstrip('"')


def docstring(text: str, width: int = 100) -> list[str]:
    """The lines of a docstring; a long formula has its expectations below each other."""
    if len(text) <= width:
        return [f'"""{text}"""']
    parts = re.split(r" (?=[+-] [^{}]*\bE )", text)
    lines = [
        line
        for part in parts
        for line in textwrap.wrap(part, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    ]
    return [f'"""{lines[0]}', *lines[1:], '"""']


def dims(sizes: Iterable[object]) -> str:
    return ", ".join(map(str, sizes))


def number(value: float) -> str:
    """A float as short as it is exact: `2`, `0.5`."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
