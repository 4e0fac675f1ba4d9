"""What a law's parameters are worth for one datum.

A value is read as docs/language.md, "Parameters", says, for one assignment of the variables at a time: no value here
has a batch dimension, so that none can be mistaken for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import constraints, transform_to

from jointkl.semantics.model import (
    Constant,
    Indexed,
    Model,
    NetCall,
    Operation,
    ParameterRef,
    Value,
    VariableRef,
)
from jointkl.semantics.spaces import CONSTRAINT, Space

Layers = Callable[[Tensor], Tensor]
"""A network's layers: (1, *input) to (1, outputs)."""

FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "softplus": torch.nn.functional.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softmax": lambda x: torch.softmax(x, -1),
    "sum": torch.sum,
    "neg": torch.neg,
}

ARITHMETIC: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "@": torch.matmul,
}


@dataclass(frozen=True, slots=True)
class Weights:
    """What is trained, at some moment: `params` in their spaces, by name, and the layers of each network."""

    params: Mapping[str, Tensor]
    layers: Mapping[str, Layers]


Assignment = Mapping[str, Tensor]
"""The value of each variable for one datum: a number's place for a finite space, else a tensor of the space's shape."""


def value(model: Model, weights: Weights, v: Value, at: Assignment) -> Tensor:
    """The value for one datum."""
    match v:
        case Constant(value=number):
            return torch.tensor(number, dtype=torch.float64)
        case ParameterRef(name=name):
            return weights.params[name]
        case VariableRef(name=name):
            return at[name]
        case NetCall():
            return _head(model, weights, v, at)
        case Operation(operator=operator, operands=operands):
            found = [value(model, weights, o, at) for o in operands]
            return ARITHMETIC[operator](*found) if len(found) == 2 else FUNCTIONS[operator](found[0])
        case Indexed(value=inner, indices=indices):
            found = value(model, weights, inner, at)
            for index in indices:
                found = found[int(value(model, weights, index, at))]
            return found


def _head(model: Model, weights: Weights, call: NetCall, at: Assignment) -> Tensor:
    """A network's inputs are flattened and joined in order, finite variables one-hot, except that an image alone keeps
    its shape; each head is mapped into its space."""
    net = model.nets[call.net]
    inputs = [_entered(model, weights, v, s, at) for v, s in zip(call.inputs, net.inputs, strict=True)]
    image = len(net.inputs) == 1 and len(net.inputs[0].shape) == 3
    x = inputs[0] if image else torch.cat([i.reshape(-1) for i in inputs])
    out = weights.layers[call.net](x.unsqueeze(0)).reshape(-1)
    start = 0
    for head in net.heads:
        raw = out[start : start + head.space.size]
        start += len(raw)
        if call.head is None or head.name == call.head:
            return mapped(head.space, raw)
    raise AssertionError(f"{call.net} has no head {call.head}")


def _entered(model: Model, weights: Weights, v: Value, space: Space, at: Assignment) -> Tensor:
    found = value(model, weights, v, at)
    if space.kind == "finite":
        return torch.nn.functional.one_hot(found.long(), len(space.values)).to(torch.float64)
    return found.to(torch.float64)


def mapped(space: Space, raw: Tensor) -> Tensor:
    """Free numbers into a space, by `torch.distributions.transform_to`."""
    shaped = raw.reshape(space.shape)
    return shaped if space.kind == "real" else transform_to(getattr(constraints, CONSTRAINT[space.kind]))(shaped)
