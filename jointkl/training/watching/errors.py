"""Every mistake in how a run is judged or followed, by name: what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence

from jointkl.diagnostics import DataError, did_you_mean, printable, says

nothing_to_judge = says(
    "option", "{option} says how a run is judged, and nothing says by what", "add --stop-on loss:PLAYER"
)
not_judged = says("", "patience: the run is not judged as it goes, and ends with its last round", "leave it out")
too_few = says("option value", "{option} is 1 or more; found `{value}`")
missing_extra = says("name", "the tracker {name} is not installed", "pip install 'jointkl[{name}]'")
foreign_settings = says(
    "path", "{path} is refused: it could send what is told elsewhere, and no run writes it", "remove it"
)


def unknown_metric(name: str, losses: Sequence[str], metrics: Sequence[str] = ()) -> DataError:
    listed = (f"give {', '.join(losses)}", *((f"or a metric: {', '.join(metrics)}",) if metrics else ()))
    return DataError(f"no metric `{name}` to stop on", *did_you_mean(name, (*losses, *metrics)), *listed)


def unknown_tracker(name: str, known: Sequence[str]) -> DataError:
    return DataError(f"no tracker `{name}`", *did_you_mean(name, known), f"give {', '.join(known)}")


def tracker_lost(name: str, error: Exception) -> str:
    """What is told once, on one line."""
    said = str(error).strip().split("\n", 1)[0]
    why = said if isinstance(error, DataError) else f"{type(error).__name__}: {said}"
    return printable(f"the tracker {name} failed and is left out from here on: {why}")
