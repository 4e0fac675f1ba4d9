"""Goals: divergences between joints, their signs and options, who is trained, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from jointkl.diagnostics import Span
from jointkl.semantics import constants, errors
from jointkl.semantics.catalogue import Option, OptionValue
from jointkl.semantics.joints import factor, generated, sampling_order
from jointkl.semantics.model import (
    Branch,
    Divergence,
    Estimate,
    Factor,
    Free,
    Goal,
    GoalOptions,
    Hinge,
    Joint,
    Law,
    PlayerGroup,
    Side,
    Target,
    TrainOptions,
    law_key,
    law_text,
)
from jointkl.semantics.scope import Refused, Scope
from jointkl.syntax import nodes

Laws = Mapping[str, Law]


def goal(scope: Scope, laws: Laws, node: nodes.Goal) -> Goal:
    sign = Fraction(1 if node.direction == "minimize" else -1)
    terms = tuple(_terms(scope, laws, node.objective, sign))
    over = tuple(target(scope, laws, t) for t in node.over) if node.over else None
    return Goal(terms, over, _options(scope, laws, node), span=node.span)


def _terms(scope: Scope, laws: Laws, node: nodes.Objective, weight: Fraction) -> list[Divergence | Hinge]:
    """The terms of a sum with their weights multiplied out."""
    match node:
        case nodes.Sum(terms=terms):
            return [t for sign, part in terms for t in _terms(scope, laws, part, weight * sign)]
        case nodes.Scaled(weight=factor_, part=part):
            scale = constants.number(constants.evaluate(scope, factor_), factor_.span)
            return _terms(scope, laws, part, weight * scale)
        case nodes.Weight(span=span):
            raise Refused(errors.constant_term(span))
        case nodes.Divergence():
            return [_divergence(scope, laws, node, weight)]
        case nodes.Hinge():
            return [_hinge(scope, laws, node, weight)]


def _hinge(scope: Scope, laws: Laws, node: nodes.Hinge, weight: Fraction) -> Hinge:
    if constants.evaluate(scope, node.floor) != 0:
        raise Refused(errors.hinge_floor(node.floor.span))
    parts = node.sum.terms if isinstance(node.sum, nodes.Sum) else ((1, node.sum),)
    margin, terms = Fraction(0), list[Divergence]()
    for sign, part in parts:
        if isinstance(part, nodes.Weight):
            margin += sign * constants.number(constants.evaluate(scope, part.value), part.span)
            continue
        for term in _terms(scope, laws, part, Fraction(sign)):
            if isinstance(term, Hinge):
                raise Refused(errors.bad_option(term.span, "max", "not to be nested in another max"))
            terms.append(term)
    return Hinge(margin, tuple(terms), weight, span=node.span)


def _divergence(scope: Scope, laws: Laws, node: nodes.Divergence, weight: Fraction) -> Divergence:
    left = _side(scope, laws, node.left)
    match node.name.text:
        case "KL":
            right = _side(scope, laws, node.right)
            if set(left.head) != set(right.head):
                raise Refused(errors.different_variables(node.span, left.head, right.head))
            return Divergence("KL", left, right, weight, span=node.span)
        case "CE" | "R1" as name:
            right = _side(scope, laws, node.right, closed=False)
            outside = [v for v in _variables(right) if v not in left.head]
            if outside and name == "CE":
                raise Refused(errors.cross_entropy_variables(node.right.span, outside))
            kind: Literal["CE", "R1"] = name
            return Divergence(kind, left, right, weight, span=node.span)
        case name:
            raise Refused(errors.unknown_divergence(node.name.span, name))


def _variables(side: Side) -> tuple[str, ...]:
    givens = [v for b in side.joint.branches for f in b.factors for v in f.givens]
    made = {v for b in side.joint.branches for v in generated(b.factors)}
    return (*side.head, *(v for v in givens if v not in made))


def _side(scope: Scope, laws: Laws, node: nodes.Product, *, closed: bool = True) -> Side:
    """A named joint by itself keeps its head; any other product has all that it generates as its head."""
    if node.weight is not None:
        raise Refused(errors.weight_outside_mixture(node.weight.span))
    factors = tuple(factor(scope, f) for f in node.factors)
    if len(factors) == 1 and not factors[0].old:
        law = laws.get(factors[0].law)
        if law is None:
            raise Refused(errors.broken_law(factors[0].span, factors[0].law))
        if isinstance(law.body, Joint) and not law.givens and law.outputs == factors[0].outputs:
            return Side(law_text(law.label, law.outputs, ()), law.outputs, law.body, span=node.span)
    ordered = sampling_order(factors, closed=closed)
    for f in ordered:
        if f.law not in laws:
            raise Refused(errors.broken_law(f.span, f.law))
    text = " ".join(factor_text(laws, f) for f in ordered)
    return Side(text, generated(ordered), Joint((Branch(ordered, span=node.span),)), span=node.span)


def factor_text(laws: Laws, f: Factor) -> str:
    label = laws[f.law].label
    return ("old " if f.old else "") + law_text(label, f.outputs, f.givens)


# --- who is trained


def target(scope: Scope, laws: Laws, node: nodes.Target) -> Target:
    """A net, a param, or a Free law by its key."""
    match node:
        case nodes.Name(text=name, span=span):
            if name in scope.nets or name in scope.params:
                return name
            raise Refused(errors.target_unknown(span, name, (*scope.nets, *scope.params)))
        case nodes.Law():
            key = law_key(node.label.text, tuple(n.text for n in node.outputs), tuple(n.text for n in node.givens))
            law = laws.get(key)
            if law is None or not isinstance(law.body, Free):
                free = [k for k, known in laws.items() if isinstance(known.body, Free)]
                raise Refused(errors.target_unknown(node.span, key, free))
            return key


def players(scope: Scope, laws: Laws, statements: tuple[nodes.Statement, ...]) -> tuple[PlayerGroup, ...]:
    found: list[PlayerGroup] = []
    placed: dict[Target, Span] = {}
    for node in statements:
        if not isinstance(node, nodes.Player):
            continue
        try:
            if any(g.name == node.name.text for g in found):
                first = next(g.span for g in found if g.name == node.name.text)
                raise Refused(errors.declared_twice(node.name.span, "player", node.name.text, first))
            targets: list[Target] = []
            for t in node.targets:
                name = target(scope, laws, t)
                if name in placed:
                    raise Refused(errors.in_two_players(t.span, name, placed[name]))
                placed[name] = t.span
                targets.append(name)
            found.append(PlayerGroup(node.name.text, tuple(targets), span=node.name.span))
        except Refused as refused:
            scope.refuse(refused.report)
    return tuple(found)


TRAIN: tuple[Option, ...] = (
    Option("batch", "integer", 128, "data per step"),
    Option("steps", "integer", None, "rounds of the run"),
    Option("epochs", "number", None, "passes over the data, instead of steps"),
    Option("lr", "number", 1e-3, "learning rate"),
    Option("beta1", "number", 0.9, "Adam's first moment"),
    Option("beta2", "number", 0.999, "Adam's second moment"),
    Option("weight_decay", "number", 0.0, "decoupled weight decay"),
    Option("optimizer", "text", "adam", "which optimiser", ("adam", "adamw", "sgd", "rmsprop")),
    Option("schedule", "text", "constant", "of the learning rate", ("constant", "cosine", "linear")),
    Option("clip", "number", None, "largest norm of the gradient"),
    Option("ema", "number", None, "decay of an exponential moving average of the parameters"),
    Option("seed", "integer", 0, "of all random numbers"),
    Option("every", "integer", 1, "rounds between this player's turns"),
    Option("repeat", "integer", 1, "steps in each turn"),
)
"""What `train(...)` takes; `every` and `repeat` for a player only."""

FOR_EVERYONE = frozenset({"batch", "steps", "epochs", "seed"})
FOR_A_PLAYER = frozenset({"every", "repeat"})

_LEAST: Mapping[str, float] = {"batch": 1, "steps": 0, "epochs": 0, "lr": 0, "beta1": 0, "beta2": 0, "weight_decay": 0,
                               "clip": 0, "ema": 0, "seed": 0, "every": 1, "repeat": 1}  # fmt: skip
_BELOW: Mapping[str, float] = {"beta1": 1, "beta2": 1, "ema": 1}


def train(scope: Scope, node: nodes.Train, owners: Mapping[str, Target]) -> TrainOptions:
    """The options of one `train` statement; `owners` maps what may stand before the brackets to a target."""
    holder: Target | None = None
    if node.player is not None:
        if node.player.text not in owners:
            raise Refused(errors.target_unknown(node.player.span, node.player.text, owners))
        holder = owners[node.player.text]
    allowed = [o for o in TRAIN if o.name not in (FOR_EVERYONE if holder else FOR_A_PLAYER)]
    found: list[tuple[str, OptionValue]] = []
    for keyword in node.keywords:
        row = next((o for o in allowed if o.name == keyword.name.text), None)
        if row is None:
            whom = f"train {node.player.text}" if node.player else "train"
            raise Refused(errors.option_unknown(keyword.name.span, whom, keyword.name.text, [o.name for o in allowed]))
        value = constants.option(scope, row, keyword.value)
        check_train_value(row.name, value, keyword.value.span)
        found.append((row.name, value))
    return TrainOptions(holder, tuple(found), span=node.span)


def check_train_value(name: str, value: OptionValue, span: Span) -> None:
    """Raises `Refused` where a training option lies outside its range."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name in _LEAST and value < _LEAST[name]:
            raise Refused(errors.option_value(span, name, f"{_LEAST[name]:g} or more", f"{value:g}"))
        if name in _BELOW and value >= _BELOW[name]:
            raise Refused(errors.option_value(span, name, f"below {_BELOW[name]:g}", f"{value:g}"))


# --- options of a goal


def _options(scope: Scope, laws: Laws, node: nodes.Goal) -> GoalOptions:
    found = GoalOptions(spans=tuple((o.name.text, o.span) for o in node.options))
    seen: set[str] = set()
    for option in node.options:
        name = option.name.text
        if name not in _OPTIONS:
            raise Refused(errors.option_unknown(option.name.span, "with", name, _OPTIONS))
        if name in seen and name not in ("drop", "estimate"):
            raise Refused(errors.parameter_twice(option.name.span, "with", name))
        seen.add(name)
        found = _OPTIONS[name](scope, laws, found, option)
    clash = [n for n in ("proximal", "drop") if n in seen and "game" in seen]
    if clash:
        raise Refused(errors.bad_option(found.span(clash[0]), clash[0], "not to be used together with `game`"))
    return found


ESTIMATES: tuple[Estimate, ...] = ("monte_carlo", "score", "moments", "gradient")


def _word(option: nodes.Option, words: tuple[str, ...]) -> str:
    if isinstance(option.value, nodes.Name) and option.value.text in words:
        return option.value.text
    raise Refused(errors.bad_option(option.value.span, option.name.text, f"one of {', '.join(words)}"))


def _proximal(scope: Scope, laws: Laws, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    if isinstance(node.value, nodes.Call) and node.value.name.text == "dirac" and len(node.value.arguments) == 1:
        argument = node.value.arguments[0]
        inner = argument.value if isinstance(argument, nodes.Keyword) else argument
        return replace(options, proximal="dirac", dirac=constants.number(constants.evaluate(scope, inner), inner.span))
    if isinstance(node.value, nodes.Name) and node.value.text in ("none", "kl"):
        return replace(options, proximal="none" if node.value.text == "none" else "kl")
    raise Refused(errors.bad_option(node.value.span, "proximal", "one of none, kl, dirac(lam)"))


def _game(scope: Scope, laws: Laws, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    word = _word(node, ("minimax", "nonsaturating"))
    return replace(options, game="minimax" if word == "minimax" else "nonsaturating")


def _drop(scope: Scope, laws: Laws, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    if isinstance(node.value, nodes.Call):
        dropped = factor(scope, nodes.Factor(node.value, span=node.value.span))
        return replace(options, drop=(*options.drop, dropped.law))
    raise Refused(errors.bad_option(node.value.span, "drop", "a law, as in drop=p(z|x)"))


def _critic(scope: Scope, laws: Laws, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    name = node.value.name if isinstance(node.value, nodes.Call) else node.value
    if isinstance(name, nodes.Name):
        if name.text in scope.nets:
            return replace(options, critic=(name.text, None))
        raise Refused(errors.unknown(name.span, "net", name.text, scope.nets))
    raise Refused(errors.bad_option(node.value.span, "critic", "a net, as in critic=T"))


def _importance(scope: Scope, laws: Laws, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    copies = constants.natural(constants.evaluate(scope, node.value), node.value.span, least=1)
    return replace(options, importance=copies)


def _estimate(scope: Scope, laws: Laws, options: GoalOptions, node: nodes.Option) -> GoalOptions:
    word = _word(node, ESTIMATES)
    return replace(options, estimate=(*options.estimate, *(e for e in ESTIMATES if e == word)))


_OPTIONS: dict[str, Callable[[Scope, Laws, GoalOptions, nodes.Option], GoalOptions]] = {
    "proximal": _proximal,
    "game": _game,
    "drop": _drop,
    "critic": _critic,
    "importance": _importance,
    "estimate": _estimate,
}
