"""Everything that is decided before the first round of a run, from the spec, the data and what the caller asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from jointkl.compiler import derive, load, lower, parse
from jointkl.derivation.derive import Derivation
from jointkl.evaluation import gallery
from jointkl.objective.ir import Given, Objective
from jointkl.program import Program
from jointkl.semantics.layers import takes_batch_statistics
from jointkl.semantics.model import Model
from jointkl.sources import Bound, bind
from jointkl.sources.keys import by_law
from jointkl.training import errors
from jointkl.training.distributed.processes import ALONE, ProcessGroup
from jointkl.training.machine import device_of
from jointkl.training.phases import Phase, Settings, length, phases, rounds
from jointkl.training.speed.autotune import AUTO, verify
from jointkl.training.speed.backends import EAGER
from jointkl.training.watching import trackers
from jointkl.training.watching.stop import Stop, stop

LARGEST_SPEC = 1 << 18
"""Bytes of a spec that is trained: so many are read of a run's own."""

MOST_KEPT = 100_000
"""Pictures of a run, and checkpoints."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the caller asks for beside the spec and its data; all but `allowed` and `download` stands in the run's
    `config.json`.

    `ways`: each player's way in a run that goes on; none in a new one, which chooses by `way`. `stop_on`, `patience`
    and `judge_every`: as in `judging.Stop`. `track`: the trackers that follow the run, `id` what they know it by.
    """

    settings: Settings = field(default_factory=dict)
    lets: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    way: str | None = None
    ways: Mapping[str, str] = field(default_factory=dict)
    pictures: int = 4
    checkpoints: int = 10
    stop_on: str | None = None
    patience: int | None = None
    judge_every: int | None = None
    track: Sequence[str] = ()
    id: str = ""
    allowed: Collection[str] = ()
    download: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A run, decided. `given`: the caller's data by law, `bound` the rows of every evidence law; `drawn` and `saved`:
    the rounds after which pictures and checkpoints are made; `notes`: what the caller would not expect."""

    request: Request
    model: Model
    given: Mapping[str, object]
    bound: tuple[Bound, ...]
    phases: tuple[Phase, ...]
    updates: str
    precision: str
    stop: Stop | None
    rounds: int
    batch: int
    seed: int
    device: torch.device
    way: str
    drawn: frozenset[int]
    saved: frozenset[int]
    notes: tuple[str, ...]
    group: ProcessGroup


def plan(model: Model, data: Mapping[str, object] | None, request: Request, group: ProcessGroup = ALONE) -> Plan:
    """Decide a run. Raises `JklError`, or `DataError` for options, data, a device or processes that do not fit."""
    trackers.verify(request.track)
    try:
        size = len(model.source.text.encode())
    except UnicodeEncodeError:
        raise errors.no_text(model.source.name) from None
    if size > LARGEST_SPEC:
        raise errors.long_spec(model.source.name, LARGEST_SPEC)
    for name, count in (("pictures", request.pictures), ("checkpoints", request.checkpoints)):
        if not 0 <= count <= MOST_KEPT:
            raise errors.too_many(name, count, MOST_KEPT)
    whole = length(model, request.settings)
    derivation = derive(model)
    objective = lower(derivation)
    table = phases(model, objective, derivation.facts.players, request.settings)
    device = group.device(device_of(request.device))
    way = verify(request.way, device)
    given = by_law(model, data)
    bound = group.first_of_machine_first(lambda: bind(model, given, download=request.download))
    _verify_sizes(derivation, bound)
    batch = min([whole.batch, *map(len, bound)])
    if batch == 1:
        _verify_statistics(model)
    _verify_rows(objective, batch)
    if batch % group.size:
        raise errors.uneven(batch, group.size)
    if group.size > 1 and request.way not in (None, AUTO, EAGER):
        raise errors.steps_eagerly(request.way, group.size)
    total = rounds(whole, batch, [len(b) for b in bound])
    return Plan(
        request=request,
        model=model,
        given=given,
        bound=bound,
        phases=table,
        updates=whole.updates,
        precision=whole.precision,
        stop=stop(request.stop_on, request.patience, request.judge_every, table, derivation.facts.players, total),
        rounds=total,
        batch=batch,
        seed=whole.seed,
        device=device,
        way=way,
        drawn=spread(total, request.pictures),
        saved=spread(total, request.checkpoints),
        notes=tuple(_notes(model, whole.batch, batch, gallery.shows(derivation.facts, bound))),
        group=group,
    )


def model_of(program: Program | Model | str | Path, lets: Mapping[str, str]) -> Model:
    """The model to train, as its text has it. Of one already made, or derived, as a program's is, `lets` must make it
    again from its text: so a run is loaded."""
    if isinstance(program, Path) or (isinstance(program, str) and "\n" not in program and program.endswith(".jkl")):
        return load(program, lets)
    if isinstance(program, str):
        return parse(program, lets=lets)
    model = program.model if isinstance(program, Program) else program
    parsed = parse(model.source.text, model.source.name, lets)
    if model != parsed and model != derive(parsed).model:
        raise errors.lets_differ()
    return parsed


def texts(lets: Mapping[str, object] | None) -> dict[str, str]:
    """Constants of a spec as their text, of a number too: so a run keeps them."""
    return {name: str(value) for name, value in (lets or {}).items()}


def stated(**values: Any) -> dict[str, Any]:
    """Those that were said."""
    return {name: value for name, value in values.items() if value is not None}


def again(request: Request, steps: int | None, **changes: Any) -> Request:
    """What a run that goes on asks for: what it did, but for the `changes`, and `steps` in place of its length. Raises
    `DataError`."""
    if "patience" in changes and request.stop_on is None:
        raise errors.not_judged()
    kept = {name: value for name, value in request.settings.items() if steps is None or name != "epochs"}
    return replace(request, settings={**kept, **stated(steps=steps)}, **changes)


def spread(total: int, count: int) -> frozenset[int]:
    """`count` rounds, evenly spread, the last being the run's last."""
    return frozenset({total * i // count for i in range(1, count + 1)} - {0} if count else ())


def _verify_sizes(derivation: Derivation, bound: Sequence[Bound]) -> None:
    """A joint with globals is over N data: what its sources have."""
    sizes = {b.law: len(b) for b in bound}
    entries = (e for entries in derivation.losses.values() for e in entries if any(t.over_n for t in e.terms))
    for sources in {e.sources: None for e in entries}:
        if len({sizes[law] for law in sources}) > 1:
            raise errors.sources_differ({law: sizes[law] for law in sources})


def _verify_statistics(model: Model) -> None:
    """A batch of one has no statistics."""
    for net in model.nets.values():
        if takes_batch_statistics(net):
            raise errors.batch_of_one(net.name)


def _verify_rows(objective: Objective, batch: int) -> None:
    """A batch has a row of its own for each of the independent draws that stand side by side. Raises `DataError`."""
    read = [node for made in (*objective.losses, *objective.solutions, *objective.steps) for node in made.nodes]
    beside = max((n for n in read if isinstance(n, Given)), key=lambda n: n.shift, default=None)
    if beside is not None and beside.shift >= batch:
        raise errors.few_rows(beside.column, beside.shift + 1, batch)


def _notes(model: Model, wanted: int, batch: int, drawn: bool) -> list[str]:
    """What the caller would not expect."""
    notes: list[str] = []
    if batch < wanted:
        notes.append(f"a batch of {wanted} is larger than the data: it is {batch}, all of them")
    if not drawn:
        notes.append(f"no law of {model.source.name} draws what its evidence gives, from noise or again: no pictures")
    return notes
