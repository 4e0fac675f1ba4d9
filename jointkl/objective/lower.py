"""Derivation to objective: each player's entries become one straight line of nodes and a sum of terms."""

from __future__ import annotations

from jointkl.derivation.derive import Derivation
from jointkl.derivation.expr import Expectation
from jointkl.derivation.facts import Facts
from jointkl.derivation.players import Player
from jointkl.derivation.rules.closed_step import ClosedStep
from jointkl.exposition.formula import summands
from jointkl.objective import ir
from jointkl.objective.atoms import probability, responsibility
from jointkl.objective.builder import Builder, Solutions
from jointkl.objective.laws import functions
from jointkl.objective.phases import phases
from jointkl.objective.programs import programs
from jointkl.objective.terms import terms_of
from jointkl.objective.walk import reached
from jointkl.semantics.model import Distribution


def lower(derivation: Derivation) -> ir.Objective:
    """The objective of a derivation: the loss of each player that has one, and each solution of a Free law."""
    facts = derivation.facts
    losing = tuple(p for p in facts.players if derivation.losses[p.name] and p.kind != "free")
    determined = tuple(p for p in facts.players if derivation.losses[p.name] and p.kind == "free")
    free = solutions(derivation)
    made = tuple((p, _loss(facts, p, derivation.losses[p.name], free)) for p in losing)
    losses = tuple(loss for p, loss in made if reached(loss.nodes, frozenset(p.members)))  # a given may go unused
    solved = tuple(_solution(facts, p, free) for p in determined)
    steps = tuple(_step(facts, name, closed, free) for name, closed in derivation.closed.items())
    nodes = [n for loss in losses for n in loss.nodes]
    old_nets = {n.net for n in nodes if isinstance(n, ir.Net) and n.old}
    old_params = {n.name for n in nodes if isinstance(n, ir.Parameter) and n.old}
    named = {loss.player for loss in losses} | {s.player for s in solved}
    players = tuple(ir.Player(p.name, p.kind, p.members) for p in facts.players)
    model = facts.model
    laws = functions(derivation, free, frozenset(old_nets | old_params))
    return ir.Objective(
        model.source.name.rsplit("/", 1)[-1],
        model.nets,
        model.params,
        {law.key: tuple(model.batch_key(law.key, v) for v in law.outputs) for law in model.evidence},
        any(v.is_global for v in model.variables.values()),
        players,
        losses,
        phases(p for p in players if p.name in named),
        laws,
        programs(facts, (f.key for f in laws)),
        solved,
        steps,
        tuple(n for n in model.nets if n in old_nets),
        tuple(n for n in model.params if n in old_params),
    )


def solutions(derivation: Derivation) -> Solutions:
    """Of the Free laws that a goal determines."""
    players = [p for p in derivation.facts.players if p.kind == "free"]
    return {p.laws[0]: entries[0] for p in players if (entries := derivation.losses[p.name])}


def _loss(facts: Facts, player: Player, entries: tuple[Expectation, ...], free: Solutions) -> ir.Loss:
    builder = Builder(facts.model, free)
    terms = [t for entry in entries for t in terms_of(builder, entry)]
    hinges = {e.hinge.index: (e.hinge.index, e.hinge.margin, e.hinge.weight) for e in entries if e.hinge}
    formula = summands(facts, entries)
    copied = any(facts.model.goals[e.goal].options.importance for e in entries)
    nodes = tuple(builder.nodes)
    return ir.Loss(player.name, formula, nodes, tuple(terms), copied=copied, hinges=tuple(hinges.values()))


def _step(facts: Facts, name: str, closed: ClosedStep, free: Solutions) -> ir.Step:
    """The weights of the entry, and for each law the data that its params are fitted to."""
    builder = Builder(facts.model, free)
    scope = builder.scope(closed.entry)
    (index,) = closed.entry.enumerated
    weights = probability(builder, scope.makers[index], index, scope)
    updates: list[ir.Update] = []
    for u in closed.updates:
        (v,) = u.factor.outputs
        body = facts.model.laws[u.factor.law].body
        assert isinstance(body, Distribution)
        value = None if v == index else builder.variable(v, scope)
        updates.append(ir.Update(body.family, u.params, value, facts.model.space(v)))
    formula = summands(facts, (closed.entry,))
    return ir.Step(name, formula, tuple(builder.nodes), weights, tuple(updates))


def _solution(facts: Facts, player: Player, free: Solutions) -> ir.Solution:
    builder = Builder(facts.model, free)
    entry = free[player.laws[0]]
    node = responsibility(builder, entry, builder.scope(entry))
    return ir.Solution(player.name, summands(facts, (entry,)), tuple(builder.nodes), node)
