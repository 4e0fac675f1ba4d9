"""A run that ended: its folder, its program, and samples from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from jointkl.compiler import compile, parse, read
from jointkl.derivation.resolve import normal
from jointkl.diagnostics import DataError
from jointkl.evaluation import samples
from jointkl.exports.files import Exported, export
from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.sources import Bound, bind
from jointkl.sources.keys import by_law
from jointkl.training import averages, errors, state
from jointkl.training.averages import standing_in
from jointkl.training.plan import Request
from jointkl.training.record import CONFIG, REPLICAS, SPEC


@dataclass(frozen=True, eq=False)
class Run:
    """`losses` are each player's last, `seconds` what the rounds took, pictures and checkpoints left out.

    `given` are the data that the run was given, by law; `lost` the laws whose data a run loaded again does not have;
    `notes` say what was passed over in loading it. `averages` are those of the parameters, by name, where the run keeps
    any: samples are theirs unless asked otherwise, while `program` stands at the parameters themselves.
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
        """The evidence that pictures of these variables stand before; none where it cannot be found again."""
        if all(self.program.model.space(v).kind in ("unit", "binary") for v in variables):
            return ()
        try:
            return self.data()
        except DataError:
            return ()

    def sample(
        self, size: int = 64, law: str | None = None, *, seed: int | None = None, averaged: bool = True
    ) -> dict[str, Tensor]:
        """Samples of a law, `"q(x)"`, or of what the run shows: variable -> (size, *shape), on the CPU.

        `averaged`: by the averages of the parameters, where the run keeps any, else by the parameters.
        """
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


@dataclass(frozen=True, eq=False)
class Kept:
    """What a run's folder says of it, its checkpoints left out. `files` and `given`: the laws whose data came from a
    file, with its path, and from Python."""

    folder: Path
    model: Model
    request: Request
    files: Mapping[str, str]
    given: tuple[str, ...]
    rows: int | None
    started: str
    module: str

    def data_again(self, data: Mapping[str, object] | None) -> Mapping[str, object]:
        """The data of the run, of those given from Python what is given again. Raises `DataError` for what is not."""
        found = {**self.files, **by_law(self.model, data)}
        for law in self.given:
            if law not in found:
                raise errors.data_lost(law)
        return found

    def notes(self, program: Program) -> tuple[str, ...]:
        """What going on as it was would need and does not have."""
        same = state.digest(program.source) == self.module
        return () if same else ("this version of jointkl writes another module: the run goes on, not to the same bits",)


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
    kept = kept_in(folder, allow_imports)
    program = compile(kept.model, allow_imports=allow_imports)
    if best:
        checkpoint, refused = state.best(kept.folder, kept.model.source.text), list[DataError]()
    else:
        checkpoint, refused = state.newest(kept.folder, kept.model.source.text)
    if checkpoint is None:
        raise refused[0] if refused else errors.no_checkpoint(kept.folder)
    state.restore(program, checkpoint)
    means = state.averages_of(checkpoint)
    averages.verify(checkpoint.path, means, program)
    program.data_size = kept.rows
    record = checkpoint.record
    return Run(
        kept.folder,
        program,
        record.round,
        record.losses,
        record.seconds,
        kept.files if data is None else data,
        lost=kept.given if data is None else (),
        notes=tuple(f"{error.message}: passed over" for error in refused),
        averages=means,
    )


def kept_in(folder: str | Path, allowed: Collection[str] = ()) -> Kept:
    """What a run's folder says. Raises `DataError` for a folder that is no run, or whose options are damaged."""
    folder = Path(folder)
    if (folder / REPLICAS).is_file():
        raise errors.many_runs(folder)
    for name in (SPEC, CONFIG):
        if not (folder / name).is_file():
            raise errors.no_run(folder, name)
    config = _config(folder / CONFIG)
    origins, stop = config["data"], config.get("stop") or {}
    request = Request(
        settings=config["settings"],
        lets=config["lets"],
        device=config["device"],
        ways={choice["player"]: choice["way"] for choice in config["ways"]},
        pictures=config["pictures"],
        checkpoints=config["checkpoints"],
        stop_on=stop.get("metric"),
        patience=stop.get("patience"),
        judge_every=stop.get("every"),
        allowed=tuple(allowed),
    )
    return Kept(
        folder,
        parse(read(folder / SPEC), config["spec"], request.lets),
        request,
        {law: origin["file"] for law, origin in origins.items() if "file" in origin},
        tuple(law for law, origin in origins.items() if "given" in origin),
        max((origin["rows"] for origin in origins.values()), default=None),
        config["started"],
        config["module"],
    )


Test = Callable[[Any], bool]


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _origin(value: Any) -> bool:
    return isinstance(value, dict) and type(value.get("rows")) is int and isinstance(value.get("file", ""), str)


def _origins(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_origin, value.values()))


def _ways(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(c, dict) and isinstance(c.get("player"), str) and isinstance(c.get("way"), str) for c in value
    )


def _stop(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and isinstance(value.get("metric"), str)
        and all(type(value.get(name)) is int for name in ("patience", "every"))
    )


NEEDED: Mapping[str, Test] = {
    "lets": _texts,
    "settings": _texts,
    "data": _origins,
    "ways": _ways,
    "spec": lambda value: isinstance(value, str),
    "device": lambda value: isinstance(value, str),
    "started": lambda value: isinstance(value, str),
    "module": lambda value: isinstance(value, str),
    "pictures": lambda value: type(value) is int and value >= 0,
    "checkpoints": lambda value: type(value) is int and value >= 0,
    "stop": _stop,
}
"""What loading and resuming need of a run's options."""


def _config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise errors.damaged_options(path, f"no JSON: {error}") from None
    for name, holds in NEEDED.items():
        if not isinstance(found, dict) or not holds(found.get(name)):
            raise errors.damaged_options(path, f"it has no `{name}`, or not as a run writes it")
    return found
