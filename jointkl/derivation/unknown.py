"""A density that is needed and that nobody can evaluate: why, and what the spec could say instead."""

from __future__ import annotations

from collections.abc import Sequence

from jointkl.derivation import density_errors, errors
from jointkl.derivation.expr import Atom, Expectation, Labelled, LogFactor, LogMarginal, Term
from jointkl.derivation.facts import Facts, factors_of
from jointkl.derivation.parts import Density
from jointkl.derivation.players import Player, classifier
from jointkl.derivation.showing import as_text
from jointkl.derivation.suggestions import (
    critic_lines,
    dirac,
    free_name,
    goal_line,
    noisy,
    plain,
    reversed_line,
    with_density,
)
from jointkl.diagnostics import Report
from jointkl.semantics.families import FAMILIES, covers
from jointkl.semantics.goals import factor_text
from jointkl.semantics.joints import generated
from jointkl.semantics.model import Divergence, Goal
from jointkl.semantics.wording import joined


def moving(
    facts: Facts, goal: Goal, term: Divergence, entries: Sequence[Expectation], player: Player, t: Term
) -> Report:
    """A density that moves with `player` and that nobody can evaluate: what is there to do instead."""
    model = facts.model
    name = names([t])[0]
    moved = next((f for f in factors_of(t.atom) if facts.owns(player, f)), None)
    law = model.laws[moved.law] if moved else None
    point = dirac(model, moved) if moved else None
    why = "a Dirac: its density has no value at a point" if point else "its hidden variables are integrated out"
    cause = law.span if law else None
    labelled = classifier(model, term) is not None
    if all(not facts.live(player, e.path) for e in entries):
        critic = goal.options.critic[0] if goal.options.critic else free_name(model)
        line = None if labelled else reversed_line(model, goal, term, f"critic={critic}")
        new = () if goal.options.critic else (f"net {critic} = mlp(128, 128)",)
        lines = (*new, line) if line else ()
        return density_errors.only_in_density(term.span, name, player.name, cause, why, term.left.text, lines)
    sign = "-" if t.coefficient < 0 else ""
    size = "" if abs(t.coefficient) == 1 else f"{float(abs(t.coefficient)):g} "
    missing = f"{sign}{size}E[grad log {name}]"
    alone = with_density(point) if point and isinstance(t.atom, LogFactor) else None
    return density_errors.residual(
        term.span,
        name,
        player.name,
        cause,
        why,
        _residual_help(facts, goal, player, t, alone, labelled),
        missing=missing,
    )


def _residual_help(
    facts: Facts, goal: Goal, player: Player, t: Term, density: str | None, labelled: bool
) -> tuple[str, ...]:
    game = f"let {player.name} play the classifier's own value"
    line = goal_line(facts.model, goal, "game=minimax", without=("proximal", "drop"))
    if labelled:
        return (f"{game}, or name a density: {density}" if density else f"{game}:", line)
    if density:
        return ("name a density to stand in for it:", density)
    if isinstance(t.atom, LogMarginal) and len(t.atom.branches) > 1:
        still = f"read the laws of {names([t])[0]} that {player.name} trains by `old`, so that it stands still"
        return (f"{still}, or leave {player.name} out of this goal's `over`",)
    hidden = sorted(t.atom.hidden) if isinstance(t.atom, LogMarginal) else []
    what = f"keep {joined(hidden)} in the heads of both joints" if hidden else "give its laws densities"
    return (f"{what}, or leave {player.name} out of this goal's `over`",)


def dirac_drawn(facts: Facts, term: Divergence, atom: Atom, key: str) -> Report:
    assert isinstance(atom, LogFactor)
    law = facts.model.laws[key]
    drawn = any(f.law == key for b in term.left.joint.branches for f in b.factors)
    normal = covers(FAMILIES["Normal"], facts.model.space(law.outputs[0]))
    line = (noisy(law) if normal else None) if drawn else with_density(law)
    return density_errors.dirac_density(
        term.span, law.text, atom.factor.givens, atom.factor.outputs[0], law.span, line, noise=drawn
    )


def under_importance(facts: Facts, goal: Goal, unknown: Sequence[Term]) -> Report:
    """An importance-weighted bound over a density that cannot be evaluated."""
    lines = critic_lines(facts.model, goal, without=("importance",))
    span = goal.options.span("importance")
    laws = [facts.model.laws[f.law] for t in unknown for f in factors_of(t.atom)]
    return errors.importance_needs_densities(span, names(unknown), laws[0].span if laws else None, lines)


def weighed_score(facts: Facts, goal: Goal, player: Player, atom: Atom) -> Report:
    """Under copies: the density of what is drawn, which an optimum stands for but for its score."""
    law = next((facts.model.laws[f.law] for f in factors_of(atom) if facts.owns(player, f)), None)
    line = goal_line(facts.model, goal, "game=nonsaturating", without=("proximal", "drop"))
    name = as_text(Density(atom))
    return errors.weighed_score(goal.options.span("importance"), name, player.name, law.span if law else None, line)


def against_branch(facts: Facts, goal: Goal, term: Divergence, labelled: Labelled) -> str | None:
    """The goal against a branch that keeps all it generates, times the classifier."""
    model = facts.model
    head = set(term.left.head) - set(labelled.classifier.outputs)
    for branch in term.left.joint.branches:
        if set(generated(branch.factors)) == head and len(goal.terms) == 1:
            product = " * ".join(factor_text(model.laws, f) for f in (*branch.factors, labelled.classifier))
            said = plain(goal.span).replace(plain(term.span), f"KL({plain(term.left.span)} || {product})")
            return said
    return None


def names(terms: Sequence[Term]) -> list[str]:
    return list(dict.fromkeys(as_text(Density(t.atom)) for t in terms))
