"""Words of messages: names listed, pieces of a spec on one line, what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jointkl.diagnostics import did_you_mean
from jointkl.semantics.spaces import Space

MOST_GUESSED = 300
"""Among more names than this, or for a longer one, no near one is looked for: that would take seconds."""

LONG_ENOUGH = 3
"""A name of so many letters that begins another is taken for it."""


def listed(names: Iterable[str], most: int = 12) -> str:
    """`a`, `b` and 3 more."""
    names = tuple(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{n}`" for n in names[:most]) + more


def joined(names: Sequence[str]) -> str:
    """a, b and c"""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def words(things: Iterable[object], most: int = 24) -> str:
    """a, b, and so on."""
    shown = [str(thing) for thing in things]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")


def line(text: str, most: int = 80) -> str:
    """A piece of the spec as one short line."""
    joined = " ".join(text.split())
    return joined if len(joined) <= most else joined[: most - 3] + "..."


def meant(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Help for an unknown name: the known one that it begins or goes on from, or else the nearest, or nothing."""
    known = tuple(known)
    if max(len(name), len(known)) > MOST_GUESSED:
        return ()
    begun = [k for k in known if min(len(k), len(name)) >= LONG_ENOUGH and (k.startswith(name) or name.startswith(k))]
    return (f"did you mean `{begun[0]}`?",) if len(begun) == 1 else did_you_mean(name, known)


def dims(space: Space) -> str:
    """`[2,3]`, or nothing for one number."""
    return f"[{','.join(map(str, space.dims))}]" if space.dims else ""
