"""Every mistake in the folder of a run, or in the data that it names, by name: what is wrong and how to mend it."""

from __future__ import annotations

import shlex
from pathlib import Path

from jointkl.diagnostics import DataError, says

no_best = says("folder", "{folder} has no best checkpoint: it was not judged", "train with --stop-on")
folder_taken = says("folder", "{folder} exists and is not empty: a run overwrites nothing", "give another --out")
no_run_yet = says(
    "folder missing",
    "{folder} is no run: it holds no {missing}",
    "a run that was ended before its first round leaves such a folder: remove it, and train again",
)
run_in_use = says("folder", "{folder} is in use: another process is training this run", "wait for it, or stop it")
past = says(
    "folder done asked", "{folder} has {done} rounds already, and {asked} are asked for", "give --steps more of them"
)
no_checkpoint = says("folder", "{folder} holds no checkpoint: the run ended before its first", "train again")
damaged = says("path why", "{path} is damaged: {why}", "remove this checkpoint to take the one before it")
no_failure = says("folder", "{folder} keeps no step that was not finite: the run met none")
damaged_failure = says(
    "path why", "{path} is damaged: {why}", "go on from the newest checkpoint to meet it again: jointkl resume"
)
damaged_options = says("path why", "{path} is damaged: {why}", "restore it, or train again")
foreign_format = says(
    "path found known",
    "{path} has format {found}; this version reads {known}",
    "load it with the version that wrote it",
)
other_spec = says(
    "path", "{path} belongs to another spec: the run's spec.jkl has changed", "restore it, or train again"
)
other_parameters = says("path why", "{path} does not fit the run's spec: {why}")
larger_than_kept = says(
    "folder numbers held",
    "{folder}: the networks of its spec have {numbers:,} numbers, its largest checkpoint {held:,} bytes",
    "it is cut short, or spec.jkl or config.json was changed: restore it, or train again",
)
no_data_file = says(
    "law path", "{path}, which the run names for the data of {law}, is neither file nor folder", "give --data"
)
fewer_rows = says(
    "path law used rows",
    "{path} stands behind row {used:,} of {law}, whose data have {rows:,} rows",
    "give the data of before, by --data",
)
data_lost = says(
    "law",
    "the data of {law} were given from Python, and the run does not keep them",
    'pass them again: load_run(folder, {{"{law}": ...}})',
)


def resuming(folder: Path) -> str:
    """The command that goes on with a run, as a shell takes it."""
    return f"jointkl resume {shlex.quote(str(folder))}"


def checkpoint_kept(checkpoint: Path | None, which: str = "last") -> str:
    """What a run that ends has kept."""
    return f"the {which} checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"


def disk_failed(error: DataError, number: int, checkpoint: Path | None, folder: Path) -> DataError:
    """The disk refused what round `number` wrote: what is there is whole."""
    ended = f"the run ended in round {number}; {checkpoint_kept(checkpoint)}"
    return DataError(error.message, *error.help, ended, f"then go on: {resuming(folder)}")


def no_run(folder: Path, missing: str) -> DataError:
    why = f"it holds no {missing}" if folder.is_dir() else "there is no such folder"
    return DataError(f"{folder} is no run: {why}", "give the folder that `jointkl train` made, as in runs/gan")
