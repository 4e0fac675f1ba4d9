r"""How formulas are written: a row per construct, a column per format; and how names and words are made safe in each.

A line end in the LaTeX and the MathML column is a place where a long formula may be broken. The LaTeX column holds no
backslash before punctuation and opens no `_` after punctuation, since GitHub's markdown would take both for its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jointkl.derivation.parts import Sign
from jointkl.semantics.model import base


class Row(NamedTuple):
    """The templates of one construct, filled by `%`. In the last column, MathML, what fills a place of `_group` may be
    any number of elements; what fills a place of a script or a fraction is one."""

    text: str
    latex: str
    html: str


def _mo(sign: str) -> str:
    """An operator as high as it is: brackets around one line need not grow by an index."""
    return f'<mo stretchy="false">{sign}</mo>'


def _infix(sign: str) -> str:
    """A sign between two sides, also where a formula is broken before it."""
    return f'<mo form="infix">{sign}</mo>'


def _group(inner: str) -> str:
    return f"<mrow>{inner}</mrow>"


_THIN, _SPACE = '<mspace width="0.17em"/>', '<mspace width="0.3em"/>'
_BAR = '<mo stretchy="false" lspace="0.1em" rspace="0.1em">|</mo>'
_PARALLEL = '<mo stretchy="false" lspace="0.25em" rspace="0.25em">‖</mo>'
_ENDS = _mo("(") + "%s" + _mo(")")
_NORM = _group(_mo("‖") + "%s" + _mo("‖"))
_LOG = f"<mi>log</mi>{_THIN}"

# --- names and numbers
NUMBER = Row("%s", "%s", "<mn>%s</mn>")
SUBSCRIPT = Row("%s_%s", "%s_{%s}", "<msub>%s%s</msub>")

# --- laws and atoms
OLD = Row("%s_old", r"{%s}^{\mathrm{old}}", "<msup>%s<mi>old</mi></msup>")
APPLIED = Row("%s(%s)", "{%s(%s)}", _group("%s" + _ENDS))
APPLIED_LONG = Row("%s(%s)", "%s(%s)", "%s" + _ENDS)
GIVEN = Row("|", r"\mid ", _BAR)
COMMA = Row(",", ",", "<mo>,</mo>")
COMMA_LONG = Row(",", ",\n", "<mo>,</mo>\n")
BESIDE = Row(" ", "\\thinspace\n", _THIN + "\n")
LOG = Row("log %s", r"\log %s", _LOG + "%s")


def _divergence(name: str) -> Row:
    return Row(
        f"{name}[%s || %s]",
        f"\\mathrm{{{name}}}[%s\\thinspace\\Vert\n\\thinspace %s]",
        f"<mi>{name}</mi>" + _mo("[") + "%s" + _PARALLEL + "\n%s" + _mo("]"),
    )


KL, CE = _divergence("KL"), _divergence("CE")
MOMENTS = Row(
    "KL[moments of %s || N(0,1)]",
    r"\mathrm{KL}[\text{moments of }%s\thinspace\Vert\thinspace N(0,1)]",
    "<mi>KL</mi>" + _mo("[") + f"<mtext>moments of</mtext>{_SPACE}%s{_PARALLEL}<mi>N</mi>"
    + _ENDS % "<mn>0</mn><mo>,</mo><mn>1</mn>" + _mo("]"),
)  # fmt: skip
DISTANCE = Row("||%s - %s||^2", r"\Vert %s - %s\Vert^{2}", f"<msup>{_NORM % '%s<mo>−</mo>%s'}<mn>2</mn></msup>")
PENALTY = Row("||d %s||^2", r"\Vert\nabla %s\Vert^{2}", f"<msup>{_NORM % '<mo>∇</mo>%s'}<mn>2</mn></msup>")
LOGIT = Row("l_%s", r"\ell_{%s}", "<msub><mi>ℓ</mi>%s</msub>")
LOG_SIGMA = Row("log sigma(%s)", r"\log\sigma(%s)", f"{_LOG}<mi>σ</mi>{_ENDS}")
INTEGRAL = Row("∫ %s%s", r"\textstyle\int %s%s", f"{_mo('∫')}{_THIN}%s%s")
INTEGRATED = Row(" d%s", r"\thinspace \mathrm{d}%s", f'{_THIN}<mi mathvariant="normal">d</mi>%s')
AT_OLD = Row("%s|old", r"{%s}\vert_{\mathrm{old}}", f"<msub>{_group('%s' + _mo('|'))}<mi>old</mi></msub>")

# --- what a network is applied to
OPERATION = Row("%s %s %s", r"%s %s %s", "%s<mo>%s</mo>%s")
PARENTHESES = Row("(%s)", "(%s)", _ENDS)
INDEXED = Row("%s[%s]", "%s[%s]", "%s" + _mo("[") + "%s" + _mo("]"))

# --- sums
JOINED = Row("+", "{+}\n", '<mo lspace="0" rspace="0">+</mo>\n')
FRACTION = Row("%s/%s", r"\tfrac{%s}{%s}", "<mfrac><mn>%s</mn><mn>%s</mn></mfrac>")
OVER_N = Row("%s/N", r"\tfrac{%s}{N}", "<mfrac>%s<mi>N</mi></mfrac>")
TIMES = Row("%s %s", r"%s\thinspace %s", f"%s{_THIN}%s")
PLUS = Row(" + ", "\n+ ", "\n" + _infix("+"))
MINUS = Row(" - ", "\n- ", "\n" + _infix("−"))
NEGATIVE = Row("-%s", "-%s", '<mo form="prefix">−</mo>%s')
DETACHED = Row(
    "%s at sg(%s)",
    "%s\n\\text{ at }\\mathrm{sg}(%s)",
    f"%s{_THIN}\n{_THIN}<mtext>at</mtext>{_SPACE}<mi>sg</mi>{_ENDS}",
)
BRACES = Row("{ %s }", r"\lbrace %s\rbrace", _mo("{") + "%s" + _mo("}"))
CLOSE_BRACES = Row("{%s}", r"\lbrace %s\rbrace", _mo("{") + "%s" + _mo("}"))

# --- expectations
EXPECTED = Row("E %s", r"\mathbb E_{%s}", f"<msub><mi>𝔼</mi>{_group('%s')}</msub>")
EXPECTED_LONG = Row("E %s", "\\mathbb E\\thinspace\n%s", f"<mi>𝔼</mi>{_THIN}\n%s")
EXPECTED_ALONE = Row("E", r"\mathbb E", "<mi>𝔼</mi>")
SUMMED = Row("sum_%s %s", r"\sum\nolimits_{%s}%s", f"<msub>{_mo('∑')}%s</msub>{_THIN}%s")
SOFTMAX = Row(
    "softmax_%s(%s)",
    r"\mathop{\mathrm{softmax}}\nolimits_{%s}(%s)",
    f"<msub><mi>softmax</mi>%s</msub>{_ENDS}",
)
MEAN_EXP = Row(
    "{-log mean_%s exp(%s)}",
    "\\lbrace -\\log\\mathop{\\mathrm{mean}}\\nolimits_{%s}\n\\exp(%s)\\rbrace",
    f'{_mo("{")}<mo form="prefix">−</mo>{_LOG}<msub><mi>mean</mi><mn>%s</mn></msub>{_THIN}\n<mi>exp</mi>{_ENDS}'
    + _mo("}"),
)
COPIES = Row(
    "sum_%s sg(softmax logit %s) {%s}",
    "\\sum\\nolimits_{%s}\\mathrm{sg}(\\mathrm{softmax}\\thinspace \\mathrm{logit}\\thinspace %s)\n\\lbrace %s\\rbrace",
    f"<msub>{_mo('∑')}<mn>%s</mn></msub>{_THIN}<mi>sg</mi>"
    + _ENDS % f"<mi>softmax</mi>{_THIN}<mi>logit</mi>{_THIN}%s" + f"{_THIN}\n" + _mo("{") + "%s" + _mo("}"),
)  # fmt: skip
HINGE = Row("max(0, %s%s)", r"\max(0,\thinspace %s%s)", "<mi>max</mi>" + _ENDS % "<mn>0</mn><mo>,</mo>%s%s")

# --- joints
IS = Row(" = ", " = ", "<mo>=</mo>")
LABEL = Row("%s=%s", "%s{=}%s", _group("%s<mo>=</mo><mn>%s</mn>"))
MIXTURE = Row(
    "{ %s }",
    r"\lbrace\thinspace %s\thinspace\rbrace",
    _group("<mo>{</mo><mtable><mtr><mtd>%s</mtd></mtr></mtable>"),
)
BRANCH = Row("%s: %s %s", r"%s{:}\enspace %s\thinspace %s", f"%s<mo>:</mo></mtd><mtd>%s{_THIN}%s")
SEMICOLON = Row(";  ", ";\n\\quad ", "</mtd></mtr><mtr><mtd>")

# --- signs


def _operator(name: str) -> Row:
    return Row(f"{name}_%s", rf"\mathop{{\mathrm{{{name}}}}}\nolimits_{{%s}}", f"<msub><mi>{name}</mi>%s</msub>")


OVER = {
    "sum": Row("sum_%s", r"\sum\nolimits_{%s}", f"<msub>{_mo('∑')}%s</msub>"),
    "E": Row("E_%s", r"\mathbb E_{%s}", "<msub><mi>𝔼</mi>%s</msub>"),
    **{name: _operator(name) for name in ("mean", "argmin", "argmax")},
}
"""What has what it goes over below it, in a rule's law."""
SIGNS: Mapping[Sign, Row] = {
    "=": Row(" = ", "\n= ", "\n" + _infix("=")),
    ":=": Row(" := ", "\n\\mathrel{:=} ", "\n" + _infix("≔")),
    "→": Row(" → ", "\n\\to ", "\n" + _infix("→")),
    ">=": Row(" >= ", "\n\\ge ", "\n" + _infix("≥")),
    "+": PLUS,
    "-": MINUS,
    "neg": Row("-", "-", '<mo form="prefix">−</mo>'),
    "x": Row(" x ", "\\times ", "<mo>×</mo>"),
    " ": BESIDE,
    ",": COMMA,
    "|": GIVEN,
    "||": Row(" || ", "\\thinspace\\Vert\\thinspace ", _PARALLEL),
    "/": Row("/", "/", '<mo lspace="0" rspace="0">/</mo>'),
    "(": Row("(", "(", _mo("(")),
    ")": Row(")", ")", _mo(")")),
    "[": Row("[", "[", _mo("[")),
    "]": Row("]", "]", _mo("]")),
    "{": Row("{", "\\lbrace ", _mo("{")),
    "}": Row("}", "\\rbrace ", _mo("}")),
    "log": Row("log ", "\\log ", _LOG),
    "log(": Row("log(", "\\log (", "<mi>log</mi>" + _mo("(")),
    "exp(": Row("exp(", "\\exp (", "<mi>exp</mi>" + _mo("(")),
}
"""Signs between the symbols of a formula: before those that relate its sides, and between terms, it may be broken."""

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
    stem = base(name)
    primes = name[len(stem) :]
    found = _NAME.fullmatch(stem)
    return (found[1], found[2], primes) if found and found[1] not in GREEK else (stem, "", primes)


def _html_name(name: str) -> str:
    """One element: a letter leans, a word stands upright, as MathML has it of itself."""
    stem, digits, primes = _parts(name)
    shown = f"<mi>{escaped_html(GREEK.get(stem, stem))}</mi>"
    shown = f"<msub>{shown}<mn>{digits}</mn></msub>" if digits else shown
    return _group(f'{shown}<mo lspace="0" rspace="0">{"′" * len(primes)}</mo>') if primes else shown


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


def _mathml(formula: str) -> str:
    """A formula as elements in a row, between which a line can end: browsers do not break inside of one."""
    pieces, depth = [""], 0
    for token in re.findall(r"<[^>]*>|[^<\n]+|\n", formula):
        if token != "\n":
            depth += -1 if token.startswith("</") else token.startswith("<") and not token.endswith("/>")
            pieces[-1] += token
        elif depth == 0:
            pieces.append("")
    return "<wbr>".join(f"<math>{piece}</math>" for piece in pieces if piece)


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
HTML = Style(2, _html_name, escaped_html, _mathml)
