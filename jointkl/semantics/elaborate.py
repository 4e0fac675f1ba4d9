"""Tree to model: every name resolved, every size known, every mistake of the spec reported together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from jointkl.diagnostics import JklError, Span
from jointkl.semantics import constants, errors
from jointkl.semantics.catalogue import SOURCES
from jointkl.semantics.distributions import dirac, distribution, evidence, is_planned_source
from jointkl.semantics.families import FAMILIES
from jointkl.semantics.goals import goal, players, train
from jointkl.semantics.joints import joint
from jointkl.semantics.model import (
    Body,
    Evidence,
    Free,
    Goal,
    Joint,
    Law,
    Model,
    Net,
    Param,
    TrainOptions,
    Variable,
    base,
    law_key,
)
from jointkl.semantics.networks import networks
from jointkl.semantics.scope import Refused, Scope, declare, verify_variables_apart
from jointkl.semantics.values import Context, NetUse
from jointkl.syntax import nodes


def elaborate(spec: nodes.Spec, lets: Mapping[str, str] | None = None) -> Model:
    """The checked model of a spec; `lets` overrides its constants, by name.

    Raises `JklError` with every mistake found.
    """
    scope = declare(spec.statements, lets or {})
    _override_names(scope, spec)
    _variables(scope, spec)
    verify_variables_apart(scope)
    params = _params(scope)
    _constants(scope)
    uses: list[NetUse] = []
    laws = _laws(scope, uses)
    _with_unbound_evidence(scope, spec, laws)
    _verify_no_nesting(scope, laws)
    goals = tuple(g for node in spec.statements if isinstance(node, nodes.Goal) if (g := _goal(scope, laws, node)))
    critics = frozenset(g.options.critic[0] for g in goals if g.options.critic)
    nets = networks(scope, uses, critics) if not scope.reports else dict[str, Net]()
    groups = players(scope, laws, spec.statements)
    owners = {name: name for name in (*scope.nets, *scope.params)} | {g.name: g.targets[0] for g in groups}
    options = tuple(
        t for node in spec.statements if isinstance(node, nodes.Train) if (t := _train(scope, node, owners))
    )
    if scope.reports:
        raise JklError(scope.reports)
    return Model(spec.source, scope.variables, params, nets, laws, goals, groups, options)


def _override_names(scope: Scope, spec: nodes.Spec) -> None:
    for name in scope.overrides:
        if name not in scope.lets:
            scope.refuse(errors.unknown_override(name, Span(spec.source, 0, 0), scope.lets))


def _variables(scope: Scope, spec: nodes.Spec) -> None:
    for node in spec.statements:
        if not isinstance(node, nodes.Var):
            continue
        try:
            space = constants.space(scope, node.space)
        except Refused as refused:
            scope.refuse(refused.report)
            continue
        for name in node.names:
            if name.text in scope.variables:
                scope.refuse(errors.declared_twice(name.span, "variable", name.text, scope.variables[name.text].span))
            elif name.text.endswith("'"):
                scope.refuse(errors.primed_declaration(name.span, "variable"))
            else:
                scope.variables[name.text] = Variable(name.text, space, node.is_global, span=name.span)


def _params(scope: Scope) -> dict[str, Param]:
    found: dict[str, Param] = {}
    for name, (node, span) in scope.params.items():
        try:
            found[name] = Param(name, constants.space(scope, node.space), span=span)
        except Refused as refused:
            scope.refuse(refused.report)
    return found


def _constants(scope: Scope) -> None:
    """Every constant is evaluated once, so that a mistake in one nobody uses is found too."""
    for let in scope.lets.values():
        try:
            constants.evaluate(scope, let.name)
        except Refused as refused:
            scope.refuse(refused.report)


# --- laws


def _laws(scope: Scope, uses: list[NetUse]) -> dict[str, Law]:
    found: dict[str, Law] = {}
    for key, node in scope.definitions.items():
        try:
            found[key] = _law(scope, node, uses)
        except Refused as refused:
            scope.refuse(refused.report)
    return found


def _law(scope: Scope, node: nodes.Definition, uses: list[NetUse]) -> Law:
    names = (*node.law.outputs, *node.law.givens)
    for i, name in enumerate(names):
        scope.variable(name)
        if any(other.text == name.text for other in names[:i]):
            raise Refused(errors.repeated_variable(name.span, name.text))
    outputs, givens = tuple(n.text for n in node.law.outputs), tuple(n.text for n in node.law.givens)
    body = _body(scope, node, uses)
    return Law(node.law.label.text, outputs, givens, body, span=node.law.span, definition=node.body.span)


def _body(scope: Scope, node: nodes.Definition, uses: list[NetUse]) -> Body:
    law = node.law
    outputs, givens = tuple(n.text for n in law.outputs), tuple(n.text for n in law.givens)
    match node.body:
        case nodes.Bare(name=name) if name.text == "Free":
            return _free(scope, node)
        case nodes.Bare(name=name):
            callees = ("Free", *scope.labels(), *FAMILIES, *SOURCES)
            raise Refused(errors.unknown_law(name.span, name.text, (), name.text, callees))
        case nodes.Product(factors=(nodes.Factor(call=call, old=False),), weight=None) if _is_primitive(scope, call):
            return _primitive(scope, law, call, Context(scope, givens, uses))
        case nodes.Product() | nodes.Mixture():
            return joint(scope, node.body, outputs, givens)


def _is_primitive(scope: Scope, call: nodes.Call) -> bool:
    name = call.name.text
    return name in FAMILIES or name in SOURCES or name == "Delta" or is_planned_source(call)


def _primitive(scope: Scope, law: nodes.Law, call: nodes.Call, context: Context) -> Body:
    if call.givens is not None:
        raise Refused(errors.law_argument(call.span, call.span.text))
    if is_planned_source(call):
        raise Refused(errors.not_yet(call.name.span, f"the source `{call.name.text}`"))
    if call.name.text in SOURCES:
        return evidence(context, call, law)
    if len(law.outputs) != 1:
        raise Refused(errors.one_output(law.span, call.name.text, [n.text for n in law.outputs]))
    variable = scope.variable(law.outputs[0])
    if call.name.text == "Delta":
        return dirac(context, call, variable.space, law.outputs[0].text)
    return distribution(context, call, variable.space, law.outputs[0].text, variable.span)


def _free(scope: Scope, node: nodes.Definition) -> Free:
    if len(node.law.outputs) != 1:
        raise Refused(errors.one_output(node.law.span, "Free", [n.text for n in node.law.outputs]))
    variable = scope.variable(node.law.outputs[0])
    if variable.space.kind != "finite":
        raise Refused(errors.free_needs_finite(node.body.span, variable.name, variable.space, variable.span))
    return Free()


def _with_unbound_evidence(scope: Scope, spec: nodes.Spec, laws: dict[str, Law]) -> None:
    """`data(..)` that no source is bound to: a marginal of one that is, or supplied at run time.

    The widest stand first, so that `data(t)` finds `data(x, t)`.
    """
    calls = [c for c in _calls(spec.statements) if c.name.text == "data" and not c.givens]
    for call in sorted(calls, key=lambda c: -len(c.arguments)):
        outputs = tuple(base(a.text) for a in call.arguments if isinstance(a, nodes.Name))
        key = law_key("data", outputs, ())
        known = all(v in scope.variables for v in outputs) and len(outputs) == len(call.arguments) > 0
        if key in scope.definitions or key in laws or not known or len(set(outputs)) < len(outputs):
            continue
        wholes = [law for law in laws.values() if law.label == "data" and set(outputs) <= set(law.outputs)]
        whole = next((law for law in wholes if isinstance(law.body, Evidence)), None)
        if whole is not None and isinstance(whole.body, Evidence):
            places = tuple(whole.body.columns[whole.outputs.index(v)] for v in outputs)
            laws[key] = Law("data", outputs, (), replace(whole.body, columns=places), span=call.span)
        else:
            columns = tuple(range(len(outputs)))
            laws[key] = Law("data", outputs, (), Evidence("evidence", (), columns, key), span=call.span)


def _calls(statements: tuple[nodes.Statement, ...]) -> Iterator[nodes.Call]:
    """Every application of a law in the joints and goals of a spec."""
    pending: list[nodes.Product | nodes.Mixture | nodes.Bare | nodes.Objective] = []
    for node in statements:
        match node:
            case nodes.Definition(body=body):
                pending.append(body)
            case nodes.Goal(objective=objective):
                pending.append(objective)
            case _:
                pass
    while pending:
        match pending.pop():
            case nodes.Product(factors=factors):
                yield from (f.call for f in factors)
            case nodes.Mixture(branches=branches):
                pending += [b.product for b in branches]
            case nodes.Divergence(left=left, right=right):
                pending += [left, right]
            case nodes.Hinge(sum=part) | nodes.Scaled(part=part):
                pending.append(part)
            case nodes.Sum(terms=terms):
                pending += [part for _, part in terms]
            case nodes.Bare() | nodes.Weight():
                pass


def _verify_no_nesting(scope: Scope, laws: Mapping[str, Law]) -> None:
    """No joint is made of itself."""
    inner = {
        key: [f.law for b in law.body.branches for f in b.factors] if isinstance(law.body, Joint) else []
        for key, law in laws.items()
    }
    state: dict[str, str] = {}
    for start in laws:
        stack = [(start, iter(inner[start]))] if start not in state else []
        state.setdefault(start, "open")
        while stack:
            key, rest = stack[-1]
            found = next(rest, None)
            if found is None:
                state[key] = "done"
                stack.pop()
            elif state.get(found) == "open":
                names = [k for k, _ in stack]
                cycle = names[names.index(found) :]
                scope.refuse(errors.cyclic(laws[cycle[0]].span, cycle))
                return
            elif found in inner and found not in state:
                state[found] = "open"
                stack.append((found, iter(inner[found])))


# --- goals and training


def _goal(scope: Scope, laws: Mapping[str, Law], node: nodes.Goal) -> Goal | None:
    try:
        return goal(scope, laws, node)
    except Refused as refused:
        scope.refuse(refused.report)
        return None


def _train(scope: Scope, node: nodes.Train, owners: Mapping[str, str]) -> TrainOptions | None:
    try:
        return train(scope, node, owners)
    except Refused as refused:
        scope.refuse(refused.report)
        return None
