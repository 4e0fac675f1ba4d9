"""What the statements declare, by name, and the mistakes found so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from jointkl.diagnostics import MOST_TOLD, JklError, Refused, Report, Source, Span
from jointkl.semantics import errors
from jointkl.semantics.catalogue import BUILDERS, SOURCES
from jointkl.semantics.families import FAMILIES, NOT_FAMILIES
from jointkl.semantics.model import Head, Variable, base, law_key
from jointkl.semantics.spaces import Space
from jointkl.syntax import nodes
from jointkl.syntax.parse import parse_text

FUNCTIONS: frozenset[str] = frozenset({"exp", "log", "sqrt", "softplus", "sigmoid", "tanh", "softmax"})
"""Functions of values, one argument each."""

CONSTANT_FUNCTIONS: frozenset[str] = frozenset({"linspace", "cumprod"})

MOST_ITEMS = {"lists": 100_000, "finite spaces": 1_000_000}
"""The lists, and the finite spaces, of a spec hold no more items than this, all together."""

Const = Fraction | str | tuple["Const", ...]


@dataclass(frozen=True, slots=True)
class NetUse:
    """One application of a network: what it is applied to, and what it must give.

    `local` says of each input whether it has a value for each datum. `dirac` marks the output of a Delta: its space is
    the network's own wherever else it is used.
    """

    net: str
    inputs: tuple[Space, ...]
    local: tuple[bool, ...]
    heads: tuple[Head, ...]
    dirac: bool
    span: Span


@dataclass(slots=True)
class Scope:
    """The names of a spec while it is being checked; the only mutable thing of this room.

    `broken` holds what cannot be used, undeclared or wrongly declared, with the report that says so: by name, or a law
    by its key. Whatever uses it is refused with that same report, which is told once.
    """

    reports: dict[Report, None] = field(default_factory=dict[Report, None])
    broken: dict[str, Report] = field(default_factory=dict[str, Report])
    lets: dict[str, nodes.Let] = field(default_factory=dict[str, nodes.Let])
    constants: dict[str, Const] = field(default_factory=dict[str, Const])
    declared: dict[str, tuple[nodes.Var, Span]] = field(default_factory=dict[str, tuple[nodes.Var, Span]])
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    params: dict[str, tuple[nodes.Param, Span]] = field(default_factory=dict[str, tuple[nodes.Param, Span]])
    nets: dict[str, nodes.Net] = field(default_factory=dict[str, nodes.Net])
    definitions: dict[str, nodes.Definition] = field(default_factory=dict[str, nodes.Definition])
    labels: dict[str, Span] = field(default_factory=dict[str, Span])
    uses: list[NetUse] = field(default_factory=list[NetUse])
    items: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MOST_ITEMS, 0))

    def refuse(self, report: Report) -> None:
        """Note a mistake. Raises `JklError` when there are too many to go on."""
        self.reports[report] = None
        if len(self.reports) >= MOST_TOLD:
            raise JklError(self.reports, stopped=True)

    def spoil(self, name: str, report: Report) -> None:
        """Note a mistake that leaves `name` unusable."""
        self.broken.setdefault(name, report)
        self.refuse(self.broken[name])

    def missing(self, name: str, report: Callable[[], Report]) -> Refused:
        """`name` cannot be used here: the mistake that broke it, or a first one, `report`."""
        if name not in self.broken:
            self.broken[name] = report()
        return Refused(self.broken[name])

    def spend(self, what: str, items: int, span: Span) -> None:
        """Count items of `what` before they are made. Raises `Refused` where there are too many in the spec."""
        self.items[what] += items
        if self.items[what] > MOST_ITEMS[what]:
            known = f"the number of all items of {what}"
            raise self.missing(f"({what})", lambda: errors.too_large(span, known, MOST_ITEMS[what]))

    def variable(self, name: nodes.Name, space: str = "real") -> Variable:
        """The variable that `name` is or copies; `space` is what it would be declared to be in, if it is not."""
        known = self.variables.get(base(name.text))
        if known is None:
            text = base(name.text)
            declare = f"var {text}: {space}"
            raise self.missing(text, lambda: errors.unknown(name.span, "variable", text, self.declared, declare))
        return known


def declare(source: Source, statements: tuple[nodes.Statement, ...], overrides: Mapping[str, str]) -> Scope:
    """Sort the statements by what they name; `overrides` replaces constants. Mistakes are noted in the scope."""
    scope = Scope()
    places: dict[tuple[str, str], Span] = {}
    for statement in statements:
        match statement:
            case nodes.Let(name=name):
                if _is_new(scope, places, "constant", name):
                    scope.lets[name.text] = statement
            case nodes.Net(name=name):
                if _is_new(scope, places, "net", name):
                    scope.nets[name.text] = statement
            case nodes.Param(names=names):
                for name in names:
                    if _is_new(scope, places, "param", name):
                        scope.params[name.text] = (statement, name.span)
            case nodes.Var(names=names):
                for name in names:
                    if _is_new(scope, places, "variable", name):
                        scope.declared[name.text] = (statement, name.span)
            case nodes.Definition(law=law):
                _add_definition(scope, statement, law)
            case nodes.Player() | nodes.Train() | nodes.Goal():
                pass
    _verify_one_namespace(scope, statements)
    _override(scope, overrides)
    return scope


def _is_new(scope: Scope, places: dict[tuple[str, str], Span], what: str, name: nodes.Name) -> bool:
    if (what, name.text) in places:
        scope.refuse(errors.declared_twice(name.span, what, name.text, places[what, name.text]))
        return False
    if name.text != base(name.text):
        for spoilt in (name.text, base(name.text)):
            scope.spoil(spoilt, errors.primed_declaration(name.span, what))
        return False
    places[what, name.text] = name.span
    return True


def _add_definition(scope: Scope, statement: nodes.Definition, law: nodes.Law) -> None:
    key = law_key(law.label.text, tuple(n.text for n in law.outputs), tuple(n.text for n in law.givens))
    if key in scope.definitions:
        scope.refuse(errors.declared_twice(law.span, "law", key, scope.definitions[key].law.span))
    else:
        scope.definitions[key] = statement
        scope.labels.setdefault(law.label.text, law.label.span)


def _override(scope: Scope, overrides: Mapping[str, str]) -> None:
    """`--let K=3` puts an expression in the place of a constant's own."""
    for name, text in overrides.items():
        source = Source("--let", f"let {name} = {text}")
        if name not in scope.lets:
            scope.refuse(errors.unknown_override(Span(source, 4, 4 + len(name)), name, scope.lets))
            continue
        try:
            (statement,) = parse_text(source.text, source.name).statements
        except (JklError, ValueError):
            scope.spoil(name, errors.bad_override(Span(source, 7 + len(name), len(source.text)), name))
            continue
        if isinstance(statement, nodes.Let):
            scope.lets[name] = nodes.Let(scope.lets[name].name, statement.value, span=statement.span)


def _named(scope: Scope, statements: Iterable[nodes.Statement]) -> Iterator[tuple[str, str, Span]]:
    """Everything that the spec names: name, what it is, where."""
    for name, let in scope.lets.items():
        yield name, "constant", let.name.span
    for name, (_, span) in scope.params.items():
        yield name, "param", span
    for name, net in scope.nets.items():
        yield name, "net", net.name.span
    for name, span in scope.labels.items():
        yield name, "label", span
    for name, (_, span) in scope.declared.items():
        yield name, "variable", span
    for node in statements:
        if isinstance(node, nodes.Player) and not any(
            isinstance(t, nodes.Name) and t.text == node.name.text for t in node.targets
        ):
            yield node.name.text, "player", node.name.span


BUILT_IN: Mapping[str, str] = {
    **dict.fromkeys(SOURCES, "source"),
    **dict.fromkeys(BUILDERS, "builder of nets"),
    **dict.fromkeys((*FAMILIES, *NOT_FAMILIES), "family"),
    **dict.fromkeys((*FUNCTIONS, *CONSTANT_FUNCTIONS), "function"),
    "data": "label",
}
"""What a spec cannot name anew."""

BESIDE_A_VARIABLE: frozenset[str] = frozenset({"label", "player", *BUILT_IN.values()})
"""What a variable may share its name with: none of it stands where a variable does."""


def _verify_one_namespace(scope: Scope, statements: Iterable[nodes.Statement]) -> None:
    known: dict[str, dict[str, Span | None]] = {name: {what: None} for name, what in BUILT_IN.items()}
    for name, what, span in sorted(_named(scope, statements), key=lambda row: row[2].start):
        others = known.setdefault(name, {})
        for other, first in others.items():
            pair = {what, other}
            if len(pair) == 2 and not ("variable" in pair and pair - {"variable"} <= BESIDE_A_VARIABLE):
                scope.refuse(errors.name_clash(span, name, what, other, first))
                break
        others[what] = span
