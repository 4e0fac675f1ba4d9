"""The whole pipeline on one screen: text -> spec -> model -> derivation -> objective -> python -> program.

What only the later arrows need is imported where they start: `check` and `derive` answer in a third of a second.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jointkl.derivation.derive import Derivation, derive
from jointkl.diagnostics import DataError
from jointkl.semantics.elaborate import elaborate
from jointkl.semantics.model import Model
from jointkl.syntax.parse import parse_text

if TYPE_CHECKING:
    from jointkl.objective.ir import Objective
    from jointkl.objective.share import Passes
    from jointkl.program import Program

__all__ = ["Compiled", "compile", "compiled", "derive", "fmt", "graph", "load", "lower", "parse", "python", "stage"]


def parse(text: str, name: str = "<text>", lets: Mapping[str, str] | None = None) -> Model:
    """Text to model; `lets` overrides constants by name. Raises `JklError` with every mistake found."""
    return elaborate(parse_text(text, name), lets)


def load(path: str | Path, lets: Mapping[str, str] | None = None) -> Model:
    """The model of a spec file. Raises `JklError`, or `DataError` where the file cannot be read."""
    return parse(read(path), str(path), lets)


def model_of(source: str | Path, lets: Mapping[str, str] | None = None) -> Model:
    """The model of a path, or of a spec's text: a string of one line that ends in `.jkl` is a path."""
    if isinstance(source, Path) or ("\n" not in source and source.endswith(".jkl")):
        return load(source, lets)
    return parse(source, lets=lets)


def read(path: str | Path) -> str:
    """A spec's text. Raises `DataError` where the file is missing or no text."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8", "give a .jkl file") from None
    except OSError as error:
        why = (error.strerror or "the system refuses").lower()
        raise DataError(f"{path} cannot be read: {why}", "give the path of a .jkl file, as in models/vae.jkl") from None


def fmt(text: str, name: str = "<text>") -> str:
    """A spec's text in its one layout, every comment kept. Raises `JklError` where it does not parse."""
    from jointkl.syntax.format import format_text

    return format_text(text, name)


DRAWINGS = ("text", "dot", "mermaid", "svg")


def graph(model: Model, form: str = "text", joint: str | None = None) -> str:
    """The factor graphs of all joints, or of one by its text, drawn in a form of `DRAWINGS`. Raises `DataError`."""
    from jointkl.derivation.players import law_trainables
    from jointkl.exposition.diagram import diagrams
    from jointkl.exposition.drawings import FORMATS

    return FORMATS[form](Path(model.source.name).stem, diagrams(model, law_trainables(model), joint))


def lower(derivation: Derivation, passes: Passes | None = None) -> Objective:
    """What is computed: each player's loss as a line of nodes, work shared where nothing changes by it."""
    from jointkl.objective.lower import lower as lowered
    from jointkl.objective.share import Passes, share
    from jointkl.objective.verify import verify
    from jointkl.semantics.goals import said

    passes = passes or Passes(together=said(derivation.model, "updates") == "simultaneous")
    return share(verify(lowered(derivation), "lowering"), passes)


@dataclass(frozen=True, slots=True)
class Compiled:
    """All that a program is made of: `source` is the text of the emitted module."""

    derivation: Derivation
    objective: Objective
    source: str


def compiled(derivation: Derivation, passes: Passes | None = None, allow_imports: Collection[str] = ()) -> Compiled:
    """The rest of the way. The module imports, beside torch and pyro, only modules among `allow_imports`."""
    from jointkl.emission.python import emit

    objective = lower(derivation, passes)
    return Compiled(derivation, objective, emit(objective, derivation.text(), allow_imports))


def python(model: Model, passes: Passes | None = None, allow_imports: Collection[str] = ()) -> str:
    """The text of the emitted module."""
    return compiled(derive(model), passes, allow_imports).source


STAGES = ("ast", "model", "graph", "derivation", "objective")


def stage(name: str, path: str | Path, lets: Mapping[str, str] | None = None, passes: Passes | None = None) -> str:
    """What is known of a spec file at one of `STAGES`, printed."""
    from jointkl.listing import listing

    if name == "ast":
        return listing(parse_text(read(path), str(path)))
    model = load(path, lets)
    match name:
        case "model":
            return listing(model)
        case "graph":
            return graph(model)
        case "derivation":
            return derive(model).text()
        case "objective":
            return listing(lower(derive(model), passes))
        case _:
            raise ValueError(f"no stage is called {name}")


def compile(
    source: Model | str | Path, passes: Passes | None = None, *, allow_imports: Collection[str] = ()
) -> Program:
    """A program that computes the losses of a model, a spec's text, or a path: the emitted module, imported.

    A spec that names a net of a module of the user's own, `python("package.module:Class")`, is refused unless
    `"package.module"` is among `allow_imports`.
    """
    from jointkl.program import Program

    found = compiled(derive(source if isinstance(source, Model) else model_of(source)), passes, allow_imports)
    return Program(found.derivation, found.objective, found.source)
