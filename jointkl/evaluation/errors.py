"""Every mistake in what is asked of a trained program, by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jointkl.diagnostics import DataError


def nothing_to_sample(name: str, known: Iterable[str]) -> DataError:
    return DataError(
        f"{name} has no law that draws what its evidence gives, from noise alone",
        f"name another with --law; the spec defines {', '.join(known)}",
    )


def givens_unknown(text: str, names: Iterable[str]) -> DataError:
    return DataError(
        f"{text} is given {', '.join(names)}, which no evidence of the spec gives",
        "from Python, pass them: program.sample(law, batch={...})",
    )


def unknown_ending(path: Path) -> DataError:
    return DataError(f"{path}: no way to write samples as `{path.suffix}`", "end the name in .png, .npy or .npz")


# --- the report


def no_run(folder: Path, name: str) -> DataError:
    return DataError(
        f"{folder} is no run: it has no {name} of its own", "give the folder that `jointkl train` has made"
    )


def unreadable(path: Path, why: str) -> DataError:
    return DataError(f"{path} cannot be read: {why}", "a report needs the spec and the options as the run wrote them")
