"""The density ratio that a goal needs: which pair a critic stands for, what it sees, and the samples it learns from.

With m on the path and r the reference, l = log r/m is learned by logistic regression between samples of the path and
of the path with m replaced by r: -E_r log sigma(l) - E_m log sigma(-l) (Sugiyama et al. 2012; Rosca et al. 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors, verify
from jointkl.derivation.expr import (
    Atom,
    Expectation,
    Labelled,
    Logit,
    LogMarginal,
    LogSigmoid,
    LogWeight,
    Share,
    Sum,
    Term,
    drawn,
)
from jointkl.derivation.facts import Facts, ancestors, factors_of, outputs_of
from jointkl.derivation.inline import paths
from jointkl.derivation.players import Player, judges, trains, variables_in
from jointkl.derivation.rewrite import Ratio
from jointkl.derivation.sampled import is_own
from jointkl.derivation.shifts import shifted
from jointkl.derivation.variables import fresh, variable
from jointkl.diagnostics import JklError, Refused, Span
from jointkl.semantics.joints import sampling_order
from jointkl.semantics.model import Divergence, Factor, Goal, Head
from jointkl.semantics.networks import planned
from jointkl.semantics.spaces import Space


def ratio_of(
    facts: Facts,
    players: tuple[Player, ...],
    goal: Goal,
    term: Divergence,
    labelled: Labelled | None,
    entries: tuple[Expectation, ...],
) -> Ratio | None:
    """The ratio that some player needs: it moves atoms that cannot be evaluated, and there is no classifier."""
    critic = goal.options.critic
    if (labelled is not None and critic is None) or "moments" in goal.options.estimate:
        return None
    live: set[Atom] = set()
    for player in players:
        concerned = player.kind != "free" and not judges(player, goal, labelled.classifier if labelled else None)
        if concerned and trains(facts.model, player, goal, term):
            for entry in entries:
                moving = facts.live(player, entry.path)
                live |= {t.atom for t in entry.terms if facts.moves(player, moving, t.atom)}
    unknown = [(e, t) for e in entries for t in e.terms if t.atom in live and not facts.evaluable(t.atom, e.path)]
    if unknown:
        verify.unlabelled(facts, goal, term, entries, unknown)
        return plan(facts, goal, term, entries, frozenset(live))
    if critic is not None and goal.terms == (term,):
        return _alone(facts, goal, term, entries, live)
    return None


def _alone(
    facts: Facts, goal: Goal, term: Divergence, entries: tuple[Expectation, ...], live: set[Atom]
) -> Ratio | None:
    """The ratio that a goal is for if it moves nothing else: its critic is what it trains, of laws as they are."""
    every = frozenset(t.atom for e in entries for t in e.terms)
    if live or not term.row.log_ratio or not verify.unevaluable(facts, entries):
        return None
    return plan(facts, goal, term, entries, every)


def plan(
    facts: Facts, goal: Goal, divergence: Divergence, entries: tuple[Expectation, ...], live: frozenset[Atom]
) -> Ratio:
    """The ratio of a goal: every atom of `live` (those that some player moves) that cannot be evaluated takes part.

    Raises `Refused`: no partner and no ratio over the whole joint.
    """
    first = entries[0]
    unknown = [t for t in first.terms if t.atom in live and not facts.evaluable(t.atom, first.path)]
    found = [pair for t in unknown for pair in _partners(facts, entries, t)]
    pairs = list({frozenset((m.atom, r.atom)): (m, r) for m, r in found}.values())
    paired = {t.atom for pair in pairs for t in pair}
    if len(pairs) == 1 and all(t.atom in paired for t in unknown):
        m, r = pairs[0]
        reference = _replaced(facts, entries, m.atom, r.atom)
        if reference is not None:
            variables = _ordered(facts, divergence, goal, (*m.atom.variables, *r.atom.variables))
            return Ratio(_logit(goal, variables), (m,), (r,), _drawn(entries), reference)
    return _whole(facts, goal, divergence, entries)


def _partners(facts: Facts, entries: tuple[Expectation, ...], t: Term) -> Iterator[tuple[Term, Term]]:
    """(m, r): `t` and an atom of opposite coefficient over the same outputs, one of the two on the path."""
    for other in entries[0].terms:
        if other.coefficient != -t.coefficient or _outputs(other.atom) != _outputs(t.atom) or not _outputs(t.atom):
            continue
        either = sorted(((t, other), (other, t)), key=lambda pair: -len(set(pair[0].atom.variables)))
        for m, r in either:  # both may be on the path, as p(z|x) and p(z): the narrower marginal is the reference
            if all(is_own(facts, e, entries, m.atom, r.atom.variables) for e in entries):
                yield m, r
                return


def _outputs(atom: Atom) -> frozenset[str]:
    return frozenset(outputs_of(atom))


def _whole(facts: Facts, goal: Goal, divergence: Divergence, entries: tuple[Expectation, ...]) -> Ratio:
    """One ratio over the whole joint: log b / log a over all variables of the heads."""
    left = tuple(t for t in entries[0].terms if t.coefficient > 0 and not isinstance(t.atom, LogWeight))
    right = tuple(t for t in entries[0].terms if t.coefficient < 0 and not isinstance(t.atom, LogWeight))
    alike = all(e.terms == entries[0].terms and e.label is None and not e.weighing for e in entries)
    if not alike or not divergence.row.log_ratio:
        raise Refused(errors.no_partner(divergence.span))
    branches = divergence.right.joint.branches
    reference = tuple((b.weight * w, path) for b in branches for w, path in paths(facts, b.factors))
    head = _ordered(facts, divergence, goal, divergence.left.head)
    return Ratio(_logit(goal, head), left, right, _drawn(entries), reference)


def _drawn(entries: tuple[Expectation, ...]) -> tuple[Share, ...]:
    """The paths of all entries, by their shares."""
    total = sum((e.weight for e in entries), Fraction(0))
    return tuple((e.weight / total, e.path) for e in entries)


def _logit(goal: Goal, variables: tuple[str, ...]) -> Logit:
    """The critic at the ratio's variables, or at values that are made of all of them and of no other."""
    assert goal.options.critic is not None
    critic, values = goal.options.critic
    seen = {v for value in values for v in variables_in(value)}
    if values and seen != set(variables):
        raise Refused(errors.blind_critic(goal.options.span("critic"), critic, sorted(seen), variables))
    return Logit(critic, variables, values)


def _ordered(facts: Facts, divergence: Divergence, goal: Goal, variables: tuple[str, ...]) -> tuple[str, ...]:
    """In order of declaration, copies after their originals; globals cannot be told apart by samples."""
    for v in variables:
        known = facts.model.variable(v)
        if known.is_global:
            what = f"the critic {goal.options.critic[0] if goal.options.critic else ''}"
            raise Refused(errors.told_apart_global(divergence.span, what, v, known.span))
    return tuple(sorted(set(variables), key=lambda v: (facts.order[variable(v).name], v)))


def _replaced(facts: Facts, entries: tuple[Expectation, ...], m: Atom, r: Atom) -> tuple[Share, ...] | None:
    """The paths with m's outputs drawn by r: what the reference samples follow. None: r is given what descends from
    them.

    What is drawn beside m differs from entry to entry, so each has a path of its own; equal ones are one.
    """
    found: dict[tuple[Factor, ...], Fraction] = {}
    for share, path in _drawn(entries):
        for weight, factors in _instead(path, m, r):
            try:
                ordered = shifted(facts.model, sampling_order(factors))
            except Refused:
                return None
            found[ordered] = found.get(ordered, Fraction(0)) + share * weight
    return tuple((weight, path) for path, weight in found.items())


def _instead(path: tuple[Factor, ...], m: Atom, r: Atom) -> Iterator[Share]:
    """A path with m's factors replaced by those of each branch of r."""
    visible = frozenset((*m.variables, *r.variables))
    kept = tuple(f for f in path if set(f.outputs).isdisjoint(_outputs(m)))
    if isinstance(m, LogMarginal):
        kept = ancestors(kept, visible - _outputs(m))
    taken = {v for f in (*kept, *factors_of(r)) for v in f.variables} | visible
    for weight, factors in r.branches if isinstance(r, LogMarginal) else ((Fraction(1), factors_of(r)),):
        inner = r.hidden if isinstance(r, LogMarginal) else frozenset[str]()
        clash = {v for f in kept for v in f.outputs} & inner
        names = {v: fresh(v, taken) for v in sorted(clash)}
        yield weight, (*kept, *(f.applied(names) for f in factors))


def critic_entries(planned: Ratio, goal: int, span: Span) -> tuple[Expectation, ...]:
    """The critic's own loss, with weight 1 whatever the goal's: reference samples labelled 1, moving ones 0."""
    up, down = (Sum((Term(Fraction(-1), LogSigmoid(planned.logit, up), span=span),)) for up in (True, False))
    sampled = (*((up, *p) for p in planned.reference_paths), *((down, *p) for p in planned.moving_paths))
    return tuple(Expectation(w, drawn(path), body, None, goal, span=span) for body, w, path in sampled)


def sized(facts: Facts, critics: Mapping[str, tuple[Ratio, Span]]) -> Facts:
    """The facts with the critics' sizes, which follow from the ratios' variables."""
    model = facts.model
    nets = dict(model.nets)
    for name, (ratio, span) in critics.items():
        if any(name in fed for fed in facts.feeds.values()):
            raise JklError(errors.critic_size(span, name, ratio.logit.inputs, nets[name].span))
        if ratio.logit.values:
            continue
        inputs = tuple(model.space(v) for v in ratio.logit.inputs)
        try:
            nets[name] = planned(replace(nets[name], inputs=inputs, heads=(Head("logits", Space("real")),)))
        except Refused as refused:
            raise JklError(refused.report) from None
    return replace(facts, model=replace(model, nets=nets))
