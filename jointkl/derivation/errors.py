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


def no_critic(span: Span, densities: Sequence[str]) -> Report:
    names = " and ".join(densities)
    return Report(
        "E-CRITIC",
        f"{names} cannot be evaluated: the goal needs a density ratio, and a critic to learn it",
        span,
        "no classifier and no critic here",
        help=(
            "add a net and name it:",
            "net T = mlp(128, 128)",
            f"minimize {' '.join(span.text.split())} with critic=T",
        ),
    )


def no_partner(span: Span) -> Report:
    return Report(
        "E-RATIO",
        "a density that cannot be evaluated has no partner of opposite sign to make one ratio with",
        span,
        notes=(
            "one of the two must be sampled here, and both be over the same variables; one ratio for each `minimize`",
        ),
        help=("write the divergence between the two laws that differ as a goal of its own",),
    )


def useless_critic(span: Span, critic: str) -> Report:
    return Report(
        "E-CRITIC",
        f"the goal needs no density ratio: `{critic}` would learn nothing",
        span,
        "every density can be evaluated",
        help=(f"remove critic={critic}, and the net if nothing else uses it",),
    )


def two_ratios(span: Span, critic: str, first: Span) -> Report:
    return Report(
        "E-CRITIC",
        f"the critic `{critic}` is asked for two different ratios",
        span,
        causes=((first, "the other"),),
        help=("give each ratio a critic of its own",),
    )


def critic_size(span: Span, critic: str, needed: Sequence[str], cause: Span) -> Report:
    return Report(
        "E-CRITIC",
        f"the critic `{critic}` is used by a law as well",
        span,
        f"the ratio needs {critic}({', '.join(needed)})",
        ((cause, "declared here"),),
        help=("give the ratio a net of its own",),
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


def untrained_classifier(span: Span, player: str) -> Report:
    return Report(
        "E-CLASSIFIER",
        f"others play against the classifier {player}, and no goal trains it",
        span,
        help=(f"name it: `over .., {player.split('+')[-1]}` in the goal whose mixture it tells apart",),
    )


def undetermined_free(span: Span, text: str) -> Report:
    return Report(
        "E-FREE",
        f"a goal draws from {text}, and none determines it",
        span,
        "free, and trained by no goal",
        help=(f"name it in the goal whose optimum it is: `over .., {text}`, or leave out that goal's `over`",),
    )


def live_weight(span: Span, cause: Span, player: str) -> Report:
    return Report(
        "E-WEIGHT",
        f"the classifier that weighs this goal's terms moves with {player}",
        span,
        causes=((cause, f"{player} trains it, or what it is given"),),
        help=("say who is trained: `over` the players that the classifier does not see, and read their laws by `old`",),
    )


def no_moments(span: Span) -> Report:
    return Report(
        "E-OPTION",
        "estimate=moments compares what a path generates with a standard normal, and this goal does not",
        span,
        help=("minimize KL(a(z) || q(z)) with q(z) = Normal(0, 1)",),
    )


def importance_needs_densities(span: Span) -> Report:
    return Report(
        "E-IMPORTANCE",
        "an importance-weighted bound needs the density of everything drawn",
        span,
        "a density here cannot be evaluated",
        help=("remove `importance`, or give the laws densities",),
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
