"""The engine: one plain loop over the rounds, and what surrounds it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from jointkl.compiler import compile, derive, load, lower, parse
from jointkl.evaluation import gallery
from jointkl.objective.share import Passes
from jointkl.program import Program
from jointkl.semantics.layers import takes_batch_statistics
from jointkl.semantics.model import Model
from jointkl.sources import Bound, bind
from jointkl.sources.keys import by_law
from jointkl.training import errors, state
from jointkl.training.machine import device_of, interrupts, memory, threads
from jointkl.training.minibatches import Minibatches
from jointkl.training.phases import Settings, length, phases, rounds
from jointkl.training.progress import Show, shown
from jointkl.training.record import Record, configuration, name_of, new_folder
from jointkl.training.run import Run
from jointkl.training.steps import Turn, play, play_together
from jointkl.training.tuning import text_of, tune, verify

__all__ = ["Run", "train"]

READ = 50
"""Losses are read from the device once in at most so many rounds: a read waits for all that is under way."""

SHOW = 0.5
"""Seconds between two looks at the bar."""


def train(
    program: Program | Model | str | Path,
    data: Mapping[str, object] | None = None,
    *,
    steps: int | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    device: str = "auto",
    way: str | None = None,
    settings: Settings | None = None,
    lets: Mapping[str, str] | None = None,
    quiet: bool = False,
    pictures: int = 4,
    checkpoints: int = 10,
    allow_imports: Collection[str] = (),
) -> Run:
    """Train every player of a program, a model, a spec's text or a path; leave a run folder and return the run.

    `data`: what `jointkl.sources.bind` takes. `steps`: rounds, in place of the spec's. `settings`: options of
    `train(...)` by name, one player's as `"D.lr"`. `lets`: constants of the spec, as `load` takes them; of a model
    already made, those that it was made with. `out`: the folder, else `runs/NAME`. So many `pictures` and `checkpoints`
    are spread over the run, the last at its end. `way`: how steps are taken, `eager`, `compile` or `graph` (where a
    phase can), or `auto`, each phase's in what is fastest on this machine, which is measured first; by default `auto`
    on a GPU, else `eager`. `allow_imports`: as `compile` takes them.

    Networks are in training mode but for samples, which take batch norm's running statistics and leave nothing out.

    The same seed gives the same bits on a CPU, for a spec or a model and any `way` but `auto`; a `Program` comes with
    the parameters it has, and moves to the device. Sets torch's seed. Raises `JklError`, `DataError`, and
    `KeyboardInterrupt` after Ctrl-C, which saves a checkpoint.
    """
    settings = {**(settings or {}), **_stated(steps=steps, seed=seed)}
    lets = dict(lets or {})
    model = _model(program, lets)
    whole = length(model, settings)
    derivation = derive(model)
    table = phases(model, lower(derivation), derivation.facts.players, settings)
    place = device_of(device)
    way = verify(way, place)
    given = by_law(model, data)
    bound = bind(model, given)
    batch = min([whole.batch, *map(len, bound)])
    if batch == 1:
        _verify_statistics(model)
    total = rounds(whole, batch, [len(b) for b in bound])
    notes = _notes(model, whole.batch, batch, gallery.shows(derivation.facts, bound))
    torch.manual_seed(whole.seed)
    passes = Passes(together=whole.updates == "simultaneous")
    compiled = (program if isinstance(program, Program) else compile(model, passes, allow_imports=allow_imports)).to(
        place
    )
    compiled.data_size = max(map(len, bound), default=None)
    folder = new_folder(model, out)
    minibatches = Minibatches(bound, batch, whole.seed, place)
    closed = {step.player for step in compiled.objective.steps}
    rows = minibatches.whole() if closed else None
    turns = tuple(Turn(phase, compiled, rows if phase.player in closed else None) for phase in table)
    with threads(compiled, place), memory(batch):
        choices = () if whole.updates == "simultaneous" else tune(compiled, turns, minibatches.first(), total, way)
    config = configuration(
        compiled, table, bound, data=given, lets=lets, settings=settings, notes=notes,
        rounds=total, batch=batch, seed=whole.seed, device=str(place), ways=[asdict(choice) for choice in choices],
    )  # fmt: skip
    told = [*(f"note: {note}" for note in notes), *filter(None, [text_of(choices)])]
    if told and not quiet:
        print(*told, sep="\n", file=sys.stderr)
    with Record(folder, compiled, config) as record, threads(compiled, place), memory(batch):
        engine = Engine(compiled, turns, minibatches, bound, record, whole.seed, whole.updates)
        try:
            with shown(name_of(model), total, quiet) as show:
                engine.run(total, show, frozenset(_spread(total, pictures)), frozenset(_spread(total, checkpoints)))
        except KeyboardInterrupt:
            if not quiet:
                print(
                    f"interrupted after round {engine.round}; saved {engine.checkpoint or 'nothing'}", file=sys.stderr
                )
            raise
    return Run(folder, compiled, total, engine.losses, engine.seconds, given, bound)


def _verify_statistics(model: Model) -> None:
    """A batch of one has no statistics."""
    for net in model.nets.values():
        if takes_batch_statistics(net):
            raise errors.batch_of_one(net.name)


def _notes(model: Model, wanted: int, batch: int, drawn: bool) -> list[str]:
    """What the caller would not expect."""
    notes: list[str] = []
    if batch < wanted:
        notes.append(f"a batch of {wanted} is larger than the data: it is {batch}, all of them")
    if not drawn:
        notes.append(f"no law of {model.source.name} draws what its evidence gives, from noise or again: no pictures")
    return notes


def _stated(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _model(program: Program | Model | str | Path, lets: Mapping[str, str]) -> Model:
    """The model to train. Of a model already made, `lets` must make it again from its text: so a run is loaded."""
    if isinstance(program, Path) or (isinstance(program, str) and "\n" not in program and program.endswith(".jkl")):
        return load(program, lets)
    if isinstance(program, str):
        return parse(program, lets=lets)
    model = program.model if isinstance(program, Program) else program
    if parse(model.source.text, model.source.name, lets) != model:
        raise errors.lets_differ()
    return model


def _spread(total: int, count: int) -> set[int]:
    """`count` rounds, evenly spread, the last being the run's last."""
    return {total * i // count for i in range(1, count + 1)} - {0} if count else set()


class Engine:
    """The rounds of a run and what they leave: `round`, `losses`, `seconds`, `checkpoint` as they stand."""

    def __init__(
        self,
        program: Program,
        turns: Sequence[Turn],
        minibatches: Minibatches,
        data: Sequence[Bound],
        record: Record,
        seed: int,
        updates: str,
    ) -> None:
        self.play = play_together if updates == "simultaneous" else play
        self.program = program
        self.turns = turns
        self.minibatches = minibatches
        self.data = data
        self.record = record
        self.seed = seed
        self.round = 0
        self.losses: dict[str, float] = {}
        self.seconds = 0.0
        self.checkpoint: Path | None = None

    def run(self, total: int, show: Show, pictures: frozenset[int], checkpoints: frozenset[int]) -> None:
        """Rounds 1 to `total`; the last ends with a checkpoint."""
        reading = max(1, min(READ, total // 100))
        draw, snapshot, turns = self.minibatches.draw, self.program.snapshot, self.turns
        start = shown_at = time.perf_counter()  # moved on by what is no training: pictures and checkpoints
        with interrupts() as asked:
            for number in range(1, total + 1):
                self.play(number, turns, draw, snapshot)
                self.round = number
                now = time.perf_counter()
                stopped = asked.is_set()
                last = number == total or stopped
                if last or now - shown_at > SHOW:
                    show(number, self._latest(), number / (now - start))
                    shown_at = now
                if last or number % reading == 0 or number == 1 or number in checkpoints or number in pictures:
                    self.seconds = now - start
                    self._read()
                if last or number in checkpoints:
                    self._save()
                if number in pictures:
                    self._draw()
                if last or number in checkpoints or number in pictures:
                    start += time.perf_counter() - now
                if stopped:
                    raise KeyboardInterrupt
        if not total:
            self._save()

    def _latest(self) -> dict[str, float]:
        latest = {turn.phase.player: turn.last for turn in self.turns}
        return self.losses | {player: loss for player, loss in latest.items() if loss is not None}

    def _read(self) -> None:
        """Losses from the device into the record. Raises `JklError` at the first that is not finite."""
        found = [(turn, turn.read()) for turn in self.turns]
        wrong = [(number, i) for i, (_, steps) in enumerate(found) for number, loss in steps if not math.isfinite(loss)]
        if wrong:
            number, i = min(wrong)
            raise self._not_finite(found[i][0], "the loss", number)
        means = {turn.phase.player: sum(loss for _, loss in steps) / len(steps) for turn, steps in found if steps}
        self.losses |= means
        self.record.losses(self.round, self.seconds, means)

    def _save(self) -> None:
        """A checkpoint, unless a parameter is not finite: that is a `JklError`."""
        for turn in self.turns:
            if not all(bool(p.isfinite().all()) for p in turn.parameters):
                raise self._not_finite(turn, "a parameter", self.round)
        optimizers = {turn.phase.player: turn.optimizer for turn in self.turns}
        places = [feed.place for feed in self.minibatches.feeds]
        self.checkpoint = state.save(
            self.record.folder, self.program, optimizers, places,
            number=self.round, seconds=self.seconds, losses=self.losses,
        )  # fmt: skip

    def _draw(self) -> None:
        """Pictures into the record: the same noise every time, the run's own random numbers left alone."""
        gallery.keep(self.program, self.data, self.record.sample(self.round), self.seed, f"round {self.round}")

    def _not_finite(self, turn: Turn, what: str, number: int) -> Exception:
        loss = next(found for found in self.program.objective.losses if found.player == turn.phase.player)
        return errors.not_finite(loss.player, what, number, loss, self.checkpoint)
