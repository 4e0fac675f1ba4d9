"""Every mistake in the options or the course of a run, by name: what is wrong and how to mend it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from jointkl.diagnostics import DataError, JklError, Report, Span, did_you_mean, printable
from jointkl.objective.ir import Loss, Term
from jointkl.semantics.catalogue import Option

# --- options


def unknown_option(key: str, name: str, known: Sequence[str]) -> DataError:
    listed = f"the options are {', '.join(known)}"
    return DataError(f"setting `{key}`: no training option `{name}`", *did_you_mean(name, known), listed)


def unknown_player(key: str, name: str, players: Sequence[str], members: Iterable[str]) -> DataError:
    help = did_you_mean(name, (*players, *members)) or (f"the players are {', '.join(players)}",)
    return DataError(f"setting `{key}`: no player, net or param `{name}`", *help)


def players_only(key: str, name: str, players: Sequence[str]) -> DataError:
    return DataError(f"setting `{key}`: `{name}` belongs to a player", f"say whose: {players[0]}.{name}=2")


def everyones_only(key: str, name: str) -> DataError:
    return DataError(f"setting `{key}`: `{name}` belongs to the whole run, not to a player", f"write {name}=...")


def not_a_value(key: str, text: str, option: Option) -> DataError:
    numbers = {"integer": "a whole number", "number": "a finite number"}
    need = numbers.get(option.type, "one of " + ", ".join(option.choices))
    return DataError(f"setting `{key}`: expected {need}; found `{text}`", *did_you_mean(text, option.choices))


def out_of_range(key: str, message: str, text: str) -> DataError:
    return DataError(f"setting `{key}`: {message}; found `{text}`")


def too_great(key: str) -> DataError:
    return DataError(f"setting `{key}`: no number beyond 1e100 can be computed with", "give a smaller one")


def steps_and_epochs(where: str) -> DataError:
    return DataError(f"{where}: both `steps` and `epochs`", "keep one: steps are rounds, epochs passes over the data")


def not_at_once(player: str, every: int, repeat: int) -> DataError:
    said = f"every={every}" if every != 1 else f"repeat={repeat}"
    return DataError(
        f"{player} has {said}, and updates=simultaneous gives every player one step in each round",
        f"leave out {said}, or updates=simultaneous",
    )


def epochs_without_data() -> DataError:
    return DataError("`epochs` counts passes over the data, and this spec has no evidence", "give steps=... instead")


def twice(name: str, player: str | None, first: Span, second: Span) -> JklError:
    whom = f"of player {player} " if player else ""
    message = f"`{name}` {whom}is set twice, to different values"
    return JklError(Report("E-TRAIN", message, second, causes=((first, "the first"),), help=("keep one of them",)))


def set_twice(key: str, player: str) -> DataError:
    name = key.rpartition(".")[2]
    return DataError(
        f"setting `{key}`: `{name}` of player {player} is set twice, to different values", "keep one of them"
    )


def closed_step(player: str) -> DataError:
    return DataError(f"{player} takes no training options: it is solved in closed form, in every step that needs it")


def nobody(name: str) -> DataError:
    return DataError(f"{name} has nobody to train: no player has a loss", "a goal needs a net or a param")


def lets_differ() -> DataError:
    return DataError(
        "the model was not made from its text with these `lets`, so the run could not be loaded again",
        'pass train the constants that you passed load or parse: train(model, lets={"K": "3"})',
    )


def long_spec(name: str, most: int) -> DataError:
    return DataError(f"{name} has more than {most:,} bytes: such a spec is not trained", "is it one?")


def no_text(name: str) -> DataError:
    return DataError(f"{name} holds a lone surrogate, which no file in UTF-8 can", "leave that character out")


def too_many(name: str, count: int, most: int) -> DataError:
    return DataError(f"{count:,} {name}: a run keeps from 0 to {most:,}")


def sources_differ(sizes: Mapping[str, int]) -> DataError:
    """`sizes`: the rows of each source of one joint with globals, by its law."""
    told = " and ".join(f"{law} has {size:,}" for law, size in sizes.items())
    return DataError(
        f"a joint with globals is over N data, and its sources are of different size: {told} rows",
        "write a `minimize` for each source, or give them data of one size",
    )


def batch_of_one(net: str) -> DataError:
    return DataError(
        f"the net {net} takes statistics of a batch, and each batch is one datum",
        "give a larger one, as in --set batch=32, or norm=layer in the spec",
    )


def few_rows(key: str, wanted: int, batch: int) -> DataError:
    found = "one datum" if batch == 1 else f"{batch} rows"
    return DataError(
        f"a batch is {found}, and a loss takes {wanted} independent draws of `{key}` for each datum",
        f"give a batch of {wanted} rows or more, as in --set batch=32, and as many data",
    )


# --- judging


def nothing_to_judge(option: str) -> DataError:
    return DataError(f"{option} says how a run is judged, and nothing says by what", "add --stop-on loss:PLAYER")


def not_judged() -> DataError:
    return DataError("patience: the run is not judged as it goes, and ends with its last round", "leave it out")


def too_few(option: str, value: int) -> DataError:
    return DataError(f"{option} is 1 or more; found `{value}`")


def unknown_metric(name: str, losses: Sequence[str], metrics: Sequence[str] = ()) -> DataError:
    listed = (f"give {', '.join(losses)}", *((f"or a metric: {', '.join(metrics)}",) if metrics else ()))
    return DataError(f"no metric `{name}` to stop on", *did_you_mean(name, (*losses, *metrics)), *listed)


def no_best(folder: Path) -> DataError:
    return DataError(f"{folder} has no best checkpoint: it was not judged", "train with --stop-on")


# --- the machine


def no_gpu(name: str) -> DataError:
    return DataError(f"device `{name}`: torch finds no such GPU here", "leave out --device, or give --device cpu")


def unknown_device(name: str) -> DataError:
    return DataError(f"no device `{name}`", *did_you_mean(name, ("auto", "cpu", "cuda")), "give auto, cpu or cuda")


def unknown_way(name: str, known: Sequence[str]) -> DataError:
    return DataError(f"no way `{name}` to take steps", *did_you_mean(name, known), f"give {', '.join(known)}")


def way_without_device(name: str, device: str) -> DataError:
    return DataError(f"way `{name}`: there is none on the device `{device}`", "leave out --way, or give --way auto")


def too_large() -> DataError:
    return DataError("this machine has no memory for what the spec asks for: its networks, variables or data")


def out_of_memory(batch: int) -> DataError:
    return DataError(f"the device has no memory for a batch of {batch}", f"try --set batch={max(1, batch // 2)}")


# --- several processes


def uneven(batch: int, size: int) -> DataError:
    fix = max(size, batch - batch % size)
    return DataError(
        f"a batch of {batch} cannot be shared evenly by {size} processes",
        f"train with --set batch={fix}, or with a number of processes that divides {batch}",
    )


def steps_eagerly(way: str, size: int) -> DataError:
    return DataError(f"way `{way}`: {size} processes take their steps eagerly", "leave out --way")


def few_gpus(local: int, count: int) -> DataError:
    return DataError(
        f"process {local + 1} on this machine finds {count} {'GPU' if count == 1 else 'GPUs'}: each needs its own",
        f"torchrun --nproc-per-node {count}, or --device cpu",
    )


def one_gpu_for_all(name: str) -> DataError:
    return DataError(
        f"device `{name}` is one GPU, and each process needs its own", "give --device cuda, or leave it out"
    )


def batch_statistics(net: str, size: int) -> DataError:
    return DataError(
        f"the net {net} takes statistics of the batch, which {size} processes share on GPUs alone",
        "give norm=layer or norm=none in the spec, GPUs, or one process",
    )


def rehearsed_alone() -> DataError:
    return DataError("a dry run is one process's", "leave out torchrun, or --dry-run")


def replicas_alone(size: int) -> DataError:
    return DataError(
        f"several replicas step together in one process, and there are {size}", "leave out torchrun, or --replicas"
    )


def not_met(error: Exception) -> DataError:
    return DataError(
        "WORLD_SIZE says that this is one process of several, and they have not met:"
        f" {str(error).strip().splitlines()[0]}",
        "start all of them by torchrun; for one alone unset WORLD_SIZE",
    )


def own_statistics(net: str, buffer: str, size: int) -> DataError:
    return DataError(
        f"the net {net} keeps numbers that come from its batch, in {buffer}, and each of {size} processes has a part of"
        " the batch",
        "train with one process, or let the module keep none",
    )


def refused_parameters(number: int, error: Exception, size: int = 1) -> DataError:
    """By a distribution of torch; of one process where the step at which that began was not found."""
    alone = ("one is at the bound of its range, as a scale of 0 is, or is no number", *TRAINED)
    several = ("go on with one process, by jointkl resume, to see which term of which loss it is",)
    why = str(error).strip().splitlines()[0]
    return DataError(
        f"in round {number} a distribution refused its parameters: {why}", *(alone if size == 1 else several)
    )


def two_draws(key: str, player: str) -> DataError:
    return DataError(
        f"the loss of {player} draws {key} in two ways: several processes cannot tell whose noise is whose",
        "give the variables different names, or train with one process",
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


# --- trackers


def unknown_tracker(name: str, known: Sequence[str]) -> DataError:
    return DataError(f"no tracker `{name}`", *did_you_mean(name, known), f"give {', '.join(known)}")


def missing_extra(name: str) -> DataError:
    return DataError(f"the tracker {name} is not installed", f"pip install 'jointkl[{name}]'")


def foreign_settings(path: Path) -> DataError:
    return DataError(f"{path} is refused: it could send what is told elsewhere, and no run writes it", "remove it")


def tracker_lost(name: str, error: Exception) -> str:
    """What is told once, on one line."""
    said = str(error).strip().split("\n", 1)[0]
    why = said if isinstance(error, DataError) else f"{type(error).__name__}: {said}"
    return printable(f"the tracker {name} failed and is left out from here on: {why}")


# --- the course of a run


def resuming(folder: Path) -> str:
    """The command that goes on with a run, as a shell takes it."""
    return f"jointkl resume {shlex.quote(str(folder))}"


def kept(checkpoint: Path | None, which: str = "last") -> str:
    """What a run that ends has kept."""
    return f"the {which} checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"


UNTRAINED = ("nothing was trained before: the formula, or the data it is given, must be finite",)
TRAINED = ("a smaller learning rate or a bound on the gradient often mends it", "--set lr=1e-4 --set clip=1")


def not_finite(
    loss: Loss,
    what: str,
    number: int,
    checkpoint: Path | None,
    *,
    value: str = "",
    labels: Sequence[tuple[Term, str]] = (),
    notes: Sequence[str] = (),
) -> JklError:
    """`what` became infinite or no number in round `number`: points at the terms of the player's loss, or at those that
    were found guilty, with what is said of each."""
    places: dict[tuple[int, int], tuple[Span, list[str]]] = {}
    for term, said in sorted(labels or [(t, t.text) for t in loss.terms], key=lambda row: row[0].span.start):
        places.setdefault((term.span.start, term.span.end), (term.span, []))[1].append(said)
    lead = "" if labels else "in its loss: "
    (span, label), *others = [(span, f"{lead}{', '.join(texts)}") for span, texts in places.values()]
    return JklError(
        Report(
            "E-NOT-FINITE",
            f"{what} of player {loss.player} is not finite in round {number}{value}",
            span,
            label,
            causes=tuple(others),
            notes=(f"the loss of {loss.player} is {loss.formula}", *notes, kept(checkpoint, "last good")),
            help=UNTRAINED if labels and number == 1 else TRAINED,
        )
    )


def larger_than_memory(law: str, rows: int, size: int) -> DataError:
    return DataError(
        f"a closed step takes all rows of `{law}` at once, and {rows:,} of them are {size / 2**30:.1f} GiB, more than "
        "half of what memory there is",
        "give fewer rows, or put `with estimate=gradient` behind the goal: then its steps take minibatches",
    )


def degenerate(player: str, number: int) -> DataError:
    return DataError(
        f"the closed step of {player} in round {number} has no solution: a component holds too few points",
        "start from another seed: --seed 1",
        "or train by gradients: minimize ... with estimate=gradient",
    )


# --- replicas


def program_with_replicas() -> DataError:
    return DataError(
        "replicas start from the parameters of their seeds, and a Program has parameters of its own",
        "pass the spec or the model: train(program.model, replicas=10)",
    )


def too_few_replicas(count: int) -> DataError:
    return DataError(f"{count} replicas: there is nothing to train", "give 1 or more")


def not_with_replicas(name: str, why: str) -> DataError:
    return DataError(f"{name} does not go with several replicas at once: {why}", "leave it out, or --replicas")


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
