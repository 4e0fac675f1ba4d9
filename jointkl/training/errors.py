"""Every mistake in the options of a run, by name: what is wrong and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from jointkl.diagnostics import DataError, JklError, Report, Span, did_you_mean, says
from jointkl.semantics.catalogue import Option

everyones_only = says(
    "key name", "setting `{key}`: `{name}` belongs to the whole run, not to a player", "write {name}=..."
)
out_of_range = says("key message text", "setting `{key}`: {message}; found `{text}`")
too_great = says("key", "setting `{key}`: no number beyond 1e100 can be computed with", "give a smaller one")
steps_and_epochs = says(
    "where", "{where}: both `steps` and `epochs`", "keep one: steps are rounds, epochs passes over the data"
)
epochs_without_data = says(
    "", "`epochs` counts passes over the data, and this spec has no evidence", "give steps=... instead"
)
closed_step = says(
    "player", "{player} takes no training options: it is solved in closed form, in every step that needs it"
)
nobody = says("name", "{name} has nobody to train: no player has a loss", "a goal needs a net or a param")
lets_differ = says(
    "",
    "the model was not made from its text with these `lets`, so the run could not be loaded again",
    'pass train the constants that you passed load or parse: train(model, lets={{"K": "3"}})',
)
long_spec = says("name most", "{name} has more than {most:,} bytes: such a spec is not trained", "is it one?")
no_text = says("name", "{name} holds a lone surrogate, which no file in UTF-8 can", "leave that character out")
too_many = says("name count most", "{count:,} {name}: a run keeps from 0 to {most:,}")
batch_of_one = says(
    "net",
    "the net {net} takes statistics of a batch, and each batch is one datum",
    "give a larger one, as in --set batch=32, or norm=layer in the spec",
)
no_gpu = says("name", "device `{name}`: torch finds no such GPU here", "leave out --device, or give --device cpu")
too_large = says("", "this machine has no memory for what the spec asks for: its networks, variables or data")
degenerate = says(
    "player number",
    "the closed step of {player} in round {number} has no solution: a component holds too few points",
    "start from another seed: --seed 1",
    "or train by gradients: minimize ... with estimate=gradient",
)


def unknown_option(key: str, name: str, known: Sequence[str]) -> DataError:
    listed = f"the options are {', '.join(known)}"
    return DataError(f"setting `{key}`: no training option `{name}`", *did_you_mean(name, known), listed)


def unknown_player(key: str, name: str, players: Sequence[str], members: Iterable[str]) -> DataError:
    help = did_you_mean(name, (*players, *members)) or (f"the players are {', '.join(players)}",)
    return DataError(f"setting `{key}`: no player, net or param `{name}`", *help)


def players_only(key: str, name: str, players: Sequence[str]) -> DataError:
    return DataError(f"setting `{key}`: `{name}` belongs to a player", f"say whose: {players[0]}.{name}=2")


def not_a_value(key: str, text: str, option: Option) -> DataError:
    numbers = {"integer": "a whole number", "number": "a finite number"}
    need = numbers.get(option.type, "one of " + ", ".join(option.choices))
    return DataError(f"setting `{key}`: expected {need}; found `{text}`", *did_you_mean(text, option.choices))


def not_at_once(player: str, every: int, repeat: int) -> DataError:
    said = f"every={every}" if every != 1 else f"repeat={repeat}"
    return DataError(
        f"{player} has {said}, and updates=simultaneous gives every player one step in each round",
        f"leave out {said}, or updates=simultaneous",
    )


def twice(name: str, player: str | None, first: Span, second: Span) -> JklError:
    whom = f"of player {player} " if player else ""
    message = f"`{name}` {whom}is set twice, to different values"
    return JklError(Report("E-TRAIN", message, second, causes=((first, "the first"),), help=("keep one of them",)))


def set_twice(key: str, player: str) -> DataError:
    name = key.rpartition(".")[2]
    return DataError(
        f"setting `{key}`: `{name}` of player {player} is set twice, to different values", "keep one of them"
    )


def sources_differ(sizes: Mapping[str, int]) -> DataError:
    """`sizes`: the rows of each source of one joint with globals, by its law."""
    told = " and ".join(f"{law} has {size:,}" for law, size in sizes.items())
    return DataError(
        f"a joint with globals is over N data, and its sources are of different size: {told} rows",
        "write a `minimize` for each source, or give them data of one size",
    )


def few_rows(key: str, wanted: int, batch: int) -> DataError:
    found = "one datum" if batch == 1 else f"{batch} rows"
    return DataError(
        f"a batch is {found}, and a loss takes {wanted} independent draws of `{key}` for each datum",
        f"give a batch of {wanted} rows or more, as in --set batch=32, and as many data",
    )


def unknown_device(name: str) -> DataError:
    return DataError(f"no device `{name}`", *did_you_mean(name, ("auto", "cpu", "cuda")), "give auto, cpu or cuda")


def out_of_memory(batch: int) -> DataError:
    return DataError(f"the device has no memory for a batch of {batch}", f"try --set batch={max(1, batch // 2)}")


def larger_than_memory(law: str, rows: int, size: int) -> DataError:
    return DataError(
        f"a closed step takes all rows of `{law}` at once, and {rows:,} of them are {size / 2**30:.1f} GiB, more than "
        "half of what memory there is",
        "give fewer rows, or put `with estimate=gradient` behind the goal: then its steps take minibatches",
    )
