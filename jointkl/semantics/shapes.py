"""The shape of a checked value: that of one datum, without the batch."""

from __future__ import annotations

from jointkl.semantics.model import (
    Constant,
    Indexed,
    Model,
    NetCall,
    Numbers,
    Operation,
    ParameterRef,
    Value,
    VariableRef,
)

Shape = tuple[int, ...]


def shape(model: Model, value: Value) -> Shape:
    match value:
        case Constant(value=number):
            return numbers(number)
        case ParameterRef(name=name):
            return model.params[name].space.shape
        case VariableRef(name=name):
            return model.space(name).shape
        case NetCall(net=net, head=head):
            heads = model.nets[net].heads
            return next(h.space.shape for h in heads if head is None or h.name == head)
        case Operation(operator="sum"):
            return ()
        case Operation(operator="@", operands=(left, right)):
            return (*shape(model, left)[:-1], *shape(model, right)[1:])
        case Operation(operands=operands):
            return broadcast([shape(model, v) for v in operands])
        case Indexed(value=inner, indices=indices):
            return shape(model, inner)[len(indices) :]


def numbers(value: Numbers) -> Shape:
    """The shape of a number or a list."""
    if not isinstance(value, tuple):
        return ()
    return (len(value), *(numbers(value[0]) if value and isinstance(value[0], tuple) else ()))


def broadcast(shapes: list[Shape]) -> Shape:
    """The shape of what several make together, number by number."""
    n = max(map(len, shapes))
    padded = [(1,) * (n - len(s)) + s for s in shapes]
    return tuple(max(sizes) for sizes in zip(*padded, strict=True))
