"""Model to derivation: the rules in order, each step recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from jointkl.derivation import critics, errors, verify
from jointkl.derivation.expr import Expectation, Inside, Labelled, OldDistance, Term
from jointkl.derivation.facts import Facts, facts_of
from jointkl.derivation.inline import inlined
from jointkl.derivation.live import is_moved, still
from jointkl.derivation.parts import Step
from jointkl.derivation.players import Player, classifier, critic_members, divergences, round_order, trains
from jointkl.derivation.record import Derivation
from jointkl.derivation.rewrite import EntryRule, Ratio, Rule, RuleContext, step
from jointkl.derivation.rules.block import BLOCK
from jointkl.derivation.rules.cancel import CANCEL
from jointkl.derivation.rules.closed_form import CLOSED_FORM
from jointkl.derivation.rules.closed_step import CLOSED_STEP, ClosedStep, told
from jointkl.derivation.rules.cross_entropy import CROSS_ENTROPY
from jointkl.derivation.rules.expand import EXPAND, expansion_steps
from jointkl.derivation.rules.free import FREE
from jointkl.derivation.rules.game import GAME
from jointkl.derivation.rules.gradient import GRADIENT
from jointkl.derivation.rules.importance import IMPORTANCE
from jointkl.derivation.rules.loss import LOSS
from jointkl.derivation.rules.moments import MOMENTS
from jointkl.derivation.rules.null import NULL
from jointkl.derivation.rules.optimal_discriminator import OPTIMAL_DISCRIMINATOR
from jointkl.derivation.rules.prune import PRUNE
from jointkl.derivation.rules.ratio import RATIO
from jointkl.derivation.rules.residual import RESIDUAL
from jointkl.derivation.rules.scale import SCALE, label_count, scaled_hinge
from jointkl.derivation.rules.zero import ZERO
from jointkl.derivation.suggestions import goal_line, over_line
from jointkl.diagnostics import JklError, Refused, Report, Span
from jointkl.semantics import errors as semantic_errors
from jointkl.semantics.model import Divergence, Goal, Hinge, Model, Target

RULES: tuple[EntryRule, ...] = (
    BLOCK, FREE, GAME, MOMENTS, OPTIMAL_DISCRIMINATOR, RATIO, ZERO, NULL, RESIDUAL, CLOSED_FORM, CROSS_ENTROPY,
    IMPORTANCE, PRUNE, GRADIENT,
)  # fmt: skip
"""What is done to each entry for each player, in this order."""


def table() -> tuple[Rule[Callable[..., object]], ...]:
    """Every rule that a derivation prints, in the order they fire: first those for all players alike, last what is
    left."""
    return (EXPAND, CANCEL, SCALE, *RULES, LOSS, CLOSED_STEP)


def derive(model: Model) -> Derivation:
    """Derive every player's loss.

    Raises `JklError` with every refusal; nothing is derived from a refused spec.
    """
    if not model.goals:
        raise JklError(semantic_errors.no_goal(Span(model.source, 0, 0)))
    ledger = _Ledger(facts_of(inlined(model)))
    ledger.reports += verify.players(ledger.facts)
    for number, goal in enumerate(ledger.facts.model.goals):
        ledger.goal(number, goal)
    found = (*ledger.reports, *_solved_twice(ledger))
    reports = (*found, *_unused(ledger.facts), *_untrained(ledger.facts)) or tuple(_undetermined(ledger))
    if reports:
        raise JklError(dict.fromkeys(reports))
    losses = MappingProxyType({name: tuple(entries) for name, entries in ledger.losses.items()})
    warnings = [*ledger.warnings, *_inert(ledger)]
    warnings += [errors.no_loss(_place(model, p), p) for p in ledger.facts.players if not losses[p.name]]
    facts = critics.sized(ledger.facts, ledger.critics)
    closed = _closed(ledger)
    return Derivation(facts.model, facts, tuple(ledger.steps), losses, closed, tuple(warnings))


@dataclass(slots=True)
class _Ledger:
    """What is known so far, goal by goal: `rational`, whether the present one has a ratio, and `unmoved`, its densities
    that cannot be evaluated."""

    facts: Facts
    steps: list[Step] = field(default_factory=list[Step])
    losses: dict[str, list[Expectation]] = field(default_factory=dict[str, list[Expectation]])
    warnings: list[Report] = field(default_factory=list[Report])
    reports: list[Report] = field(default_factory=list[Report])
    mixtures: dict[str, Labelled] = field(default_factory=dict[str, Labelled])
    critics: dict[str, tuple[Ratio, Span]] = field(default_factory=dict[str, tuple[Ratio, Span]])
    rational: bool = False
    unmoved: list[Term] = field(default_factory=list[Term])
    hinges: int = 0
    turns: tuple[Player, ...] = ()
    places: dict[Target, int] = field(default_factory=dict[Target, int])

    def __post_init__(self) -> None:
        self.losses = {p.name: [] for p in self.facts.players}
        self.turns = round_order(self.facts.players)
        self.places = {m: i for i, p in enumerate(self.turns) for m in p.members}

    def concerned(self, goal: Goal) -> tuple[Player, ...]:
        """Whom a goal may train, in the order of a round: those that it names, and its critic's."""
        if goal.over is None:
            return self.turns
        named = (*goal.over, *((goal.options.critic[0],) if goal.options.critic else ()))
        return tuple(self.turns[i] for i in sorted({self.places[m] for m in named if m in self.places}))

    def goal(self, number: int, goal: Goal) -> None:
        """Every term of a goal, for every player that it trains."""
        said = tuple(verify.goal(self.facts, goal))
        self.reports += said
        if said:
            return
        warned, taken, found = len(self.warnings), len(self.steps), len(self.reports)
        labels = label_count(goal)
        self.unmoved.clear()
        self.rational = False
        for term in goal.terms:
            if isinstance(term, Hinge):
                self._hinge(number, goal, term, labels)
            else:
                self._term(number, goal, term, labels)
        if len(self.reports) > found:
            return
        critic = goal.options.critic
        if critic is not None and not self.rational:
            self.reports.append(verify.useless_critic(self.facts, goal, critic[0], self.unmoved))
        dropped = {w.span for w in self.warnings[warned:] if w.code == "W-DROP"}
        if goal.options.drop and not dropped:
            line = goal_line(self.facts.model, goal, without=("drop",))
            law = self.facts.model.laws[goal.options.drop[0]].text
            self.reports.append(errors.drops_nothing(goal.options.span("drop"), law, line))
        self.warnings += verify.idle(self.facts, goal, self.steps[taken:])

    def _hinge(self, number: int, goal: Goal, hinge: Hinge, labels: int) -> None:
        """weight * max(0, margin + terms): a player that moves none of the terms has nothing of it, and one that moves
        some needs the value of all."""
        inside = Inside(self.hinges, hinge.margin, hinge.weight * labels)
        self.hinges += 1
        try:
            entries = tuple(e for term in hinge.terms for e in _shared(self.facts, term, number, 1)[0])
        except Refused:
            entries = ()  # the term that is refused says why
        moving = frozenset(p for p in self.concerned(goal) if any(is_moved(self.facts, p, e) for e in entries))
        for term in hinge.terms:
            self._term(number, goal, term, 1, inside, moving)
        self.steps += scaled_hinge(number, labels)

    def _term(
        self,
        number: int,
        goal: Goal,
        term: Divergence,
        labels: int,
        inside: Inside | None = None,
        moving: frozenset[Player] = frozenset(),
    ) -> None:
        """A term for every player that it trains; what is refused for one does not hide what is for the next."""
        facts = self.facts
        try:
            entries, labelled, shared = _shared(facts, term, number, labels)
            entries = tuple(replace(e, hinge=inside) for e in entries)
            self.steps += shared
            verify.one_mixture(facts, self.mixtures, labelled, term)
            verify.finite(facts, term, entries)
            verify.partly_named(facts, goal, term, entries)
            players = self.concerned(goal)
            ratio = critics.ratio_of(facts, players, goal, term, labelled, entries)
            new = ratio is not None and verify.one_ratio(self.critics, ratio, goal)
            self.rational |= ratio is not None
            self.unmoved += verify.unevaluable(facts, entries)
        except Refused as refused:
            self.reports.append(refused.report)
            return
        for player in players:
            whole = any(not e.linear and is_moved(facts, player, e) for e in entries)
            context = RuleContext(facts, player, goal, term, labelled, entries, ratio, player in moving or whole)
            try:
                if ratio is not None and ratio.logit.critic in player.members:
                    if new:
                        own = (still(facts, player, e) for e in critics.critic_entries(ratio, number, term.span))
                        self._play(context, tuple(own), (PRUNE, GRADIENT))
                elif trains(facts.model, player, goal, term):
                    self._play(context, entries, RULES)
            except Refused as refused:
                self.reports.append(refused.report)

    def _play(self, context: RuleContext, entries: tuple[Expectation, ...], rules: tuple[EntryRule, ...]) -> None:
        """Every rule on every entry, for one player."""
        states = list(entries)
        for rule in rules:
            for i, entry in enumerate(states):
                found = rule.apply(context, entry) if entry.terms else None
                if found is not None:
                    states[i] = found.entry
                    self.warnings += found.warnings
                    if found.cells or found.detail:
                        self.steps.append(step(rule, context.player.name, entry, found))
        made = [LOSS.apply(context, e) for e in states if e.terms]
        if made:
            self.losses[context.player.name] += (m.entry for m in made)
            cells = tuple(cell for m in made for cell in m.cells)
            self.steps.append(Step(LOSS.name, entries[0].goal, context.player.name, None, cells))


def _closed(ledger: _Ledger) -> Mapping[str, ClosedStep]:
    """The closed steps, each recorded behind its player's last step."""
    found: dict[str, ClosedStep] = {}
    for player in ledger.facts.players:
        made = CLOSED_STEP.apply(ledger.facts, player, tuple(ledger.losses[player.name]))
        if made is not None:
            found[player.name] = made
            ledger.steps.append(Step(CLOSED_STEP.name, made.entry.goal, player.name, None, (told(made),)))
    return MappingProxyType(found)


def _shared(
    facts: Facts, term: Divergence, number: int, labels: int
) -> tuple[tuple[Expectation, ...], Labelled | None, tuple[Step, ...]]:
    """EXPAND, CANCEL, SCALE: the same for every player."""
    expanded, labelled = EXPAND.apply(facts, term, number)
    found = [(e, CANCEL.apply(e)) for e in expanded]
    cancelled = tuple(made.entry if made else e for e, made in found)
    entries, scaled = SCALE.apply(cancelled, number, labels)
    cuts = (step(CANCEL, None, e, made) for e, made in found if made)
    return entries, labelled, (*expansion_steps(expanded, number), *cuts, *scaled)


def _unused(facts: Facts) -> list[Report]:
    """A net or param in no path and no density of any goal: a model's mistake whatever becomes of the goals."""
    model = facts.model
    sides = [side for goal in model.goals for term in divergences(goal) for side in (term.left, term.right)]
    mentioned = {t for side in sides for b in side.joint.branches for f in b.factors for t in facts.feeds[f.law]}
    mentioned |= {t for goal in model.goals for t in critic_members(goal)}
    nets = [errors.unused(n.span, "net", n.name) for n in model.nets.values() if n.name not in mentioned]
    return nets + [errors.unused(p.span, "param", p.name) for p in model.params.values() if p.name not in mentioned]


def _undetermined(ledger: _Ledger) -> Iterator[Report]:
    """A Free law in use that no goal determines."""
    model = ledger.facts.model
    sides = [side for goal in model.goals for term in divergences(goal) for side in (term.left, term.right)]
    used = {t for side in sides for b in side.joint.branches for f in b.factors for t in ledger.facts.feeds[f.law]}
    for player in ledger.facts.players:
        if player.kind == "free" and player.laws[0] in used and not ledger.losses[player.name]:
            yield errors.undetermined_free(_place(model, player), model.laws[player.laws[0]].text)


def _solved_twice(ledger: _Ledger) -> Iterator[Report]:
    """A Free law that two different sums determine: its softmax is of one."""
    for player in (p for p in ledger.facts.players if p.kind == "free"):
        first, *others = ledger.losses[player.name] or [None]
        other = next((e for e in others if e is not None and first is not None and e.terms != first.terms), None)
        if first is not None and other is not None:
            law = ledger.facts.model.laws[player.laws[0]]
            yield errors.solved_twice(other.span, law.text, first.span)


def _untrained(facts: Facts) -> list[Report]:
    """A classifier that others play against and no goal trains."""
    model = facts.model
    terms = [(goal, t) for goal in model.goals for t in divergences(goal)]
    labelled = {c.law: goal for goal, t in reversed(terms) if (c := classifier(model, t)) is not None}
    found: list[Report] = []
    for player, law in ((p, law) for p in facts.players if p.kind == "classifier" for law in p.laws):
        if not any(not t.row.penalty and _holds(t, law) and trains(model, player, goal, t) for goal, t in terms):
            line = over_line(labelled[law], (*(labelled[law].over or ()), *player.members))
            name = player.name if len(player.laws) == 1 else model.laws[law].text
            found.append(errors.untrained_classifier(_place(model, player), name, line))
    return found


def _holds(term: Divergence, law: str) -> bool:
    return any(f.law == law and not f.old for b in term.right.joint.branches for f in b.factors)


def _inert(ledger: _Ledger) -> list[Report]:
    """`proximal=dirac` with one step of its player in each round: the distance to the old copy is always zero."""
    found: list[Report] = []
    for player in ledger.facts.players:
        terms = [t for e in ledger.losses[player.name] for t in e.terms if isinstance(t.atom, OldDistance)]
        steps = [
            value
            for group in ledger.facts.model.train
            if group.target in player.members
            for name, value in group.options
            if name == "repeat"
        ]
        if terms and not any(isinstance(n, int) and n > 1 for n in steps):
            found.append(errors.inert_proximal(terms[0].span, player))
    return found


def _place(model: Model, player: Player) -> Span:
    """Where the player's first member is declared."""
    name = player.members[0]
    for table in (model.nets, model.params, model.laws):
        if name in table:
            return table[name].span
    return Span(model.source, 0, 0)
