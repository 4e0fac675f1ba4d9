"""Refusals of the derivation: one named constructor each, span first."""

from __future__ import annotations

from collections.abc import Sequence

from jointkl.diagnostics import Report, Span
from jointkl.semantics.errors import not_yet

__all__ = ["not_yet"]


def too_many_paths(span: Span, limit: int) -> Report:
    return Report(
        "E-JOINT", f"the mixtures open into more than {limit} paths", span, help=("use fewer mixtures in one product",)
    )


def labelled_factor(span: Span, text: str) -> Report:
    return not_yet(span, f"the labelled mixture {text} as a factor of another joint")


def unused(span: Span, what: str, name: str) -> Report:
    return Report(
        "E-UNUSED",
        f"the {what} `{name}` stands in no path and no density of any goal",
        span,
        "never trained",
        help=("put the law that uses it into a joint of a goal, or remove it",),
    )


def residual(span: Span, density: str, player: str, cause: Span | None, why: str, law: str) -> Report:
    """Rule 10, RESIDUAL: the reference density moves and cannot be evaluated."""
    return Report(
        "E-RESIDUAL",
        "the reference density moves and cannot be evaluated",
        span,
        f"contains {density}, which {player} trains",
        ((cause, why),) if cause else (),
        notes=(f"without this term the gradient of {player} would miss -E[grad log {density}]",),
        help=(
            f"give it a density, Delta(.., density=Normal(1)), or let {player} play the classifier's own value",
            f"{law} with game=minimax",
        ),
    )


def blind_classifier(span: Span, classifier: str, sees: Sequence[str], differs: Sequence[str], cause: Span) -> Report:
    missing = [v for v in differs if v not in sees]
    return Report(
        "E-CLASSIFIER",
        f"the classifier {classifier} does not see what differs between the branches",
        span,
        f"the branches differ in {', '.join(differs)}",
        ((cause, f"sees {', '.join(sees) or 'nothing'}"),),
        notes=("its optimum is the ratio of the branches only if it is given every variable they differ in",),
        help=(f"give it {', '.join(missing)} as well",),
    )


def no_multiplier(span: Span, densities: Sequence[str]) -> Report:
    return Report(
        "E-DENSITY",
        f"no density of {', '.join(densities)} can be evaluated, and the classifier's optimum does not replace them",
        span,
        help=("compare the branches with the joint that the classifier is multiplied to, as in data(x) * p(y|x)",),
    )


def marginal_over_global(span: Span, variable: str, cause: Span) -> Report:
    return Report(
        "E-GLOBAL",
        f"the density of a marginal over the global `{variable}` is not evaluated",
        span,
        causes=((cause, "one value for the whole data set"),),
        help=(f"keep {variable} in the heads of both joints",),
    )


def game_without_classifier(span: Span) -> Report:
    return Report(
        "E-GAME",
        "`game` needs a classifier, and this goal has none",
        span,
        help=("minimize KL between a labelled mixture and a joint with a law c(y|x) of the label",),
    )


def negative_classifier(span: Span, classifier: str) -> Report:
    return Report(
        "E-GAME",
        f"a negative weight would train the classifier {classifier} to be wrong",
        span,
        help=("use a positive weight, or game=minimax for a player that works against it",),
    )


def two_mixtures(span: Span, classifier: str, first: Span) -> Report:
    return Report(
        "E-CLASSIFIER",
        f"the classifier {classifier} is trained by two different mixtures",
        span,
        causes=((first, "the other"),),
        notes=("its optimum would be the ratio of neither",),
        help=("give each mixture a classifier of its own",),
    )


def no_closed_proximal(span: Span, law: str, cause: Span) -> Report:
    return Report(
        "E-PROXIMAL",
        f"KL[{law} || old] has no closed form",
        span,
        causes=((cause, "this law"),),
        help=("proximal=dirac(lam) for a Delta, or proximal=none",),
    )


def drops_nothing(span: Span, law: str) -> Report:
    return Report("E-OPTION", f"drop={law}: this goal has no residual of {law}", span, help=("remove the option",))


def dropped(span: Span, density: str, player: str) -> Report:
    return Report(
        "W-DROP",
        f"the residual of {density} is left out: the gradient of {player} is biased",
        span,
        f"the missing term is -E[log {density}] at detached samples",
        notes=(
            f"without it {player} has the gradient of minus the Jensen-Shannon divergence through {density}: it helps"
            " the classifier",
        ),
        help=("remove `drop`, or use game=nonsaturating",),
        severity="warning",
    )


def inert_proximal(span: Span, player: str) -> Report:
    return Report(
        "W-INERT",
        f"the distance to the old copy has no gradient on the first step of {player} after a snapshot",
        span,
        "one step a round: it never acts",
        help=(f"train {player}(repeat=2)",),
        severity="warning",
    )


def no_loss(span: Span, player: str) -> Report:
    return Report(
        "W-NO-LOSS", f"no term of any goal moves the player {player}", span, "it is not trained", severity="warning"
    )
