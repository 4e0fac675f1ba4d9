"""Nodes as expressions: what is used twice or bears a variable's name is assigned, the rest written in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jointkl.emission.library import BOUNDED
from jointkl.emission.names import Names
from jointkl.emission.places import Place, Places, Rows
from jointkl.emission.statements import Let, Statement
from jointkl.emission.tree import (
    ATOM,
    Attribute,
    Call,
    Expression,
    Name,
    Written,
    member,
    string,
    summed,
    walk,
    written,
)
from jointkl.objective import ir
from jointkl.objective.walk import are_terms, operands

N = Name("n")
"""How many data a batch holds."""
BATCH = Name("batch")
DTYPE = Attribute(member("anchor"), "dtype")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the emitted class calls its members: networks, params, their old copies, and the laws' functions."""

    nets: dict[str, str] = field(default_factory=dict[str, str])
    params: dict[str, str] = field(default_factory=dict[str, str])
    old_nets: dict[str, str] = field(default_factory=dict[str, str])
    old_params: dict[str, str] = field(default_factory=dict[str, str])
    laws: dict[str, str] = field(default_factory=dict[str, str])

    def net(self, node: ir.Net) -> Expression:
        return member(self.old_nets[node.net] if node.old else self.nets[node.net])

    def param(self, node: ir.Parameter) -> Expression:
        return member(self.old_params[node.name] if node.old else self.params[node.name])


@dataclass(frozen=True, slots=True)
class Formula:
    """`sign` * (`elements` + `constant`): elementwise over an event of `ndim` dimensions, before any reduction.

    `summed` is the same summed over everything at once, where torch has one call for it.
    """

    elements: Expression
    sign: int = 1
    ndim: int = 0
    constant: tuple[Expression, ...] = ()
    summed: Expression | None = None

    def mean(self, rows: Rows) -> tuple[Expression, bool]:
        """Summed over the event, averaged over the batch if there is one row for each datum; or whether the sum over
        the batch has yet to be divided by their number."""
        each = rows is Rows.EACH
        if self.summed is not None and each:
            return self._with_constant(self.summed, each)
        if self.ndim:
            return self._with_constant(self.elements.do("sum"), each)
        return self._with_constant(self.elements if rows is Rows.NONE else self.elements.do("mean"), False)

    def _with_constant(self, value: Expression, divided: bool) -> tuple[Expression, bool]:
        if not self.constant:
            return value, divided
        return self._plus(value / N if divided else value), False

    def _plus(self, value: Expression) -> Expression:
        for summand in self.constant:
            value = value + summand
        return value

    def each(self) -> Expression:
        """Summed over the event, one number for each datum (and copy)."""
        return self._plus(summed(self.elements, self.ndim))


@dataclass(frozen=True, slots=True)
class Forms:
    """How each kind of node is written: values as expressions, terms as formulas; and what a value is called."""

    values: Mapping[type[ir.Node], Callable[[Writer, ir.Id, Any], Expression]]
    terms: Mapping[type[ir.Node], Callable[[Writer, ir.Id, Any], Formula]]
    name: Callable[[Writer, ir.Id], str | None]


@dataclass(slots=True)
class Writer:
    """Writes the nodes of one function in order. `names` are its local names, `uses` counts the uses of each node."""

    objective: ir.Objective
    nodes: tuple[ir.Node, ...]
    attributes: Attributes
    names: Names
    forms: Forms
    uses: dict[ir.Id, int] = field(default_factory=dict[ir.Id, int])
    statements: list[Statement] = field(default_factory=list[Statement])
    written: dict[ir.Id, Expression] = field(default_factory=dict[ir.Id, Expression])
    name_of: dict[ir.Id, ir.Id] = field(default_factory=dict[ir.Id, ir.Id])
    """By a value the variable whose value it is, and whose name it will bear."""
    assigned: set[object] = field(default_factory=set[object])
    places: Places = field(init=False)
    terms: list[bool] = field(init=False)
    infinite: list[bool] = field(init=False)
    """Which nodes are made of a log-density that may be minus infinity: of a bounded family."""

    def __post_init__(self) -> None:
        self.places = Places.of(self.objective, self.nodes)
        self.terms = are_terms(self.nodes)
        self.infinite = []
        for node in self.nodes:
            bounded = isinstance(node, ir.LogProb) and node.density.family in BOUNDED
            self.infinite.append(bounded or any(self.infinite[i] for i in operands(node)))

    # --- what is used

    def count(self, roots: Iterable[ir.Id]) -> None:
        """Count how often each node that `roots` need is used."""
        pending = list(roots)
        while pending:
            i = pending.pop()
            self.uses[i] = self.uses.get(i, 0) + 1
            if self.uses[i] == 1:
                pending += operands(self.nodes[i])
                if isinstance(node := self.nodes[i], ir.Value):
                    self.name_of.setdefault(node.node, i)
        for i in sorted(self.uses, reverse=True):
            node = self.nodes[i]
            if i in self.uses and isinstance(node, ir.Shifted) and self.within(node.given, node.source) is not None:
                self._release(node.given)

    def several(self, i: ir.Id) -> bool:
        """Is a node used more than once?"""
        return self.uses.get(i, 0) > 1

    def _release(self, i: ir.Id) -> None:
        """One use less."""
        self.uses[i] -= 1
        if not self.uses[i]:
            del self.uses[i]
            for j in operands(self.nodes[i]):
                self._release(j)

    # --- how it is written

    def text(self, i: ir.Id) -> Expression:
        """The node as an expression; assigns it first if it deserves a name."""
        if i not in self.written and i in self.name_of:
            return self.text(self.name_of[i])
        if i not in self.written:
            if self.terms[i]:
                return self.formula(i).each()
            node = self.nodes[i]
            if is_variable(node):
                self._write_before(i)
            name = self.forms.name(self, i)
            made = self.expression(i)
            if name is not None:
                made = self.let(name, made)
                if isinstance(node, ir.Value):
                    self.written.setdefault(node.node, made)
            self.written[i] = made
        return self.written[i]

    def expression(self, i: ir.Id) -> Expression:
        """The node as an expression, in place."""
        node = self.nodes[i]
        return self.forms.values[type(node)](self, i, node)

    def formula(self, i: ir.Id) -> Formula:
        """The formula of a term's node; statements that it needs first are appended."""
        node = self.nodes[i]
        if self.terms[i]:
            return self.forms.terms[type(node)](self, i, node)
        if isinstance(node, ir.Apply) and node.operator == "sum":
            return Formula(self.text(node.operands[0]), ndim=node.ndim[0])
        return Formula(self.text(i))

    def let(self, name: str, value: Expression) -> Expression:
        """Assign a value; the name that it has from then on."""
        self.statements.append(Let((name,), value))
        return Name(name)

    def once(self, thing: object, wanted: str, value: Expression) -> Expression:
        """Assign the value of `thing` where that was not done yet; its name."""
        name = self.names.of(thing, wanted)
        if thing not in self.assigned:
            self.assigned.add(thing)
            self.let(name, value)
        return Name(name)

    def _write_before(self, i: ir.Id) -> None:
        """The variables that variable `i` is made of, each behind those that it is made of in turn: a chain of them is
        as long as the spec has it."""
        pending, entered = [i], set[ir.Id]()
        while pending:
            j = pending[-1]
            if j in entered or j in self.written:
                pending.pop()
                if j != i and j not in self.written and is_variable(self.nodes[j]):
                    self.text(j)
                continue
            entered.add(j)
            pending += reversed(self._needed(j))

    def _needed(self, i: ir.Id) -> tuple[ir.Id, ...]:
        """What must be written before a node."""
        node = self.nodes[i]
        if isinstance(node, ir.Shifted) and self.within(node.given, node.source) is not None:
            return (node.node,)
        return operands(node)

    def within(self, i: ir.Id, source: ir.Given) -> Expression | None:
        """A node that nothing else uses, in one expression for a batch that holds `source`; None if it is none."""
        if self.several(i):
            return None
        match self.nodes[i]:
            case ir.Given() as given if given == source:
                return BATCH[string(source.key)]
            case ir.Value(node=inner):
                return self.within(inner, source)
            case ir.Shifted(given=given, source=held) if held == source:
                return self.within(given, source)
            case ir.Net(inputs=(only,)) as net if (inner := self.within(only, source)) is not None:
                return Call(self.attributes.net(net), (inner,))
            case _:
                return None

    def named(self, i: ir.Id) -> Expression:
        """The node as a name or an attribute, for formulas that use it twice."""
        made = self.text(i)
        if made.rank == ATOM and not has_call(made):
            return made
        self.written[i] = self.let(self.names.of(("named", i), self.wanted(i)), made)
        return self.written[i]

    def wanted(self, i: ir.Id) -> str:
        """What a value is called that bears no variable's name."""
        node = self.nodes[i]
        if isinstance(node, ir.Net):
            head = self.objective.nets[node.net].heads[0].name
            return f"{node.net}_{head}" if head != "value" else f"{node.net}_out"
        return "value"

    # --- what is known of it

    def place(self, i: ir.Id) -> Place:
        """Where the dimensions of a node's value stand."""
        return self.places.found[i]

    def number(self, i: ir.Id) -> float | None:
        """The value of a node that is one number."""
        node = self.nodes[i]
        return node.number if isinstance(node, ir.Constant) else None


def is_variable(node: ir.Node) -> bool:
    """Does a node bear a variable's name, and is it made of other variables?"""
    return isinstance(node, ir.Value) or (isinstance(node, ir.Draw) and not node.given)


def has_call(e: Expression) -> bool:
    """Is anything called in an expression?"""
    return any(isinstance(part, Call) for part in walk(e))


def full(value: float, *shape: Written) -> Expression:
    """A constant of a shape, as a tensor."""
    return Call(member("full"), (written(value), *map(written, shape)))


def to_dtype(e: Expression) -> Expression:
    """Places as numbers."""
    return e.do("to", DTYPE)
