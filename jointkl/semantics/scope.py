"""What the statements declare, by name, and the mistakes found so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from jointkl.diagnostics import Report, Span
from jointkl.semantics import errors
from jointkl.semantics.catalogue import BUILDERS, PLANNED_BUILDERS, PLANNED_SOURCES, SOURCES
from jointkl.semantics.families import FAMILIES, NOT_FAMILIES
from jointkl.semantics.model import Variable, base, law_key
from jointkl.syntax import nodes

FUNCTIONS: frozenset[str] = frozenset({"exp", "log", "sqrt", "softplus", "sigmoid", "tanh", "softmax"})
"""Functions of values, one argument each."""

CONSTANT_FUNCTIONS: frozenset[str] = frozenset({"linspace", "cumprod"})


class Refused(Exception):
    """One mistake: what is being elaborated cannot be finished, the rest of the spec still can."""

    def __init__(self, report: Report) -> None:
        self.report = report
        super().__init__(report.message)


@dataclass(slots=True)
class Scope:
    """The names of a spec while it is being checked; the only mutable thing of this room."""

    reports: list[Report] = field(default_factory=list[Report])
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    lets: dict[str, nodes.Let] = field(default_factory=dict[str, nodes.Let])
    params: dict[str, tuple[nodes.Param, Span]] = field(default_factory=dict[str, tuple[nodes.Param, Span]])
    nets: dict[str, nodes.Net] = field(default_factory=dict[str, nodes.Net])
    definitions: dict[str, nodes.Definition] = field(default_factory=dict[str, nodes.Definition])
    overrides: Mapping[str, str] = field(default_factory=dict[str, str])

    def refuse(self, report: Report) -> None:
        if report not in self.reports:
            self.reports.append(report)

    def labels(self) -> dict[str, Span]:
        """Each label with the span where it is first defined."""
        found: dict[str, Span] = {}
        for definition in self.definitions.values():
            found.setdefault(definition.law.label.text, definition.law.label.span)
        return found

    def variable(self, name: nodes.Name) -> Variable:
        """The variable that `name` is or copies."""
        known = self.variables.get(base(name.text))
        if known is None:
            raise Refused(errors.unknown(name.span, "variable", base(name.text), self.variables))
        return known


def declare(statements: tuple[nodes.Statement, ...], overrides: Mapping[str, str]) -> Scope:
    """Sort the statements by what they name. Mistakes are collected in the scope's `reports`."""
    scope = Scope(overrides=overrides)
    for statement in statements:
        match statement:
            case nodes.Let(name=name):
                if _is_new(scope, "constant", name, {k: v.name.span for k, v in scope.lets.items()}):
                    scope.lets[name.text] = statement
            case nodes.Net(name=name):
                if _is_new(scope, "net", name, {k: v.name.span for k, v in scope.nets.items()}):
                    scope.nets[name.text] = statement
            case nodes.Param(names=names):
                for name in names:
                    if _is_new(scope, "param", name, {k: span for k, (_, span) in scope.params.items()}):
                        scope.params[name.text] = (statement, name.span)
            case nodes.Definition(law=law):
                _add_definition(scope, statement, law)
            case _:
                pass
    _verify_one_namespace(scope)
    return scope


def _is_new(scope: Scope, what: str, name: nodes.Name, known: Mapping[str, Span]) -> bool:
    if name.text in known:
        scope.refuse(errors.declared_twice(name.span, what, name.text, known[name.text]))
    elif name.text != base(name.text):
        scope.refuse(errors.primed_declaration(name.span, what))
    else:
        return True
    return False


def _add_definition(scope: Scope, statement: nodes.Definition, law: nodes.Law) -> None:
    key = law_key(law.label.text, tuple(n.text for n in law.outputs), tuple(n.text for n in law.givens))
    if key in scope.definitions:
        scope.refuse(errors.declared_twice(law.span, "law", key, scope.definitions[key].law.span))
    else:
        scope.definitions[key] = statement


def _named(scope: Scope) -> Iterator[tuple[str, str, Span]]:
    """Every name of the shared namespace: name, what it is, where."""
    for name, let in scope.lets.items():
        yield name, "constant", let.name.span
    for name, (_, span) in scope.params.items():
        yield name, "param", span
    for name, net in scope.nets.items():
        yield name, "net", net.name.span
    for name, span in scope.labels().items():
        yield name, "label", span


def _verify_one_namespace(scope: Scope) -> None:
    known: dict[str, tuple[str, Span | None]] = {
        **{name: ("source", None) for name in (*SOURCES, *PLANNED_SOURCES)},
        **{name: ("builder of nets", None) for name in (*BUILDERS, *PLANNED_BUILDERS)},
        **{name: ("family", None) for name in (*FAMILIES, *NOT_FAMILIES)},
        **{name: ("function", None) for name in (*FUNCTIONS, *CONSTANT_FUNCTIONS)},
    }
    for name, what, span in _named(scope):
        if name in known:
            other, first = known[name]
            scope.refuse(errors.name_clash(span, name, what, other, first))
        else:
            known[name] = (what, span)


def verify_variables_apart(scope: Scope) -> None:
    """A variable may bear a label's name, but not that of a param or a constant: both stand in values."""
    for name, what, span in _named(scope):
        if what != "label" and name in scope.variables:
            scope.refuse(errors.name_clash(span, name, what, "variable", scope.variables[name].span))
