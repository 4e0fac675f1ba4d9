"""Cross-entropies E_f{-log g} in closed form, f and g of one family."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from jointkl.emission import densities
from jointkl.emission.densities import Formula
from jointkl.emission.text import ATOM, SUM, Text
from jointkl.objective import ir

if TYPE_CHECKING:
    from jointkl.emission.lines import Lines


def formula(lines: Lines, i: ir.Id, node: ir.KL) -> Formula:
    """For each datum. Against logits it is written out, finite at whatever they are; else it is KL[f || g] + H[f]."""
    left, right, w = node.left, node.right, lines.writer
    n = len(right.space.shape)
    ((name, logits), *_) = right.parameters
    chances = _chances(lines, left)
    if name == "logits" and right.ndim == (n + (right.family == "Categorical"),) and chances is not None:
        if right.family == "Bernoulli":
            each = w.named(logits).text
            return Formula(Text(f"F.softplus({each}) - {chances.atom} * {each}", SUM), ndim=n)
        return Formula(Text(f"({chances.atom} * {w.text(logits).atom}.log_softmax(-1)).sum(-1)", ATOM), -1, n)
    f, g = (lines.names.of((i, name), name) for name in ("f", "g"))
    made = [densities.distribution(d, w).text for d in (left, right)]
    lines.lines += [f"{f}, {g} = spread(", *(f"    {d}," for d in made), ")"]
    return Formula(Text(f"kl_divergence({f}, {g}) + {f}.entropy()", SUM))


def _chances(lines: Lines, d: ir.Density) -> Text | None:
    """The probabilities of a Bernoulli, of its number where it has one for all bits, or of a Categorical."""
    if d.family not in ("Bernoulli", "Categorical"):
        return None
    ((name, parameter),) = d.parameters
    node, full = lines.nodes[parameter], len(d.space.shape) + (d.family == "Categorical")
    if isinstance(node, ir.Constant) and node.number is not None and d.family == "Bernoulli":
        return Text(repr(node.number if name == "probs" else 1 / (1 + math.exp(-node.number))), ATOM)
    if d.ndim != (full,):
        return None
    made = lines.text(parameter)
    squashed = {"Bernoulli": "sigmoid()", "Categorical": "softmax(-1)"}[d.family]
    return made if name == "probs" else Text(f"{made.atom}.{squashed}", ATOM)
