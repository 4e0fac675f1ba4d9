"""What a caller may say of a run, beside the spec and its data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from jointkl.training.phases import Settings
from jointkl.training.watching import errors as watching_errors

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keywords of `jointkl.train`, whose docstring says what each means."""

    steps: int | None = None
    out: str | Path | None = None
    seed: int | None = None
    device: str = "auto"
    way: str | None = None
    settings: Settings | None = None
    lets: Mapping[str, object] | None = None
    quiet: bool = False
    pictures: int = 4
    checkpoints: int = 10
    precision: str | None = None
    stop_on: str | None = None
    patience: int | None = None
    judge_every: int | None = None
    track: Sequence[str] = ()
    replicas: int | None = None
    allow_imports: Collection[str] = ()
    download: bool = False

    @property
    def stated(self) -> Settings:
        """The settings, those that have a keyword of their own among them."""
        own = {"steps": self.steps, "seed": self.seed, "precision": self.precision}
        return {**(self.settings or {}), **{name: value for name, value in own.items() if value is not None}}

    @property
    def constants(self) -> dict[str, str]:
        """The constants of the spec as their text, of a number too: so a run keeps them."""
        return {name: str(value) for name, value in (self.lets or {}).items()}

    def again(self, *, steps: int | None, device: str | None, patience: int | None) -> Options:
        """The options of a run that goes on, with these changed; `steps` replaces its length. Raises `DataError`."""
        if patience is not None and self.stop_on is None:
            raise watching_errors.not_judged()
        settings = {name: value for name, value in self.stated.items() if steps is None or name != "epochs"}
        return replace(
            self,
            settings=settings,
            steps=steps,
            device=self.device if device is None else device,
            patience=self.patience if patience is None else patience,
        )


def takes_options(function: Function) -> Function:
    """A function of `**options` whose signature, as `help` and editors show it, names them all."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    function.__dict__["__signature__"] = inspect.Signature([*own, *inspect.signature(Options).parameters.values()])
    return function
