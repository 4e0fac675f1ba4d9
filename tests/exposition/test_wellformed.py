"""Pages of a derivation are well formed, whatever the names in a spec; long formulas stay on the page."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jointkl
from jointkl.derivation.derive import Derivation
from jointkl.exposition.outline import outline
from tests import mathml
from tests.worlds import GAN, MODELS, VAE

NAMES = sorted(path.stem for path in MODELS.glob("*.jkl"))


def derived(name: str) -> Derivation:
    return jointkl.derive(jointkl.load(MODELS / f"{name}.jkl"))


def named(name: str, text: str = GAN) -> Derivation:
    """The derivation of a spec read under a file's name."""
    return jointkl.derive(jointkl.parse(text, name))


SPECIALS = r"""<script>f()<img src=x onerror=f()>&amp;"'\input{x}$x$_^~%#{}`` \end{document} [a](b) **b** | é 中 """
ODD = """
data(x_1) = ring8(std=0.02)
var x_1, __: real[2]
net lambda_ = mlp(4)
net end = mlp(4)
p_old(__ | x_1) = Normal(lambda_(x_1))
q(__) = Normal(0, 1)
q(x_1 | __) = Normal(end(__))
minimize KL(data(x_1) * p_old(__|x_1) || q(__) * q(x_1|__))
"""


def verify_latex(page: str) -> None:
    """ASCII; braces, dollars and environments that close; no command but those that the renderer writes."""
    assert page.isascii()
    body = page.split(r"\begin{document}", 1)[1]
    depth, dollars, open_ = 0, 0, ["document"]
    for token in re.findall(r"\\(?:begin|end)\{\w+\}|\\[A-Za-z]+|\\.|.", body, re.DOTALL):
        if token.startswith(r"\begin"):
            open_.append(token[7:-1])
        elif token.startswith(r"\end{"):
            assert open_.pop() == token[5:-1]
        depth += {"{": 1, "}": -1}.get(token, 0)
        dollars += token == "$"
        assert depth >= 0
        assert token not in ("#", "&", "~", "%")
        assert token not in ("_", "^") or dollars % 2, "a sign of formulas among words"
        assert token not in (r"\begin", r"\end", r"\input", r"\write", r"\def")
    assert (depth, dollars % 2, open_) == (0, 0, [])


class Tags(HTMLParser):
    """The tags, attributes and words of a page; raises where a tag closes another."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.tags: set[str] = set()
        self.words = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


VOID = {"meta", "wbr"}
TAGS = set("html head meta title style body h1 h2 h3 h4 p ul li dl dt dd div section span code wbr".split())
MATHML = set("math mrow mi mn mo mtext mspace msub msup mfrac mtable mtr mtd".split())


def verify_html(page: str) -> Tags:
    found = Tags(page)
    assert found.tags <= TAGS | MATHML
    known = {"lang", "charset", "name", "content", "class"}
    assert found.attributes <= known | {"stretchy", "form", "lspace", "rspace", "width", "mathvariant"}
    assert mathml.formulas(page)
    assert "url(" not in page
    assert "@import" not in page
    return found


def verify_markdown(page: str) -> None:
    """Outside of code no tag and no emphasis that we did not write; in formulas nothing that markdown takes away."""
    prose = re.sub(r"(`+) ?.*? ?\1(?!`)", "", page)
    assert "<" not in prose
    for found in re.findall(r"(?<!\\)\$([^$]*)\$", prose):
        assert not re.search(r"\\[^A-Za-z_]|[^A-Za-z]_|\]\(", found.replace(r"\_", "")), found
        assert found.count("{") == found.count("}")
        assert found == found.strip()


@pytest.mark.parametrize("name", NAMES)
def test_pages_are_well_formed(name: str) -> None:
    derivation = derived(name)
    verify_latex(derivation.latex())
    verify_html(derivation.html())
    verify_markdown(derivation.markdown())


@pytest.mark.parametrize("text", [GAN, VAE, ODD])
def test_names_stay_names(text: str) -> None:
    derivation = named(f"{SPECIALS}.jkl", text)
    found = verify_html(derivation.html())
    assert found.words.count(SPECIALS) == 3  # the title, the heading, the goal's place
    verify_latex(derivation.latex())
    page = derivation.markdown()
    assert page.startswith(f"# Derivation of ```{SPECIALS}.jkl```\n")
    verify_markdown(page)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_file_name_is_a_name(name: str) -> None:
    derivation = named(name)
    shown = name.rsplit("/", 1)[-1]
    if shown.isprintable():
        assert shown in verify_html(derivation.html()).words
    assert all("\n" not in part and part.isprintable() for part in outline(derivation).title)
    verify_html(derivation.html())
    verify_latex(derivation.latex())
    verify_markdown(derivation.markdown())


def chain(n: int) -> str:
    """A spec with a path of n laws, and nets of long names."""
    z = ["x", *(f"a_long_name_{i}" for i in range(n))]
    lines = ["data(x) = ring8(std=0.02)", *(f"var {v}: real[2]" for v in z)]
    lines += [f"net encoder{i} = mlp(4)\nnet decoder{i} = mlp(4)" for i in range(n)]
    lines += [f"p({z[i + 1]}|{z[i]}) = Normal(encoder{i}({z[i]}))" for i in range(n)]
    lines += [f"q({z[i]}|{z[i + 1]}) = Normal(decoder{i}({z[i + 1]}))" for i in range(n)]
    up = " * ".join(f"p({z[i + 1]}|{z[i]})" for i in range(n))
    down = " * ".join(f"q({z[i]}|{z[i + 1]})" for i in range(n))
    lines += [f"q({z[-1]}) = Normal(0, 1)", f"minimize KL(data(x) * {up} || q({z[-1]}) * {down})"]
    return "\n".join(lines)


def wide(n: int) -> str:
    """A law of n variables, and a critic of as many."""
    z = [f"z{i}" for i in range(n)]
    lines = ["data(x) = ring8(std=0.02)", f"var x, {', '.join(z)}: real[2]", "net T = mlp(4)", "net G = mlp(4)"]
    lines += [f"q({v}) = Normal(0, 1)" for v in z] + [f"q(x | {', '.join(z)}) = Delta(G({', '.join(z)}))"]
    prior = " * ".join(f"q({v})" for v in z)
    head = ", ".join(["x", *z])
    law = f"q(x|{','.join(z)})"
    other = f"p(x, {', '.join(z)}) = data(x) * {' * '.join(f'p({v}|x)' for v in z)}"
    lines += [f"net e_{v} = mlp(4)\np({v}|x) = Normal(e_{v}(x))" for v in z]
    return "\n".join(
        [*lines, f"q({head}) = {prior} * {law}", other, f"minimize KL(q({head}) || p({head})) with critic=T"]
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("case", ["names", "odd", "chain", "wide", "gan", "cyclegan", "introvae", "iwgan", "em"])
def test_pdflatex_takes_it_and_nothing_runs_off_the_page(case: str, tmp_path: Path) -> None:
    specs = {"names": GAN, "odd": ODD, "chain": chain(24), "wide": wide(24)}
    derivation = named(SPECIALS, specs[case]) if case in specs else derived(case)
    (tmp_path / "page.tex").write_text(derivation.latex(), encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    log = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False).stdout
    assert "Output written" in log, log[-2000:]
    assert "Overfull" not in log
    packages = set(re.findall(r"/([\w-]+)\.sty", log))
    assert packages <= set("amsmath amstext amsgen amsbsy amsopn amssymb amsfonts".split())
