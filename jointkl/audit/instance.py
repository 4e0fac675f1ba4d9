"""A finite instance of a spec: the same joints, goals, players and networks over spaces of a few values.

Every variable that is not finite becomes bits, `binary` or `binary[2]`: not enumerable by the rules, so that what the
spec cannot evaluate its instance cannot either, and yet summed over by the reference. Every law becomes a table of
logits: a network's value at each of its inputs, a param, a number for each given. A Dirac without `density=` becomes an
implicit law, drawn through a hidden bit. The instance is a text, compiled as any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jointkl.audit.making import BINARY, PAIR, Making, NoInstance, trained, trunks, width
from jointkl.audit.tables import definition
from jointkl.semantics.divergences import DIVERGENCES
from jointkl.semantics.model import (
    Joint,
    Model,
)
from jointkl.semantics.spaces import Space
from jointkl.syntax import nodes
from jointkl.syntax.parse import parse_text

MOST_VALUES = 4
"""A finite variable of more values has three in the instance, unless it is a mixture's label."""

MOST_WIDE = 2
"""Of so many variables that hold several numbers each has two bits; of more each has one."""

MOST_COPIES = 2
"""Importance-weighted copies in the instance."""


@dataclass(frozen=True, slots=True)
class Instance:
    """The text of an instance, and its networks that pass on which input they saw."""

    text: str
    trunks: frozenset[str]


def instance(model: Model, *, implicit: bool = False) -> Instance:
    """A finite instance. Raises `NoInstance`."""
    making = Making(model, implicit)
    making.spaces = _spaces(model)
    making.trunks = trunks(making)
    making.taken = _names(model)
    lines: list[str] = []
    for statement in parse_text(model.source.text, model.source.name).statements:
        lines += _statement(making, statement)
    return Instance("\n".join(lines) + "\n", frozenset(making.trunks))


def _names(model: Model) -> set[str]:
    labels = {law.label for law in model.laws.values()}
    return {*model.variables, *model.params, *model.nets, *labels, *(p.name for p in model.players), "data"}


# --- spaces


def _spaces(model: Model) -> dict[str, Space]:
    labels = {b.label for law in model.laws.values() if isinstance(law.body, Joint) for b in law.body.branches}
    wide = [v for v in model.variables.values() if v.space.kind != "finite" and v.space.shape]
    found: dict[str, Space] = {}
    for v in model.variables.values():
        if v.space.kind == "finite":
            keeps = len(v.space.values) <= MOST_VALUES or v.name in labels
            found[v.name] = v.space if keeps else Space("finite", (), (0, 1, 2))
        else:
            found[v.name] = PAIR if v.space.shape and len(wide) <= MOST_WIDE else BINARY
    return found


# --- statements


def _statement(making: Making, node: nodes.Statement) -> list[str]:
    match node:
        case nodes.Var():
            shared = " global" if node.is_global else ""
            return [f"var {n.text}: {making.spaces[n.text]}{shared}" for n in node.names]
        case nodes.Net(name=name):
            net = name.text
            if net not in making.model.nets:
                return []
            columns = width(making, net)
            out = f": real[{columns}]" if net in making.trunks else ""
            return [f"net {net}{out} = mlp({columns})"]
        case nodes.Definition():
            return definition(making, node)
        case nodes.Train():
            return trained(node)
        case nodes.Goal():
            return _goal(node)
        case nodes.Param() | nodes.Let() | nodes.Player():
            return [node.span.text]


def _goal(node: nodes.Goal) -> list[str]:
    text = node.span.text
    parts = node.objective
    penalties = [DIVERGENCES[d.name.text].penalty for d in _divergences(parts)]
    if all(penalties):
        return []
    if any(penalties):
        raise NoInstance("a slope has no meaning among finitely many values")
    for option in node.options:
        if option.name.text == "importance":
            start, end = (place - node.span.start for place in (option.value.span.start, option.value.span.end))
            shown = option.value.span.text
            fewer = str(MOST_COPIES) if not shown.isdigit() or int(shown) > MOST_COPIES else shown
            text = text[:start] + fewer + text[end:]
    return [text]


def _divergences(part: nodes.Objective) -> Iterator[nodes.Divergence]:
    match part:
        case nodes.Divergence():
            yield part
        case nodes.Hinge(sum=inner) | nodes.Scaled(part=inner):
            yield from _divergences(inner)
        case nodes.Sum(terms=terms):
            for _, inner in terms:
                yield from _divergences(inner)
        case nodes.Weight():
            return
