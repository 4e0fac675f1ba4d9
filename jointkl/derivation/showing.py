"""A formula quoted in a message: the one place where this room, which decides, asks the one that shows."""

from __future__ import annotations

from jointkl.derivation.parts import Part
from jointkl.exposition.notation import PLAIN


def as_text(*parts: Part) -> str:
    """Words and formulas as text."""
    return PLAIN.line(parts)
