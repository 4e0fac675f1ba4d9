"""Everything that is decided before the first round of a run, from the spec, the data and what the caller asks for."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from jointkl.compiler import Compiled, compiled
from jointkl.derivation.derive import Derivation
from jointkl.evaluation import gallery
from jointkl.objective.ir import Given, Objective
from jointkl.objective.share import Passes
from jointkl.semantics.layers import takes_batch_statistics
from jointkl.semantics.model import Model
from jointkl.sources import Bound, bind
from jointkl.sources.keys import by_law
from jointkl.training import errors
from jointkl.training.distributed import errors as distributed_errors
from jointkl.training.distributed.processes import ALONE, ProcessGroup
from jointkl.training.machine import device_of
from jointkl.training.options import Options
from jointkl.training.phases import Phase, length, phases, rounds
from jointkl.training.speed.autotune import AUTO, verify
from jointkl.training.speed.backends import EAGER
from jointkl.training.watching import trackers
from jointkl.training.watching.stop import Stop, stop

LARGEST_SPEC = 1 << 18
"""The most bytes of a spec that is trained, and of the spec in a run's folder that are read."""

MOST_KEPT = 100_000
"""The most pictures of a run, and checkpoints."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A run, decided. `given`: the caller's data by law, `bound` the rows of every evidence law; `ways`: how each
    player is to step; `drawn` and `saved`: the rounds after which pictures and checkpoints are made; `id`: what
    trackers know the run by; `notes`: what the caller would not expect."""

    options: Options
    compiled: Compiled
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
    ways: Mapping[str, str]
    drawn: frozenset[int]
    saved: frozenset[int]
    id: str
    notes: tuple[str, ...]
    group: ProcessGroup

    @property
    def model(self) -> Model:
        return self.compiled.derivation.model


def compiled_for(derivation: Derivation, options: Options) -> Compiled:
    """A derivation compiled for a run: where all players step at once, to losses for one backward."""
    together = length(derivation.model, options.stated).updates == "simultaneous"
    return compiled(derivation, Passes(together=together), options.allow_imports)


def plan(
    compiled: Compiled,
    data: Mapping[str, object] | None,
    options: Options,
    group: ProcessGroup = ALONE,
    *,
    ways: Mapping[str, str] | None = None,
    id: str | None = None,
) -> Plan:
    """Decide a run. `ways` and `id` are those of a run that goes on. Raises `JklError`, or `DataError` for options,
    data, a device or processes that do not fit."""
    derivation, objective = compiled.derivation, compiled.objective
    model, players = derivation.model, derivation.facts.players
    trackers.verify(options.track)
    _verify_text(model)
    for name, count in (("pictures", options.pictures), ("checkpoints", options.checkpoints)):
        if not 0 <= count <= MOST_KEPT:
            raise errors.too_many(name, count, MOST_KEPT)
    whole = length(model, options.stated)
    table = phases(model, objective, players, options.stated)
    device = group.device(device_of(options.device))
    way = verify(options.way, device)
    given = by_law(model, data)
    bound = group.first_of_machine_first(lambda: bind(model, given, download=options.download))
    _verify_sizes(derivation, bound)
    batch = min([whole.batch, *map(len, bound)])
    if batch == 1:
        _verify_statistics(model)
    _verify_rows(objective, batch)
    if batch % group.size:
        raise distributed_errors.uneven(batch, group.size)
    if group.size > 1 and options.way not in (None, AUTO, EAGER):
        raise distributed_errors.steps_eagerly(options.way, group.size)
    total = rounds(whole, batch, [len(b) for b in bound])
    return Plan(
        options=options,
        compiled=compiled,
        given=given,
        bound=bound,
        phases=table,
        updates=whole.updates,
        precision=whole.precision,
        stop=stop(options.stop_on, options.patience, options.judge_every, table, players, total),
        rounds=total,
        batch=batch,
        seed=whole.seed,
        device=device,
        ways={phase.player: (ways or {}).get(phase.player, way) for phase in table},
        drawn=spread(total, options.pictures),
        saved=spread(total, options.checkpoints),
        id=id or secrets.token_hex(4),
        notes=tuple(_notes(model, whole.batch, batch, gallery.shows(derivation.facts, bound))),
        group=group,
    )


def spread(total: int, count: int) -> frozenset[int]:
    """`count` rounds, evenly spread, the last being the run's last."""
    return frozenset({total * i // count for i in range(1, count + 1)} - {0} if count else ())


def _verify_text(model: Model) -> None:
    """The run's folder can hold the text of its spec. Raises `DataError`."""
    try:
        size = len(model.source.text.encode())
    except UnicodeEncodeError:
        raise errors.no_text(model.source.name) from None
    if size > LARGEST_SPEC:
        raise errors.long_spec(model.source.name, LARGEST_SPEC)


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
