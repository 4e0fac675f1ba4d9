"""Many seeds of one spec trained at once: replica i of a run with seed s is the run with seed s + i.

It has that run's first parameters, its order of the data and its noise, and ends with its parameters up to rounding.
RUN/seed-3 is the folder of the run with seed 3, as it would be by itself. Beside these folders are `replicas.json`, the
seeds, and `summary.json`, the mean and the standard deviation of the losses over them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jointkl import disk
from jointkl.compiler import derive
from jointkl.diagnostics import DataError
from jointkl.program import Program
from jointkl.training.folder import checkpoints, schema
from jointkl.training.folder import errors as folder_errors
from jointkl.training.folder.config import LARGEST_CONFIG, SEEDED, SavedRun, configuration, saved_in
from jointkl.training.folder.record import REPLICAS, Record, new_folder
from jointkl.training.folder.run import Run
from jointkl.training.launch import go, run_of, seeded
from jointkl.training.nonfinite.explanation import explained
from jointkl.training.phases import length
from jointkl.training.plan import Plan, compiled_for, plan
from jointkl.training.seeds import errors
from jointkl.training.seeds.engine import SeedNotFinite, SeedsEngine
from jointkl.training.seeds.summary import Spread, spread
from jointkl.training.speed.backends import EAGER

FULL = "float32"
SAME = "in lower precision a seed would not end as its own run does"


@dataclass(frozen=True, eq=False)
class Replicas(Sequence[Run]):
    """The runs of all seeds, in their order. `seconds` is what their rounds took together."""

    folder: Path
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    seconds: float

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, i: Any) -> Any:
        return self.runs[i]

    @property
    def rounds(self) -> int:
        return self.runs[0].rounds

    @property
    def losses(self) -> Mapping[str, Spread]:
        """Of each player's last loss."""
        return spread([run.losses for run in self.runs])


def table(found: Replicas) -> str:
    """The last losses of every seed, and their mean and standard deviation."""
    rows = [(run.folder.name, {player: loss for player, loss in run.losses.items()}) for run in found]
    rows.append(("mean", {player: s.mean for player, s in found.losses.items()}))
    if len(found) > 1:
        rows.append(("sd", {player: s.sd for player, s in found.losses.items() if s.sd is not None}))
    names = list(found.losses)
    texts = [["", *names], *([name, *(f"{values[n]:.4g}" for n in names)] for name, values in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in texts
    )


def train_replicas(decided: Plan, count: int) -> Replicas:
    """As `train`, the `count` seeds from the plan's on. Raises `DataError` for what cannot be done for all at once."""
    if count < 1:
        raise errors.too_few_replicas(count)
    _verify_options(decided)
    length(decided.model, of_seed(decided, decided.seed + count - 1).options.stated)  # the last one is a seed too
    plans = [of_seed(decided, decided.seed + i) for i in range(count)]
    engine = SeedsEngine(plans)
    with engine.at_work():
        choices = engine.choose_ways()
    folder = new_folder(decided.model, decided.options.out)
    with ExitStack() as opened:
        records: list[Record] = []
        for own in engine.engines:
            place = place_of(folder, own.plan.seed)
            disk.folder(place)
            config = configuration(own.plan, own.program, choices, SEEDED)
            records.append(opened.enter_context(Record.new(place, own.program, config)))
        content = {"seeds": engine.seeds, "threads": engine.threads}
        disk.write(folder / REPLICAS, (json.dumps(content, indent=2) + "\n").encode())
        return _run(engine, folder, records, decided.notes, decided.options.quiet)


def resume_replicas(
    folder: Path,
    data: Mapping[str, object] | None,
    said: Mapping[str, Any],
    quiet: bool,
    allowed: Collection[str],
) -> Replicas:
    """As `resume`, from the newest round of which every replica has a whole checkpoint. `said`: the arguments of
    `Options.again`."""
    seeds, threads = _said(folder)
    places = [place_of(folder, seed) for seed in seeds]
    for place in places:
        disk.verify_folder(place)
    kept = [saved_in(place, allowed) for place in places]
    first = kept[0]
    options = first.options.again(**said)
    decided = plan(compiled_for(derive(first.model), options), first.data_again(data), options, id=first.id)
    with ExitStack() as opened:
        records = [opened.enter_context(Record.again(own.folder)) for own in kept]
        found, refused = _newest(kept, seeded(decided))
        if not found and (refused or any(_further(own, 0) for own in kept)):
            raise refused[0] if refused else errors.no_round_of_all(folder)
        for own in kept if found and not refused else ():
            if _further(own, found[0].record.round) > 1:  # one is what a kill leaves between two replicas' checkpoints
                raise errors.went_on_alone(own.folder, found[0].record.round)
        engine = SeedsEngine([of_seed(decided, seed) for seed in seeds], found, threads)
        if engine.round > decided.rounds:
            raise folder_errors.past(folder, engine.round, decided.rounds)
        for record in records:
            record.rewind(engine.round)
        with engine.at_work():
            choices = engine.choose_ways()
        for own, record in zip(engine.engines, records, strict=True):
            record.configure(configuration(own.plan, own.program, choices, SEEDED))
        passed_over = (f"{error.message}: passed over" for error in refused)
        notes = [
            f"goes on after round {engine.round}",
            *first.notes(engine.engines[0].program, decided),
            *passed_over,
            *decided.notes,
        ]
        return _run(engine, folder, records, notes, quiet)


def _verify_options(decided: Plan) -> None:
    """What several seeds at once do not have is not asked for."""
    way = decided.options.way
    asked = {
        f"way `{way}`": ("they step in eager torch", way not in (None, EAGER)),
        f"precision `{decided.precision}`": (SAME, decided.precision != FULL),
        "track": ("each seed would be a run of its own there", bool(decided.options.track)),
        "stop_on": ("each seed would end in a round of its own", decided.stop is not None),
    }
    for name, (why, said) in asked.items():
        if said:
            raise errors.not_with_replicas(name, why)


def place_of(folder: Path, seed: int) -> Path:
    """The folder of one replica."""
    return folder / f"seed-{seed}"


def of_seed(decided: Plan, seed: int) -> Plan:
    """The plan of one replica: of its run, stepped eagerly."""
    ways = dict.fromkeys(decided.ways, EAGER)
    return replace(decided, options=replace(decided.options, seed=seed), seed=seed, ways=ways)


SAID: Mapping[str, schema.Test] = {
    "seeds": lambda value: bool(value) and schema.list_of(schema.count)(value),
    "threads": schema.maybe(lambda value: schema.up_to(1024)(value) and value > 0),
}


def _said(folder: Path) -> tuple[tuple[int, ...], int | None]:
    """The seeds, and the threads. Raises `DataError` where they are not as a run writes them."""
    path = folder / REPLICAS

    def damaged(why: str) -> DataError:
        return folder_errors.damaged_options(path, why)

    found = schema.read(disk.read(path, LARGEST_CONFIG), damaged)
    schema.verify(found, SAID, damaged)
    return tuple(found["seeds"]), found["threads"]


def _newest(kept: Sequence[SavedRun], program: Program) -> tuple[list[checkpoints.Checkpoint], list[DataError]]:
    """The checkpoints of all replicas of the newest round for which all have a whole one, and why newer are not taken;
    none where there is no such round."""
    every = [{path.stem: path for path in checkpoints.whole(own.folder)} for own in kept]
    refused: list[DataError] = []
    for name in sorted(set.intersection(*map(set, every)), reverse=True):
        try:
            return [checkpoints.load(paths[name], program) for paths in every], refused
        except DataError as error:
            refused.append(error)
    return [], refused


def _further(kept: SavedRun, number: int) -> int:
    """How many checkpoints a replica has beyond a round."""
    return sum(int(path.stem) > number for path in checkpoints.whole(kept.folder))


def _run(engine: SeedsEngine, folder: Path, records: Sequence[Record], notes: Sequence[str], quiet: bool) -> Replicas:
    with engine.at_work():
        try:
            go(engine, records, folder, [f"note: {note}" for note in notes], quiet)
        except SeedNotFinite as noticed:
            with errors.of_seed(engine.seeds[noticed.at]):
                raise explained(engine.engines[noticed.at], records[noticed.at].folder, noticed, quiet) from None
        except disk.Unwritable as error:
            raise folder_errors.disk_failed(error, engine.round, engine.checkpoint, folder) from error
    runs = tuple(run_of(one, record.folder) for one, record in zip(engine.engines, records, strict=True))
    return Replicas(folder, engine.seeds, runs, engine.seconds)
