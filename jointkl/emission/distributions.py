"""Families as torch: the distribution of a density."""

from __future__ import annotations

from jointkl.emission.library import BOUNDED
from jointkl.emission.tree import Call, Expression, Literal, Name, spread
from jointkl.emission.writer import Writer, full
from jointkl.objective import ir
from jointkl.semantics.families import FAMILIES, parameter_space


def reparameterised(d: ir.Density) -> bool:
    return FAMILIES[d.family].reparameterised


def distribution(d: ir.Density, w: Writer, *, asked: bool = False) -> Expression:
    """`dist.Normal(loc, scale).to_event(1)`, its parameters filled to the shape of the event; `asked`: for the density
    of any value."""
    family = FAMILIES[d.family]
    event = len(d.space.shape) - family.event
    texts = filled(d, w)
    given = tuple(n for n, _ in d.parameters)
    in_order = tuple(p.name for p in family.parameters[: len(texts)]) == given
    called = Name(d.family if asked and d.family in BOUNDED else f"dist.{d.family}")
    if in_order and not family.tensors and len(texts) > 1:
        made = Call(called, tuple(texts))
    else:
        made = Call(called, (), tuple(zip(given, texts, strict=True)))
    return made.do("to_event", event) if event > 0 else made


def filled(d: ir.Density, w: Writer) -> list[Expression]:
    """The parameters; where none has its full shape, or all are numbers, the first is spread over it. A family that
    takes tensors alone has each spread over its own."""
    family = FAMILIES[d.family]
    parameters = [p for n, _ in d.parameters if (p := family.parameter(n)) is not None]
    shapes = [parameter_space(family, p, d.space).shape for p in parameters]
    ndims = d.ndim or tuple(0 for _ in d.parameters)
    whole = any(own == len(shape) for own, shape in zip(ndims, shapes, strict=True))
    numbers = all(w.number(i) is not None for _, i in d.parameters)
    texts: list[Expression] = []
    for place, (p, (_, i), own, shape) in enumerate(zip(parameters, d.parameters, ndims, shapes, strict=True)):
        made, number, missing = w.text(i), w.number(i), len(shape) - own
        if p.extent == "count":
            assert number is not None  # the front end takes nothing else
            texts.append(Literal(str(int(number))))
        elif number is not None and (family.tensors or (place == 0 and (numbers or not whole))):
            texts.append(full(number, *shape))
        else:
            made = aligned(i, missing, w)
            alone = missing > 0 and (family.tensors or (place == 0 and not whole))
            texts.append(made + full(0.0, *shape) if alone else made)
    return texts


def aligned(i: ir.Id, missing: int, w: Writer) -> Expression:
    """A parameter in front of the event's dimensions that it is `missing`."""
    made = w.text(i)
    return spread(made, missing) if missing > 0 and w.place(i).in_front else made
