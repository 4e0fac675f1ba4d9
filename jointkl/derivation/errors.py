"""Refusals of the derivation: one named constructor each, span first."""

from __future__ import annotations

from collections.abc import Sequence

from jointkl.derivation.parts import Density, Line
from jointkl.derivation.players import Player
from jointkl.derivation.showing import as_text
from jointkl.diagnostics import Report, Span
from jointkl.semantics.model import Factor, law_text
from jointkl.semantics.wording import joined


def not_yet(span: Span, what: str, help: str = "leave it out for now") -> Report:
    return Report("E-NOT-YET", f"not derived yet: {what}", span, "read, checked, and refused for now", help=(help,))


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


# --- classifiers and critics


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


def no_critic(span: Span, densities: Sequence[str], lines: Sequence[str]) -> Report:
    """`lines` declare a net and name it in the goal."""
    return Report(
        "E-CRITIC",
        f"{joined(densities)} cannot be evaluated: the goal needs a density ratio, and a critic to learn it",
        span,
        "no classifier and no critic here",
        help=("add a net and name it:", *lines),
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


def useless_critic(span: Span, critic: str, unknown: Sequence[str], line: str) -> Report:
    """`unknown` are the densities that cannot be evaluated, and that nobody moves whom the goal trains."""
    return Report(
        "E-CRITIC",
        f"the goal needs no density ratio: `{critic}` would learn nothing",
        span,
        f"nobody that the goal trains moves {joined(unknown)}" if unknown else "every density can be evaluated",
        help=("leave it out, and the net if nothing else uses it:", line),
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


def blind_critic(span: Span, critic: str, sees: Sequence[str], needed: Sequence[str]) -> Report:
    return Report(
        "E-CRITIC",
        f"the critic `{critic}` must see the variables of the ratio: {', '.join(needed)}",
        span,
        f"sees {', '.join(sees) or 'none'}",
        help=(f"critic={critic}({', '.join(needed)}), or of values made of them",),
    )


def free_beside(span: Span, law: Factor, unseen: Sequence[str]) -> Report:
    """The rule FREE: the expectation over what it does not see stands inside its softmax."""
    written = law_text(law.label, law.outputs, (*law.givens, *unseen))
    old = law_text(law.label, law.outputs, law.givens)
    beside = ", ".join(unseen)
    return Report(
        "E-FREE",
        f"the best {old} is a softmax of an expectation over {beside}, which it does not see",
        span,
        "the expectation is not computed in closed form, and by draws the softmax would be biased",
        help=(
            f"write {written} for {old}, wherever it stands: it may then depend on {beside}",
            f"or give {old} a network, {old} = Categorical(..), which is trained by gradients",
        ),
    )


def many_labels(span: Span, label: str, count: int, densities: Sequence[str], lines: Sequence[str]) -> Report:
    return Report(
        "E-CLASSIFIER",
        f"the optimum of a classifier replaces densities between two branches, and `{label}` has {count}",
        span,
        f"{joined(densities)} cannot be evaluated",
        help=("compare two branches at a time, or let the others play the classifier's own value", *lines),
    )


def told_apart_global(span: Span, what: str, variable: str, cause: Span) -> Report:
    """`what` is the classifier or critic that would see the global."""
    return Report(
        "E-GLOBAL",
        f"{what} cannot learn from the global `{variable}`",
        span,
        "one draw a step is no sample to tell apart",
        ((cause, "one value for the whole data set"),),
        help=(f"give {variable} laws with densities and no label, or declare it without `global`",),
    )


def untrained_classifier(span: Span, player: str, line: str) -> Report:
    return Report(
        "E-CLASSIFIER",
        f"others play against the classifier {player}, and no goal trains it",
        span,
        "trained by none",
        help=("name it in the goal whose mixture it tells apart:", line),
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
        "estimate=moments compares what one path generates with a standard normal, and this goal does not",
        span,
        help=("minimize KL(a(z) || q(z)), a(z) a product and q(z) = Normal(0, 1)",),
    )


def score_of_dirac(span: Span, law: str, cause: Span) -> Report:
    """`law` is a Dirac that moves what the goal measures, and nothing behind it is drawn."""
    return Report(
        "E-OPTION",
        f"estimate=score needs a density of what is drawn, and {law} is a Dirac",
        span,
        causes=((cause, f"{law} is a Dirac"),),
        help=("leave it out: a Dirac's gradient goes through its value", "or give the law noise: Normal(.., 0.1)"),
    )


def importance_needs_densities(
    span: Span, densities: Sequence[str], cause: Span | None, lines: Sequence[str]
) -> Report:
    """`lines` are the goal without copies, with a critic for the ratio."""
    return Report(
        "E-IMPORTANCE",
        "an importance-weighted bound needs the density of everything drawn",
        span,
        f"{joined(densities)} cannot be evaluated",
        ((cause, "this law"),) if cause else (),
        help=("give its law a density, or learn the ratio in place of the bound:", *lines),
    )


def weighed_score(span: Span, density: str, player: str, cause: Span | None, line: str) -> Report:
    return Report(
        "E-IMPORTANCE",
        f"an importance-weighted bound weighs the score of {density}, which cannot be evaluated",
        span,
        f"the copies of what {player} draws have different weights",
        ((cause, "this law"),) if cause else (),
        notes=("under the density itself the average of its score is zero; under weights it is not",),
        help=("leave `importance` out, or play the flipped labels, with the classifier's own weights:", line),
    )


def importance_mixture(span: Span, mixture: str, cause: Span) -> Report:
    return Report(
        "E-IMPORTANCE",
        f"an importance-weighted bound draws its copies by one product of laws, and {mixture} is a hidden mixture",
        span,
        causes=((cause, "drawn by one of its branches"),),
        help=("put one of its laws in its place",),
    )


def idle_option(span: Span, name: str, why: str, line: str) -> Report:
    """A warning: an option that changes nothing of its goal. `line` is the goal without it."""
    said = (f"`{name}` changes nothing of this goal: {why}",)
    return _warning("W-IDLE", said, span, "idle", help=("leave it out:", line))


def solved_twice(span: Span, law: str, first: Span) -> Report:
    return Report(
        "E-FREE",
        f"two terms determine {law}, and its softmax is of one",
        span,
        "the second",
        ((first, "the first"),),
        help=(f"let `over` name {law} in one goal and leave it out of the other",),
    )


def free_without_entropy(span: Span, law: str, cause: Span) -> Report:
    return Report(
        "E-FREE",
        f"the best {law} is a softmax only beside its own entropy, E[log {law}] with a positive weight",
        span,
        "this term has it not",
        ((cause, "solved in closed form"),),
        help=(f"minimize a KL with {law} on the left, and let `over` name the others in every other goal",),
    )


# --- penalties


def penalty_without_classifier(span: Span, law: str, cause: Span) -> Report:
    return Report(
        "E-PENALTY",
        f"R1 keeps a classifier smooth, and {law} is the classifier of no goal",
        span,
        causes=((cause, "this law"),),
        help=(f"minimize KL between a labelled mixture and a joint times {law}, or leave R1 out",),
    )


def penalty_of_many(span: Span, law: str, label: str, count: int, cause: Span) -> Report:
    return Report(
        "E-PENALTY",
        f"R1 is the gradient of a classifier's logit, and {law} tells {count} labels apart by {count} of them",
        span,
        causes=((cause, f"the label `{label}`"),),
        help=(f"declare var {label}: {{0, 1}}, or leave R1 out",),
    )


def penalty_for_others(span: Span, law: str, player: str, line: str) -> Report:
    return Report(
        "E-PENALTY",
        f"R1 trains the classifier {law} alone, and this goal's `over` does not name it",
        span,
        f"trains {player} alone",
        help=(f"name {player}, or leave R1 out:", line),
    )


# --- games


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


def no_closed_proximal(span: Span, law: str, cause: Span, line: str) -> Report:
    return Report(
        "E-PROXIMAL",
        f"KL[{law} || old] has no closed form",
        span,
        "to be kept in closed form",
        ((cause, "this law"),),
        help=("drop it, or for a Delta keep the distance to its old value, proximal=dirac(1):", line),
    )


def drops_nothing(span: Span, law: str, line: str) -> Report:
    return Report(
        "E-OPTION", f"drop={law}: this goal has no residual of {law}", span, "idle", help=("leave it out:", line)
    )


def dropped(span: Span, density: Density, player: Player, line: str) -> Report:
    name = as_text(density)
    return _warning(
        "W-DROP",
        ("the residual of ", density, " is left out: the gradient of ", player, " is biased"),
        span,
        f"the missing term is -E[log {name}] at detached samples",
        notes=(
            f"without it {player.name} has the gradient of minus the Jensen-Shannon divergence through {name}: it helps"
            " the classifier",
        ),
        help=("leave `drop` out, or put game=nonsaturating in its place:", line),
    )


def inert_proximal(span: Span, player: Player) -> Report:
    return _warning(
        "W-INERT",
        ("the distance to the old copy has no gradient on the first step of ", player, " after a snapshot"),
        span,
        "one step a round: it never acts",
        help=(f"train {player.name}(repeat=2)",),
    )


def no_loss(span: Span, player: Player) -> Report:
    return _warning(
        "W-NO-LOSS",
        ("no term of any goal moves the player ", player),
        span,
        "it is not trained",
        help=("name it in the `over` of a goal that its laws stand in, or leave it out",),
    )


def _warning(
    code: str, said: Line, span: Span, label: str, *, notes: tuple[str, ...] = (), help: tuple[str, ...] = ()
) -> Report:
    return Report(code, as_text(*said), span, label, notes=notes, help=help, severity="warning", said=said)
