"""Networks as classes: what an expert would write for this builder, these sizes and these heads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

from jointkl.emission.names import Names
from jointkl.semantics.catalogue import ACTIVATIONS, BUILDERS, OptionValue
from jointkl.semantics.model import Head, Net
from jointkl.semantics.spaces import CONSTRAINT, Kind, Space

Layers = list[str]


def network(net: Net, name: str) -> list[str]:
    """The lines of one network's class."""
    arguments = [a for a, _ in _arguments(net)]
    heads = ", ".join(f"{h.name} {h.space}" if h.name != "value" else str(h.space) for h in net.heads)
    built = f"{net.builder}({', '.join(_written(net))})"
    return [
        f"class {name}(nn.Module):",
        f'    """net {net.name} = {built}: {", ".join(map(str, net.inputs))} -> {heads}"""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *_indented(8, _sequential(BUILDER_LAYERS[net.builder](net))),
        "",
        f"    def forward(self, {', '.join(f'{a}: Tensor' for a in arguments)}) -> {_returns(net)}:",
        *(f"        {line}" for line in _forward(net)),
    ]


def class_name(names: Names, net: Net) -> str:
    return names.of(("class", net.name), f"{net.name[:1].upper()}{net.name[1:]}Net")


def _written(net: Net) -> list[str]:
    return [*map(str, net.widths), *(f"{k}={v}" for k, v in net.options)]


def _returns(net: Net) -> str:
    return "Tensor" if len(net.heads) == 1 else f"tuple[{', '.join(['Tensor'] * len(net.heads))}]"


# --- layers


def _options(net: Net) -> dict[str, OptionValue | None]:
    row = BUILDERS[net.builder]
    return {o.name: o.default for o in row.options} | dict(net.options)


def _mlp(net: Net) -> Layers:
    activation = f"nn.{ACTIVATIONS[str(_options(net)['activation'])]}()"
    sizes = [sum(s.width for s in net.inputs), *net.widths]
    hidden = [line for a, b in pairwise(sizes) for line in (f"nn.Linear({a}, {b})", activation)]
    return [*hidden, f"nn.Linear({sizes[-1]}, {net.outputs})"]


def _linear(net: Net) -> Layers:
    bias = "" if _options(net)["bias"] else ", bias=False"
    return [f"nn.Linear({sum(s.width for s in net.inputs)}, {net.outputs}{bias})"]


BUILDER_LAYERS: Mapping[str, Callable[[Net], Layers]] = {"mlp": _mlp, "linear": _linear}


def _sequential(layers: Layers) -> list[str]:
    if len(layers) == 1:
        return [f"self.layers = {layers[0]}"]
    return ["self.layers = nn.Sequential(", *(f"    {layer}," for layer in layers), ")"]


# --- the way through


def _arguments(net: Net) -> list[tuple[str, Space]]:
    names = Names.without(("self", "h"))
    letters = "abcdefg" if len(net.inputs) > 1 else "x"
    return [
        (names.of(i, letters[i] if i < len(letters) else f"input_{i}"), space) for i, space in enumerate(net.inputs)
    ]


def _flat(name: str, space: Space) -> str:
    """One input as numbers in the last dimension: flattened, a finite one one-hot."""
    match space.kind, len(space.shape):
        case "finite", _:
            return f"F.one_hot({name}.long(), {len(space.values)}).to(self.weight_dtype)"
        case _, 0:
            return f"{name}.unsqueeze(-1)"
        case _, 1:
            return name
        case _, n:
            return f"{name}.flatten({-n})"


def _forward(net: Net) -> list[str]:
    parts = [_flat(a, s) for a, s in _arguments(net)]
    weight = "self.layers.weight" if len(BUILDER_LAYERS[net.builder](net)) == 1 else "self.layers[0].weight"
    parts = [p.replace("self.weight_dtype", f"{weight}.dtype") for p in parts]
    joined = parts[0] if len(parts) == 1 else f"joined({', '.join(parts)})"
    if len(net.heads) == 1:
        return [f"return {_mapped(net.heads[0].space, _shaped(net.heads[0].space, f'self.layers({joined})'))}"]
    names = Names.without(("self",), (a for a, _ in _arguments(net)))
    named = [(names.of(h.name, h.name), h) for h in net.heads]
    sizes = [_free_size(h.space) for h in net.heads]
    equal = len(set(sizes)) == 1
    split = f".chunk({len(sizes)}, -1)" if equal else f".split([{', '.join(map(str, sizes))}], -1)"
    returned = ", ".join(_mapped(h.space, _shaped(h.space, n)) for n, h in named)
    return [f"{', '.join(n for n, _ in named)} = self.layers({joined}){split}", f"return {returned}"]


def _free_size(space: Space) -> int:
    return math.prod(space.shape)


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
