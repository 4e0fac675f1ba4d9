"""What is refused: before the rules by a goal's own words and densities, after the last rule by what is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jointkl.derivation import density_errors, errors, player_errors, unknown
from jointkl.derivation.expr import ClosedKL, Expectation, Labelled, LogFactor, OldDistance, Term
from jointkl.derivation.facts import Facts, factors_of
from jointkl.derivation.live import is_moved
from jointkl.derivation.parts import Step
from jointkl.derivation.players import classifier, divergences, judges, trains
from jointkl.derivation.rewrite import Ratio, RuleContext
from jointkl.derivation.sampled import is_own
from jointkl.derivation.suggestions import critic_lines, dirac, goal_line, over_line, plain, with_density
from jointkl.derivation.supports import beyond, labels_beyond
from jointkl.derivation.unknown import names
from jointkl.diagnostics import NOWHERE, Refused, Report, Span
from jointkl.semantics.model import Divergence, Goal, Target
from jointkl.semantics.wording import joined

# --- before the rules


def players(facts: Facts) -> Iterator[Report]:
    """What a `player` statement cannot do: put a classifier or critic together with others, or take one apart."""
    for judge in (p for p in facts.players if p.kind in ("classifier", "critic")):
        stated = [g for g in facts.model.players if not set(judge.members).isdisjoint(g.targets)]
        for group in stated:
            others = [t for t in group.targets if t not in judge.members]
            if others:
                own = [t for t in group.targets if t in judge.members]
                texts = [facts.model.laws[key].text for key in judge.laws]
                holds = f"the classifier {joined(texts)}" if texts else f"the critic {joined(judge.critics)}"
                yield player_errors.mixed_player(group.span, group.name, own, _texts(facts, others), holds)
        if len(stated) > 1:
            first, second = stated[:2]
            yield player_errors.split_classifier(second.span, judge.members, first.name, first.span)


def _texts(facts: Facts, targets: Sequence[Target]) -> list[str]:
    return [facts.model.laws[t].text if t in facts.model.laws else t for t in targets]


def partly_named(facts: Facts, goal: Goal, term: Divergence, entries: Sequence[Expectation]) -> None:
    """`over` and a `player` statement agree: nobody is trained by a term that does not name him and that he moves."""
    if goal.over is None or term.row.penalty:
        return
    for player in (p for p in facts.players if p.kind == "other"):
        named = [m for m in player.members if m in goal.over]
        left_out = [m for m in player.members if m not in goal.over]
        stated = next((g.span for g in facts.model.players if g.name == player.name), None)
        if not named or stated is None:
            continue
        moved = [m for m in left_out if any(is_moved(facts, replace(player, members=(m,)), e) for e in entries)]
        if moved:
            every = (*_texts(facts, goal.over), *moved)
            line = over_line(goal, every)
            raise Refused(player_errors.partly_named(term.span, player.name, named, moved, stated, line))


def goal(facts: Facts, goal: Goal) -> Iterator[Report]:
    """What a goal's own words tell: a game or a penalty without classifier, a classifier that sees a global."""
    model, options = facts.model, goal.options
    labelled = [(t, c) for t in divergences(goal) if (c := classifier(model, t)) is not None]
    if options.game is not None and not labelled:
        yield errors.game_without_classifier(options.span("game"))
    for _, c in labelled:
        seen = next((v for v in c.givens if model.variable(v).is_global), None)
        if seen is not None:
            what = f"the classifier {model.laws[c.law].text}"
            yield errors.told_apart_global(c.span, what, seen, model.variable(seen).span)
    for term in divergences(goal):
        if term.row.penalty:
            yield from _penalty(facts, goal, term)


def _penalty(facts: Facts, goal: Goal, term: Divergence) -> Iterator[Report]:
    """A penalty is for a classifier of some goal, and trains that one alone."""
    law = facts.model.laws[term.right.joint.branches[0].factors[0].law]
    label = facts.model.variable(law.outputs[0])
    if len(label.space.values) > 2:
        yield errors.penalty_of_many(term.right.span, law.text, label.name, len(label.space.values), label.span)
        return
    player = next((p for p in facts.players if law.key in p.laws), None)
    if player is None:
        yield errors.penalty_without_classifier(term.right.span, law.text, law.span)
    elif not trains(facts.model, player, goal, term):
        line = over_line(goal, (*(goal.over or ()), *player.members))
        yield errors.penalty_for_others(term.span, law.text, "+".join(player.members), line)


def one_mixture(facts: Facts, known: dict[str, Labelled], labelled: Labelled | None, term: Divergence) -> None:
    """A classifier is trained by one mixture: the branches of every KL it labels are the same."""
    if labelled is None:
        return
    law = labelled.classifier.law
    if law in known and known[law].branches != labelled.branches:
        raise Refused(errors.two_mixtures(term.span, facts.model.laws[law].text, known[law].classifier.span))
    known[law] = labelled


def unevaluable(facts: Facts, entries: Sequence[Expectation]) -> list[Term]:
    return [t for e in entries for t in e.terms if not facts.evaluable(t.atom, e.path)]


def useless_critic(facts: Facts, goal: Goal, critic: str, unknown: Sequence[Term]) -> Report:
    """A critic that a goal names and that no term of it has a ratio for; `unknown` are what nobody can evaluate."""
    line = goal_line(facts.model, goal, without=("critic",))
    return errors.useless_critic(goal.options.span("critic"), critic, names(unknown), line)


def one_ratio(known: dict[str, tuple[Ratio, Span]], ratio: Ratio, goal: Goal) -> bool:
    """A critic learns one ratio, and once, whoever else needs it. Is this the first that it is asked for?"""
    critic, span = ratio.logit.critic, goal.options.span("critic")
    if critic in known and known[critic][0] != ratio:
        raise Refused(errors.two_ratios(span, critic, known[critic][1]))
    new = critic not in known
    known.setdefault(critic, (ratio, span))
    return new


def finite(facts: Facts, term: Divergence, entries: Sequence[Expectation]) -> None:
    """No value is drawn where the density against it is zero."""
    for entry in entries:
        for f, drawn, g, allowed, t in beyond(facts, entry):
            drawing, against = facts.model.laws[f.law], facts.model.laws[g.law]
            places = (drawing.definition, against.definition)
            raise Refused(
                density_errors.infinite(t.span, term.name, drawing.text, str(drawn), against.text, str(allowed), places)
            )
        for value, g, allowed, t in labels_beyond(facts, entry):
            against, left = facts.model.laws[g.law], term.left
            places = (left.span, against.definition)
            drawn = f"the label {value}"
            raise Refused(
                density_errors.infinite(t.span, term.name, left.text, drawn, against.text, str(allowed), places)
            )


# --- densities that cannot be evaluated, without a classifier


def unlabelled(
    facts: Facts,
    goal: Goal,
    term: Divergence,
    entries: tuple[Expectation, ...],
    blocked: Sequence[tuple[Expectation, Term]],
) -> None:
    """`blocked` are terms that some player moves and nobody can evaluate: refused where no ratio can replace them."""
    names = unknown.names([t for _, t in blocked])
    model = facts.model
    first = blocked[0][1].atom
    if not term.row.own:
        law = next((dirac(model, f) for f in factors_of(first) if isinstance(first, LogFactor)), None)
        line = with_density(law) if law else None
        raise Refused(density_errors.cross_entropy_density(term.span, names, law.span if law else None, line))
    if not term.row.log_ratio:
        raise Refused(errors.no_partner(term.span))
    if goal.options.importance:
        raise Refused(unknown.under_importance(facts, goal, [t for _, t in blocked]))
    for e, t in blocked:
        law = dirac(model, t.atom.factor) if isinstance(t.atom, LogFactor) else None
        if law is not None and (goal.options.critic is None or not is_own(facts, e, entries, t.atom)):
            raise Refused(unknown.dirac_drawn(facts, term, t.atom, law.key))
    for player in facts.players:
        for e, t in blocked:
            judge = player.kind == "free" or judges(player, goal, classifier(model, term))
            owned = not judge and facts.param_live(player, t.atom)
            dropped = not {f.law for f in factors_of(t.atom)}.isdisjoint(goal.options.drop)
            sampled = is_own(facts, e, entries, t.atom)
            if owned and not sampled and not dropped and trains(model, player, goal, term):
                raise Refused(unknown.moving(facts, goal, term, entries, player, t))
    if goal.options.critic is None:
        raise Refused(errors.no_critic(term.span, names, critic_lines(model, goal)))


# --- after the last rule


def done(context: RuleContext, entry: Expectation) -> None:
    """No atom that cannot be evaluated, no classifier trained to be wrong."""
    left = [t for t in entry.terms if not context.facts.evaluable(t.atom, entry.path)]
    if left:
        raise Refused(_left(context, entry, left))
    for t in entry.terms:
        if isinstance(t.atom, LogFactor) and context.labelled and t.atom.factor == context.labelled.classifier:
            owned = context.facts.owns(context.player, t.atom.factor)
            if owned and entry.weight * t.coefficient > 0:
                name = context.facts.model.laws[t.atom.factor.law].text
                raise Refused(errors.negative_classifier(context.divergence.span, name))


def _left(context: RuleContext, entry: Expectation, left: Sequence[Term]) -> Report:
    """Why a density is left that cannot be evaluated."""
    facts, term, model = context.facts, context.divergence, context.facts.model
    names = unknown.names(left)
    live = facts.live(context.player, entry.path)
    still = [t for t in left if not facts.param_live(context.player, t.atom) and live.isdisjoint(t.atom.variables)]
    if entry.hinge is not None and still:
        return density_errors.hinge_value(term.span, unknown.names(still))
    drawn = any(facts.live(context.player, e.path) for e in context.entries)
    owned = next((t for t in left if facts.param_live(context.player, t.atom)), None)
    if owned is not None and not drawn:
        return unknown.moving(facts, context.goal, term, context.entries, context.player, owned)
    labelled = context.labelled
    if labelled is None:
        return density_errors.no_multiplier(term.span, names, None, None)
    if len(labelled.branches) > 2:
        label = labelled.classifier.outputs[0]
        line = goal_line(model, context.goal, "game=minimax", without=("proximal", "drop"))
        return errors.many_labels(term.span, label, len(labelled.branches), names, (line,))
    classified = model.laws[labelled.classifier.law].text
    return density_errors.no_multiplier(
        term.span, names, classified, unknown.against_branch(facts, context.goal, term, labelled)
    )


def idle(facts: Facts, goal: Goal, steps: Sequence[Step]) -> Iterator[Report]:
    """Options that no step of their goal made anything of."""
    options = goal.options
    kept = [t.atom for s in steps if s.player is not None for t in s.after]
    copies = any(isinstance(a, ClosedKL) and a.right.old for a in kept) or any(s.rule == "RESIDUAL" for s in steps)
    distances = any(isinstance(a, OldDistance) for a in kept) or options.dirac == 0
    proximal = copies if options.proximal == "kl" else distances if options.proximal == "dirac" else True
    whys = {
        "proximal": "" if proximal else "no law here is compared with its old copy, or none that it is for",
        "importance": "" if any(s.rule == "IMPORTANCE" for s in steps) else "no KL here is bounded over copies",
    }
    for name, why in whys.items():
        span = options.span(name)
        if why and span is not NOWHERE:
            line = goal_line(facts.model, goal, without=(name,))
            yield errors.idle_option(span, plain(span), why, line)
