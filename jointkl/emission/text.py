"""Prose in the emitted module: docstrings that nothing of a spec can end."""

from __future__ import annotations

import textwrap


def documented(text: str) -> str:
    """Text that may stand between three quotes."""
    return text.replace("\\", "\\\\").replace('"""', "'''").rstrip('"')


def docstring(*summands: str, width: int = 100) -> tuple[str, ...]:
    """The lines of a docstring; a long formula has its summands below each other."""
    whole = " ".join(summands)
    if len(whole) <= width:
        return (f'"""{whole}"""',)
    lines = [
        line
        for part in summands
        for line in textwrap.wrap(part, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    ]
    return (f'"""{lines[0]}', *lines[1:], '"""')
