"""The record of a derivation in every format: all of it is there, in one notation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest

import jointkl
from jointkl import cli, console
from jointkl.derivation import expr
from jointkl.derivation.derive import Derivation, table
from jointkl.exposition import styles
from jointkl.exposition.formula import formula
from jointkl.exposition.notation import Notation, line
from jointkl.exposition.outline import outline
from jointkl.exposition.text import COLOURS
from jointkl.semantics.model import Factor
from tests import mathml
from tests.worlds import MODELS

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in MODELS.glob("*.jkl"))
FORMATS = {"txt": Derivation.text, "tex": Derivation.latex, "md": Derivation.markdown, "html": Derivation.html}
STYLES = {"txt": styles.TEXT, "tex": styles.LATEX, "md": styles.MARKDOWN, "html": styles.HTML}


def derived(name: str) -> Derivation:
    return jointkl.derive(jointkl.load(MODELS / f"{name}.jkl"))


def bare(shown: str) -> str:
    """A page without the marks that break its formulas over lines."""
    return re.sub(r"\\allowbreak|\$|\s|\{\}|</math><wbr><math>", "", shown)


@pytest.mark.parametrize("name", NAMES)
def test_the_text_is_golden(name: str, golden) -> None:
    golden(HERE / "derivations" / f"{name}.txt", derived(name).text())


@pytest.mark.parametrize("form", ["tex", "md", "html"])
@pytest.mark.parametrize("name", ["gan", "vae", "ali", "em"])
def test_the_page_is_golden(name: str, form: str, golden) -> None:
    golden(HERE / f"{name}.{form}", FORMATS[form](derived(name)))


# --- nothing is left out


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_every_step_and_every_loss_is_on_the_page(name: str, form: str) -> None:
    derivation, style = derived(name), STYLES[form]
    page = FORMATS[form](derivation)
    whole = bare(page)
    for step in derivation.steps:
        assert style.words(step.rule) in page
        for part in (p for run in (*step.cells, *step.detail) for p in run):
            if not isinstance(part, str | expr.Expectation):
                assert bare(Notation(style).formula(part)) in whole, step
        entries = [p for cell in step.cells for p in cell if isinstance(p, expr.Expectation)]
        assert not entries or bare(formula(derivation.facts, entries, style)) in whole
    for player, entries in derivation.losses.items():
        if entries and form != "txt":  # as text the steps end in it, and several goals in a summary
            assert bare(formula(derivation.facts, entries, style)) in whole, player


@pytest.mark.parametrize("name", NAMES)
def test_a_row_for_each_step_with_its_law_and_its_terms(name: str) -> None:
    derivation = derived(name)
    read = outline(derivation)
    groups = [g for chapter in read.chapters for section in chapter.sections for g in section.groups]
    assert sum(len(g.rows) for g in groups) == len(derivation.steps)
    assert derivation.latex().count(r"\item \at{") == derivation.html().count("<li><span>") == len(derivation.steps)
    assert {rule for rule, law in read.laws if law} == {s.rule for s in derivation.steps}
    for rule, law in read.laws:
        assert line(law) in derivation.text()
        assert f"**{rule}** {Notation(styles.MARKDOWN).line(law)}" in derivation.markdown()
    changed = Counter(s.rule for s in derivation.steps if s.before)
    assert Counter(g.rule for g in groups for row in g.rows if row.change) == changed


def test_the_change_of_a_step_is_before_and_after() -> None:
    page = derived("ali").markdown()
    assert r"$\log {q(x\mid z)} - \log {{q}^{\mathrm{old}}(x\mid z)} \to$ nothing" in page  # NULL
    assert r"$-\log {p(1\mid x,z)}$: pathwise" in page  # GRADIENT


def test_a_warning_is_on_the_page() -> None:
    derivation = derived("ali_dropped")
    for form in ("tex", "md", "html"):
        page = FORMATS[form](derivation)
        assert "W{-}DROP" in page if form == "tex" else "W-DROP" in page
        assert "is left out" in page


# --- one notation, several styles

X, Q = Factor("data(x)", ("x",)), Factor("q(x|z)", ("x",), ("z",))
ATOMS: dict[type, tuple[expr.Atom, str, str, str]] = {
    expr.LogFactor: (
        expr.LogFactor(replace(Q, old=True)),
        "log q_old(x|z)",
        r"\log {{q}^{\mathrm{old}}(x\mid z)}",
        "log q^old(x|z)",
    ),
    expr.LogMarginal: (
        expr.LogMarginal(("x",), (), ((Fraction(1), (Q,)),), frozenset("z"), (), ""),
        "log ∫ q(x|z) dz",
        r"\log \textstyle\int {q(x\mid z)}\thinspace \mathrm{d}z",
        "log ∫ q(x|z) dz",
    ),
    expr.LogWeight: (expr.LogWeight(Fraction(1, 2)), "log 1/2", r"\log \tfrac{1}{2}", "log 1/2"),
    expr.ClosedKL: (
        expr.ClosedKL(Q, X),
        "KL[q(x|z) || data(x)]",
        r"\mathrm{KL}[{q(x\mid z)}\thinspace\Vert \thinspace {\mathrm{data}(x)}]",
        "KL[q(x|z)‖data(x)]",
    ),
    expr.ClosedCE: (
        expr.ClosedCE(Q, X),
        "CE[q(x|z) || data(x)]",
        r"\mathrm{CE}[{q(x\mid z)}\thinspace\Vert \thinspace {\mathrm{data}(x)}]",
        "CE[q(x|z)‖data(x)]",
    ),
    expr.OldDistance: (
        expr.OldDistance(Q),
        "||x - x_old||^2",
        r"\Vert x - {x}^{\mathrm{old}}\Vert^{2}",
        "‖x−x^old‖^2",
    ),
    expr.Logit: (expr.Logit("T", ("x", "z")), "l_T(x,z)", r"{\ell_{T}(x,z)}", "ℓ_T(x,z)"),
    expr.LogSigmoid: (
        expr.LogSigmoid(expr.Logit("T", ("x",)), up=False),
        "log sigma(-l_T(x))",
        r"\log\sigma(-{\ell_{T}(x)})",
        "log σ(−ℓ_T(x))",
    ),
    expr.Moments: (
        expr.Moments("z"),
        "KL[moments of z || N(0,1)]",
        r"\mathrm{KL}[\text{moments of }z\thinspace\Vert\thinspace N(0,1)]",
        "KL[moments of z‖N(0,1)]",
    ),
    expr.Penalty: (
        expr.Penalty(Factor("d(y|x)", ("y",), ("x",))),
        "||d l_d(x)||^2",
        r"\Vert\nabla {\ell_{d}(x)}\Vert^{2}",
        "‖∇ℓ_d(x)‖^2",
    ),
}


@pytest.mark.parametrize("kind", get_args(expr.Atom))
def test_every_kind_of_atom_is_written_in_every_format(kind: type) -> None:
    atom, *expected = ATOMS[kind]
    text, latex, html = (Notation(s).atom(atom) for s in (styles.TEXT, styles.LATEX, styles.HTML))
    assert [text, " ".join(latex.split()), mathml.read(html)] == expected


SAME = {
    "𝔼": "E",
    "−": "-",
    "‖": "||",
    "∑": "sum",
    "σ": "sigma",
    "∇": "d",
    "ℓ": "l",
    "′": "'",
    "×": "x",
    "≔": ":=",
    "≥": ">=",
    **{v: k for k, v in styles.GREEK.items()},
}


def essence(line: str) -> str:
    """What a formula says, however it is set: letters, numbers, signs and brackets in order."""
    return re.sub(r"[\s_^{};]", "", re.sub("|".join(SAME), lambda sign: SAME[sign[0]], line))


@pytest.mark.parametrize("name", NAMES)
def test_mathml_says_what_the_text_says(name: str) -> None:
    derivation = derived(name)
    html = Notation(styles.HTML)
    told = [side for chapter in outline(derivation).chapters for side in chapter.sides]
    told += [p for step in derivation.steps for run in (*step.cells, *step.detail) for p in run]
    for part in told:
        if not isinstance(part, str):
            assert essence(mathml.read(html.formula(part))) == essence(Notation(styles.TEXT).formula(part))
    for entries in derivation.losses.values():
        shown = formula(derivation.facts, entries, styles.HTML)
        assert essence(mathml.read(shown)) == essence(formula(derivation.facts, entries))


@pytest.mark.parametrize(
    ("rule", "read"),
    [
        ("EXPAND", ["KL(a‖b)=∑_k w_k 𝔼_k{log w_k+log a_k−log b(k)}", "k", "a", "−log b"]),
        ("FREE", ["argmin_f 𝔼_f{c log f+g}=softmax(−g/c)"]),
        ("IMPORTANCE", ["𝔼{sum}≥𝔼{−log mean_K exp(−sum)}≥"]),
        ("RESIDUAL", ["c (log f−log f^old)", "c log f"]),
        ("SCALE", []),
    ],
)
def test_the_formulas_of_a_law_are_set(rule: str, read: list[str]) -> None:
    law = next(row.law for row in table() if row.name == rule)
    assert mathml.formulas(Notation(styles.HTML).line(law)) == read


@pytest.mark.parametrize(
    ("name", "latex", "html"),
    [
        ("x", "x", "<mi>x</mi>"),
        ("z1'", "z_{1}'", '<mrow><msub><mi>z</mi><mn>1</mn></msub><mo lspace="0" rspace="0">′</mo></mrow>'),
        ("data", r"\mathrm{data}", "<mi>data</mi>"),
        ("mu", r"{\mu}", "<mi>μ</mi>"),
        ("a_b", r"\mathrm{a\_b}", "<mi>a_b</mi>"),
        ("_", r"\mathrm{\_}", "<mi>_</mi>"),
        ("a1b2''", r"\mathrm{a1b2}''", '<mrow><mi>a1b2</mi><mo lspace="0" rspace="0">′′</mo></mrow>'),
    ],
)
def test_names(name: str, latex: str, html: str) -> None:
    assert (styles.LATEX.name(name), styles.HTML.name(name)) == (latex, html)


# --- the command


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["derive", *arguments])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(("form", "ending"), [("text", "txt"), ("latex", "tex"), ("markdown", "md"), ("html", "html")])
def test_derive_prints_every_format(form: str, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--format", form, str(MODELS / "gan.jkl"))
    assert (code, out) == (0, FORMATS[ending](derived("gan")) + "\n")


@pytest.mark.parametrize(
    "arguments", [["--diff", "gan"], ["--diff", "gan", "vae", "em"], ["--diff", "--format", "html", "gan", "vae"],
                  ["--format", "html", "gan", "vae"], ["--format", "latex", "gan", "vae"]]
)  # fmt: skip
def test_what_fits_into_no_document_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    files = [a if a.startswith("-") or a == "html" or a == "latex" else str(MODELS / f"{a}.jkl") for a in arguments]
    code, out, err = run(capsys, *files)
    assert (code, out) == (2, "")
    assert "Error: " in err


def test_colours_are_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in run(capsys, str(MODELS / "gan.jkl"))[1]
    painted = [console.paint(line, COLOURS) for line in derived("gan").text().split("\n")]
    coloured = {
        re.sub(r".*?\x1b\[\d+m(?:\x1b\[1m)?(.*?)\x1b.*", r"\1", line).split()[0] for line in painted if "\x1b" in line
    }
    assert coloured == {s.rule for s in derived("gan").steps} | {"D", "G"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_colours_unless_it_wants_none() -> None:
    import pty

    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        here, there = pty.openpty()
        command = [sys.executable, "-m", "jointkl", "derive", str(MODELS / "vae.jkl")]
        subprocess.run(command, stdout=there, env={**os.environ, "TERM": "xterm", **more}, check=True, timeout=60)
        os.close(there)
        out = os.read(here, 100_000).decode()
        os.close(here)
        assert ("\x1b[" in out) is coloured
