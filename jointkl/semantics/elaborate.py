"""Tree to model: every name resolved, every size known, every mistake of the spec reported together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from jointkl.diagnostics import JklError, Refused
from jointkl.semantics import constants, errors, joint_errors, law_errors
from jointkl.semantics.catalogue import SOURCES
from jointkl.semantics.distributions import dirac, distribution
from jointkl.semantics.evidence import evidence, unbound
from jointkl.semantics.families import FAMILIES
from jointkl.semantics.goals import goal, players, train
from jointkl.semantics.joints import joint, text_of, unknown_label, verify_distinct
from jointkl.semantics.model import Body, Evidence, Free, Joint, Law, Model, Param, Variable, base, law_text
from jointkl.semantics.networks import networks, verify_penalties
from jointkl.semantics.scope import Scope, declare
from jointkl.semantics.spaces import Space
from jointkl.semantics.values import Context, param_space
from jointkl.semantics.wording import words
from jointkl.syntax import nodes

Thing = TypeVar("Thing")


def elaborate(spec: nodes.Spec, lets: Mapping[str, str] | None = None) -> Model:
    """The checked model of a spec; `lets` overrides its constants, by name.

    Raises `JklError` with every mistake found; what only follows from one is not told.
    """
    scope = declare(spec.source, spec.statements, lets or {})
    constants.settle(scope)
    _variables(scope)
    params = _params(scope)
    laws = _laws(scope)
    unbound(scope, spec.statements, laws)
    _verify_no_nesting(scope, laws)
    goals = _each(scope, spec.statements, nodes.Goal, lambda node: goal(scope, laws, node))
    groups = players(scope, laws, spec.statements)
    owners = {name: name for name in (*scope.nets, *scope.params)} | {g.name: g.targets[0] for g in groups}
    options = _each(scope, spec.statements, nodes.Train, lambda node: train(scope, node, owners))
    critics = frozenset(g.options.critic[0] for g in goals if g.options.critic)
    nets = networks(scope, critics)
    verify_penalties(scope, nets, laws, goals)
    if scope.reports:
        raise JklError(scope.reports)
    return Model(spec.source, scope.variables, params, nets, laws, goals, groups, options)


Node = TypeVar("Node", nodes.Goal, nodes.Train)


def _each(
    scope: Scope, statements: tuple[nodes.Statement, ...], kind: type[Node], make: Callable[[Node], Thing]
) -> tuple[Thing, ...]:
    """What `make` makes of every statement of a kind; its mistakes are noted."""
    found: list[Thing] = []
    for node in statements:
        if isinstance(node, kind):
            try:
                found.append(make(node))
            except Refused as refused:
                scope.refuse(refused.report)
    return tuple(found)


# --- declarations


def _variables(scope: Scope) -> None:
    spaces: dict[int, Space | Refused] = {}
    for name, (node, span) in scope.declared.items():
        if id(node) not in spaces:
            try:
                spaces[id(node)] = constants.space(scope, node.space)
            except Refused as refused:
                spaces[id(node)] = refused
        found = spaces[id(node)]
        if isinstance(found, Refused):
            scope.spoil(name, found.report)
        else:
            scope.variables[name] = Variable(name, found, node.is_global, span=span)


def _params(scope: Scope) -> dict[str, Param]:
    found: dict[str, Param] = {}
    for name, (_, span) in scope.params.items():
        try:
            found[name] = Param(name, param_space(scope, name), span=span)
        except Refused as refused:
            scope.spoil(name, refused.report)
    return found


# --- laws


def _laws(scope: Scope) -> dict[str, Law]:
    found: dict[str, Law] = {}
    for key, node in scope.definitions.items():
        try:
            _verify_left_side(scope, node)
        except Refused as refused:
            scope.spoil(key, refused.report)
            scope.spoil(f"{node.law.label.text}(", refused.report)
    for key, node in scope.definitions.items():
        try:
            if key not in scope.broken:
                found[key] = _law(scope, node)
        except Refused as refused:
            scope.spoil(key, refused.report)
    return found


def _law(scope: Scope, node: nodes.Definition) -> Law:
    law = node.law
    outputs, givens = tuple(n.text for n in law.outputs), tuple(n.text for n in law.givens)
    body = _body(scope, node)
    _verify_globals(scope, law, body)
    return Law(law.label.text, outputs, givens, body, span=law.span, definition=node.body.span)


def _verify_globals(scope: Scope, law: nodes.Law, body: Body) -> None:
    """A global has one value for all data: it is drawn before them, from what is global too."""
    if isinstance(body, Joint):  # its factors are held to it themselves
        label = next((n for n in law.outputs if n.text == body.label), None)
        if label is not None and scope.variable(label).is_global:
            raise Refused(law_errors.global_label(label.span, label.text, scope.variable(label).span))
        return
    local = next((g for g in law.givens if not scope.variable(g).is_global), None)
    for name in law.outputs:
        variable = scope.variable(name)
        if variable.is_global and isinstance(body, Evidence):
            raise Refused(law_errors.global_evidence(name.span, name.text, variable.span))
        if variable.is_global and local is not None:
            raise Refused(law_errors.global_given_local(local.span, name.text, local.text, variable.span))


def _verify_left_side(scope: Scope, node: nodes.Definition) -> None:
    """Known variables, each once; a copy only beside what it copies, or in a law given a copy of another of its
    variables, `p(z'|z,x')`, which is matched in order."""
    law = node.law
    names = (*law.outputs, *law.givens)
    for name in names:
        scope.variable(name, _label_space(node, name))
    verify_distinct(names)
    if law.givens and len({base(name.text) for name in names}) < len(names):
        return
    known = {name.text for name in names}
    for name in names:
        if base(name.text) not in known:
            outputs, givens = (tuple(base(n.text) for n in part) for part in (law.outputs, law.givens))
            raise Refused(errors.lone_copy(name.span, name.text, law_text(law.label.text, outputs, givens)))


def _label_space(node: nodes.Definition, name: nodes.Name) -> str:
    """The space that a mixture's label would have, of its branches' values; `real` for any other variable."""
    if not isinstance(node.body, nodes.Mixture) or node.body.branches[0].label.text != name.text:
        return "real"
    return "{" + words(dict.fromkeys(sorted(b.value.text for b in node.body.branches))) + "}"


def _body(scope: Scope, node: nodes.Definition) -> Body:
    law = node.law
    match node.body:
        case nodes.Bare(name=name) if name.text == "Free":
            return _free(scope, node)
        case nodes.Bare(name=name):
            raise _bare(scope, law, name)
        case nodes.Product(factors=(nodes.Factor(call=call, old=False),), weight=None) if _is_primitive(call):
            return _primitive(scope, law, call)
        case nodes.Product() | nodes.Mixture():
            return joint(scope, node.body, law)


def _bare(scope: Scope, law: nodes.Law, name: nodes.Name) -> Refused:
    """A name alone on the right, which only `Free` may be."""
    text = law.span.text
    if name.text in FAMILIES:
        written = f"{text} = {name.text}({', '.join(p.name for p in FAMILIES[name.text].parameters)})"
        return Refused(law_errors.without_brackets(name.span, "family", name.text, written))
    if name.text in SOURCES:
        return Refused(law_errors.without_brackets(name.span, "source", name.text, f"{text} = {name.text}()"))
    tables = {"net": scope.nets, "param": scope.params, "constant": scope.lets, "label": scope.labels}
    for what, known in tables.items():
        if name.text in known:
            value = f"{name.text}({', '.join(n.text for n in law.givens) or '..'})" if what == "net" else name.text
            help = f"{text} = Delta({value})" if what != "label" else f"{text} = {_applied(scope, law, name.text)}"
            return Refused(joint_errors.not_a_law(name.span, what, name.text, None, help))
    return unknown_label(scope, name)


def _applied(scope: Scope, law: nodes.Law, label: str) -> str:
    """A law of `label`, over the outputs of `law` if there is one."""
    laws = [d.law for d in scope.definitions.values() if d.law.label.text == label]
    outputs = [n.text for n in law.outputs]
    return text_of(next((known for known in laws if [n.text for n in known.outputs] == outputs), laws[0]))


def _is_primitive(call: nodes.Call) -> bool:
    return call.name.text in (*FAMILIES, *SOURCES, "Delta")


def _primitive(scope: Scope, law: nodes.Law, call: nodes.Call) -> Body:
    name = call.name.text
    if call.givens is not None:
        outputs, givens = tuple(n.text for n in law.outputs), tuple(n.text for n in law.givens)
        written = law_text(law.label.text, outputs, (*givens, *(g.text for g in call.givens if g.text not in givens)))
        raise Refused(law_errors.bar_in_family((call.givens or (call.name,))[0].span, name, written))
    if name in SOURCES:
        return evidence(scope, call, law)
    variable = _only_output(scope, law, name)
    context = Context(scope, law)
    return dirac(context, call, variable) if name == "Delta" else distribution(context, call, variable)


def _only_output(scope: Scope, law: nodes.Law, what: str) -> Variable:
    first, *others = law.outputs
    if others:
        names = [n.text for n in law.outputs]
        givens = tuple(n.text for n in law.givens)
        written = " * ".join(law_text(law.label.text, (n,), givens) for n in names)
        raise Refused(law_errors.one_output(others[0].span, what, names, written))
    return scope.variable(first)


def _free(scope: Scope, node: nodes.Definition) -> Free:
    variable = _only_output(scope, node.law, "Free")
    if variable.space.kind != "finite":
        raise Refused(law_errors.free_needs_finite(node.body.span, variable.name, variable.space, variable.span))
    return Free()


def _verify_no_nesting(scope: Scope, laws: Mapping[str, Law]) -> None:
    """No joint is made of itself."""
    inner = {
        key: [f for b in law.body.branches for f in b.factors] if isinstance(law.body, Joint) else []
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
            elif state.get(found.law) == "open":
                names = [k for k, _ in stack]
                cycle = names[names.index(found.law) :]
                report = joint_errors.made_of_itself(laws[cycle[0]].span, cycle, found.span)
                for name in cycle:
                    scope.spoil(name, report)
                return
            elif found.law in inner and found.law not in state:
                state[found.law] = "open"
                stack.append((found.law, iter(inner[found.law])))
