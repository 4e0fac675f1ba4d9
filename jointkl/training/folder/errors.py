"""Every mistake in the folder of a run, or in the data that it names, by name: what is wrong and how to mend it."""

from __future__ import annotations

from pathlib import Path

from jointkl.diagnostics import DataError
from jointkl.training.errors import kept, resuming


def folder_taken(folder: Path) -> DataError:
    return DataError(f"{folder} exists and is not empty: a run overwrites nothing", "give another --out")


def disk_failed(error: DataError, number: int, checkpoint: Path | None, folder: Path) -> DataError:
    """The disk refused what round `number` wrote: what is there is whole."""
    ended = f"the run ended in round {number}; {kept(checkpoint)}"
    return DataError(error.message, *error.help, ended, f"then go on: {resuming(folder)}")


def no_run(folder: Path, missing: str) -> DataError:
    why = f"it holds no {missing}" if folder.is_dir() else "there is no such folder"
    return DataError(f"{folder} is no run: {why}", "give the folder that `jointkl train` made, as in runs/gan")


def no_run_yet(folder: Path, missing: str) -> DataError:
    return DataError(
        f"{folder} is no run: it holds no {missing}",
        "a run that was ended before its first round leaves such a folder: remove it, and train again",
    )


def run_in_use(folder: Path) -> DataError:
    return DataError(f"{folder} is in use: another process is training this run", "wait for it, or stop it")


def past(folder: Path, done: int, asked: int) -> DataError:
    return DataError(f"{folder} has {done} rounds already, and {asked} are asked for", "give --steps more of them")


def no_checkpoint(folder: Path) -> DataError:
    return DataError(f"{folder} holds no checkpoint: the run ended before its first", "train again")


def damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}", "remove this checkpoint to take the one before it")


def no_failure(folder: Path) -> DataError:
    return DataError(f"{folder} keeps no step that was not finite: the run met none")


def damaged_failure(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}", "go on from the newest checkpoint to meet it again: jointkl resume")


def damaged_options(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged: {why}", "restore it, or train again")


def foreign_format(path: Path, found: object, known: int) -> DataError:
    return DataError(f"{path} has format {found}; this version reads {known}", "load it with the version that wrote it")


def other_spec(path: Path) -> DataError:
    return DataError(f"{path} belongs to another spec: the run's spec.jkl has changed", "restore it, or train again")


def other_parameters(path: Path, why: str) -> DataError:
    return DataError(f"{path} does not fit the run's spec: {why}")


def larger_than_kept(folder: Path, numbers: int, held: int) -> DataError:
    return DataError(
        f"{folder}: the networks of its spec have {numbers:,} numbers, its largest checkpoint {held:,} bytes",
        "it is cut short, or spec.jkl or config.json was changed: restore it, or train again",
    )


def no_data_file(law: str, path: str) -> DataError:
    return DataError(f"{path}, which the run names for the data of {law}, is neither file nor folder", "give --data")


def fewer_rows(path: Path, law: str, used: int, rows: int) -> DataError:
    return DataError(
        f"{path} stands behind row {used:,} of {law}, whose data have {rows:,} rows",
        "give the data of before, by --data",
    )


def data_lost(law: str) -> DataError:
    return DataError(
        f"the data of {law} were given from Python, and the run does not keep them",
        f'pass them again: load_run(folder, {{"{law}": ...}})',
    )
