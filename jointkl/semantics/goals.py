"""Goals: divergences between joints, their signs and options, who is trained, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from jointkl.diagnostics import Refused, Span
from jointkl.semantics import constants, errors, goal_errors, joint_errors
from jointkl.semantics.catalogue import Option, OptionValue
from jointkl.semantics.divergences import DIVERGENCES
from jointkl.semantics.joints import factor, generated, place, sampling_order
from jointkl.semantics.model import (
    Branch,
    Divergence,
    Factor,
    Free,
    Goal,
    Hinge,
    Joint,
    Law,
    Model,
    PlayerGroup,
    Side,
    Target,
    TrainOptions,
    base,
    law_key,
    law_text,
)
from jointkl.semantics.options import goal_options
from jointkl.semantics.scope import Scope
from jointkl.semantics.wording import line
from jointkl.syntax import nodes

Laws = Mapping[str, Law]


def goal(scope: Scope, laws: Laws, node: nodes.Goal) -> Goal:
    """A checked goal. Its options and whom it trains are checked even if its terms are wrong."""
    sign = Fraction(1 if node.direction == "minimize" else -1)
    wrong: Refused | None = None
    terms: list[Divergence | Hinge] = []
    over: list[Target] = []
    try:
        terms = _terms(scope, laws, node.objective, sign)
    except Refused as refused:
        wrong = refused
    for t in node.over:
        try:
            over.append(target(scope, laws, t))
        except Refused as refused:
            scope.refuse(refused.report)
    options = goal_options(scope, node)
    if wrong is not None:
        raise wrong
    return Goal(tuple(terms), tuple(over) if node.over else None, options, span=node.span)


def _terms(scope: Scope, laws: Laws, node: nodes.Objective, weight: Fraction) -> list[Divergence | Hinge]:
    """The terms of a sum with their weights multiplied out."""
    match node:
        case nodes.Sum(terms=terms):
            return [t for sign, part in terms for t in _terms(scope, laws, part, weight * sign)]
        case nodes.Scaled(weight=factor_, part=part):
            scale = constants.number(constants.evaluate(scope, factor_), factor_.span)
            return _terms(scope, laws, part, constants.times(weight, scale, factor_.span))
        case nodes.Weight(span=span):
            raise Refused(goal_errors.constant_term(span))
        case nodes.Divergence():
            return [_divergence(scope, laws, node, weight)]
        case nodes.Hinge():
            return [_hinge(scope, laws, node, weight)]


def _hinge(scope: Scope, laws: Laws, node: nodes.Hinge, weight: Fraction) -> Hinge:
    if constants.evaluate(scope, node.floor) != 0:
        raise Refused(goal_errors.hinge_floor(node.floor.span))
    parts = node.sum.terms if isinstance(node.sum, nodes.Sum) else ((1, node.sum),)
    margin, terms = Fraction(0), list[Divergence]()
    for sign, part in parts:
        if isinstance(part, nodes.Weight):
            margin += sign * constants.number(constants.evaluate(scope, part.value), part.span)
            continue
        for term in _terms(scope, laws, part, Fraction(sign)):
            if isinstance(term, Hinge):
                raise Refused(goal_errors.hinge_nested(term.span))
            terms.append(term)
    if not terms:
        raise Refused(goal_errors.hinge_empty(node.span))
    return Hinge(margin, tuple(terms), weight, span=node.span)


def _divergence(scope: Scope, laws: Laws, node: nodes.Divergence, weight: Fraction) -> Divergence:
    row = DIVERGENCES.get(node.name.text)
    if row is None:
        raise Refused(goal_errors.unknown_divergence(node.name.span, node.name.text))
    left = _side(scope, laws, node.left)
    right = _side(scope, laws, node.right, closed=row.same_variables)
    if row.penalty:
        _verify_penalty(scope, node, right)
    elif row.same_variables and set(left.head) != set(right.head):
        completed = _completed(laws, node.left, left, right.head) or _completed(laws, node.right, right, left.head)
        raise Refused(goal_errors.different_variables(node.span, left.head, right.head, completed))
    known = {*left.head, *(right.head if row.penalty else ())}
    outside = [v for v in _variables(right) if v not in known]
    if outside and not row.same_variables:
        span = next((p for f in node.right.factors for v in outside if (p := place(f.span, v)) != f.span), None)
        raise Refused(
            goal_errors.cross_entropy_variables(
                span or node.right.span, row, outside, _completed(laws, node.left, left, outside)
            )
        )
    return Divergence(row.name, left, right, weight, span=node.span)


def _verify_penalty(scope: Scope, node: nodes.Divergence, right: Side) -> None:
    """A penalty's right side is one law of a finite label, given something."""
    factors = [f for b in right.joint.branches for f in b.factors]
    one = len(factors) == 1 and len(factors[0].outputs) == 1 and factors[0].givens
    if not one or scope.variables[base(factors[0].outputs[0])].space.kind != "finite":
        raise Refused(goal_errors.penalty_classifier(node.right.span, node.right.span.text))


def _completed(laws: Laws, node: nodes.Product, side: Side, wanted: Iterable[str]) -> str | None:
    """The side times defined laws that generate from it what it lacks of `wanted`; None if it lacks nothing."""
    made: list[str] = []
    for v in wanted:
        if v not in side.head:
            makers = [law for law in laws.values() if law.outputs == (v,) and law.givens]
            known = next((law for law in makers if set(law.givens) <= set(side.head)), None)
            if known is None:
                return None
            made.append(known.text)
    return " * ".join([line(node.span.text), *made]) if made else None


def _variables(side: Side) -> tuple[str, ...]:
    givens = [v for b in side.joint.branches for f in b.factors for v in f.givens]
    made = {v for b in side.joint.branches for v in generated(b.factors)}
    return (*side.head, *(v for v in dict.fromkeys(givens) if v not in made))


def _side(scope: Scope, laws: Laws, node: nodes.Product, *, closed: bool = True) -> Side:
    """A named joint by itself keeps its head; any other product has all that it generates as its head."""
    if node.weight is not None:
        raise Refused(joint_errors.weight_outside_mixture(node.weight.span))
    factors = tuple(factor(scope, f) for f in node.factors)
    for f in factors:
        if f.law not in laws:
            raise Refused(scope.broken[f.law])
    if len(factors) == 1 and not factors[0].old:
        law = laws[factors[0].law]
        if isinstance(law.body, Joint) and not law.givens and law.outputs == factors[0].outputs:
            return Side(law_text(law.label, law.outputs, ()), law.outputs, law.body, span=node.span)
    ordered = sampling_order(factors, closed=closed, scope=scope)
    text = " ".join(factor_text(laws, f) for f in ordered)
    return Side(text, generated(ordered), Joint((Branch(ordered, span=node.span),)), span=node.span)


def factor_text(laws: Laws, f: Factor) -> str:
    label = laws[f.law].label
    return ("old " if f.old else "") + law_text(label, f.outputs, f.givens)


# --- who is trained


def target(scope: Scope, laws: Laws, node: nodes.Target) -> Target:
    """A net, a param, or a Free law by its key."""
    free = [k for k, known in laws.items() if isinstance(known.body, Free)]
    known = (*scope.nets, *scope.params, *free)
    match node:
        case nodes.Name(text=name, span=span):
            if name in scope.nets or name in scope.params:
                return name
            raise scope.missing(name, lambda: goal_errors.target_unknown(span, name, known))
        case nodes.Law():
            key = law_key(node.label.text, tuple(n.text for n in node.outputs), tuple(n.text for n in node.givens))
            if key not in laws:
                raise scope.missing(key, lambda: goal_errors.target_unknown(node.span, key, known))
            if not isinstance(laws[key].body, Free):
                raise Refused(goal_errors.not_free(node.span, laws[key].text, laws[key].span, _inside(scope, key)))
            return key


def _inside(scope: Scope, key: str) -> tuple[str, ...]:
    """The nets and params that a law's right side names."""
    if key not in scope.definitions:
        return ()
    words = re.findall(r"\w+", scope.definitions[key].body.span.text)
    return tuple(w for w in dict.fromkeys(words) if w in scope.nets or w in scope.params)


def players(scope: Scope, laws: Laws, statements: tuple[nodes.Statement, ...]) -> tuple[PlayerGroup, ...]:
    found: dict[str, PlayerGroup] = {}
    placed: dict[Target, Span] = {}
    for node in statements:
        if not isinstance(node, nodes.Player):
            continue
        name = node.name
        try:
            if name.text in found:
                raise Refused(errors.declared_twice(name.span, "player", name.text, found[name.text].span))
            targets: list[Target] = []
            for t in node.targets:
                held = target(scope, laws, t)
                if held in placed:
                    raise Refused(goal_errors.in_two_players(t.span, held, placed[held]))
                placed[held] = t.span
                targets.append(held)
            found[name.text] = PlayerGroup(name.text, tuple(targets), span=name.span)
        except Refused as refused:
            scope.spoil(name.text, refused.report)
            scope.refuse(refused.report)
    return tuple(found.values())


# --- how they are trained


TRAIN: tuple[Option, ...] = (
    Option("batch", "integer", 128, "data per step", least=1),
    Option("steps", "integer", None, "rounds of the run", least=0),
    Option("epochs", "number", None, "passes over the data, instead of steps", least=0),
    Option("lr", "number", 1e-3, "learning rate", least=0),
    Option("beta1", "number", 0.9, "Adam's first moment", least=0, below=1),
    Option("beta2", "number", 0.999, "Adam's second moment", least=0, below=1),
    Option("weight_decay", "number", 0.0, "decoupled weight decay", least=0),
    Option("optimizer", "text", "adam", "which optimiser", ("adam", "adamw", "sgd", "rmsprop")),
    Option("schedule", "text", "constant", "of the learning rate over the run", ("constant", "cosine", "linear")),
    Option("warmup", "integer", 0, "rounds in which the learning rate rises, before its schedule", least=0),
    Option(
        "updates", "text", "alternating", "one player after the other, or all at once", ("alternating", "simultaneous")
    ),
    Option("clip", "number", None, "largest norm of the gradient", least=0),
    Option("ema", "number", None, "decay of an exponential moving average of the parameters", least=0, below=1),
    Option("precision", "text", "float32", "of the networks' arithmetic while they train", ("float32", "bf16")),
    Option("seed", "integer", 0, "of all random numbers", least=0),
    Option("every", "integer", 1, "rounds between this player's turns", least=1),
    Option("repeat", "integer", 1, "steps in each turn", least=1),
)
"""What `train(...)` takes; `every` and `repeat` for a player only."""

FOR_EVERYONE = frozenset({"batch", "steps", "epochs", "seed", "updates", "precision"})
FOR_A_PLAYER = frozenset({"every", "repeat"})


def train(scope: Scope, node: nodes.Train, owners: Mapping[str, Target]) -> TrainOptions:
    """The options of one `train` statement; `owners` maps what may stand before the brackets to a target."""
    holder: Target | None = None
    if node.player is not None:
        name = node.player
        if name.text not in owners:
            raise scope.missing(name.text, lambda: goal_errors.target_unknown(name.span, name.text, owners))
        holder = owners[name.text]
    allowed = [o for o in TRAIN if o.name not in (FOR_EVERYONE if holder else FOR_A_PLAYER)]
    whom = f"train {node.player.text}" if node.player else "train"
    for keyword in node.keywords:
        _verify_belongs(keyword.name, whom, holder, allowed)
    found = constants.options(scope, whom, allowed, node.keywords)
    places = {k.name.text: k.name.span for k in node.keywords}
    if "steps" in places and "epochs" in places:
        first, second = sorted((places["steps"], places["epochs"]), key=lambda span: span.start)
        raise Refused(goal_errors.steps_and_epochs(second, first))
    return TrainOptions(holder, found, span=node.span)


def _verify_belongs(name: nodes.Name, whom: str, holder: Target | None, allowed: Sequence[Option]) -> None:
    """An option of the run does not stand with a player, nor one of a player with the run."""
    if any(o.name == name.text for o in TRAIN) and all(o.name != name.text for o in allowed):
        raise Refused(errors.option_elsewhere(name.span, whom, name.text, "train" if holder else "train D"))


def said(model: Model, option: str) -> OptionValue | None:
    """What the spec's `train(...)` says of an option that is everyone's."""
    statements = (t.options for t in model.train if t.target is None)
    return next((value for options in statements for name, value in options if name == option), None)


def check_train_value(name: str, value: OptionValue, span: Span) -> None:
    """Raises `Refused` where a training option lies outside its range."""
    row = next((o for o in TRAIN if o.name == name), None)
    if row is not None and isinstance(value, int | float) and not isinstance(value, bool):
        constants.within(row, Fraction(value), span)
