"""Nodes as lines of torch: what is used twice or bears a variable's name is assigned, the rest written in place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from jointkl.emission import densities, formulas, values
from jointkl.emission.names import Names
from jointkl.emission.places import Place, Places, Rows
from jointkl.emission.text import ATOM, CHOICE, Text, dims, quoted
from jointkl.objective import ir
from jointkl.objective.walk import are_terms, operands


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the emitted class calls its members: networks, params, their old copies, and the laws' functions."""

    nets: dict[str, str]
    params: dict[str, str]
    old_nets: dict[str, str]
    old_params: dict[str, str]
    laws: dict[str, str]


@dataclass(slots=True)
class Lines:
    """Writes the nodes of one function in order. `names` are its local names, `uses` counts the uses of each node."""

    objective: ir.Objective
    nodes: tuple[ir.Node, ...]
    attributes: Attributes
    names: Names
    uses: dict[ir.Id, int] = field(default_factory=dict[ir.Id, int])
    lines: list[str] = field(default_factory=list[str])
    written: dict[ir.Id, Text] = field(default_factory=dict[ir.Id, Text])
    name_of: dict[ir.Id, ir.Id] = field(default_factory=dict[ir.Id, ir.Id])
    """By a value the variable whose value it is, and whose name it will bear."""
    assigned: set[object] = field(default_factory=set[object])
    laid: Places = field(init=False)
    terms: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        self.laid = Places.of(self.objective, self.nodes)
        self.terms = are_terms(self.nodes)

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
            if i in self.uses and isinstance(node, ir.Shifted) and self._within(node.given, node.source) is not None:
                self._release(node.given)

    def _release(self, i: ir.Id) -> None:
        """One use less."""
        self.uses[i] -= 1
        if not self.uses[i]:
            del self.uses[i]
            for j in operands(self.nodes[i]):
                self._release(j)

    def text(self, i: ir.Id) -> Text:
        """The node as an expression; assigns it first if it deserves a name."""
        if i not in self.written and i in self.name_of:
            return self.text(self.name_of[i])
        if i not in self.written:
            if self.terms[i]:
                return formulas.formula(self, i).each()
            node = self.nodes[i]
            if _is_variable(node):
                self._write_before(i)
            name = self._name(i)
            made = self._expression(i)
            if name is not None:
                self.lines.append(f"{name} = {made.text}")
                made = Text(name, ATOM)
                if isinstance(node, ir.Value):
                    self.written.setdefault(node.node, made)
            self.written[i] = made
        return self.written[i]

    def _write_before(self, i: ir.Id) -> None:
        """The variables that variable `i` is made of, each behind those that it is made of in turn: a chain of them is
        as long as the spec has it."""
        pending, entered = [i], set[ir.Id]()
        while pending:
            j = pending[-1]
            if j in entered or j in self.written:
                pending.pop()
                if j != i and j not in self.written and _is_variable(self.nodes[j]):
                    self.text(j)
                continue
            entered.add(j)
            pending += reversed(self._needed(j))

    def _needed(self, i: ir.Id) -> tuple[ir.Id, ...]:
        """What must be written before a node."""
        node = self.nodes[i]
        if isinstance(node, ir.Shifted) and self._within(node.given, node.source) is not None:
            return (node.node,)
        return operands(node)

    def _within(self, i: ir.Id, source: ir.Given) -> str | None:
        """A node that nothing else uses, in one expression for a batch that holds `source`; None if it is none."""
        if self.uses.get(i, 0) > 1:
            return None
        match self.nodes[i]:
            case ir.Given() as own if own == source:
                return f"batch[{quoted(source.key)}]"
            case ir.Value(node=inner):
                return self._within(inner, source)
            case ir.Shifted(given=given, source=own) if own == source:
                return self._within(given, source)
            case ir.Net(net=net, inputs=(only,), old=old) if (inner := self._within(only, source)) is not None:
                return f"self.{self._attribute(net, old)}({inner})"
            case _:
                return None

    def _attribute(self, net: str, old: bool) -> str:
        return self.attributes.old_nets[net] if old else self.attributes.nets[net]

    def named(self, i: ir.Id) -> Text:
        """The node as a name or an attribute, for formulas that use it twice."""
        made = self.text(i)
        if "(" not in made.text and made.rank == ATOM:
            return made
        name = self.names.of(("named", i), self._wanted(i))
        self.lines.append(f"{name} = {made.text}")
        self.written[i] = Text(name, ATOM)
        return self.written[i]

    def _wanted(self, i: ir.Id) -> str:
        node = self.nodes[i]
        if isinstance(node, ir.Net):
            head = self.objective.nets[node.net].heads[0].name
            return f"{node.net}_{head}" if head != "value" else f"{node.net}_out"
        return "value"

    def _name(self, i: ir.Id) -> str | None:
        match self.nodes[i]:
            case ir.Draw(variable=variable, noise=True):
                return self.names.of(i, f"{variable}_noise")
            case ir.Given(variable=variable) | ir.Draw(variable=variable) | ir.Every(variable=variable):
                return self.names.of(i, variable)
            case ir.Value(variable=variable, label=label):
                return self.names.of(i, variable if variable not in self.names.taken else f"{variable}_{label}")
            case ir.GradientTap(gradient="asked"):
                return self.names.of(i, "leaf")
            case ir.GradientTap(gradient="rescaled"):
                return self.names.of(i, "played")
            case ir.GradientTap(node=inner) if isinstance(solved := self.nodes[inner], ir.Over) and self.terms[inner]:
                return self.names.of(i, "log_r" if solved.operation == "log_softmax" else "r")
            case ir.Parameter(name=name) if (
                self.uses.get(i, 0) > 1 and self.objective.params[name].space.kind != "real"
            ):
                return self.names.of(i, name)
            case ir.Constant() | ir.Parameter() | ir.Argument() | ir.Part() | ir.Head() | ir.Over():
                return None
            case ir.Net() if self.uses.get(i, 0) > 1:
                return self.names.of(i, self._wanted(i))
            case ir.Concat():
                return self.names.of(i, "both")
            case ir.Apply(operands=ids) if all(isinstance(self.nodes[j], ir.Constant) for j in ids):
                return None
            case _ if self.uses.get(i, 0) > 1:
                return self.names.of(i, "value")
            case _:
                return None

    def _expression(self, i: ir.Id) -> Text:
        node = self.nodes[i]
        match node:
            case ir.Given(key=key, shift=0):
                return Text(f"batch[{quoted(key)}]", ATOM)
            case ir.Given(key=key, shift=shift, keys=keys):
                rolled = f"moved(batch[{quoted(node.column)}], {shift})"
                return Text(f"batch[{quoted(key)}] if {_any(keys)} else {rolled}", CHOICE)
            case ir.Draw(given=False):
                return self._sample(node)
            case ir.Draw(key=key):
                return _given_or(key, self._noise(node) if node.noise else self._root(node))
            case ir.Argument(variable=variable):
                return Text(self.names.of(("argument", variable), variable), ATOM)
            case ir.Value(node=inner):
                return self._expression(inner)
            case ir.Net(net=net, inputs=inputs, old=old):
                return Text(f"self.{self._attribute(net, old)}({', '.join(self._input(j) for j in inputs)})", ATOM)
            case ir.Head(node=call, head=head):
                return self._picked(call, head)
            case ir.Parameter(name=name, old=old):
                return Text(f"self.{self.attributes.old_params[name] if old else self.attributes.params[name]}", ATOM)
            case ir.Constant(value=(float() as one, *others) as columns) if others == [one] * len(others):
                return Text(f"self.full({one!r}, {len(columns)})", ATOM)
            case ir.Constant(value=value):
                return Text(
                    f"self.anchor.new_tensor({_lists(value)})" if isinstance(value, tuple) else repr(value), ATOM
                )
            case ir.Apply():
                return values.applied(self, node)
            case ir.Index():
                return Text(values.indexed(self, node), ATOM)
            case ir.Filled(node=inner, shape=shape):
                return values.filled(self, inner, shape)
            case ir.Shifted(node=inner, given=given, source=source):
                rolled = f"moved({self.named(inner).text}, {source.shift})"
                own = self._within(given, source)
                return Text(f"{own or self.text(given).text} if {_any(source.keys)} else {rolled}", CHOICE)
            case ir.GradientTap(node=inner, gradient="rescaled"):
                drawn = self.named(inner).text
                return Text(f"{drawn}.view_as({drawn})", ATOM)
            case ir.GradientTap(node=inner, gradient=gradient):
                asked = ".requires_grad_()" if gradient == "asked" else ""
                return Text(f"{self.text(inner).atom}.detach(){asked}", ATOM)
            case ir.Every():
                return _every(node, self.laid.order[node.dim])
            case ir.Over():
                return values.moment(self, node)
            case ir.Concat(nodes=parts):
                return Text(f"torch.cat([{', '.join(values.row(self, j) for j in parts)}])", ATOM)
            case ir.Part(node=whole, index=index, count=count):
                return Text(f"{self.text(whole).atom}{_slice(index, count)}", ATOM)
            case _:
                raise AssertionError(f"a {type(node).__name__} is written by the term that it is")

    def _input(self, i: ir.Id) -> str:
        """What a network is applied to: a tensor, whatever it is."""
        node = self.nodes[i]
        number = node.number if isinstance(node, ir.Constant) else None
        return f"self.full({number!r})" if number is not None else self.text(i).text

    def _picked(self, call: ir.Id, head: str) -> Text:
        """A network with several heads is unpacked at once, each head named after it."""
        node = self.nodes[call]
        assert isinstance(node, ir.Net | ir.Part)
        if isinstance(node, ir.Part):
            whole = self._picked(node.node, head)
            return Text(f"{whole.atom}{_slice(node.index, node.count)}", ATOM)
        heads = [h.name for h in self.objective.nets[node.net].heads]
        names = [self.names.of((call, h), f"{'old_' if node.old else ''}{node.net}_{h}") for h in heads]
        if call not in self.written:
            self.lines.append(f"{', '.join(names)} = {self._expression(call).text}")
            self.written[call] = Text(names[0], ATOM)
        return Text(names[heads.index(head)], ATOM)

    def _root(self, node: ir.Draw) -> str:
        d = node.density
        constants = [self.nodes[i] for _, i in d.parameters]
        if d.family == "Normal" and constants == [ir.Constant(0.0), ir.Constant(1.0)]:
            return f"self.normal({dims(_sizes(node, d.space.shape))})"
        sizes = dims(_sizes(node, ()))
        return f"{self.law(d).text}.sample({f'({sizes},)' if sizes else ''}){_as_index(d)}"

    def law(self, d: ir.Density, *, asked: bool = False) -> Text:
        return densities.distribution(d, self.writer, asked=asked)

    @property
    def writer(self) -> densities.Writer:
        return densities.Writer(self.nodes, self.text, self.named, self.layout, self.laid.together)

    def _noise(self, node: ir.Draw) -> str:
        sizes = dims(_sizes(node, node.density.space.shape))
        if node.density.family == "Normal":
            return f"self.normal({sizes})"
        return f"dist.{node.density.family}(self.full(0.0), self.full(1.0)).sample({f'({sizes},)' if sizes else ''})"

    def _sample(self, node: ir.Draw) -> Text:
        """A draw of its own for each datum, and copy, whatever the parameters are for."""
        how = "rsample" if densities.reparameterised(node.density) else "sample"
        given = self.laid.together(i for _, i in node.density.parameters)
        law = self.law(node.density).atom
        sizes = [str(dim.size) for dim in node.dims if dim != ir.DATA and dim not in given.dims]
        each = ir.DATA in node.dims
        if each and given.rows is Rows.NONE:
            sizes.append("n")
        elif each and given.rows is Rows.ONE:
            law = f"over({law}, n)"
        drawn = f"{law}.{how}({f'({dims(sizes)},)' if sizes else ''})"
        return Text(drawn + _as_index(node.density), ATOM)

    def layout(self, i: ir.Id) -> Place:
        """The dimensions of a node's value."""
        return self.laid.found[i]


def _given_or(key: str, otherwise: str) -> Text:
    """What the batch gives replaces a draw."""
    return Text(f"batch[{quoted(key)}] if {quoted(key)} in batch else {otherwise}", CHOICE)


def _any(keys: Iterable[str]) -> str:
    """Whether the batch holds any of the keys."""
    return " or ".join(f"{quoted(key)} in batch" for key in keys)


def _as_index(d: ir.Density) -> str:
    """A value of a finite space is its place, an integer; a Bernoulli draws floats."""
    return ".long()" if d.space.kind == "finite" and d.family == "Bernoulli" else ""


def _is_variable(node: ir.Node) -> bool:
    """Does a node bear a variable's name, and is it made of other variables?"""
    return isinstance(node, ir.Value) or (isinstance(node, ir.Draw) and not node.given)


def _sizes(node: ir.Draw, shape: tuple[int, ...]) -> tuple[object, ...]:
    """A global is drawn once, anything else for each datum, importance-weighted copies in front."""
    return (*("n" if dim == ir.DATA else dim.size for dim in node.dims), *shape)


def _slice(index: int, count: int) -> str:
    first = f"{index} * n" if index > 1 else "n" if index else ""
    last = "" if index == count - 1 else f"{index + 1} * n" if index else "n"
    return f"[{first}:{last}]"


def _lists(value: tuple[float, ...] | tuple[tuple[float, ...], ...]) -> str:
    return "[" + ", ".join(_lists(v) if isinstance(v, tuple) else repr(v) for v in value) + "]"


def _every(node: ir.Every, place: int) -> Text:
    """Every value of a discrete variable in a leading dimension, in front of further such variables and the batch."""
    behind = ", ".join(["None"] * (place + 1))
    if node.space.kind == "finite":
        return Text(f"torch.arange({len(node.space.values)}, device=self.anchor.device)[:, {behind}]", ATOM)
    shape = dims(node.space.shape)
    every = f"torch.cartesian_prod(*[self.anchor.new_tensor([0.0, 1.0])] * {node.space.size})"
    return Text(f"{every}.reshape(-1, {shape})[:, {behind}]" if shape else f"{every}[:, {behind}]", ATOM)
