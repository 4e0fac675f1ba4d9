"""Factor graphs as text, dot and Mermaid: golden for every model, and checked against the model itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import jointkl
from jointkl.exposition.graph import joints
from jointkl.semantics.model import Branch, Evidence, Model, law_text
from tests.worlds import MODELS

GOLDEN = Path(__file__).parent / "graphs"
NAMES = sorted(path.stem for path in MODELS.glob("*.jkl"))


def load(name: str) -> Model:
    return jointkl.load(MODELS / f"{name}.jkl")


@pytest.mark.parametrize("name", NAMES)
def test_every_model_is_golden_as_text(name: str, golden) -> None:
    golden(GOLDEN / f"{name}.txt", jointkl.graph(load(name)))


@pytest.mark.parametrize("form", ["dot", "mermaid"])
@pytest.mark.parametrize("name", ["gan", "vi", "vae_gan"])
def test_drawings_are_golden(name: str, form: str, golden) -> None:
    golden(GOLDEN / f"{name}.{form}", jointkl.graph(load(name), form))


def branches(model: Model) -> Iterator[tuple[tuple[str, ...], Branch]]:
    for joint in joints(model):
        for branch in joint.joint.branches:
            yield joint.head, branch


DOT_EDGE, MERMAID_EDGE = re.compile(r"(\w+) -> (\w+)$", re.M), re.compile(r"(\w+) --> (\w+)$", re.M)
DOT_NODE, MERMAID_NODE = re.compile(r'(\w+) \[shape=\w+ label="([^"\\]*)'), re.compile(r'(j\w+)(?:\(\(|\[)"([^"<]*)')


@pytest.mark.parametrize("form", ["dot", "mermaid"])
@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_has_the_factors_and_arrows_of_the_model(name: str, form: str) -> None:
    model = load(name)
    drawn = jointkl.graph(model, form)
    node, edge = (DOT_NODE, DOT_EDGE) if form == "dot" else (MERMAID_NODE, MERMAID_EDGE)
    labels = {id: label.replace("#124;", "|") for id, label in node.findall(drawn)}
    arrows = [(labels[a], labels[b]) for a, b in edge.findall(drawn)]
    expected: list[tuple[str, str]] = []
    for _, branch in branches(model):
        for f in branch.factors:
            text = ("old " if f.old else "") + law_text(model.laws[f.law].label, f.outputs, f.givens)
            expected += [*((v, text) for v in f.givens), *((text, v) for v in f.outputs)]
    assert sorted(arrows) == sorted(expected)
    opened, closed = ("{", "}") if form == "dot" else ("subgraph", "  end")
    assert drawn.count(opened) == drawn.count(closed) > 0


@pytest.mark.parametrize("name", NAMES)
def test_what_is_hidden_and_what_is_evidence_is_marked(name: str) -> None:
    model = load(name)
    hidden, evidence = [], []
    for head, branch in branches(model):
        out = [v for f in branch.factors for v in f.variables]
        hidden += sorted({v for v in out if v not in head})
        evidence += sorted(
            {v for f in branch.factors if isinstance(model.laws[f.law].body, Evidence) for v in f.outputs}
        )
    drawn = jointkl.graph(model, "mermaid")
    marked = re.findall(r'\(\("([^"]*)"\)\)([:\w]*)', drawn)
    assert sorted(v for v, marks in marked if ":::hidden" in marks) == sorted(hidden)
    assert sorted(v for v, marks in marked if ":::evidence" in marks) == sorted(evidence)


@pytest.mark.parametrize("form", ["text", "dot", "mermaid"])
def test_one_joint_alone(form: str) -> None:
    model = load("gan")
    assert "y=1" not in jointkl.graph(model, form, "p(x,y)")
    assert jointkl.graph(model, form, " p( x,y )") == jointkl.graph(model, form, "p(x, y)")
    assert "data" in jointkl.graph(load("aae"), form, "data(x) * p(z|x)")
    with pytest.raises(jointkl.DataError, match=r"no joint p\(z\)") as found:
        jointkl.graph(model, form, "p(z)")
    assert "`q(x,y)`, `p(x,y)`" in str(found.value)


def test_who_trains_a_factor_is_named() -> None:
    lines = jointkl.graph(load("vae_gan")).split("\n")
    assert any("p(y|x)" in line and line.endswith("Bernoulli of T, D") for line in lines)
    lines = jointkl.graph(load("introvae")).split("\n")
    assert any("old p(z|x)" in line and line.endswith("Normal of old E") for line in lines)


def test_names_of_files_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / 'a"b\\c.jkl'
    shutil.copy(MODELS / "gan.jkl", path)
    assert jointkl.graph(jointkl.load(path), "dot").startswith('digraph "a\\"b\\\\c" {\n')
    odd = jointkl.parse((MODELS / "gan.jkl").read_text(encoding="utf-8"), "a\nb\udcff\x1b.jkl")
    assert jointkl.graph(odd, "mermaid").startswith("%% a\ufffdb\ufffd\ufffd\nflowchart")


def test_svg_is_drawn_by_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a program of that name, which gets the drawing; without one the message says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(jointkl.DataError, match="install Graphviz"):
        jointkl.graph(load("gan"), "svg")
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\n[ "$1" = -Tsvg ] && echo "<svg/>" && /bin/cat\n')
    program.chmod(0o755)
    assert jointkl.graph(load("gan"), "svg") == "<svg/>\n" + jointkl.graph(load("gan"), "dot")
    program.write_text("#!/bin/sh\n/bin/cat >/dev/null\necho no fonts >&2\nexit 1\n")
    with pytest.raises(jointkl.DataError, match="failed: no fonts"):
        jointkl.graph(load("gan"), "svg")


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
@pytest.mark.parametrize("name", NAMES)
def test_graphviz_reads_every_drawing(name: str) -> None:
    assert "</svg>" in jointkl.graph(load(name), "svg")
