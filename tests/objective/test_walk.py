"""Ways through a loss: references are read off the types of the fields."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import jointkl
from jointkl.objective import ir
from jointkl.objective.walk import mapped, operands
from jointkl.semantics.spaces import Space
from tests.worlds import MODELS

REAL = Space("real", (2,))


@dataclass(frozen=True, slots=True)
class Anything:
    """References in every place where a field may hold them, beside numbers that are none."""

    density: ir.Density
    weighted: tuple[tuple[Fraction, ir.Id], ...]
    inputs: tuple[ir.Id, ...]
    value: ir.Id | None
    copies: int
    ndim: tuple[int, ...] = ()


def test_references_are_found_wherever_they_stand() -> None:
    d = ir.Density("Normal", (("loc", 1), ("scale", 2)), REAL, (1, 1))
    node = Anything(d, ((Fraction(3), 3), (Fraction(1), 4)), (5, 6), 7, 1, (1, 2))
    assert operands(node) == (1, 2, 3, 4, 5, 6, 7)
    moved = mapped(node, lambda i: i + 10)
    assert operands(moved) == (11, 12, 13, 14, 15, 16, 17)
    assert (moved.copies, moved.ndim, moved.density.ndim) == (1, (1, 2), (1, 1))
    assert operands(Anything(ir.Density("Normal", (), REAL), (), (), None, 1)) == ()


def test_renumbering_by_the_identity_changes_nothing() -> None:
    for path in sorted(MODELS.glob("*.jkl")):
        for loss in jointkl.lower(jointkl.derive(jointkl.load(path))).losses:
            for i, node in enumerate(loss.nodes):
                assert mapped(node, lambda j: j) == node
                assert all(j < i for j in operands(node))
