"""Factor graphs as SVG: variables are circles, factors boxes; what data give is filled, what is hidden dashed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from jointkl.evaluation.report.layout import Box, Layout, layout
from jointkl.exposition.diagram import Diagram, Factor, Product, Variable
from jointkl.exposition.styles import GREEK, escaped_html

RADIUS, BOX, LOW, GAP, BETWEEN, MARGIN = 19.0, 40.0, 26.0, 18.0, 24.0, 3.0
"""Of a variable's circle; the heights of a factor's box, with and without words below the law; the room between boxes
of a layer, between layers, and around the whole."""

PLATE, HEAD = 12.0, 20.0
"""The room inside a plate, and that of its words below."""

BIG, SMALL = 8.8, 6.7
"""How wide a letter of a law and of the words below it is, about."""

LONGEST = 30
"""Of longer words below a law the rest is left out; a reader finds them where the pointer rests."""

_NAME = re.compile(r"([A-Za-z_]+)(\d*)('*)|(.)")


def figure(diagram: Diagram) -> Iterator[tuple[str, str]]:
    """The products of a joint, each with its title and its drawing."""
    for product in diagram.products:
        yield product.title, drawing(diagram.title, product)


def drawing(name: str, product: Product) -> str:
    boxes, edges = plan(product)
    found = layout(boxes, edges, GAP, BETWEEN)
    told = escaped_html(f"{name}{', ' if product.title else ''}{product.title}: {words(product)}")
    plate = list(_plate(product, boxes, found))
    down = PLATE + HEAD if plate else 0.0
    side = PLATE if plate else 0.0
    width, height = found.width + 2 * (MARGIN + side), found.height + 2 * MARGIN + down
    lines = [
        f'<svg class="graph" width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{told}" '
        f'viewBox="{-MARGIN - side:g} {-MARGIN:g} {width:g} {height:g}">',
        *plate,
        *(_edge(points) for points in found.edges),
        *(_variable(v, boxes[_of(v)], found.places[_of(v)]) for v in product.variables),
        *(_factor(f, boxes[f"f{i}"], found.places[f"f{i}"]) for i, f in enumerate(product.factors)),
        "</svg>",
    ]
    return "\n".join(lines)


def words(product: Product) -> str:
    """The graph in words: what a reader who cannot see it is told."""
    told = [
        f"{f.text} gives {', '.join(f.outputs)}" + (f" from {', '.join(f.givens)}" if f.givens else "")
        for f in product.factors
    ]
    marks = [f"{v.name} is {' and '.join(v.marks)}" for v in product.variables if v.marks]
    return "; ".join((*told, *marks))


# --- what stands where


def plan(product: Product) -> tuple[dict[str, Box], list[tuple[str, str]]]:
    """The boxes, factors by their number and variables by their name, and the arrows between them."""
    layers = _levels(product)
    boxes = {_of(v): Box(_circle(v.name), 2 * RADIUS, layers[_of(v)]) for v in product.variables}
    for i, f in enumerate(product.factors):
        wide = max(BIG * len(f.text), SMALL * len(_short(f.about))) + 18
        boxes[f"f{i}"] = Box(wide, BOX if f.about else LOW, layers[f"f{i}"])
    return boxes, _edges(product)


def _edges(product: Product) -> list[tuple[str, str]]:
    return [
        edge
        for i, f in enumerate(product.factors)
        for edge in (*((f"v{v}", f"f{i}") for v in f.givens), *((f"f{i}", f"v{v}") for v in f.outputs))
    ]


def _levels(product: Product) -> dict[str, int]:
    """The layer of each node: below all that it comes from; what each datum has of its own below all that is global,
    where no global comes from it."""
    edges = _edges(product)
    shared = {f"v{v.name}" for v in product.variables if v.shared}
    shared |= {f"f{i}" for i, f in enumerate(product.factors) if f.shared}
    names = [*(_of(v) for v in product.variables), *(f"f{i}" for i in range(len(product.factors)))]
    given = {b for _, b in edges}
    level = {n: 1 if n.startswith("v") and n not in given else 0 for n in names}
    mixed = any(a not in shared and b in shared for a, b in edges)
    for _ in names:  # a path has no more steps than there are nodes
        ground = 0 if mixed or not shared else 1 + max(level[n] for n in shared)
        for n in names:
            if n not in shared and level[n] < ground:
                level[n] = ground + (ground % 2 == n.startswith("f"))
        for a, b in edges:
            level[b] = max(level[b], level[a] + 1)
    return level


def _of(variable: Variable) -> str:
    return f"v{variable.name}"


def _circle(name: str) -> float:
    return max(2 * RADIUS, BIG * len(name) + 18)


# --- drawn


def _variable(v: Variable, box: Box, at: tuple[float, float]) -> str:
    x, y = at
    classes = " ".join(("variable", *v.marks))
    return (
        f'<g class="{classes}"><rect x="{x - box.width / 2:.1f}" y="{y - RADIUS:.1f}" width="{box.width:.1f}" '
        f'height="{2 * RADIUS:g}" rx="{RADIUS:g}"/><text x="{x:.1f}" y="{y + 5:.1f}">{_set(v.name)}</text></g>'
    )


def _factor(f: Factor, box: Box, at: tuple[float, float]) -> str:
    x, y = at
    short = _short(f.about)
    told = f"<title>{escaped_html(f.about)}</title>" if short != f.about else ""
    return (
        f'<g class="factor">{told}<rect x="{x - box.width / 2:.1f}" y="{y - box.height / 2:.1f}" '
        f'width="{box.width:.1f}" height="{box.height:g}" rx="3"/>'
        f'<text x="{x:.1f}" y="{y - 3 if short else y + 5:.1f}">{_set(f.text)}</text>'
        + (f'<text class="about" x="{x:.1f}" y="{y + 13:.1f}">{escaped_html(short)}</text>' if short else "")
        + "</g>"
    )


def _short(about: str) -> str:
    return about if len(about) <= LONGEST else about[: LONGEST - 1] + "…"


def _edge(points: Sequence[tuple[float, float]]) -> str:
    """A line that leaves and arrives upright, with the head of an arrow."""
    x, y = points[0]
    path = f"M{x:.1f} {y:.1f}"
    for i, (to_x, to_y) in enumerate(points[1:], 1):
        end = to_y - (5 if i == len(points) - 1 else 0)
        half = (y + end) / 2
        path += (
            f"V{end:.1f}" if abs(to_x - x) < 0.5 else f"C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {end:.1f}"
        )
        x, y = to_x, end
    return f'<path class="edge" d="{path}"/><path class="head" d="M{x:.1f} {y + 5:.1f}l-4 -8h8z"/>'


def _plate(product: Product, boxes: Mapping[str, Box], found: Layout) -> Iterator[str]:
    """Around what each datum has of its own, where there are globals, and nothing of theirs lies inside."""
    shared = {_of(v) for v in product.variables if v.shared}
    shared |= {f"f{i}" for i, f in enumerate(product.factors) if f.shared}
    own = [n for n in boxes if n not in shared]
    if not shared or not own:
        return
    top = min(found.places[n][1] - boxes[n].height / 2 for n in own)
    if any(found.places[n][1] + boxes[n].height / 2 > top for n in shared):
        return
    y, height = top - PLATE * 0.75, found.height - top + PLATE * 0.75 + HEAD
    width = found.width + 2 * PLATE
    yield f'<rect class="plate" x="{-PLATE:g}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6"/>'
    yield f'<text class="about" x="{found.width / 2:.1f}" y="{found.height + HEAD - 6:.1f}">for each datum</text>'


def _set(text: str) -> str:
    """A law or a name: single letters lean, digits behind letters stand below."""
    shown = ""
    for letters, digits, primes, other in _NAME.findall(text):
        letter = str(GREEK.get(letters, letters))
        shown += f'<tspan class="i">{letter}</tspan>' if len(letter) == 1 and letter != "_" else escaped_html(letter)
        shown += f'<tspan class="sub" dy="3">{digits}</tspan><tspan dy="-3">\u200b</tspan>' if digits else ""
        shown += "′" * len(primes) + escaped_html(other.replace("|", " | ").replace(",", ", "))
    return shown
