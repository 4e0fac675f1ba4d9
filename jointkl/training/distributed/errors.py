"""Every mistake of a run by several processes, by name: what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jointkl.diagnostics import DataError, says
from jointkl.training.folder.errors import resuming

steps_eagerly = says("way size", "way `{way}`: {size} processes take their steps eagerly", "leave out --way")
one_gpu_for_all = says(
    "name", "device `{name}` is one GPU, and each process needs its own", "give --device cuda, or leave it out"
)
batch_statistics = says(
    "net size",
    "the net {net} takes statistics of the batch, which {size} processes share on GPUs alone",
    "give norm=layer or norm=none in the spec, GPUs, or one process",
)
own_statistics = says(
    "net buffer size",
    "the net {net} keeps numbers that come from its batch, in {buffer}, and each of {size} processes has a part of the"
    " batch",
    "train with one process, or let the module keep none",
)
rehearsed_alone = says("", "a dry run is one process's", "leave out torchrun, or --dry-run")
replicas_alone = says(
    "size", "several replicas step together in one process, and there are {size}", "leave out torchrun, or --replicas"
)
two_draws = says(
    "key player",
    "the loss of {player} draws {key} in two ways: several processes cannot tell whose noise is whose",
    "give the variables different names, or train with one process",
)


def uneven(batch: int, size: int) -> DataError:
    fix = max(size, batch - batch % size)
    return DataError(
        f"a batch of {batch} cannot be shared evenly by {size} processes",
        f"train with --set batch={fix}, or with a number of processes that divides {batch}",
    )


def few_gpus(local: int, count: int) -> DataError:
    return DataError(
        f"process {local + 1} on this machine finds {count} {'GPU' if count == 1 else 'GPUs'}: each needs its own",
        f"torchrun --nproc-per-node {count}, or --device cpu",
    )


def not_met(error: Exception) -> DataError:
    return DataError(
        "WORLD_SIZE says that this is one process of several, and they have not met:"
        f" {str(error).strip().splitlines()[0]}",
        "start all of them by torchrun; for one alone unset WORLD_SIZE",
    )


def other_checkpoint(folder: Path, rounds: Sequence[int]) -> DataError:
    told = ", ".join(f"{number} in process {rank}" for rank, number in enumerate(rounds))
    return DataError(f"the processes see different checkpoints of {folder}: of round {told}", "share the run's folder")


def process_lost(folder: Path | None) -> DataError:
    how = "jointkl train" if folder is None else resuming(folder)
    on = "to start again" if folder is None else "to go on from the newest checkpoint"
    return DataError(
        "a process of this run has ended without a word, or does not answer: was it killed, or its machine lost?",
        f"{on}: {how}, with any number of processes",
    )


def failed_elsewhere(rank: int, size: int, what: DataError) -> DataError:
    return DataError(what.message, *what.help, f"this was found by process {rank} of 0 to {size - 1}")
