"""Factor graphs laid out: everything of the diagram is drawn, nothing lies on anything else."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jointkl
from jointkl.derivation.players import law_trainables
from jointkl.evaluation.report import graph, layout
from jointkl.evaluation.report.layout import Box, Layout
from jointkl.exposition.diagram import Factor, Product, Variable, diagrams
from tests.worlds import MODELS

NAMES = sorted(path.stem for path in MODELS.glob("*.jkl"))


def products(name: str) -> list[Product]:
    model = jointkl.load(MODELS / f"{name}.jkl")
    return [p for d in diagrams(model, law_trainables(model)) for p in d.products]


def verify(boxes: dict[str, Box], edges: list[tuple[str, str]], found: Layout, gap: float, between: float) -> None:
    """Boxes keep their distance; edges go down, from one box to the other, and through no third."""
    corners = {
        n: (x - boxes[n].width / 2, y - boxes[n].height / 2, x + boxes[n].width / 2, y + boxes[n].height / 2)
        for n, (x, y) in found.places.items()
    }
    for (l1, t1, r1, b1), (l2, t2, r2, b2) in combinations(corners.values(), 2):
        assert l2 - r1 >= gap - 1e-6 or l1 - r2 >= gap - 1e-6 or t2 - b1 >= between - 1e-6 or t1 - b2 >= between - 1e-6
    across = [x for points in found.edges for x, _ in points]
    assert min(*across, *(c[0] for c in corners.values()), 0) >= -1e-6
    assert max(*across, *(c[2] for c in corners.values()), 0) == pytest.approx(found.width)
    assert max(c[3] for c in corners.values()) == pytest.approx(found.height)
    for (a, b), points in zip(edges, found.edges, strict=True):
        assert points[0] == pytest.approx((found.places[a][0], corners[a][3]))
        assert points[-1] == pytest.approx((found.places[b][0], corners[b][1]))
        assert all(p[1] <= q[1] + 1e-6 for p, q in pairwise(points))
        for x, y in points[1:-1]:
            for n, (left, top, right, bottom) in corners.items():
                assert not (left < x < right and top < y < bottom), f"{a} -> {b} goes through {n}"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lies_on_anything_else(name: str) -> None:
    for product in products(name):
        boxes, edges = graph.plan(product)
        verify(boxes, edges, layout.layout(boxes, edges, graph.GAP, graph.BETWEEN), graph.GAP, graph.BETWEEN)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Box], list[tuple[str, str]]]:
    """Any boxes in any layers, any edges downwards."""
    layers = draw(st.lists(st.integers(0, 5), min_size=1, max_size=14))
    sizes = st.floats(5, 120)
    boxes = {f"n{i}": Box(draw(sizes), draw(sizes), layer) for i, layer in enumerate(layers)}
    pairs = [(a, b) for a in boxes for b in boxes if boxes[a].layer < boxes[b].layer]
    return boxes, draw(st.lists(st.sampled_from(pairs), max_size=12, unique=True)) if pairs else []


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_any_graph_is_laid_out(made: tuple[dict[str, Box], list[tuple[str, str]]]) -> None:
    boxes, edges = made
    verify(boxes, edges, layout.layout(boxes, edges, 12, 20), 12, 20)


def test_crossings_that_can_be_avoided_are() -> None:
    boxes = {n: Box(10, 10, layer) for n, layer in zip("abcdef", (0, 0, 0, 1, 1, 1), strict=True)}
    edges = [("a", "f"), ("b", "e"), ("c", "d")]
    found = layout.layout(boxes, edges, 5, 10)
    ends = sorted((found.places[a][0], found.places[b][0]) for a, b in edges)
    assert [b for _, b in ends] == sorted(b for _, b in ends)
    assert all(a == pytest.approx(b) for a, b in ends), "and the lines are straight"


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_and_law_is_drawn_and_marked(name: str) -> None:
    for product in products(name):
        root = ElementTree.fromstring(graph.drawing("q", product))
        groups = [g for g in root.iter("g")]
        shown = {("".join(t.itertext()), g.attrib["class"]) for g in groups for t in list(g.iter("text"))[:1]}
        bare = {(re.sub(r"[\s\u200b]", "", words).replace("′", "'"), kind) for words, kind in shown}
        assert bare == {(v.name, " ".join(("variable", *v.marks))) for v in product.variables} | {
            (f.text.replace(" ", ""), "factor") for f in product.factors
        }
        arrows = [path for path in root.iter("path") if path.attrib["class"] == "edge"]
        assert len(arrows) == sum(len(f.givens) + len(f.outputs) for f in product.factors)
        assert root.attrib["aria-label"].count(" gives ") == len(product.factors)


def test_a_plate_holds_what_each_datum_has_of_its_own() -> None:
    (product, _) = products("vi")
    root = ElementTree.fromstring(graph.drawing("p", product))
    (plate,) = [rect for rect in root.iter("rect") if rect.attrib.get("class") == "plate"]
    top, left = float(plate.attrib["y"]), float(plate.attrib["x"])
    bottom, right = top + float(plate.attrib["height"]), left + float(plate.attrib["width"])
    inside: set[str] = set()
    for g in root.iter("g"):
        (rect,) = g.iter("rect")
        x, y = float(rect.attrib["x"]), float(rect.attrib["y"])
        if top < y < bottom and left < x < right:
            assert y + float(rect.attrib["height"]) < bottom
            inside.add(re.sub(r"\s", "", "".join(next(g.iter("text")).itertext())))
    assert inside == {"data(x,t)", "x", "t"}


def test_a_global_that_is_made_from_data_has_no_plate_around() -> None:
    product = Product(
        "",
        (Variable("x", evidence=True), Variable("w", shared=True)),
        (Factor("data(x)", (), ("x",), "evidence"), Factor("p(w|x)", ("x",), ("w",), "Normal", shared=True)),
    )
    assert 'class="plate"' not in graph.drawing("p", product)


def test_names_are_escaped_and_long_words_cut() -> None:
    factor = Factor('<b>"(x)', (), ("x",), "Normal of " + ", ".join(f"net{i}" for i in range(30)) + "<i>")
    shown = graph.drawing("<q>", Product("", (Variable("x"),), (factor,)))
    root = ElementTree.fromstring(shown)
    assert "".join(next(root.iter("title")).itertext()) == factor.about
    (about,) = [t for t in root.iter("text") if t.attrib.get("class") == "about"]
    assert len("".join(about.itertext())) == graph.LONGEST
    assert "<b>" not in shown
    assert "<i>" not in shown
