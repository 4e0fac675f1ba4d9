"""Every mistake of several seeds at once, by name: what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from jointkl.diagnostics import DataError, JklError, says
from jointkl.training.folder.errors import resuming

program_with_replicas = says(
    "",
    "replicas start from the parameters of their seeds, and a Program has parameters of its own",
    "pass the spec or the model: train(program.model, replicas=10)",
)
too_few_replicas = says("count", "{count} replicas: there is nothing to train", "give 1 or more")
not_with_replicas = says(
    "name why", "{name} does not go with several replicas at once: {why}", "leave it out, or --replicas"
)


def not_vmapped(player: str, why: str, seeds: Sequence[int]) -> DataError:
    loss = f"the loss of {player}" if player else "the players' losses"
    return DataError(
        f"{loss} cannot be computed for several replicas at once: {why}",
        f"train the seeds one by one: --seed {seeds[0]}, then --seed {seeds[0] + 1} and so on, without --replicas",
    )


def no_round_of_all(folder: Path) -> DataError:
    return DataError(
        f"{folder}: there is no round of which every replica has a checkpoint",
        f"go on with each by itself, as in {resuming(folder / 'seed-0')}",
    )


def went_on_alone(folder: Path, number: int) -> DataError:
    return DataError(
        f"{folder} went on by itself: the newest round of which every replica has a checkpoint is {number}",
        f"go on with each by itself, as in {resuming(folder)}",
    )


@contextmanager
def of_seed(seed: int) -> Iterator[None]:
    """What goes wrong in here went wrong in the replica of this seed, and says so."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"seed {seed}: {error.message}", *error.help) from error
    except JklError as error:
        raise JklError(replace(r, message=f"seed {seed}: {r.message}") for r in error.reports) from error
