"""Diagrams as text, as Graphviz's dot or a picture of it, and as Mermaid."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from jointkl.diagnostics import DataError
from jointkl.exposition.diagram import Diagram, Factor, Product, Variable

PLATE = "for each datum"


# --- text


def text(name: str, diagrams: tuple[Diagram, ...]) -> str:
    """A line a factor: the law, what it goes from and to, its family and who trains it."""
    return "\n\n".join("\n".join([d.title, *(line for p in d.products for line in _product(d, p))]) for d in diagrams)


def _product(diagram: Diagram, product: Product) -> Iterator[str]:
    factors = [f for p in diagram.products for f in p.factors]
    widths = [max(map(len, column)) for column in zip(*map(_cells, factors), strict=True)]
    pad = "    " if product.title else "  "
    if product.title:
        yield f"  {product.title}"
    for factor in product.factors:
        law, givens, outputs, about = _cells(factor)
        yield f"{pad}{law:{widths[0]}}  {givens:>{widths[1]}} -> {outputs:{widths[2]}}  {about}"
    for mark in ("evidence", "hidden", "global"):
        if names := [v.name for v in product.variables if mark in v.marks]:
            yield f"{pad}{mark}: {', '.join(names)}"


def _cells(factor: Factor) -> tuple[str, str, str, str]:
    return factor.text, ", ".join(factor.givens), ", ".join(factor.outputs), factor.about


# --- boxes in boxes


@dataclass(frozen=True, slots=True)
class Box:
    """A cluster; ids are unique in the drawing. Edges go from givens to factors, and on to outputs."""

    id: str
    title: str
    variables: tuple[tuple[str, Variable], ...] = ()
    factors: tuple[tuple[str, Factor], ...] = ()
    edges: tuple[tuple[str, str], ...] = ()
    inner: tuple[Box, ...] = ()


def _joint(i: int, diagram: Diagram) -> Box:
    inner = tuple(_branch(f"j{i}b{k}", product) for k, product in enumerate(diagram.products))
    mixture = any(box.title for box in inner)
    return Box(f"j{i}", diagram.title, inner=inner) if mixture else replace(inner[0], title=diagram.title)


def _branch(id: str, product: Product) -> Box:
    """Beside what is global, what each datum has of its own stands in a plate."""
    ids = {v.name: f"{id}v{k}" for k, v in enumerate(product.variables)}
    variables = tuple((ids[v.name], v) for v in product.variables)
    factors = tuple((f"{id}f{k}", f) for k, f in enumerate(product.factors))
    edges = tuple(
        edge
        for node, f in factors
        for edge in (*((ids[v], node) for v in f.givens), *((node, ids[v]) for v in f.outputs))
    )
    if not any(v.shared for v in product.variables):
        return Box(id, product.title, variables, factors, edges)
    own = [tuple(m for m in variables if m[1].shared is s) for s in (True, False)]
    laws = [tuple(m for m in factors if m[1].shared is s) for s in (True, False)]
    return Box(id, product.title, own[0], laws[0], edges, (Box(f"{id}n", PLATE, own[1], laws[1]),))


@dataclass(frozen=True, slots=True)
class Style:
    """How a drawing is written, the box's own lines indented by two spaces more."""

    begin: Callable[[str], list[str]]
    end: list[str]
    box: Callable[[Box], list[str]]
    box_end: str
    variable: Callable[[str, Variable], str]
    factor: Callable[[str, Factor], str]
    edge: str


def _lines(box: Box, style: Style) -> Iterator[str]:
    first, *more = style.box(box)
    yield first
    inside = [
        *more,
        *(style.variable(*v) for v in box.variables),
        *(style.factor(*f) for f in box.factors),
        *(line for b in box.inner for line in _lines(b, style)),
        *(style.edge.format(*edge) for edge in box.edges),
    ]
    yield from (f"  {line}" for line in inside)
    yield style.box_end


def _drawn(name: str, diagrams: tuple[Diagram, ...], style: Style) -> str:
    boxes = [_joint(i, diagram) for i, diagram in enumerate(diagrams)]
    inside = [f"  {line}" for box in boxes for line in _lines(box, style)]
    name = "".join(c if c.isprintable() else "\ufffd" for c in name)  # a file may be called anything
    return "\n".join([*style.begin(name), *inside, *style.end])


# --- dot


def _quoted(*lines: str) -> str:
    """A string of dot, its lines below each other."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def _dot_variable(id: str, v: Variable) -> str:
    styles = ",".join(name for name, holds in (("filled", v.evidence), ("dashed", v.hidden)) if holds)
    return f"{id} [shape=circle label={_quoted(v.name)}" + (f" style={_quoted(styles)}]" if styles else "]")


DOT = Style(
    begin=lambda name: [
        f"digraph {_quoted(name)} {{",
        '  graph [rankdir=LR fontname="Helvetica" labeljust=l]',
        '  node [fontname="Helvetica" fillcolor="lightgray"]',
    ],
    end=["}"],
    box=lambda box: [f"subgraph cluster_{box.id} {{", *([f"label={_quoted(box.title)}"] if box.title else [])],
    box_end="}",
    variable=_dot_variable,
    factor=lambda id, f: f"{id} [shape=box label={_quoted(f.text, f.about)}]",
    edge="{} -> {}",
)


def svg(name: str, diagrams: tuple[Diagram, ...]) -> str:
    """A picture, drawn by Graphviz. Raises `DataError` where that is not installed."""
    try:
        command = ["dot", "-Tsvg"]
        done = subprocess.run(
            command, input=_drawn(name, diagrams, DOT), capture_output=True, encoding="utf-8", check=True
        )
    except FileNotFoundError:
        help = "install Graphviz, as in `apt install graphviz`, or take --format dot or mermaid"
        raise DataError("svg is drawn by Graphviz's `dot`, which is not installed", help) from None
    except subprocess.CalledProcessError as error:
        raise DataError(f"Graphviz's `dot` failed: {error.stderr.strip()}") from error
    return done.stdout.rstrip("\n")


# --- Mermaid


def _escaped(*lines: str) -> str:
    """A string of Mermaid, its lines below each other."""
    entities = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "|": "#124;", "\n": " "}
    return '"' + "<br>".join("".join(entities.get(c, c) for c in line) for line in lines) + '"'


MERMAID = Style(
    begin=lambda name: [f"%% {' '.join(name.split())}", "flowchart LR"],
    end=["  classDef evidence fill:#ddd", "  classDef hidden stroke-dasharray:4"],
    box=lambda box: [f"subgraph {box.id}[{_escaped(box.title)}]"],
    box_end="end",
    variable=lambda id, v: f"{id}(({_escaped(v.name)}))" + "".join(f":::{m}" for m in v.marks if m != "global"),
    factor=lambda id, f: f"{id}[{_escaped(f.text, f.about)}]",
    edge="{} --> {}",
)


FORMATS: Mapping[str, Callable[[str, tuple[Diagram, ...]], str]] = {
    "text": text,
    "dot": lambda name, diagrams: _drawn(name, diagrams, DOT),
    "mermaid": lambda name, diagrams: _drawn(name, diagrams, MERMAID),
    "svg": svg,
}
