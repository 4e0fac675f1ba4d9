"""What flows from stage to stage, printed: frozen dataclasses as they are made, over several lines where they are long.

Left out: spans, and whatever else is no part of equality; fields that have their default.
"""

# it prints what it is given, of whatever type
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction

WIDTH = 120


def listing(value: object) -> str:
    """`Call(name=Name(text='f'), ...)`. The items of a long tuple are numbered, as what refers to them does."""
    return "\n".join(_lines("", value, ""))


def _lines(label: str, value: object, indent: str) -> Iterator[str]:
    line = f"{indent}{label}{_flat(value)}"
    if len(line) <= WIDTH or not (parts := _parts(value)):
        yield line
        return
    name = type(value).__name__ if is_dataclass(value) else ""
    yield f"{indent}{label}{name}".rstrip()
    for part, inner in parts:
        yield from _lines(part, inner, f"{indent}  ")


def _parts(value: object) -> list[tuple[str, object]]:
    """What a value is made of, and how each part is labelled."""
    if is_dataclass(value):
        return [(f"{name} = ", inner) for name, inner in _fields(value)]
    if isinstance(value, Mapping):
        return [(f"{key}: ", inner) for key, inner in value.items()]
    if isinstance(value, tuple):
        return [(f"{i}: ", inner) for i, inner in enumerate(value)]
    return []


def _fields(value: object) -> list[tuple[str, object]]:
    """The fields of a dataclass that count and have not their default."""
    if not is_dataclass(value):
        return []
    found = [(f, getattr(value, f.name)) for f in fields(value) if f.compare]
    return [(f.name, inner) for f, inner in found if f.default is MISSING or inner != f.default]


def _flat(value: object) -> str:
    if is_dataclass(value):
        inside = ", ".join(f"{name}={_flat(inner)}" for name, inner in _fields(value))
        return f"{type(value).__name__}({inside})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flat(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_flat, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(map(_flat, value))) + "}"
    return str(value) if isinstance(value, Fraction) else repr(value)
