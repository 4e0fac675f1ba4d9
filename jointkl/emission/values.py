"""Values as expressions: draws, networks, arithmetic, entries, numbers that fill an event, joined batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jointkl.emission import distributions
from jointkl.emission.places import Rows
from jointkl.emission.statements import Let
from jointkl.emission.tree import (
    ALL,
    BLANK,
    REST,
    Attribute,
    Binary,
    Call,
    Choice,
    Expression,
    Item,
    Literal,
    Name,
    Slice,
    Starred,
    Written,
    call,
    listed,
    member,
    number,
    own,
    pair,
    spread,
    string,
    summed,
    written,
)
from jointkl.emission.writer import BATCH, N, Writer, full, to_dtype
from jointkl.objective import ir
from jointkl.semantics.model import Numbers

FUNCTIONS: Mapping[str, Callable[[Expression], Expression]] = {
    **{name: lambda e, name=name: e.do(name) for name in ("exp", "log", "sqrt", "sigmoid", "tanh", "square")},
    "softplus": lambda e: call("F.softplus", e),
    "softmax": lambda e: e.do("softmax", -1),
}
"""Functions of the language as torch."""


def name(w: Writer, i: ir.Id) -> str | None:
    """What a value is assigned to; None where it is written in place."""
    node = w.nodes[i]
    match node:
        case ir.Draw(variable=variable, noise=True):
            return w.names.of(i, f"{variable}_noise")
        case ir.Given(variable=variable) | ir.Draw(variable=variable) | ir.Every(variable=variable):
            return w.names.of(i, variable)
        case ir.Value(variable=variable, label=label):
            return w.names.of(i, variable if variable not in w.names.taken else f"{variable}_{label}")
        case ir.GradientTap(gradient="asked"):
            return w.names.of(i, "leaf")
        case ir.GradientTap(gradient="rescaled"):
            return w.names.of(i, "played")
        case ir.GradientTap(node=inner) if isinstance(solved := w.nodes[inner], ir.Over) and w.terms[inner]:
            return w.names.of(i, "log_r" if solved.operation == "log_softmax" else "r")
        case ir.Parameter(name=param):
            mapped = w.objective.params[param].space.kind != "real"
            return w.names.of(i, param) if mapped and w.several(i) else None
        case ir.Constant() | ir.Argument() | ir.Part() | ir.Head() | ir.Over():
            return None
        case ir.Net() if w.several(i):
            return w.names.of(i, w.wanted(i))
        case ir.Concat():
            return w.names.of(i, "both")
        case ir.Apply(operands=ids) if all(isinstance(w.nodes[j], ir.Constant) for j in ids):
            return None
        case _:
            return w.names.of(i, "value") if w.several(i) else None


# --- where values come from


def _given(w: Writer, i: ir.Id, node: ir.Given) -> Expression:
    value = BATCH[string(node.key)]
    if not node.shift:
        return value
    return Choice(value, _holds(node.keys), call("moved", BATCH[string(node.column)], node.shift))


def _argument(w: Writer, i: ir.Id, node: ir.Argument) -> Expression:
    return Name(w.names.of(("argument", node.variable), node.variable))


def _every(w: Writer, i: ir.Id, node: ir.Every) -> Expression:
    """Every value of a discrete variable in a leading dimension, in front of further such variables and the batch."""
    behind = (ALL, *[BLANK] * (w.places.order[node.dim] + 1))
    if node.space.kind == "finite":
        return every(node)[behind]
    bits = Binary("*", listed(member("anchor").do("new_tensor", listed(0.0, 1.0))), Literal(str(node.space.size)))
    values = call("torch.cartesian_prod", Starred(bits))
    return (values.do("reshape", -1, *node.space.shape) if node.space.shape else values)[behind]


def every(node: ir.Every) -> Expression:
    """The places of a finite variable's values."""
    return call("torch.arange", len(node.space.values), device=Attribute(member("anchor"), "device"))


def _draw(w: Writer, i: ir.Id, node: ir.Draw) -> Expression:
    """What the batch gives replaces a draw without parameters."""
    if not node.given:
        return _sample(w, node)
    key = string(node.key)
    return Choice(BATCH[key], Binary("in", key, BATCH), _noise(node) if node.noise else _root(w, node))


def _noise(node: ir.Draw) -> Expression:
    if node.density.family == "Normal":
        return own("normal", *_sizes(node, node.density.space.shape))
    standard = call(f"dist.{node.density.family}", full(0.0), full(1.0))
    return _drawn(standard, "sample", _sizes(node, node.density.space.shape))


def _root(w: Writer, node: ir.Draw) -> Expression:
    d = node.density
    constants = [w.nodes[i] for _, i in d.parameters]
    if d.family == "Normal" and constants == [ir.Constant(0.0), ir.Constant(1.0)]:
        return own("normal", *_sizes(node, d.space.shape))
    return _as_index(d, _drawn(distributions.distribution(d, w), "sample", _sizes(node, ())))


def _sample(w: Writer, node: ir.Draw) -> Expression:
    """A draw of its own for each datum, and copy, whatever the parameters are for."""
    d = node.density
    given = w.places.together(i for _, i in d.parameters)
    law = distributions.distribution(d, w)
    sizes: list[Written] = [dim.size or 0 for dim in node.dims if dim != ir.DATA and dim not in given.dims]
    if ir.DATA in node.dims and given.rows is Rows.NONE:
        sizes.append(N)
    elif ir.DATA in node.dims and given.rows is Rows.ONE:
        law = call("over", law, N)
    return _as_index(d, _drawn(law, "rsample" if distributions.reparameterised(d) else "sample", sizes))


def _sizes(node: ir.Draw, shape: tuple[int, ...]) -> tuple[Written, ...]:
    """A global is drawn once, anything else for each datum, importance-weighted copies in front."""
    return (*(N if dim == ir.DATA else dim.size or 0 for dim in node.dims), *shape)


def _drawn(law: Expression, how: str, sizes: Iterable[Written]) -> Expression:
    shape = tuple(sizes)
    return law.do(how, pair(*shape)) if shape else law.do(how)


def _as_index(d: ir.Density, drawn: Expression) -> Expression:
    """A value of a finite space is its place, an integer; a Bernoulli draws floats."""
    return drawn.do("long") if d.space.kind == "finite" and d.family == "Bernoulli" else drawn


def _value(w: Writer, i: ir.Id, node: ir.Value) -> Expression:
    return w.expression(node.node)


def _parameter(w: Writer, i: ir.Id, node: ir.Parameter) -> Expression:
    return w.attributes.param(node)


def _constant(w: Writer, i: ir.Id, node: ir.Constant) -> Expression:
    value = node.value
    if not isinstance(value, tuple):
        return written(value)
    first = value[0]
    if isinstance(first, float) and value == (first,) * len(value):
        return full(first, len(value))
    return member("anchor").do("new_tensor", _nested(value))


def _nested(value: Numbers) -> Expression:
    return listed(*map(_nested, value)) if isinstance(value, tuple) else written(value)


# --- networks


def _net(w: Writer, i: ir.Id, node: ir.Net) -> Expression:
    return Call(w.attributes.net(node), tuple(_input(w, j) for j in node.inputs))


def _input(w: Writer, i: ir.Id) -> Expression:
    """What a network is applied to: a tensor, whatever it is."""
    known = w.number(i)
    return w.text(i) if known is None else full(known)


def _head(w: Writer, i: ir.Id, node: ir.Head) -> Expression:
    """A network with several heads is unpacked at once, each head named after it."""
    return _unpacked(w, node.node, node.head)


def _unpacked(w: Writer, call: ir.Id, head: str) -> Expression:
    node = w.nodes[call]
    assert isinstance(node, ir.Net | ir.Part)
    if isinstance(node, ir.Part):
        return _unpacked(w, node.node, head)[_slice(node)]
    heads = [h.name for h in w.objective.nets[node.net].heads]
    names = [w.names.of((call, h), f"{'old_' if node.old else ''}{node.net}_{h}") for h in heads]
    if call not in w.written:
        made = w.expression(call)
        w.statements.append(Let(tuple(names), made))
        w.written[call] = Name(names[0])
    return Name(names[heads.index(head)])


# --- several batches


def _tap(w: Writer, i: ir.Id, node: ir.GradientTap) -> Expression:
    match node.gradient:
        case "rescaled":
            drawn = w.named(node.node)
            return drawn.do("view_as", drawn)
        case "asked":
            return w.text(node.node).do("detach").do("requires_grad_")
        case "stopped":
            return w.text(node.node).do("detach")


def _shifted(w: Writer, i: ir.Id, node: ir.Shifted) -> Expression:
    rolled = call("moved", w.named(node.node), node.source.shift)
    held = w.within(node.given, node.source)
    return Choice(w.text(node.given) if held is None else held, _holds(node.source.keys), rolled)


def _holds(keys: tuple[str, ...]) -> Expression:
    """Whether the batch holds any of the keys."""
    first, *others = (Binary("in", string(key), BATCH) for key in keys)
    for other in others:
        first = Binary("or", first, other)
    return first


def _concat(w: Writer, i: ir.Id, node: ir.Concat) -> Expression:
    return call("torch.cat", listed(*(_row(w, j) for j in node.nodes)))


def _row(w: Writer, i: ir.Id) -> Expression:
    """A value with one row for each datum."""
    known = w.number(i)
    if known is not None:
        return full(known, N)
    made, place = w.text(i), w.place(i)
    return made if place.in_front else made.do("expand", N, *place.shape)


def _part(w: Writer, i: ir.Id, node: ir.Part) -> Expression:
    return w.text(node.node)[_slice(node)]


def _slice(part: ir.Part) -> Expression:
    index, last = part.index, part.index == part.count - 1
    start = None if not index else _times_n(index)
    return Slice(start, None if last else _times_n(index + 1))


def _times_n(count: int) -> Expression:
    return N if count == 1 else Binary("*", Literal(str(count)), N)


# --- arithmetic


def _index(w: Writer, i: ir.Id, node: ir.Index) -> Expression:
    """The dimensions of an index are counted from the right where there are others in front."""
    found, place = w.text(node.node), w.place(node.node)
    if not place.in_front:
        return found[tuple(_place(w, j) for j in node.indices)]
    for count, j in enumerate(node.indices, 1):
        behind = len(place.shape) - count
        if isinstance(w.nodes[j], ir.Constant):
            found = found[(REST, _place(w, j), *[ALL] * behind)]
        else:
            found = call("pick", found, _place(w, j), *([behind] if behind else []))
    return found


def _place(w: Writer, i: ir.Id) -> Expression:
    known = w.number(i)
    if known is not None:
        return Literal(str(int(known)))
    drawn = w.text(i)
    return drawn if isinstance(w.nodes[i], ir.Every) else drawn.do("long")  # what is passed may be floats


def _filled(w: Writer, i: ir.Id, node: ir.Filled) -> Expression:
    """One number as each of an event's."""
    known = w.number(node.node)
    if known is not None:
        return full(known, *node.shape)
    made = w.text(node.node)
    if not w.place(node.node).in_front:
        return made.do("expand", *node.shape)
    return Item(made, (REST, *[BLANK] * len(node.shape))) + full(0.0, *node.shape)


def _is_place(w: Writer, i: ir.Id) -> bool:
    """Is a value the place of a finite variable, an integer where nothing else says so?"""
    node = w.nodes[i]
    while isinstance(node, ir.Value | ir.Shifted) or (isinstance(node, ir.GradientTap) and node.gradient != "asked"):
        node = w.nodes[node.node]
    if isinstance(node, ir.Draw):
        return node.density.space.kind == "finite" and not node.noise
    return isinstance(node, ir.Given | ir.Argument | ir.Every) and node.space.kind == "finite"


def _numbers(w: Writer, node: ir.Apply) -> list[Expression]:
    """The operands of an operation; one of places alone would be in integers, or of torch's own precision."""
    texts = [w.text(i) for i in node.operands]
    if not all(_is_place(w, i) or isinstance(w.nodes[i], ir.Constant) for i in node.operands):
        return texts
    return [to_dtype(t) if _is_place(w, i) else t for i, t in zip(node.operands, texts, strict=True)]


def applied(w: Writer, i: ir.Id, node: ir.Apply) -> Expression:
    """Arithmetic or a function."""
    known = w.number(node.operands[0])
    if node.operator == "log" and known is not None:
        return call("math.log", number(known))
    texts = _numbers(w, node)
    if node.operator in FUNCTIONS:
        return FUNCTIONS[node.operator](texts[0])
    match node.operator:
        case "sum":
            return summed(texts[0], node.ndim[0])
        case "neg":
            return -texts[0]
        case "@":
            return _matmul(node, texts)
        case operator:
            left, right = _aligned(w, node, texts)
            return Binary(operator, left, right)


def _aligned(w: Writer, node: ir.Apply, texts: list[Expression]) -> list[Expression]:
    """Operands with fewer event dimensions get the missing ones in front of their own, behind the batch's."""
    n = max(node.ndim)
    found: list[Expression] = []
    for i, made, rank in zip(node.operands, texts, node.ndim, strict=True):
        if rank < n and w.place(i).in_front:
            if rank == 0:
                made = spread(made, n)
            for _ in range(n - rank if rank else 0):
                made = made.do("unsqueeze", -rank - 1)
        found.append(made)
    return found


def _matmul(node: ir.Apply, texts: list[Expression]) -> Expression:
    left, right = texts
    match node.ndim:
        case (2, 1):
            return Binary("@", left, right.do("unsqueeze", -1)).do("squeeze", -1)
        case (1, 2):
            return Binary("@", left.do("unsqueeze", -2), right).do("squeeze", -2)
        case (1, 1):
            return (left * right).do("sum", -1)
        case _:
            return Binary("@", left, right)


def _moment(w: Writer, i: ir.Id, node: ir.Over) -> Expression:
    """The batch's mean or variance, both taken at once."""
    z = w.text(node.node)
    var, mean = (w.names.of((word, node.node), f"{z.text}_{word}") for word in ("var", "mean"))
    if (moments := ("moments", node.node)) not in w.assigned:
        w.assigned.add(moments)
        w.statements.append(Let((var, mean), call("moments", z)))
    return Name(mean if node.operation == "mean" else var)


FORMS: Mapping[type[ir.Node], Callable[[Writer, ir.Id, Any], Expression]] = {
    ir.Given: _given,
    ir.Argument: _argument,
    ir.Every: _every,
    ir.Draw: _draw,
    ir.Value: _value,
    ir.Net: _net,
    ir.Head: _head,
    ir.Parameter: _parameter,
    ir.Constant: _constant,
    ir.Apply: applied,
    ir.Index: _index,
    ir.Filled: _filled,
    ir.GradientTap: _tap,
    ir.Shifted: _shifted,
    ir.Concat: _concat,
    ir.Part: _part,
    ir.Over: _moment,
}
