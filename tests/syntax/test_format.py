"""The formatter: what it writes, and that it changes layout alone."""

from __future__ import annotations

import cProfile
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lark import Token

from jointkl.diagnostics import JklError
from jointkl.syntax.format import format_text
from jointkl.syntax.parse import parse_text, parse_tokens
from tests import mistakes

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*.jkl"))
LAYOUTS = sorted((Path(__file__).parent / "format").glob("*.jkl"))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def read(text: str) -> tuple[list[str], list[str]]:
    """The tokens of a text, and its comments, found apart from the formatter. Raises `JklError`."""
    tokens = list(parse_tokens(text).scan_values(lambda value: isinstance(value, Token)))
    ends = [0, *(token.end_pos for token in tokens)]
    starts = [*(token.start_pos for token in tokens), len(text)]
    gaps = "".join(text[end:start] + "\n" for end, start in zip(ends, starts, strict=True))
    return list(map(str, tokens)), [line.strip(" \t\r\f") for line in gaps.split("\n") if line.strip(" \t\r\f")]


PARSED = {path.stem: text_of(path) for path in (*MODELS, *LAYOUTS)}
PARSED |= {f"{m.stage}/{m.name}": m.spec for m in mistakes.every() if m.stage != "syntax"}
"""Texts without a mistake of form."""


def verify(text: str) -> str:
    """Formats; the tokens, the tree, the comments and the formatted text stay."""
    new = format_text(text)
    assert parse_text(new) == parse_text(text)
    assert read(new) == read(text)
    assert format_text(new) == new
    for line in new.split("\n"):
        assert line == line.rstrip()
    assert "\n\n\n" not in new
    assert not new or (new[0] != "\n" and new[-1] == "\n" and new[-2:] != "\n\n")
    return new


# --- what it writes


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models_are_formatted(path: Path) -> None:
    assert verify(text_of(path)) == text_of(path)


def test_there_are_layouts() -> None:
    assert len(LAYOUTS) > 5
    assert len(PARSED) > 100


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_the_layout_is_golden(path: Path, golden) -> None:
    golden(path.with_suffix(".txt"), verify(text_of(path)).removesuffix("\n"))


@pytest.mark.parametrize("text", PARSED.values(), ids=PARSED)
def test_every_spec_keeps_its_meaning(text: str) -> None:
    verify(text)


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("", ""),
        (" \n\n ", ""),
        ("# a", "# a\n"),
        ("\n\n  # a  \n\n\n\n#b", "# a\n\n#b\n"),
        ("var x:real", "var x: real\n"),
        ("var x:real#c", "var x: real                                #c\n"),
        ("var x:real\r\n\r\n# c\r\nvar y:real\r\n", "var x: real\n\n# c\nvar y: real\n"),
        ("let a=(1+b)*2/-c", "let a = (1 + b) * 2 / -c\n"),
        ("let a=b+c*2", "let a = b + c*2\n"),
        ("var k:{0 .. K - 1}", "var k: {0..K-1}\n"),
        ("param m:real[ K , 2*d ]", "param m: real[K,2*d]\n"),
        ("q(x|z)=r(x,y|z)", "q(x | z) = r(x,y|z)\n"),
        ("q(x)=f(1,2)", "q(x) = f(1, 2)\n"),
        ("q(x,y)=r(x,y) r(x,y)=f(1,2)", "q(x, y) = r(x,y)\nr(x, y) = f(1, 2)\n"),
        ("p(k|x)=Free player e=E,p(k|x)", "p(k | x) = Free\nplayer e = E, p(k|x)\n"),
        ("minimize  -KL( a(x)||b(x) )over G", "minimize -KL(a(x) || b(x)) over G\n"),
    ],
)
def test_small_texts(text: str, new: str) -> None:
    assert verify(text) == new


def test_heads_that_differ_much_are_not_aligned() -> None:
    near = "p(z) = N(0)\nq(x | z, y) = N(1)\n"
    assert verify(near) == "p(z)        = N(0)\nq(x | z, y) = N(1)\n"
    far = "p(z) = N(0)\nq(x | z, y, w) = N(1)\n"
    assert verify(far) == far
    apart = "p(z) = N(0)\n\nq(x | z) = N(1)\n"
    assert verify(apart) == apart


def test_lines_are_filled_up_to_the_width() -> None:
    """At 120 characters all stays on a line, one more breaks it."""
    for more in range(40):
        text = f"minimize KL({'a' * (70 + more)}(x) || b(x)) with game=minimax"
        first, *rest = verify(text).split("\n")
        assert (rest == [""]) == (len(text) <= 120)
        assert first == text if len(text) <= 120 else len(first) <= 120


def test_what_can_be_broken_is_at_most_as_wide_as_a_line() -> None:
    long = " + ".join(f"{i} * KL(p{i}(x,y,z) || q{i}(x,y,z))" for i in range(30))
    options = ", ".join(f"k{i}=1" for i in range(60))
    text = f"let v = [{', '.join(map(str, range(300)))}]\nminimize {long}\ntrain({options})"
    assert max(map(len, verify(text).split("\n"))) <= 120


def test_a_text_that_does_not_parse_is_reported() -> None:
    with pytest.raises(JklError, match=r"mine\.jkl:1:7"):
        format_text("var x real", "mine.jkl")


@pytest.mark.slow
def test_a_long_text_takes_linear_time() -> None:
    """Four times the text takes about four times as many calls, not sixteen times."""
    text = f"let a = [{'1, ' * 1000}1]\n" + "minimize KL(a(x) || b(x)) # c\n" * 100
    calls: list[int] = []
    for times in (1, 4):
        profile = cProfile.Profile()
        profile.runcall(format_text, text * times)
        calls.append(sum(row.callcount for row in profile.getstats()))
    assert calls[1] < 5 * calls[0]


@pytest.mark.parametrize("comment", ["", " # c\n"])
def test_deep_brackets(comment: str) -> None:
    verify("let a = " + f"({comment}" * 100 + "1" + ")" * 100)
    with pytest.raises(JklError, match="nested more than"):
        format_text("let a = " + f"({comment}" * 500 + "1" + ")" * 500)


# --- any layout

BETWEEN = [
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    " # c1\n",
    "\n# c2\n",
    '\n\n\n  #c3 || ) "\n\n',
    "# c4\n # c5\n",
    "#\n",
]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(PARSED.values())),
    st.randoms(use_true_random=False),
    st.sampled_from([0.02, 0.1, 0.5, 1]),
)
def test_any_layout_keeps_its_meaning(text: str, random, share: float) -> None:
    """White space, line ends and comments between any two tokens: only where tokens touch may nothing stand."""
    tokens, _ = read(text)
    other = "".join(token + (random.choice(BETWEEN) if random.random() < share else " ") for token in tokens)
    new = verify(other)
    if "#" not in other and not re.search(r"\n\s*\n", other):
        assert new == format_text(" ".join(tokens))
