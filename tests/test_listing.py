"""Every stage printed: `compile --emit`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jointkl
from jointkl import cli, compiler
from jointkl.listing import WIDTH, listing
from jointkl.syntax import nodes
from jointkl.syntax.parse import parse_text
from tests.worlds import MODELS

NAMES = sorted(path.stem for path in MODELS.glob("*.jkl"))
HERE = Path(__file__).parent / "listing"


@pytest.mark.parametrize("stage", ["ast", "model", "objective"])
def test_stages_are_golden(stage: str, golden) -> None:
    golden(HERE / f"gan.{stage}.txt", compiler.stage(stage, MODELS / "gan.jkl"))


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_of_every_model_is_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(MODELS / f"{name}.jkl")
    for stage in compiler.STAGES:
        assert cli.main(["compile", path, "--emit", stage]) == 0
        assert capsys.readouterr().out == compiler.stage(stage, path) + "\n"
    assert compiler.stage("graph", path) == jointkl.graph(jointkl.load(path))
    assert compiler.stage("derivation", path) == jointkl.derive(jointkl.load(path)).text()


@pytest.mark.parametrize("name", NAMES)
def test_no_layout_is_in_the_tree(name: str) -> None:
    """Equal trees, equal text; every name and number of the spec is there."""
    text = (MODELS / f"{name}.jkl").read_text(encoding="utf-8")
    shown = listing(parse_text(text, "one"))
    assert shown == listing(parse_text(re.sub(r"[ \n]+", " ", re.sub("#.*", "", text)), "other"))
    for word in re.findall(r"[A-Za-z_]\w*'*|\d+\.\d+", re.sub(r"#.*|\b\d+e-?\d+", "", text)):
        kind = isinstance(word, str) and word not in {
            *("var", "param", "net", "let", "player", "train", "over", "with", "global", "old", "max", "minimize"),
        }
        assert not kind or repr(word) in shown, word


def test_nodes_of_a_loss_are_numbered_as_they_are_referred_to() -> None:
    shown = compiler.stage("objective", MODELS / "gan.jkl")
    loss = jointkl.lower(jointkl.derive(jointkl.load(MODELS / "gan.jkl"))).losses[0]
    for i, node in enumerate(loss.nodes):
        assert f"        {i}: {type(node).__name__}" in shown


def test_what_fits_stays_on_a_line() -> None:
    value = nodes.Call(nodes.Name("f"), (nodes.Number("1"), nodes.Text("a")))
    assert listing(value) == "Call(name=Name(text='f'), arguments=(Number(text='1'), Text(value='a')))"
    long = nodes.Items(tuple(nodes.Number(str(i)) for i in range(20)))
    assert listing(long).split("\n")[:3] == ["Items", "  items =", "    0: Number(text='0')"]
    assert max(map(len, listing(long).split("\n"))) <= WIDTH


def test_emit_and_out_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(MODELS / "gan.jkl")
    assert cli.main(["compile", path, "--emit", "ast", "-o", str(tmp_path / "a")]) == 2
    assert "--emit ast is printed" in capsys.readouterr().err
    assert cli.main(["compile", path, "--emit", "ast", "-o", "-"]) == 0
    assert capsys.readouterr().out.startswith("Spec\n")
    assert cli.main(["compile", path, "--emit", "model", "--let", "K=3"]) == 1
    with pytest.raises(ValueError, match="no stage"):
        compiler.stage("tokens", path)


def test_a_stage_needs_what_comes_before_it_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A spec that means nothing has a tree; one that is not derived has a model."""
    path = tmp_path / "a.jkl"
    path.write_text("q(x) = Nrmal(0)\n")
    assert cli.main(["compile", str(path), "--emit", "ast"]) == 0
    assert cli.main(["compile", str(path), "--emit", "model"]) == 1
    path.write_text("var x: real\nq(x) = Normal(0, 1)\n")
    assert cli.main(["compile", str(path), "--emit", "model"]) == 0
    assert cli.main(["compile", str(path), "--emit", "derivation"]) == 1
