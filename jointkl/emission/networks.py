"""Networks as classes: what an expert would write for this builder, these sizes and these heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from jointkl.emission.names import Names
from jointkl.emission.statements import Do, Function, Let, Put, Row, Rows, Statement, printed
from jointkl.emission.text import documented
from jointkl.emission.tree import (
    Attribute,
    Call,
    Expression,
    Literal,
    Name,
    Slice,
    Starred,
    Tuple,
    Written,
    call,
    listed,
    member,
    pair,
    quoted,
    string,
)
from jointkl.semantics.catalogue import ACTIVATIONS, OptionValue
from jointkl.semantics.layers import (
    Activation,
    Conv,
    Deconv,
    Dropout,
    Flatten,
    Layer,
    Linear,
    Norm,
    Own,
    Plan,
    Residual,
    Unflatten,
    padding,
    plan,
)
from jointkl.semantics.model import Net
from jointkl.semantics.spaces import CONSTRAINT, Kind, Space


@dataclass(frozen=True, slots=True)
class Class:
    """A network's class: its first lines and its methods."""

    head: tuple[str, ...]
    methods: tuple[Function, ...]

    @property
    def lines(self) -> list[str]:
        first, *others = (printed(method) for method in self.methods)
        return [*self.head, *first, *(line for method in others for line in ("", *method))]


def network(net: Net, name: str, own: str = "") -> Class:
    """One network's class; `own` is what the module calls the user's class."""
    found = plan(net)
    arguments = [a for a, _ in _arguments(net)]
    heads = ", ".join(f"{h.name} {h.space}" if h.name != "value" else str(h.space) for h in net.heads)
    built = f"{net.builder}({', '.join(_written(net))})"
    told = documented(f"net {net.name} = {built}: {', '.join(map(str, net.inputs))} -> {heads}")
    members = [_member("layers", found.layers, net, own)]
    members += [_member("head", found.head, net, own)] if found.head else []
    given = ", ".join(f"{a}: Tensor" for a in arguments)
    return Class(
        (f"class {name}(nn.Module):", f'    """{told}"""', ""),
        (
            Function("def __init__(self) -> None:", (), (Do(call("super").do("__init__")), *members)),
            Function(f"def forward(self, {given}) -> {_returns(net)}:", (), tuple(_forward(net, found))),
        ),
    )


def class_name(names: Names, net: Net) -> str:
    return names.of(("class", net.name), f"{net.name[:1].upper()}{net.name[1:]}Net")


def _written(net: Net) -> list[str]:
    target = [quoted(net.target)] if net.target else []
    return [*target, *map(str, net.widths), *(f"{k}={_literal(v).text if net.target else v}" for k, v in net.options)]


def _literal(value: OptionValue) -> Expression:
    """An option's value as Python writes it."""
    return string(value) if isinstance(value, str) else Literal(repr(value))


def _returns(net: Net) -> str:
    return "Tensor" if len(net.heads) == 1 else f"tuple[{', '.join(['Tensor'] * len(net.heads))}]"


# --- layers

Nested = Expression | Rows
"""A layer on one line, or several of them in brackets over more."""


def _member(name: str, layers: tuple[Layer, ...], net: Net, own: str) -> Statement:
    made, target = _stacked([_layer(layer, net, own) for layer in layers]), member(name)
    if isinstance(made, Rows):
        return Rows(f"{target.text} = {made.head}", made.rows, made.end, made.uses)
    return Put(target, made)


def _stacked(layers: list[Nested]) -> Nested:
    """One layer as it is, several as a sequence."""
    return layers[0] if len(layers) == 1 else _over_lines("nn.Sequential", layers)


def _over_lines(function: str, parts: list[Nested]) -> Rows:
    rows = (Row("", p, ",") if isinstance(p, Expression) else Rows(p.head, p.rows, "),", p.uses) for p in parts)
    return Rows(f"{function}(", tuple(rows), ")", (function.partition(".")[0],))


def _layer(layer: Layer, net: Net, own: str) -> Nested:
    """The expression that makes a layer, on one line but for a residual block."""
    match layer:
        case Linear(inputs=inputs, outputs=outputs):
            without: dict[str, Written] = {} if layer.bias else {"bias": Literal("False")}
            return _normed(layer, call("nn.Linear", inputs, outputs, **without))
        case Conv():
            return _normed(layer, call("nn.Conv2d", layer.inputs, layer.outputs, layer.kernel, **_sides(layer)))
        case Deconv(extra=(rows, columns)):
            extra: Written = rows if rows == columns else pair(rows, columns)
            more: dict[str, Written] = {"output_padding": extra} if rows or columns else {}
            sizes = (layer.inputs, layer.outputs, layer.kernel)
            return _normed(layer, call("nn.ConvTranspose2d", *sizes, **_sides(layer), **more))
        case Norm(kind=kind, size=size, maps=maps):
            return NORMS[kind, maps](size)
        case Activation(name=name):
            return call(f"nn.{ACTIVATIONS[name]}")
        case Dropout(share=share):
            return call("nn.Dropout", Literal(str(share)))
        case Flatten():
            return call("nn.Flatten")
        case Unflatten(shape=shape):
            return call("nn.Unflatten", 1, pair(*shape))
        case Residual(layers=inner, shortcut=shortcut):
            parts = [_stacked([_layer(part, net, own) for part in inner])]
            parts += [_layer(shortcut, net, own)] if shortcut else []
            return _over_lines("Residual", parts)
        case Own(inputs=inputs, outputs=outputs):
            given = tuple((name, _literal(value)) for name, value in net.options)
            return Call(Name(own), (Literal(str(inputs)), Literal(str(outputs))), given)


NORMS: Mapping[tuple[str, bool], Callable[[int], Expression]] = {
    ("batch", False): lambda size: call("nn.BatchNorm1d", size),
    ("batch", True): lambda size: call("nn.BatchNorm2d", size),
    ("layer", False): lambda size: call("nn.LayerNorm", size),
    # mean and variance over channels, rows and columns, a scale per channel
    ("layer", True): lambda size: call("nn.GroupNorm", 1, size),
}
"""The modules of norms, between vectors and between maps."""


def _sides(layer: Conv | Deconv) -> dict[str, Written]:
    stride = {"stride": layer.stride} if layer.stride != 1 else {}
    return {**stride, **({"padding": padding(layer.kernel)} if padding(layer.kernel) else {})}


def _normed(layer: Linear | Conv | Deconv, made: Expression) -> Expression:
    return call("spectral_norm", made) if layer.spectral else made


# --- the way through


def _arguments(net: Net) -> list[tuple[str, Space]]:
    names = Names.without(("self", "h", "features"))
    letters = "abcdefg" if len(net.inputs) > 1 else "x"
    return [
        (names.of(i, letters[i] if i < len(letters) else f"input_{i}"), space) for i, space in enumerate(net.inputs)
    ]


def _flat(name: str, space: Space, dtype: Expression) -> Expression:
    """One input as numbers in the last dimension: flattened, a finite one one-hot."""
    value = Name(name)
    match space.kind, len(space.shape):
        case "finite", _:
            return call("F.one_hot", value.do("long"), len(space.values)).do("to", dtype)
        case _, 0:
            return value.do("unsqueeze", -1)
        case _, 1:
            return value
        case _, n:
            return value.do("flatten", -n)


def _dtype(name: str, layers: tuple[Layer, ...]) -> Expression:
    """The type of a stack's parameters. A spectral weight is not asked for: that would be a step of its iteration."""
    if isinstance(layers[0], Linear) and not layers[0].spectral:
        first = member(name) if len(layers) == 1 else member(name)[0]
        return Attribute(Attribute(first, "weight"), "dtype")
    return Attribute(call("next", Name("self").do("parameters")), "dtype")


def _joined(parts: list[Expression]) -> Expression:
    return parts[0] if len(parts) == 1 else call("joined", *parts)


def _one_batch(layers: tuple[Layer, ...]) -> bool:
    """Do the layers want one batch dimension? Else any number in front will do."""
    return any(
        isinstance(n, Conv | Unflatten | Own) or (isinstance(n, Norm) and n.kind == "batch") for n in _all(layers)
    )


def _all(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    for layer in layers:
        yield layer
        if isinstance(layer, Residual):
            yield from _all(layer.layers)


def _forward(net: Net, found: Plan) -> list[Statement]:
    """From the arguments to the heads. `lead` is what the leading dimensions were, where they are one now."""
    name, stack = ("head", found.head) if found.head else ("layers", found.layers)
    dtype = _dtype(name, stack)
    flat = [_flat(a, s, dtype) for i, (a, s) in enumerate(_arguments(net)) if i != found.image]
    before: list[Statement] = []
    lead: Expression | None = None
    value: Expression = Literal("")
    if found.image is not None:
        image, space = _arguments(net)[found.image]
        lead = _shape(Name(image), -3)
        value = Call(member("layers"), (Name(image).do("reshape", -1, *space.shape),))
        if found.head:
            before.append(Let(("features",), _led(value, lead, (found.features,))))
            flat = [Name("features"), *flat]
    if found.image is None or found.head:
        given, lead = _joined(flat), None
        if _one_batch(stack):
            if not isinstance(given, Name):
                before.append(Let(("h",), given))
                given = Name("h")
            width = found.features + sum(s.width for i, s in enumerate(net.inputs) if i != found.image)
            lead, given = _shape(given, -1), given.do("reshape", -1, width)
        value = Call(member(name), (given,))
    return [*before, *_heads(net, found, value, lead)]


def _shape(e: Expression, last: int) -> Expression:
    """The sizes of all dimensions before the `last` ones."""
    return Attribute(e, "shape")[Slice(None, Literal(str(last)))]


def _heads(net: Net, found: Plan, value: Expression, lead: Expression | None) -> list[Statement]:
    """What the last layer gives, cut into heads, each in its shape and its space."""
    spaces = [h.space for h in net.heads]
    if len(spaces) == 1:
        shaped = _shaped(spaces[0], value) if lead is None else _led(value, lead, spaces[0].shape)
        return [Do(_mapped(spaces[0], shaped), "return")]
    axis = -3 if found.maps else -1
    sizes = [s.shape[0] if found.maps else s.size for s in spaces]
    if lead is not None:
        value = _led(value, lead, (sum(sizes), *(spaces[0].shape[1:] if found.maps else ())))
    names = Names.without(("self",), (a for a, _ in _arguments(net)))
    named = [names.of(h.name, h.name) for h in net.heads]
    equal = len(set(sizes)) == 1
    split = value.do("chunk", len(sizes), axis) if equal else value.do("split", listed(*sizes), axis)
    shaped = [Name(n) if found.maps else _shaped(s, Name(n)) for n, s in zip(named, spaces, strict=True)]
    returned = Tuple(tuple(_mapped(s, e) for s, e in zip(spaces, shaped, strict=True)))
    return [Let(tuple(named), split), Do(returned, "return")]


def _led(value: Expression, lead: Expression, shape: tuple[int, ...]) -> Expression:
    """A batch as the leading dimensions that it was made of."""
    return value.do("reshape", Starred(lead), *shape) if shape else value.do("reshape", lead)


def _shaped(space: Space, e: Expression) -> Expression:
    match space.shape:
        case ():
            return e.do("squeeze", -1)
        case (_,):
            return e
        case shape:
            return e.do("unflatten", -1, pair(*shape))


MAPS: Mapping[Kind, str] = {"real": "", "positive": "exp", "unit": "sigmoid"}
"""The method that does what `torch.distributions.transform_to` of each kind's constraint does, for those that are
one."""


def _mapped(space: Space, e: Expression) -> Expression:
    """A head's last map, into its space: that of `torch.distributions.transform_to`."""
    if space.kind in MAPS:
        return e.do(MAPS[space.kind]) if MAPS[space.kind] else e
    return Call(call("transform_to", Name(f"constraints.{CONSTRAINT[space.kind]}")), (e,))
