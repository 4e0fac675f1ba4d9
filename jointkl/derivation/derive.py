"""Model to derivation: the rules in order, each step recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from jointkl.derivation import errors, show
from jointkl.derivation.expr import Entry, Labelled, LogFactor, Step
from jointkl.derivation.facts import Facts, facts_of
from jointkl.derivation.players import Player, classifier, trains
from jointkl.derivation.rewrite import Rule, Turn, step
from jointkl.derivation.rules.closing import CLOSED, GRADIENT, PRUNE
from jointkl.derivation.rules.expand import cancel, expand, expansion_steps, scale
from jointkl.derivation.rules.optimal import OPTIMAL
from jointkl.derivation.rules.pairs import NULL, RESIDUAL, ZERO
from jointkl.derivation.rules.player import BLOCK, GAME
from jointkl.diagnostics import JklError, Report, Span
from jointkl.semantics import errors as semantic_errors
from jointkl.semantics.model import Divergence, Free, Goal, Hinge, Model
from jointkl.semantics.scope import Refused

RULES: tuple[Rule, ...] = (BLOCK, GAME, OPTIMAL, ZERO, NULL, RESIDUAL, CLOSED, PRUNE, GRADIENT)
"""What is done to each entry for each player, in this order."""

Losses = Mapping[str, tuple[Entry, ...]]


@dataclass(frozen=True, slots=True)
class Derivation:
    """The record of the rules that fired, and what they end in: for each player its entries."""

    model: Model
    facts: Facts
    steps: tuple[Step, ...]
    losses: Losses
    warnings: tuple[Report, ...] = field(default=())

    def text(self) -> str:
        """The derivation as plain text, line by line as the rules fired."""
        return show.text(self.facts, self.steps, self.losses, round_order(self.facts))


def derive(model: Model) -> Derivation:
    """Derive every player's loss.

    Raises `JklError` with every refusal; nothing is derived from a refused spec.
    """
    facts = facts_of(model)
    reports: list[Report] = []
    warnings: list[Report] = []
    steps: list[Step] = []
    losses: dict[str, list[Entry]] = {p.name: [] for p in facts.players}
    mentioned: set[str] = set()
    mixtures: dict[str, Labelled] = {}
    if not model.goals:
        raise JklError(semantic_errors.no_goal(Span(model.source, 0, 0)))
    for number, goal in enumerate(model.goals):
        try:
            _verify_derivable(facts, goal)
            for term in goal.terms:
                assert isinstance(term, Divergence)
                entries, labelled, shared = _shared(facts, term, number)
                steps += shared
                _verify_one_mixture(facts, mixtures, labelled, term)
                mentioned |= _mentioned(facts, term)
                for player in round_order(facts):
                    if trains(model, player, goal, term):
                        turn = Turn(facts, player, goal, term, labelled, entries)
                        made, told, found = _play(turn, entries)
                        losses[player.name] += made
                        steps += told
                        warnings += found
        except Refused as refused:
            reports.append(refused.report)
    reports += _unused(model, mentioned) if not reports else []
    if reports:
        raise JklError(reports)
    warnings += [errors.no_loss(_place(model, p), p.name) for p in facts.players if not losses[p.name]]
    frozen = MappingProxyType({name: tuple(es) for name, es in losses.items()})
    return Derivation(model, facts, tuple(steps), frozen, tuple(warnings))


def round_order(facts: Facts) -> tuple[Player, ...]:
    """Free laws, classifiers and critics, the others; each group in order of declaration."""
    rank = {"free": 0, "classifier": 1, "critic": 1, "other": 2}
    return tuple(sorted(facts.players, key=lambda p: rank[p.kind]))


def _shared(facts: Facts, term: Divergence, number: int) -> tuple[tuple[Entry, ...], Labelled | None, tuple[Step, ...]]:
    """EXPAND, CANCEL, SCALE: the same for every player."""
    entries, labelled = expand(facts, term, number)
    steps = list(expansion_steps(entries, number))
    cancelled: list[Entry] = []
    for entry in entries:
        made, told = cancel(entry)
        cancelled.append(made)
        steps += [told] if told else []
    entries = tuple(cancelled)
    if term.name == "KL":
        entries, told_scale = scale(entries, number)
        steps += told_scale
    return entries, labelled, tuple(steps)


def _play(turn: Turn, entries: tuple[Entry, ...]) -> tuple[list[Entry], list[Step], list[Report]]:
    """Every rule on every entry, for one player."""
    made: list[Entry] = []
    steps: list[Step] = []
    warnings: list[Report] = []
    states = list(entries)
    for rule in RULES:
        for i, entry in enumerate(states):
            found = rule.apply(turn, entry) if entry.terms else None
            if found is not None:
                states[i] = found.entry
                warnings += found.warnings
                if found.cells or found.detail:
                    steps.append(step(rule, turn, entry, found))
    for entry in states:
        if entry.terms:
            _verify_done(turn, entry)
            made.append(entry)
    if made:
        steps.append(Step("LOSS", entries[0].goal, turn.player.name, None, tuple((e,) for e in made)))
    return made, steps, warnings


def _verify_done(turn: Turn, entry: Entry) -> None:
    """After the last rule: no atom that cannot be evaluated, no classifier trained to be wrong."""
    for t in entry.terms:
        if not turn.facts.evaluable(t.atom, entry.path):
            raise Refused(errors.not_yet(turn.divergence.span, "a density ratio"))
        if isinstance(t.atom, LogFactor) and turn.labelled and t.atom.factor == turn.labelled.classifier:
            owned = turn.facts.owns(turn.player, t.atom.factor)
            if owned and entry.weight * t.coefficient > 0:
                name = turn.facts.model.laws[t.atom.factor.law].text
                raise Refused(errors.negative_classifier(turn.divergence.span, name))


def _verify_derivable(facts: Facts, goal: Goal) -> None:
    """What is read and checked but not derived yet is refused at its line, never half done."""
    model, options = facts.model, goal.options
    for term in goal.terms:
        if isinstance(term, Hinge):
            raise Refused(errors.not_yet(term.span, "hinges"))
        if term.name == "R1":
            raise Refused(errors.not_yet(term.span, "gradient penalties"))
        for side in (term.left, term.right):
            for f in (f for b in side.joint.branches for f in b.factors):
                if any(isinstance(model.laws.get(k) and model.laws[k].body, Free) for k in facts.feeds[f.law]):
                    raise Refused(errors.not_yet(f.span, "Free laws"))
    if options.critic is not None:
        raise Refused(errors.not_yet(options.span("critic"), "density ratios"))
    if options.importance is not None:
        raise Refused(errors.not_yet(options.span("importance"), "importance-weighted bounds"))
    for name in options.estimate:
        if name != "monte_carlo":
            raise Refused(errors.not_yet(options.span("estimate"), f"estimate={name}"))
    labelled = [t for t in goal.terms if isinstance(t, Divergence) and classifier(model, t)]
    if options.game is not None and not labelled:
        raise Refused(errors.game_without_classifier(options.span("game")))


def _verify_one_mixture(facts: Facts, known: dict[str, Labelled], labelled: Labelled | None, term: Divergence) -> None:
    """A classifier is trained by one mixture: the branches of every KL it labels are the same."""
    if labelled is None:
        return
    law = labelled.classifier.law
    if law in known and known[law].branches != labelled.branches:
        raise Refused(errors.two_mixtures(term.span, facts.model.laws[law].text, known[law].classifier.span))
    known[law] = labelled


def _mentioned(facts: Facts, term: Divergence) -> set[str]:
    return {
        t
        for side in (term.left, term.right)
        for b in side.joint.branches
        for f in b.factors
        for t in facts.feeds[f.law]
    }


def _unused(model: Model, mentioned: set[str]) -> list[Report]:
    """A net or param in no path and no density of any goal."""
    nets = [errors.unused(n.span, "net", n.name) for n in model.nets.values() if n.name not in mentioned]
    return nets + [errors.unused(p.span, "param", p.name) for p in model.params.values() if p.name not in mentioned]


def _place(model: Model, player: Player) -> Span:
    """Where the player's first member is declared."""
    name = player.members[0]
    for table in (model.nets, model.params, model.laws):
        if name in table:
            return table[name].span
    return Span(model.source, 0, 0)
