"""What is reported of a run that is no longer finite, and what its folder keeps."""

from __future__ import annotations

import sys
from pathlib import Path

from jointkl.diagnostics import DataError, JklError
from jointkl.training.engine import Engine
from jointkl.training.nonfinite import errors, failure
from jointkl.training.nonfinite.check import GRADIENT, LOSS, NotFinite
from jointkl.training.nonfinite.replay import Finding, examine, replay
from jointkl.training.speed.autotune import first_line


def explained(engine: Engine, folder: Path, noticed: NotFinite, quiet: bool = False) -> Exception:
    """The first step that was not finite, found by taking the rounds since the newest checkpoint again, and kept in the
    run's folder; where it is not met again, what was noticed. The engine is then done with."""
    if engine.checkpoint is not None and not quiet:
        since = int(engine.checkpoint.stem)
        print(f"{noticed}: the rounds since {since} again, to find the step where it began", file=sys.stderr)
    rounding = "a GPU rounds otherwise each time, or " if engine.plan.device.type == "cuda" else ""
    finding, why = None, f"taken again from there, every step is finite: {rounding}what it hangs on is in no checkpoint"
    try:
        if (found := replay(engine, max(engine.round, noticed.number))) is not None:
            finding = examine(engine.program, found)
    except KeyboardInterrupt:
        why = "the step where it began was not looked for to the end: interrupted"
    except Exception as error:  # of any kind, also from a network of the user's own: what was noticed is still reported
        why = f"the step where it began was not found: {type(error).__name__}: {first_line(error)}"
    if finding is None and noticed.cause:
        return errors.refused_parameters(noticed.number, noticed.cause)
    if finding is None:
        loss = next(loss for loss in engine.program.objective.losses if loss.player == noticed.player)
        notes = (why,) if engine.checkpoint else ()
        return errors.not_finite(loss, noticed.what, noticed.number, engine.checkpoint, notes=notes)
    return _report(engine, folder, finding)


SAID = {LOSS: "{} is {:g}", GRADIENT: "{} is {:g}, its gradient is not finite"}


def _report(engine: Engine, folder: Path, finding: Finding) -> JklError:
    found = finding.found
    labels = [(row.term, SAID[found.what].format(row.term.text, row.value)) for row in finding.terms if row.guilty]
    notes = [f"its loss is {found.loss:g}"] if found.what != LOSS else []
    notes += [f"the first of its parameters where that is so is {found.parameter}"] if found.parameter else []
    try:
        kept = failure.write(folder, engine.program, finding, engine.plan.precision)
        notes.append(f"the batch, the noise and the parameters of that step are in {kept}")
        notes.append(f'to look at them: jointkl.load_failure("{folder}")')
    except DataError as error:
        notes.append(f"the step is not kept: {error.message}")
    loss = next(loss for loss in engine.program.objective.losses if loss.player == found.player)
    value = f": {found.loss:g}" if found.what == LOSS else ""
    return errors.not_finite(loss, found.what, found.number, engine.checkpoint, value=value, labels=labels, notes=notes)
