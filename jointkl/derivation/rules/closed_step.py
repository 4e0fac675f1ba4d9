"""CLOSED-STEP: weighted maximum likelihood, where a player's params are indexed by a finite variable.

With weights r_k(n), the exact minimiser of -sum_n sum_k r_k(n) log f(x_n | theta_k) for an exponential family has the
weighted moments of the data (EM's M step, Su 8).
"""

from __future__ import annotations

from dataclasses import dataclass

from jointkl.derivation.expr import Expectation, LogFactor, Sum
from jointkl.derivation.facts import Facts
from jointkl.derivation.parts import Line, Name, Over, formula, listed
from jointkl.derivation.players import Player
from jointkl.derivation.rewrite import Rule
from jointkl.semantics.model import (
    Constant,
    Distribution,
    Factor,
    Free,
    Goal,
    Indexed,
    ParameterRef,
    Value,
    VariableRef,
)

ROLES: dict[str, tuple[frozenset[str], ...]] = {
    "Normal": (frozenset({"loc", "scale"}), frozenset({"loc"})),
    "MultivariateNormal": (frozenset({"loc", "scale_tril"}),),
    "Bernoulli": (frozenset({"probs"}), frozenset({"logits"})),
    "Categorical": (frozenset({"probs"}), frozenset({"logits"})),
    "Poisson": (frozenset({"rate"}),),
    "Exponential": (frozenset({"rate"}),),
}
"""The families, and which of their parameters may be trained together for the maximum to be the moments."""


@dataclass(frozen=True, slots=True)
class Update:
    """One law's step: its factor on the path, the index variable, and the param that is each parameter."""

    factor: Factor
    index: str
    params: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ClosedStep:
    """The whole step of a player, under the weights of one entry."""

    entry: Expectation
    updates: tuple[Update, ...]


def closed_step(facts: Facts, player: Player, entries: tuple[Expectation, ...]) -> ClosedStep | None:
    """The closed step of a player whose loss is one weighted likelihood, or None."""
    if player.kind != "other" or len(entries) != 1:
        return None
    entry = entries[0]
    goal = facts.model.goals[entry.goal]
    if not _is_plain(goal, entry) or len(entry.enumerated) != 1:
        return None
    index = entry.enumerated[0]
    weighing = next(f for f in entry.path if index in f.outputs)
    if not isinstance(facts.model.laws[weighing.law].body, Free):
        return None
    updates: list[Update] = []
    for t in entry.terms:
        found = _update(facts, t.atom.factor, index) if isinstance(t.atom, LogFactor) else None
        same = t.coefficient == entry.terms[0].coefficient < 0
        if found is None or not same or t.detached or t.estimator != "average":
            return None
        updates.append(found)
    placed = [param for u in updates for _, param in u.params]
    whole = len(placed) == len(set(placed)) and set(placed) == set(player.members)
    return ClosedStep(entry, tuple(updates)) if whole else None


def _is_plain(goal: Goal, entry: Expectation) -> bool:
    special = entry.hinge or entry.scored or entry.label
    return "gradient" not in goal.options.estimate and isinstance(entry.body, Sum) and not special and entry.weight > 0


def _update(facts: Facts, f: Factor, index: str) -> Update | None:
    """Each parameter of the law is a param indexed by the index variable, or for the index's own law a param; the
    others are numbers."""
    law = facts.model.laws[f.law]
    body = law.body
    if f.old or not isinstance(body, Distribution) or body.family not in ROLES:
        return None
    names = law.bound(f)
    own = f.outputs == (index,)
    if own and f.givens:
        return None
    params: list[tuple[str, str]] = []
    for role, value in body.parameters:
        if isinstance(value, Constant):
            continue
        name = _param(value, names, index, own)
        if name is None:
            return None
        params.append((role, name))
    known = frozenset(role for role, _ in params) in ROLES[body.family]
    return Update(f, index, tuple(params)) if known and _separate(facts, f, body, dict(params)) else None


def _separate(facts: Facts, f: Factor, body: Distribution, params: dict[str, str]) -> bool:
    """Are the moments the maximum where a number fills an event? One location of numbers that spread differently is
    weighted by their spreads, which hang on it in context."""
    event = facts.model.space(f.outputs[0]).shape
    filling = {role for role, param in params.items() if event and not facts.model.params[param].space.shape[1:]}
    if "loc" not in filling or body.family not in ("Normal", "MultivariateNormal"):
        return True
    spread = dict(body.parameters).get("scale")
    return "scale" in filling or (isinstance(spread, Constant) and spread.number is not None)


def _param(value: Value, names: dict[str, str | int], index: str, own: bool) -> str | None:
    match value:
        case ParameterRef(name=name) if own:
            return name
        case Indexed(value=ParameterRef(name=name), indices=(VariableRef(name=v),)) if not own and names[v] == index:
            return name
        case _:
            return None


def told(step: ClosedStep) -> Line:
    """What a reader is told of it: which laws have it."""
    return ("weighted maximum likelihood of ", *listed(u.factor for u in step.updates), ", closed")


CLOSED_STEP = Rule(
    "CLOSED-STEP",
    (
        formula(
            *(Over("argmax", "theta"), " ", Over("sum", "n"), " ", Name("r"), "(", Name("n"), ")", " "),
            *("log", Name("f"), "(", Name("x", "n"), "|", Name("theta"), ")"),
        ),
        ", ",
        Name("f"),
        " of an exponential family, is at the weighted moments",
    ),
    closed_step,
)
