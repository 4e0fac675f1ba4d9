"""Prose in the emitted module: docstrings that nothing of a spec can end."""

from __future__ import annotations

import re
import textwrap


def documented(text: str) -> str:
    """Text that may stand between three quotes."""
    return text.replace("\\", "\\\\").replace('"""', "'''").rstrip('"')


def docstring(formula: str, width: int = 100) -> tuple[str, ...]:
    """The lines of a docstring; a long formula has its expectations below each other."""
    if len(formula) <= width:
        return (f'"""{formula}"""',)
    lines = [
        line
        for part in _expectations(formula)
        for line in textwrap.wrap(part, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    ]
    return (f'"""{lines[0]}', *lines[1:], '"""')


def _expectations(formula: str) -> list[str]:
    """A formula cut before each sign that an `E` stands behind, with no brace between them."""
    cuts: list[int] = []
    start = 0
    for segment in re.split(r"[{}]", formula):
        last = max((found.start() for found in re.finditer(r"\bE ", segment)), default=-1)
        cuts += [start + sign.start() for sign in re.finditer(r" [+-] ", segment) if sign.end() <= last]
        start += len(segment) + 1
    begins = [0, *(cut + 1 for cut in cuts)]
    return [formula[begin:end] for begin, end in zip(begins, [*cuts, len(formula)], strict=True)]
