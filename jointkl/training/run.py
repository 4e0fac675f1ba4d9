"""A run that ended: its folder, its program, and samples from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from jointkl.compiler import compile, load
from jointkl.diagnostics import DataError
from jointkl.evaluation import judge, samples, verdict
from jointkl.evaluation.features import Features
from jointkl.evaluation.held_out import held_out
from jointkl.program import Program
from jointkl.sources import Bound, bind
from jointkl.sources.keys import by_law
from jointkl.training import errors, state
from jointkl.training.record import CONFIG, SPEC

EVALUATION = "eval.json"


@dataclass(frozen=True, eq=False)
class Run:
    """`losses` are each player's last, `seconds` what the rounds took, pictures and checkpoints left out.

    `given` are the data that the run was given, by law; `lost` the laws whose data a run loaded again does not have.
    """

    folder: Path
    program: Program = field(repr=False)
    rounds: int
    losses: Mapping[str, float]
    seconds: float
    given: Mapping[str, object] = field(default_factory=dict, repr=False)
    bound: tuple[Bound, ...] | None = field(default=None, repr=False)
    lost: tuple[str, ...] = field(default=(), repr=False)

    def data(self) -> tuple[Bound, ...]:
        """The evidence of the run. Raises `DataError` where it cannot be found again."""
        for law in self.lost:
            raise errors.data_lost(law)
        return bind(self.program.model, self.given) if self.bound is None else self.bound

    def background(self, variables: Iterable[str]) -> tuple[Bound, ...]:
        """The evidence that pictures of these variables stand before; none where it cannot be found again."""
        if all(self.program.model.space(v).kind in ("unit", "binary") for v in variables):
            return ()
        try:
            return self.data()
        except DataError:
            return ()

    def sample(self, size: int = 64, law: str | None = None, *, seed: int | None = None) -> dict[str, Tensor]:
        """Samples of a law, `"q(x)"`, or of what the run shows: variable -> (size, *shape), on the CPU."""
        data = self.data() if samples.needs_data(self.program, law) else ()
        return samples.draw(self.program, law, size, seed=seed, data=data)

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
        save: bool = True,
    ) -> judge.Evaluation:
        """The run judged by metrics of `jointkl.evaluation.metrics.METRICS`, by default all that apply, against
        held-out rows: `data`, by law, else the `split` of its sources, else what `held_out` finds. `save` keeps it in
        the run's `eval.json`.

        Raises `DataError` for a metric that is unknown, does not apply or fails, where no metric applies, and where the
        rows of training were given from Python and none stand in `data`.
        """
        given = by_law(self.program.model, data)
        for law in self.lost:
            if law not in given:
                raise errors.data_lost(law)
        rows = held_out(self.program.model, self.given, data, split)
        found = judge.evaluate(
            self.program,
            rows,
            metrics,
            train=() if self.lost else self.data(),
            samples=samples,
            particles=particles,
            seed=seed,
            features=features,
            given={*by_law(self.program.model, self.given), *given},
        )
        if save:
            state.write(self.folder / EVALUATION, verdict.document(found, round=self.rounds))
        return found


def load_run(
    folder: str | Path, data: Mapping[str, object] | None = None, *, allow_imports: Collection[str] = ()
) -> Run:
    """The run in a folder, at its newest checkpoint, on the CPU.

    Its spec is compiled again; the module in the folder is never executed, and what the spec imports must be allowed
    anew by `allow_imports`, as `compile` takes them. `data` replaces what the run was trained on.
    Raises `DataError` for a folder that is no run, or a checkpoint that is missing, damaged or of another spec.
    """
    folder = Path(folder)
    for name in (SPEC, CONFIG):
        if not (folder / name).is_file():
            raise errors.no_run(folder, name)
    config = _config(folder / CONFIG)
    program = compile(load(folder / SPEC, config["lets"]), allow_imports=allow_imports)
    found = state.checkpoints(folder)
    if not found:
        raise errors.no_checkpoint(folder)
    record, tensors = state.load(found[-1], program.model.source.text)
    state.restore(program, tensors, found[-1])
    origins = config["data"]
    files = {law: origin["file"] for law, origin in origins.items() if "file" in origin}
    lost = tuple(law for law, origin in origins.items() if "given" in origin and data is None)
    given = files if data is None else data
    program.data_size = max((origin["rows"] for origin in origins.values()), default=None)
    return Run(folder, program, record.round, record.losses, record.seconds, given, lost=lost)


def _config(path: Path) -> dict[str, Any]:
    """What loading needs of a run's options: `lets`, text by name, and `data`, for each law its origin and its rows."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise errors.damaged_options(path, f"no JSON: {error}") from None
    lets, data = (found.get(name) if isinstance(found, dict) else None for name in ("lets", "data"))
    if not isinstance(lets, dict) or not all(isinstance(value, str) for value in lets.values()):
        raise errors.damaged_options(path, "it has no `lets`")
    if not isinstance(data, dict) or not all(isinstance(o, dict) and type(o.get("rows")) is int for o in data.values()):
        raise errors.damaged_options(path, "it has no `data`")
    return {"lets": lets, "data": data}
