"""A linear-Gaussian instance of a spec: the same joints, goals and players, every law a Normal with a linear mean.

Every variable that is not finite becomes `real` or `real[2]`, every family of one a Normal, its mean a `linear()` net
or a sum of what the law is made of, its spread a number or a positive param; a Dirac stays a Dirac, of a linear net.
Joints and marginals are Gaussians then, and gradients along reparameterised paths have exact values. Finite variables
are labels alone; classifiers and critics are small nets with `tanh`, or the exact optimum put in their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jointkl.audit.making import NoInstance, calls, defined, numbers, parameters, plain, trained
from jointkl.reference.goals import paths
from jointkl.reference.players import classifier, divergences
from jointkl.semantics.model import (
    Constant,
    Dirac,
    Distribution,
    Evidence,
    Factor,
    Free,
    Indexed,
    Joint,
    Law,
    Model,
    NetCall,
    Operation,
    ParameterRef,
    Value,
    VariableRef,
    base,
)
from jointkl.semantics.spaces import Space
from jointkl.syntax import nodes
from jointkl.syntax.parse import parse_text

MOST_WIDE = 2
"""So many variables that hold several numbers each can hold two in the instance; of more each is one number."""

MOST_COPIES = 2
"""Importance-weighted copies in the instance."""

REFEREE = "mlp(3, activation=tanh)"


@dataclass(slots=True)
class Making:
    """An instance while it is made: `width` numbers for each real variable, 0 for a scalar."""

    model: Model
    width: int
    referees: set[str] = field(default_factory=set[str])
    """Nets of classifiers and critics."""
    classifiers: set[str] = field(default_factory=set[str])
    """Laws that are classifiers."""

    @property
    def space(self) -> str:
        return f"[{self.width}]" if self.width else ""

    def number(self, key: str) -> str:
        """A number, or one for each place, of no special value."""
        found = numbers(key, self.width or 1)
        return str(found if self.width else found[0])

    def spread(self, key: str) -> str:
        found = [round(0.5 + abs(x) / 2, 3) for x in numbers(f"{key} spread", self.width or 1)]
        return str(found if self.width else found[0])


def instance(model: Model, *, wide: bool = False) -> str:
    """The text of a linear-Gaussian instance, its variables two numbers each if `wide`. Raises `NoInstance`."""
    making = Making(model, 2 if wide else 0)
    _referees(making)
    _verify(making)
    lines = [
        line for s in parse_text(model.source.text, model.source.name).statements for line in _statement(making, s)
    ]
    return "\n".join(lines) + "\n"


def widens(model: Model) -> bool:
    """Can the instance be wide? No scalars stand beside vectors, and no grid grows beyond what can be summed over."""
    real = [v.space for v in model.variables.values() if v.space.kind != "finite"]
    weighed = any(g.options.importance for g in model.goals)
    seen = [c.givens for g in model.goals for d in divergences(g) if (c := classifier(model, d)) is not None]
    critics = {g.options.critic for g in model.goals} - {None}
    few = not weighed and len(critics) <= 1 and len(real) <= MOST_WIDE and all(len(v) == 1 for v in seen)
    return few and bool(real) and all(s.shape for s in real)


def _referees(making: Making) -> None:
    for goal in making.model.goals:
        for d in divergences(goal):
            c = classifier(making.model, d)
            if c is not None:
                making.classifiers.add(c.law)
            if d.row.penalty:
                making.classifiers.add(d.right.joint.branches[0].factors[0].law)
        if goal.options.critic is not None:
            making.referees.add(goal.options.critic[0])
            if any(not isinstance(v, VariableRef) for v in goal.options.critic[1]):
                raise NoInstance(f"{goal.options.critic[0]} is applied to what another net gives")
    for key in making.classifiers:
        making.referees |= {c.net for v in parameters(making.model.laws[key]) for c in calls(v)}


def _verify(making: Making) -> None:
    """What has no linear-Gaussian form. Raises `NoInstance`."""
    model = making.model
    labels = {b.label for law in model.laws.values() if isinstance(law.body, Joint) for b in law.body.branches}
    labels |= {base(v) for key in making.classifiers for v in model.laws[key].outputs}
    for v in model.variables.values():
        if v.space.kind == "finite" and v.name not in labels:
            raise NoInstance(f"{v.name} is finite and no label")
    for p in model.params.values():
        if p.space.kind not in ("real", "positive"):
            raise NoInstance(f"{p.name} is {p.space}")
    for law in model.laws.values():
        if isinstance(law.body, Free):
            raise NoInstance(f"{law.text} is Free")
        for v in parameters(law):
            _verify_value(making, law, v)
    for goal in model.goals:
        for d in divergences(goal):
            for side in (d.left, d.right):
                for _, path in paths(model, side):
                    _verify_draws(model, path.factors)


def _verify_draws(model: Model, factors: Sequence[Factor]) -> None:
    """Two draws beside one of data(x, x'): a key could be a column of the one or the other. Raises `NoInstance`."""
    drawn: dict[str, list[Law]] = {}
    for law in (model.laws[f.law] for f in factors):
        if isinstance(law.body, Evidence):
            drawn.setdefault(law.body.rows, []).append(law)
    for rows, laws in drawn.items():
        copies = {base(v) for v in model.laws[rows].outputs if v != base(v)}
        if len(laws) > 2 and any(law.key != rows and copies & {base(v) for v in law.outputs} for law in laws):
            raise NoInstance(f"three draws of {model.laws[rows].text}, some of them of a part of its copies")


def _verify_value(making: Making, law: Law, v: Value) -> None:
    for call in calls(v):
        if any(not isinstance(i, VariableRef | ParameterRef) for i in call.inputs):
            raise NoInstance(f"{call.net} is applied to what another net gives")
        if call.net in making.referees and law.key not in making.classifiers:
            raise NoInstance(f"{call.net} is a classifier's net and {law.text}'s too")
    if any(isinstance(o, Indexed) for o in plain(v)):
        raise NoInstance(f"{law.text} reads a param at an index")


# --- statements


def _statement(making: Making, node: nodes.Statement) -> list[str]:
    model = making.model
    match node:
        case nodes.Var():
            return [f"var {n.text}: {_space(making, n.text)}" for n in node.names]
        case nodes.Param():
            return [f"param {n.text}: {model.params[n.text].space.kind}{making.space}" for n in node.names]
        case nodes.Net(name=name):
            if name.text not in model.nets:
                return []
            return [f"net {name.text} = {REFEREE if name.text in making.referees else 'linear()'}"]
        case nodes.Definition():
            return _definition(making, node)
        case nodes.Train():
            return trained(node)
        case nodes.Goal():
            return [_goal(node)]
        case nodes.Let() | nodes.Player():
            return [node.span.text]


def _space(making: Making, name: str) -> str:
    variable = making.model.variables[name]
    if variable.space.kind == "finite":
        return str(variable.space)
    return f"real{making.space}{' global' if variable.is_global else ''}"


def _goal(node: nodes.Goal) -> str:
    text = node.span.text
    for option in node.options:
        if option.name.text == "importance":
            start, end = (place - node.span.start for place in (option.value.span.start, option.value.span.end))
            shown = option.value.span.text
            if not shown.isdigit() or int(shown) > MOST_COPIES:
                text = text[:start] + str(MOST_COPIES) + text[end:]
    return text


# --- laws


def _definition(making: Making, node: nodes.Definition) -> list[str]:
    law = defined(making.model, node)
    left = node.law.span.text
    if law is None:
        return []
    match law.body:
        case Free() | Joint():
            return [node.span.text]
        case Distribution():
            if law.key in making.classifiers:
                return [_classifier(making, law, left, node)]
            if making.model.space(law.outputs[0]).kind == "finite":
                raise NoInstance(f"{law.text} draws a finite variable")
            kept = making.width == 0 and _is_linear(making.model, law)
            return [node.span.text if kept else f"{left} = Normal({_mean(making, law)}, {_scale(making, law)})"]
        case Dirac(density=density):
            more = f", density=Normal({making.spread(law.key)})" if density is not None else ""
            return [f"{left} = Delta({_mean(making, law)}{more})"]
        case _:
            return [f"{left} = evidence()"]


def _classifier(making: Making, law: Law, left: str, node: nodes.Definition) -> str:
    """A classifier of one net keeps the form in which it is written; the parameter of any other is the sum of its
    nets."""
    found = [c for v in parameters(law) for c in calls(v)]
    if not found:
        raise NoInstance(f"{law.text} has no net")
    body = law.body
    assert isinstance(body, Distribution)
    match body.parameters:
        case ((_, NetCall()),) | ((_, Operation("sigmoid" | "softmax", (NetCall(),))),):
            return node.span.text
        case _:
            return f"{left} = {body.family}(logits = {' + '.join(dict.fromkeys(map(_call, found)))})"


def _call(call: NetCall) -> str:
    return f"{call.net}({', '.join(v.name for v in call.inputs if isinstance(v, VariableRef | ParameterRef))})"


def _mean(making: Making, law: Law) -> str:
    """The sum of what a law is made of: its nets, its variables and params outside them."""
    spread = _spread_param(law)
    terms = list(dict.fromkeys(_call(c) for v in parameters(law) for c in calls(v)))
    for o in dict.fromkeys(o for v in parameters(law) for o in plain(v)):
        if isinstance(o, VariableRef):
            if making.model.space(o.name).kind != "finite":
                terms.append(f"{making.number(f'{law.key} {o.name}')} * {o.name}")
        elif isinstance(o, ParameterRef) and o.name != spread:
            terms.append(o.name)
    if not terms:
        if isinstance(law.body, Distribution) and _numbers(law) == (0.0, 1.0):
            return "0"
        terms.append(making.number(law.key))
    return " + ".join(terms)


def _scale(making: Making, law: Law) -> str:
    spread = _spread_param(law)
    if spread is not None:
        return spread
    return "1" if _numbers(law) == (0.0, 1.0) else making.spread(law.key)


def _numbers(law: Law) -> tuple[object, ...]:
    return tuple(v.number if isinstance(v, Constant) else v for v in parameters(law))


def _spread_param(law: Law) -> str | None:
    """A param that is a scale as it stands."""
    body = law.body
    if not isinstance(body, Distribution) or len(body.parameters) < 2:
        return None
    others = {o for n, v in body.parameters if n != "scale" for o in plain(v)}
    for name, v in body.parameters:
        if name == "scale" and isinstance(v, ParameterRef) and v not in others:
            return v.name
    return None


# --- what is linear as it is written


def _is_linear(model: Model, law: Law) -> bool:
    """A Normal of scalars whose mean is affine in its givens and whose spread does not depend on them."""
    body = law.body
    assert isinstance(body, Distribution)
    scalars = all(model.space(v) == Space("real") for v in (*law.outputs, *law.givens))
    named = {p for v in parameters(law) for p in _params(v)}
    if body.family != "Normal" or not scalars or any(model.params[p].space.shape for p in named):
        return False
    values = dict(body.parameters)
    return _degree(values["loc"]) <= 1 and _degree(values["scale"]) == 0


def _params(v: Value) -> Iterator[str]:
    match v:
        case ParameterRef(name=name):
            yield name
        case NetCall(inputs=inner) | Operation(operands=inner):
            for i in inner:
                yield from _params(i)
        case Indexed(value=inner):
            yield from _params(inner)
        case Constant() | VariableRef():
            return


def _degree(v: Value) -> int:
    """The degree of a value in a law's givens; 2 also for what is no polynomial, and for one of several heads."""
    match v:
        case Constant() | ParameterRef():
            return 0
        case VariableRef():
            return 1
        case NetCall(inputs=inputs, head=head):
            return 2 if head is not None else max((_degree(i) for i in inputs), default=0)
        case Operation("+" | "-" | "neg", operands):
            return max(map(_degree, operands))
        case Operation("*", operands):
            return sum(map(_degree, operands))
        case Operation("/", (top, below)):
            return _degree(top) + 2 * _degree(below)
        case Operation(_, operands):
            return 2 * max(map(_degree, operands))
        case Indexed():
            return 2
