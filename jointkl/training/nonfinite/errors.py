"""What is reported of a run that is no longer finite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jointkl.diagnostics import DataError, JklError, Report, Span
from jointkl.objective.ir import Loss, Term
from jointkl.training.folder.errors import checkpoint_kept

UNTRAINED = ("nothing was trained before: the formula, or the data it is given, must be finite",)
TRAINED = ("a smaller learning rate or a bound on the gradient often mends it", "--set lr=1e-4 --set clip=1")


def refused_parameters(number: int, error: Exception, size: int = 1) -> DataError:
    """By a distribution of torch; of one process where the step at which that began was not found."""
    alone = ("one is at the bound of its range, as a scale of 0 is, or is no number", *TRAINED)
    several = ("go on with one process, by jointkl resume, to see which term of which loss it is",)
    why = str(error).strip().splitlines()[0]
    return DataError(
        f"in round {number} a distribution refused its parameters: {why}", *(alone if size == 1 else several)
    )


def not_finite(
    loss: Loss,
    what: str,
    number: int,
    checkpoint: Path | None,
    *,
    value: str = "",
    labels: Sequence[tuple[Term, str]] = (),
    notes: Sequence[str] = (),
) -> JklError:
    """`what` became infinite or no number in round `number`: points at the terms of the player's loss, or at those that
    were found guilty, with what is said of each."""
    places: dict[tuple[int, int], tuple[Span, list[str]]] = {}
    for term, said in sorted(labels or [(t, t.text) for t in loss.terms], key=lambda row: row[0].span.start):
        places.setdefault((term.span.start, term.span.end), (term.span, []))[1].append(said)
    lead = "" if labels else "in its loss: "
    (span, label), *others = [(span, f"{lead}{', '.join(texts)}") for span, texts in places.values()]
    return JklError(
        Report(
            "E-NOT-FINITE",
            f"{what} of player {loss.player} is not finite in round {number}{value}",
            span,
            label,
            causes=tuple(others),
            notes=(
                f"the loss of {loss.player} is {' '.join(loss.formula)}",
                *notes,
                checkpoint_kept(checkpoint, "last good"),
            ),
            help=UNTRAINED if labels and number == 1 else TRAINED,
        )
    )
