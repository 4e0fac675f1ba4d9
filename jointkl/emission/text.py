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
    parts = re.split(r" (?=[+-] [^{}]*\bE )", formula)
    lines = [
        line
        for part in parts
        for line in textwrap.wrap(part, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    ]
    return (f'"""{lines[0]}', *lines[1:], '"""')
