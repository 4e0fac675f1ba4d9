"""Named dimensions get their order once: those that meet stand apart, those that never do may share a place."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from jointkl.emission.places import Places, Rows
from jointkl.objective import ir
from jointkl.semantics.model import Net, Param
from jointkl.semantics.spaces import Space

ONE = Fraction(1)
A, B, C = (ir.Dim(name, size) for name, size in (("a", 2), ("b", 3), ("c", 4)))


@dataclass(frozen=True)
class Nothing:
    """A spec without nets and params."""

    nets: dict[str, Net]
    params: dict[str, Param]


def every(dim: ir.Dim) -> ir.Every:
    return ir.Every(dim.name, Space("finite", (), tuple(range(dim.size or 0))), dim)


def total(*nodes: ir.Id) -> ir.Total:
    return ir.Total(tuple((ONE, i) for i in nodes))


def places(*nodes: ir.Node) -> Places:
    return Places.of(Nothing({}, {}), nodes)


def test_what_never_meets_shares_a_place() -> None:
    found = places(every(A), every(B), every(C), total(0, 1), total(0, 2))
    assert found.order == {A: 0, B: 1, C: 1}
    assert [p.lead for p in found.found] == [1, 2, 2, 2, 2]
    assert all(p.rows is Rows.ONE for p in found.found)


def test_axes_are_counted_from_the_front() -> None:
    found = places(every(A), every(B), total(0, 1))
    assert (found.axis(2, A), found.axis(2, B)) == (1, 0)


def test_the_outermost_go_and_inner_ones_keep_the_places_of_others() -> None:
    found = places(every(A), every(B), total(0, 1), ir.Over("sum", 2, (B,)), ir.Over("sum", 2, (A,)))
    assert found.reduced(2, (B,)) == (1, [])
    assert found.reduced(2, (A,)) == (0, [1])
    assert found.reduced(2, (A, B)) == (2, [])
    assert [found.found[i].lead for i in (3, 4)] == [1, 2]


def test_a_sum_over_all_leaves_a_row_and_a_mean_over_the_data_none() -> None:
    x = ir.Given("x", "x", Space("real"))
    found = places(every(A), ir.Over("sum", 0, (A,)), x, ir.Over("mean", 2, (ir.DATA,)), ir.Constant(1.0))
    assert [p.rows for p in found.found] == [Rows.ONE, Rows.ONE, Rows.EACH, Rows.NONE, Rows.NONE]


def test_copies_of_several_counts_are_dimensions_of_their_own() -> None:
    few, many = ir.copies(2), ir.copies(8)
    density = ir.Density("Normal", (), Space("real"))
    found = places(*(ir.Draw("z", "z", density, (d, ir.DATA), noise=True) for d in (few, many)))
    assert found.order == {few: 0, many: 0}
    assert [p.lead for p in found.found] == [1, 1]
