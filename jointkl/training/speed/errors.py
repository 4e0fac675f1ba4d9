"""Every mistake in how steps are to be taken, by name: what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence

from jointkl.diagnostics import DataError, did_you_mean, says

way_without_device = says(
    "name device", "way `{name}`: there is none on the device `{device}`", "leave out --way, or give --way auto"
)


def unknown_way(name: str, known: Sequence[str]) -> DataError:
    return DataError(f"no way `{name}` to take steps", *did_you_mean(name, known), f"give {', '.join(known)}")
