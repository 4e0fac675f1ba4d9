"""Networks as classes: what an expert would write for this builder, these sizes and these heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jointkl.emission.names import Names
from jointkl.emission.text import dims, documented, quoted
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
from jointkl.semantics.model import Head, Net
from jointkl.semantics.spaces import CONSTRAINT, Kind, Space

Lines = list[str]


def network(net: Net, name: str, own: str = "") -> list[str]:
    """The lines of one network's class; `own` is what the module calls the user's class."""
    found = plan(net)
    arguments = [a for a, _ in _arguments(net)]
    heads = ", ".join(f"{h.name} {h.space}" if h.name != "value" else str(h.space) for h in net.heads)
    built = f"{net.builder}({', '.join(_written(net))})"
    told = documented(f"net {net.name} = {built}: {', '.join(map(str, net.inputs))} -> {heads}")
    return [
        f"class {name}(nn.Module):",
        f'    """{told}"""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *_member("layers", found.layers, net, own),
        *(_member("head", found.head, net, own) if found.head else ()),
        "",
        f"    def forward(self, {', '.join(f'{a}: Tensor' for a in arguments)}) -> {_returns(net)}:",
        *(f"        {line}" for line in _forward(net, found)),
    ]


def class_name(names: Names, net: Net) -> str:
    return names.of(("class", net.name), f"{net.name[:1].upper()}{net.name[1:]}Net")


def _written(net: Net) -> list[str]:
    target = [quoted(net.target)] if net.target else []
    return [*target, *map(str, net.widths), *(f"{k}={_literal(v) if net.target else v}" for k, v in net.options)]


def _literal(value: OptionValue) -> str:
    """An option's value as Python writes it."""
    return quoted(value) if isinstance(value, str) else repr(value)


def _returns(net: Net) -> str:
    return "Tensor" if len(net.heads) == 1 else f"tuple[{', '.join(['Tensor'] * len(net.heads))}]"


# --- layers


def _member(name: str, layers: tuple[Layer, ...], net: Net, own: str) -> list[str]:
    texts = _stacked([_layer(layer, net, own) for layer in layers])
    return _indented(8, [f"self.{name} = {texts[0]}", *texts[1:]])


def _stacked(layers: list[Lines]) -> Lines:
    """One layer as it is, several as a sequence."""
    if len(layers) == 1:
        return layers[0]
    return ["nn.Sequential(", *_indented(4, [line for layer in layers for line in _with_comma(layer)]), ")"]


def _with_comma(lines: Lines) -> Lines:
    return [*lines[:-1], f"{lines[-1]},"]


def _layer(layer: Layer, net: Net, own: str) -> Lines:
    """The expression that makes a layer, on one line but for a residual block."""
    match layer:
        case Linear():
            bias = "" if layer.bias else ", bias=False"
            return [_normed(layer, f"nn.Linear({layer.inputs}, {layer.outputs}{bias})")]
        case Conv():
            return [_normed(layer, f"nn.Conv2d({_sizes(layer)})")]
        case Deconv(extra=(rows, columns)):
            extra = str(rows) if rows == columns else f"({rows}, {columns})"
            more = f", output_padding={extra}" if rows or columns else ""
            return [_normed(layer, f"nn.ConvTranspose2d({_sizes(layer)}{more})")]
        case Norm(kind=kind, size=size, maps=maps):
            return [NORMS[kind, maps].format(size)]
        case Activation(name=name):
            return [f"nn.{ACTIVATIONS[name]}()"]
        case Dropout(share=share):
            return [f"nn.Dropout({share})"]
        case Flatten():
            return ["nn.Flatten()"]
        case Unflatten(shape=shape):
            return [f"nn.Unflatten(1, {shape})"]
        case Residual(layers=inner, shortcut=shortcut):
            parts = [_stacked([_layer(part, net, own) for part in inner])]
            parts += [_layer(shortcut, net, own)] if shortcut else []
            return ["Residual(", *_indented(4, [line for part in parts for line in _with_comma(part)]), ")"]
        case Own(inputs=inputs, outputs=outputs):
            given = "".join(f", {name}={_literal(value)}" for name, value in net.options)
            return [f"{own}({inputs}, {outputs}{given})"]


NORMS: Mapping[tuple[str, bool], str] = {
    ("batch", False): "nn.BatchNorm1d({})",
    ("batch", True): "nn.BatchNorm2d({})",
    ("layer", False): "nn.LayerNorm({})",
    ("layer", True): "nn.GroupNorm(1, {})",  # mean and variance over channels, rows and columns, a scale per channel
}
"""The modules of norms, between vectors and between maps."""


def _sizes(layer: Conv | Deconv) -> str:
    stride = f", stride={layer.stride}" if layer.stride != 1 else ""
    sides = f", padding={padding(layer.kernel)}" if padding(layer.kernel) else ""
    return f"{layer.inputs}, {layer.outputs}, {layer.kernel}{stride}{sides}"


def _normed(layer: Linear | Conv | Deconv, text: str) -> str:
    return f"spectral_norm({text})" if layer.spectral else text


# --- the way through


def _arguments(net: Net) -> list[tuple[str, Space]]:
    names = Names.without(("self", "h", "features"))
    letters = "abcdefg" if len(net.inputs) > 1 else "x"
    return [
        (names.of(i, letters[i] if i < len(letters) else f"input_{i}"), space) for i, space in enumerate(net.inputs)
    ]


def _flat(name: str, space: Space, dtype: str) -> str:
    """One input as numbers in the last dimension: flattened, a finite one one-hot."""
    match space.kind, len(space.shape):
        case "finite", _:
            return f"F.one_hot({name}.long(), {len(space.values)}).to({dtype})"
        case _, 0:
            return f"{name}.unsqueeze(-1)"
        case _, 1:
            return name
        case _, n:
            return f"{name}.flatten({-n})"


def _dtype(member: str, layers: tuple[Layer, ...]) -> str:
    """The type of a stack's parameters. A spectral weight is not asked for: that would be a step of its iteration."""
    if isinstance(layers[0], Linear) and not layers[0].spectral:
        return f"self.{member}.weight.dtype" if len(layers) == 1 else f"self.{member}[0].weight.dtype"
    return "next(self.parameters()).dtype"


def _joined(parts: Lines) -> str:
    return parts[0] if len(parts) == 1 else f"joined({', '.join(parts)})"


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


def _forward(net: Net, found: Plan) -> Lines:
    """The lines from the arguments to the heads. `lead` is what the leading dimensions were, where they are one now."""
    member, stack = ("head", found.head) if found.head else ("layers", found.layers)
    dtype = _dtype(member, stack)
    flat = [_flat(a, s, dtype) for i, (a, s) in enumerate(_arguments(net)) if i != found.image]
    lines: Lines = []
    lead: str | None = None
    value = ""
    if found.image is not None:
        name, space = _arguments(net)[found.image]
        lead = f"{name}.shape[:-3]"
        value = f"self.layers({name}.reshape(-1, {dims(space.shape)}))"
        if found.head:
            lines.append(f"features = {value}.reshape(*{lead}, {found.features})")
            flat = ["features", *flat]
    if found.image is None or found.head:
        given, lead = _joined(flat), None
        if _one_batch(stack):
            if not given.isidentifier():
                lines.append(f"h = {given}")
                given = "h"
            width = found.features + sum(s.width for i, s in enumerate(net.inputs) if i != found.image)
            lead, given = f"{given}.shape[:-1]", f"{given}.reshape(-1, {width})"
        value = f"self.{member}({given})"
    return [*lines, *_heads(net, found, value, lead)]


def _heads(net: Net, found: Plan, value: str, lead: str | None) -> Lines:
    """What the last layer gives, cut into heads, each in its shape and its space."""
    spaces = [h.space for h in net.heads]
    if len(spaces) == 1:
        shaped = _shaped(spaces[0], value) if lead is None else _led(value, lead, spaces[0].shape)
        return [f"return {_mapped(spaces[0], shaped)}"]
    axis = -3 if found.maps else -1
    sizes = [s.shape[0] if found.maps else s.size for s in spaces]
    if lead is not None:
        value = _led(value, lead, (sum(sizes), *(spaces[0].shape[1:] if found.maps else ())))
    names = Names.without(("self",), (a for a, _ in _arguments(net)))
    named = [names.of(h.name, h.name) for h in net.heads]
    equal = len(set(sizes)) == 1
    split = f".chunk({len(sizes)}, {axis})" if equal else f".split([{dims(sizes)}], {axis})"
    shaped = [n if found.maps else _shaped(s, n) for n, s in zip(named, spaces, strict=True)]
    returned = ", ".join(_mapped(s, text) for s, text in zip(spaces, shaped, strict=True))
    return [f"{', '.join(named)} = {value}{split}", f"return {returned}"]


def _led(value: str, lead: str, shape: tuple[int, ...]) -> str:
    """A batch as the leading dimensions that it was made of."""
    return f"{value}.reshape(*{lead}, {dims(shape)})" if shape else f"{value}.reshape({lead})"


def _shaped(space: Space, text: str) -> str:
    match space.shape:
        case ():
            return f"{text}.squeeze(-1)"
        case (_,):
            return text
        case shape:
            return f"{text}.unflatten(-1, {shape})"


MAPS: Mapping[Kind, str] = {"real": "{}", "positive": "{}.exp()", "unit": "{}.sigmoid()"}
"""What `torch.distributions.transform_to` of each kind's constraint does, for those that are one method."""


def _mapped(space: Space, text: str) -> str:
    """A head's last map, into its space: that of `torch.distributions.transform_to`."""
    if space.kind in MAPS:
        return MAPS[space.kind].format(text)
    return f"transform_to(constraints.{CONSTRAINT[space.kind]})({text})"


def needs_transform(heads: tuple[Head, ...]) -> bool:
    return any(h.space.kind not in MAPS for h in heads)


def _indented(by: int, lines: list[str]) -> list[str]:
    return [" " * by + line for line in lines]
