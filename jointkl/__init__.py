"""jointkl: a language and compiler for generative models.

    model = jointkl.load("models/vae.jkl")      # or jointkl.parse(text)
    print(jointkl.derive(model).text())         # every player's loss, derived
    program = jointkl.compile(model)            # a torch.nn.Module
    run = jointkl.train(program, steps=1000, out="runs/vae")

Importing jointkl imports no torch; `compile` and `train` do when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jointkl.compiler import compile, derive, fmt, graph, load, lower, parse, python
from jointkl.derivation.derive import Derivation
from jointkl.diagnostics import DataError, JklError
from jointkl.semantics.model import Model

if TYPE_CHECKING:
    from jointkl.objective.share import Passes
    from jointkl.program import Program
    from jointkl.training.loop import Rehearsal, Run, dry_run, resume, train
    from jointkl.training.nonfinite.failure import load_failure
    from jointkl.training.seeds.replicas import Replicas

__all__ = [
    "DataError",
    "Derivation",
    "JklError",
    "Model",
    "Passes",
    "Program",
    "Rehearsal",
    "Replicas",
    "Run",
    "compile",
    "derive",
    "dry_run",
    "fmt",
    "graph",
    "load",
    "load_failure",
    "lower",
    "parse",
    "python",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """What needs torch, and `Passes`, which needs what comes after the derivation: imported when asked for."""
    match name:
        case "Passes":
            from jointkl.objective.share import Passes

            return Passes
        case "Program":
            from jointkl.program import Program

            return Program
        case "Replicas":
            from jointkl.training.seeds.replicas import Replicas

            return Replicas
        case "Rehearsal" | "Run" | "dry_run" | "resume" | "train":
            from jointkl.training import loop

            return getattr(loop, name)
        case "load_failure":
            from jointkl.training.nonfinite.failure import load_failure

            return load_failure
        case _:
            raise AttributeError(f"module 'jointkl' has no attribute {name!r}")
