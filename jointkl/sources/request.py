"""What a loader is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jointkl.sources.streams import Array


@dataclass(frozen=True, slots=True)
class Request:
    """`options` are all of the `source`'s, by name. `where` heads its messages; `columns` are those that are wanted.
    Only with `download` is anything fetched."""

    source: str
    where: str
    options: Mapping[str, Any]
    columns: tuple[int, ...] = field(default=(0,))
    download: bool = False


Loader = Callable[[Request], tuple[Array, ...]]
"""The columns of a source by position; those that nobody wants may be left out at the end."""
