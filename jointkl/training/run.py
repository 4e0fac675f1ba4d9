"""A run that ended: its folder, its program, and samples from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from jointkl.compiler import compile, parse, read
from jointkl.diagnostics import DataError
from jointkl.evaluation import samples
from jointkl.program import Program
from jointkl.semantics.model import Model
from jointkl.sources import Bound, bind
from jointkl.sources.keys import by_law
from jointkl.training import errors, state
from jointkl.training.plan import Request
from jointkl.training.record import CONFIG, REPLICAS, SPEC


@dataclass(frozen=True, eq=False)
class Run:
    """`losses` are each player's last, `seconds` what the rounds took, pictures and checkpoints left out.

    `given` are the data that the run was given, by law; `lost` the laws whose data a run loaded again does not have;
    `notes` say what was passed over in loading it.
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
    folder: str | Path, data: Mapping[str, object] | None = None, *, allow_imports: Collection[str] = ()
) -> Run:
    """The run in a folder, at its newest whole checkpoint, on the CPU.

    Its spec is compiled again; the module in the folder is never executed, and what the spec imports must be allowed
    anew by `allow_imports`, as `compile` takes them. `data` replaces what the run was trained on.
    Raises `DataError` for a folder that is no run, or none of whose checkpoints is whole and of its spec.
    """
    kept = kept_in(folder, allow_imports)
    program = compile(kept.model, allow_imports=allow_imports)
    checkpoint, refused = state.newest(kept.folder, kept.model.source.text)
    if checkpoint is None:
        raise refused[0] if refused else errors.no_checkpoint(kept.folder)
    state.restore(program, checkpoint)
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
    origins = config["data"]
    request = Request(
        settings=config["settings"],
        lets=config["lets"],
        device=config["device"],
        ways={choice["player"]: choice["way"] for choice in config["ways"]},
        pictures=config["pictures"],
        checkpoints=config["checkpoints"],
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
