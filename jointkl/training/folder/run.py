"""A run that ended: its folder, its program, and samples from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from jointkl import disk
from jointkl.compiler import compile
from jointkl.derivation.resolve import normal
from jointkl.diagnostics import DataError
from jointkl.evaluation import judge, samples, verdict
from jointkl.evaluation.features import Features
from jointkl.evaluation.held_out import held_out
from jointkl.exports.files import Exported, export
from jointkl.program import Program
from jointkl.sources import Bound, bind
from jointkl.sources.keys import by_law
from jointkl.training import averages
from jointkl.training.averages import standing_in
from jointkl.training.folder import checkpoints, errors
from jointkl.training.folder.config import read_from, saved_in, verify_files
from jointkl.training.machine import memory

EVALUATION = "eval.json"


@dataclass(frozen=True, eq=False)
class Run:
    """`losses` are each player's last, `seconds` what the rounds took, pictures and checkpoints left out.

    `given` are the data that the run was given, by law; `lost` the laws whose data a run loaded again does not have;
    `notes` say what was passed over in loading it. `averages` are those of the parameters, by name, where the run keeps
    any: samples are drawn from them unless asked otherwise, while `program` has the parameters themselves.
    """

    folder: Path
    program: Program = field(repr=False)
    rounds: int
    losses: Mapping[str, float]
    seconds: float
    given: Mapping[str, object] = field(default_factory=dict, repr=False)
    bound: tuple[Bound, ...] | None = field(default=None, repr=False)
    lost: tuple[str, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)
    averages: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    @contextmanager
    def averaged(self, averaged: bool = True) -> Iterator[Program]:
        """The program with its averages in the place of their parameters, if it has any and they are wanted."""
        with standing_in(self.program, self.averages if averaged else {}):
            yield self.program

    def data(self) -> tuple[Bound, ...]:
        """The evidence of the run. Raises `DataError` where it cannot be found again."""
        for law in self.lost:
            raise errors.data_lost(law)
        return bind(self.program.model, self.given) if self.bound is None else self.bound

    def background(self, variables: Iterable[str]) -> tuple[Bound, ...]:
        """The evidence shown behind pictures of these variables; none where it cannot be found again."""
        if all(self.program.model.space(v).kind in ("unit", "binary") for v in variables):
            return ()
        try:
            with memory():
                return self.data()
        except DataError:
            return ()

    def sample(
        self, size: int = 64, law: str | None = None, *, seed: int | None = None, averaged: bool = True
    ) -> dict[str, Tensor]:
        """Samples of a law, `"q(x)"`, or of what the run shows: variable -> (size, *shape), on the CPU.

        `averaged`: by the averages of the parameters, where the run keeps any, else by the parameters.
        """
        with memory():
            data = self.data() if samples.needs_data(self.program, law) else ()
            with self.averaged(averaged) as program:
                return samples.draw(program, law, size, seed=seed, data=data)

    def export(
        self,
        path: str | Path | None = None,
        law: str | None = None,
        *,
        noise: Literal["given", "drawn"] = "given",
        averaged: bool = True,
    ) -> Exported:
        """Write the sampler of a law, or of what the run shows, to a `.pt2` file that needs torch alone, or to `.onnx`;
        by default into the run's folder. `noise`: as `jointkl.exports.files.export` takes it; `averaged`: as in
        `sample`. Raises `DataError`."""
        text = law or samples.default(self.program).text
        with self.averaged(averaged) as program:
            return export(program, path or self.folder / f"{normal(text)}.pt2", text, noise=noise)

    def evaluate(
        self,
        metrics: Collection[str] | None = None,
        *,
        samples: int = judge.SAMPLES,
        particles: int = judge.PARTICLES,
        seed: int = 0,
        split: str | None = None,
        data: Mapping[str, object] | None = None,
        features: Features | None = None,
        download: bool = False,
        averaged: bool = True,
        save: bool = True,
    ) -> judge.Evaluation:
        """The run judged by metrics of `jointkl.evaluation.metrics.METRICS`, by default all that apply, against
        held-out rows: `data`, by law, else the `split` of its sources, else what `held_out` finds; a split that is not
        there is fetched with `download` alone. `averaged` as in `sample`. `save` keeps it in the run's `eval.json`.

        Raises `DataError` for a metric that is unknown, does not apply or fails, where no metric applies, and where the
        rows of training were given from Python and none stand in `data`.
        """
        given = by_law(self.program.model, data)
        for law in self.lost:
            if law not in given:
                raise errors.data_lost(law)
        used = averaged and bool(self.averages)
        with memory(), self.averaged(averaged) as program:
            found = judge.evaluate(
                program,
                held_out(program.model, self.given, given, split, download),
                metrics,
                train=() if self.lost else self.data(),
                samples=samples,
                particles=particles,
                seed=seed,
                features=features,
                given={*by_law(program.model, self.given), *given},
            )
        if save:
            disk.write(self.folder / EVALUATION, verdict.document(found, round=self.rounds, averaged=used))
        return found


def load_run(
    folder: str | Path,
    data: Mapping[str, object] | None = None,
    *,
    best: bool = False,
    allow_imports: Collection[str] = (),
) -> Run:
    """The run in a folder, at its newest whole checkpoint, or at the `best` of one that was judged, on the CPU.

    Its spec is compiled again; the module in the folder is never executed, and what the spec imports must be allowed
    anew by `allow_imports`, as `compile` takes them. `data` replaces what the run was trained on.
    Raises `DataError` for a folder that is no run, or none of whose checkpoints is whole and of its spec.
    """
    kept = saved_in(folder, allow_imports)
    if data is None:
        verify_files(kept.files)
    with memory():
        program = compile(kept.model, allow_imports=allow_imports)
        checkpoint, refused = (checkpoints.best if best else checkpoints.newest)(kept.folder, program)
    if checkpoint is None:
        raise refused[0] if refused else errors.no_checkpoint(kept.folder)
    checkpoints.restore(program, checkpoint)
    means = checkpoints.averages_of(checkpoint)
    averages.verify(checkpoint.path, means, program)
    program.data_sizes = kept.counts
    record = checkpoint.record
    return Run(
        kept.folder,
        program,
        record.round,
        record.losses,
        record.seconds,
        kept.files if data is None else data,
        lost=kept.given if data is None else (),
        notes=(
            *(f"{error.message}: passed over" for error in refused),
            *(read_from(kept.model, kept.files) if data is None else ()),
        ),
        averages=means,
    )
