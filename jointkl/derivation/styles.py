r"""How formulas are written: a row per construct, a column per format; and how names and words are made safe in each.

A line end in the LaTeX column is a place where a long formula may be broken. That column holds no backslash before
punctuation and opens no `_` after punctuation, since GitHub's markdown would take both for its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple


class Row(NamedTuple):
    """The templates of one construct, filled by `%`."""

    text: str
    latex: str
    html: str


# --- laws and atoms
OLD = Row("%s_old", r"{%s}^{\mathrm{old}}", "%s<sub>old</sub>")
APPLIED = Row("%s(%s)", "{%s(%s)}", '<span class="a">%s(%s)</span>')
APPLIED_LONG = Row("%s(%s)", "%s(%s)", "%s(%s)")
GROUP = Row("%s", "{%s}", '<span class="a">%s</span>')
GIVEN = Row("|", r"\mid ", " | ")
COMMA = Row(",", ",", ", ")
COMMA_LONG = Row(",", ",\n", ", ")
BESIDE = Row(" ", "\\thinspace\n", " ")
LOG = Row("log %s", r"\log %s", "log\N{NO-BREAK SPACE}%s")
KL = Row("KL[%s || %s]", "\\mathrm{KL}[%s\\thinspace\\Vert\n\\thinspace %s]", "KL[%s ‖ %s]")
MOMENTS = Row(
    "KL[moments of %s || N(0,1)]",
    r"\mathrm{KL}[\text{moments of }%s\thinspace\Vert\thinspace N(0,1)]",
    "KL[moments of %s ‖ <i>N</i>(0, 1)]",
)
DISTANCE = Row("||%s - %s||^2", r"\Vert %s - %s\Vert^{2}", '<span class="a">‖%s − %s‖<sup>2</sup></span>')
PENALTY = Row("||d %s||^2", r"\Vert\nabla %s\Vert^{2}", '<span class="a">‖∇%s‖<sup>2</sup></span>')
LOGIT = Row("l_%s", r"\ell_{%s}", "<i>ℓ</i><sub>%s</sub>")
LOG_SIGMA = Row("log sigma(%s)", r"\log\sigma(%s)", "log <i>σ</i>(%s)")
INTEGRAL = Row("∫ %s%s", r"\textstyle\int %s%s", "∫ %s%s")
INTEGRATED = Row(" d%s", r"\thinspace \mathrm{d}%s", " d%s")
AT_OLD = Row("%s|old", r"{%s}\vert_{\mathrm{old}}", "%s|<sub>old</sub>")

# --- sums
FRACTION = Row("%s/%s", r"\tfrac{%s}{%s}", "%s/%s")
OVER_N = Row("%s/N", r"\tfrac{%s}{N}", "%s/<i>N</i>")
TIMES = Row("%s %s", r"%s\thinspace %s", "%s %s")
PLUS = Row(" + ", "\n+ ", " +\N{NO-BREAK SPACE}")
MINUS = Row(" - ", "\n- ", " −\N{NO-BREAK SPACE}")
NEGATIVE = Row("-%s", "-%s", "−%s")
DETACHED = Row("%s at sg(%s)", "%s\n\\text{ at }\\mathrm{sg}(%s)", "%s at sg(%s)")
BRACES = Row("{ %s }", r"\lbrace %s\rbrace", "{%s}")
CLOSE_BRACES = Row("{%s}", r"\lbrace %s\rbrace", "{%s}")

# --- expectations
EXPECTED = Row("E %s", r"\mathbb E_{%s}", '<b class="e">E</b><sub>%s</sub>')
EXPECTED_LONG = Row("E %s", "\\mathbb E\\thinspace\n%s", '<b class="e">E</b> %s')
EXPECTED_ALONE = Row("E", r"\mathbb E", '<b class="e">E</b>')
SUMMED = Row("sum_%s %s", r"\sum\nolimits_{%s}%s", "∑<sub>%s</sub> %s")
SOFTMAX = Row("softmax_%s(%s)", r"\mathop{\mathrm{softmax}}\nolimits_{%s}(%s)", "softmax<sub>%s</sub>(%s)")
MEAN_EXP = Row(
    "{-log mean_%s exp(%s)}",
    "\\lbrace -\\log\\mathop{\\mathrm{mean}}\\nolimits_{%s}\n\\exp(%s)\\rbrace",
    "{−log mean<sub>%s</sub> exp(%s)}",
)
COPIES = Row(
    "sum_%s sg(softmax logit %s) {%s}",
    "\\sum\\nolimits_{%s}\\mathrm{sg}(\\mathrm{softmax}\\thinspace \\mathrm{logit}\\thinspace %s)\n\\lbrace %s\\rbrace",
    "∑<sub>%s</sub> sg(softmax logit %s) {%s}",
)
HINGE = Row("max(0, %s%s)", r"\max(0,\thinspace %s%s)", "max(0, %s%s)")

# --- joints
IS = Row(" = ", " = ", " = ")
LABEL = Row("%s=%s", "%s{=}%s", '<span class="a">%s = %s</span>')
MIXTURE = Row("{ %s }", r"\lbrace\thinspace %s\thinspace\rbrace", "{ %s }")
BRANCH = Row("%s: %s %s", r"%s{:}\enspace %s\thinspace %s", "%s: %s %s")
SEMICOLON = Row(";  ", ";\n\\quad ", ";  ")

# --- signs among the words of a step, and in the formulas that stand there
SIGNS = {
    "=": Row("=", "=", "="),
    ":=": Row(":=", r"\mathrel{:=}", "≔"),
    "-": Row("-", "-", "−"),
    "x": Row("x", r"\times", "×"),
    "E": EXPECTED_ALONE,
    "→": Row("->", r"\to", "→"),
}
PUNCTUATION = {
    "||": Row("||", r"\thinspace\Vert\thinspace ", "‖"),
    "|": GIVEN,
    ",": COMMA,
    "-": Row("-", "-", "−"),
    "log": Row("log", r"\log ", "log"),
    "exp": Row("exp", r"\exp ", "exp"),
}

GREEK = dict(
    alpha="α", beta="β", gamma="γ", delta="δ", epsilon="ε", zeta="ζ", eta="η", theta="θ", iota="ι", kappa="κ",
    mu="μ", nu="ν", xi="ξ", pi="π", rho="ρ", sigma="σ", tau="τ", phi="φ", chi="χ", psi="ψ", omega="ω",
)  # fmt: skip
GREEK["lambda"] = "λ"
_NAME = re.compile(r"([A-Za-z]+)(\d*)")


def _latex_name(name: str) -> str:
    stem, digits, primes = _parts(name)
    if stem in GREEK:
        shown = f"{{\\{stem}}}"
    elif len(stem) == 1 and stem != "_":
        shown = stem + (f"_{{{digits}}}" if digits else "")
    else:
        shown = f"\\mathrm{{{stem}{digits}}}".replace("_", "\\_")
    return shown + primes


def _parts(name: str) -> tuple[str, str, str]:
    """A name's letters, the digits after them, its primes; a Greek letter has no digits, nor has what is mixed."""
    stem = name.rstrip("'")
    primes = name[len(stem) :]
    found = _NAME.fullmatch(stem)
    return (found[1], found[2], primes) if found and found[1] not in GREEK else (stem, "", primes)


def _html_name(name: str) -> str:
    stem, digits, primes = _parts(name)
    letter = GREEK.get(stem, stem)
    shown = f"<i>{letter}</i>" if len(letter) == 1 and letter != "_" else escaped_html(letter)
    return shown + (f"<sub>{digits}</sub>" if digits else "") + "′" * len(primes)


_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{c: "\\" + c for c in "\\`*_[]#|~$"}})
_LATEX = str.maketrans(
    {
        **{c: "\\" + c for c in "#$%&{}"},
        "_": r"\_\allowbreak{}",
        "+": r"+\allowbreak{}",
        "/": r"/\allowbreak{}",
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "|": r"$\vert$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "-": "{-}",
        '"': r"{\char34}",
        "`": r"{\char96}",
        "'": r"{\char39}",
    }
)


def escaped_html(words: str) -> str:
    return words.translate(_HTML)


def escaped_markdown(words: str) -> str:
    return re.sub(r"^([-+])", r"\\\1", words.translate(_MARKDOWN))


def escaped_latex(words: str) -> str:
    """Words in ASCII that pdflatex takes as they are; what is beyond ASCII is named by its number."""
    return _ascii(words).translate(_LATEX)


def code_latex(words: str) -> str:
    """Likewise in the typewriter font, which has every character of ASCII at its own place."""
    special = re.sub(r"[^A-Za-z0-9 (),.:;=*+/]", lambda c: f"{{\\char{ord(c[0])}}}", _ascii(words))
    return rf"{{\mdseries\ttfamily {special}}}"


def _ascii(words: str) -> str:
    return "".join(c if c.isascii() else f"[U+{ord(c):04X}]" for c in words)


def broken(formula: str) -> str:
    """A LaTeX formula whose places for a line break are TeX's."""
    return formula.replace("\n", r"\allowbreak ")


_WIDE = 150
"""A formula of more LaTeX than this stands in several pairs of dollars, so that a line can end between."""


def _dollars(formula: str) -> str:
    pieces = [""]
    for piece in _pieces(formula):
        if pieces[-1] and len(pieces[-1] + piece) > _WIDE:
            pieces.append("{}" if piece.lstrip()[0] in "+-" else "")
        pieces[-1] += piece
    return " ".join(f"${' '.join(piece.split())}$" for piece in pieces)


def _pieces(formula: str) -> Iterator[str]:
    """A formula cut where it may be broken, outside of braces."""
    depth = start = 0
    for i, c in enumerate(formula):
        depth += (c == "{") - (c == "}")
        if c == "\n" and depth == 0:
            yield formula[start:i]
            start = i
    yield formula[start:]


@dataclass(frozen=True, slots=True)
class Style:
    """A format: which column formulas are written in, and how names, words and formulas among words stand in it."""

    column: int
    name: Callable[[str], str]
    words: Callable[[str], str]
    formula: Callable[[str], str]


TEXT = Style(0, str, str, str)
LATEX = Style(1, _latex_name, escaped_latex, lambda formula: f"${broken(formula)}$")
MARKDOWN = Style(1, _latex_name, escaped_markdown, _dollars)
HTML = Style(2, _html_name, escaped_html, lambda formula: f'<span class="m">{formula}</span>')
