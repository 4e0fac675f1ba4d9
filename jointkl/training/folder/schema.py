"""JSON of a run's folder, read strictly: each field has a test, and what does not hold is refused by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_origin, get_type_hints

from jointkl.diagnostics import DataError, printable

Test = Callable[[Any], bool]

WHOLE = 2**53
"""Whole numbers below this are also numbers of 64-bit floats."""


def tests_of(kind: Any) -> dict[str, Test]:
    """What must hold in a file of a dataclass's fields, each `Annotated` with its test. One that has none only informs
    whoever reads the file."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}


def read(content: bytes, damaged: Callable[[str], DataError]) -> dict[str, Any]:
    """The object that JSON holds. Raises `damaged(why)` where it holds none."""
    try:
        found = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise damaged(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise damaged("no JSON object")
    return found


def verify(found: Mapping[str, Any], tests: Mapping[str, Test], damaged: Callable[[str], DataError]) -> None:
    """Each field of `tests` holds. Raises `damaged(why)` at the first that does not."""
    for name, holds in tests.items():
        if not holds(found.get(name)):
            raise damaged(f"it has no `{name}`, or not as a run writes it")


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def text(value: Any) -> bool:
    return isinstance(value, str)


def line(value: Any) -> bool:
    """Text that does nothing to a terminal."""
    return isinstance(value, str) and printable(value) == value


def digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def identity(value: Any) -> bool:
    """What a run is known by elsewhere."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{8,64}", value) is not None


def count(value: Any) -> bool:
    """A whole number, not negative."""
    return type(value) is int and 0 <= value < WHOLE


def up_to(most: int) -> Test:
    return lambda value: count(value) and value <= most


def number(value: Any) -> bool:
    """A finite number."""
    return (isinstance(value, float) and math.isfinite(value)) or (type(value) is int and -WHOLE < value < WHOLE)


def duration(value: Any) -> bool:
    return number(value) and value >= 0


def one_of(*values: object) -> Test:
    return lambda value: value in values


def by_name(holds: Test) -> Test:
    """An object of such values, under any names."""
    return lambda value: isinstance(value, dict) and all(map(line, value)) and all(map(holds, value.values()))


def list_of(holds: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(holds, value))


def pair_of(first: Test, second: Test) -> Test:
    return lambda value: isinstance(value, list) and len(value) == 2 and first(value[0]) and second(value[1])


def having(**tests: Test) -> Test:
    """An object with these fields at least; one that is missing is tested as None."""
    return lambda value: isinstance(value, dict) and all(holds(value.get(name)) for name, holds in tests.items())


def any_of(*tests: Test) -> Test:
    return lambda value: any(holds(value) for holds in tests)


def maybe(holds: Test) -> Test:
    return lambda value: value is None or holds(value)


def scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | str) or number(value)
