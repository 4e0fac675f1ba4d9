"""How a mistake is laid out: carets in place whatever the characters, long lines cut, many mistakes counted."""

from __future__ import annotations

import pytest

import jointkl
from jointkl.diagnostics import MOST_TOLD, DataError, JklError, Report, Source, Span, render, says

WIDTHS = {"\u0301": 0, "\u20dd": 0, "漢": 2, "字": 2, "Ａ": 2, "\u3000": 1, "\u0000": 1, "\t": 1, "\u200b": 1}
"""Columns on a terminal: combining marks none, East Asian wide two; what is not seen takes one."""


def columns(text: str) -> int:
    return sum(WIDTHS.get(c, 1) for c in text)


def frame(line: str, word: str) -> tuple[str, str]:
    """The source line as shown, and its carets."""
    start = line.index(word)
    source = Source("a.jkl", f"first\n{line}\nlast")
    told = render(Report("E", "wrong", Span(source, 6 + start, 6 + start + len(word))))
    shown, carets = told.split("\n")[3:5]
    return shown.removeprefix("2 | "), carets.removeprefix("  | ")


@pytest.mark.parametrize(
    "before", ["", "abc ", "\t\t", "a\u0301e\u20dd ", "漢字 ", "\u3000Ａ ", "\u0000\u200b", "x" * 400]
)
@pytest.mark.parametrize("word", ["HERE", "e\u0301", "漢", "h" * 300])
@pytest.mark.parametrize("behind", ["", " 漢 c", "y" * 100_000])
def test_the_carets_stand_under_the_word(before: str, word: str, behind: str) -> None:
    shown, carets = frame(f"{before}{word}{behind}", word)
    place = shown.index(word[:20])
    assert len(carets) - len(carets.lstrip()) == columns(shown[:place])
    marked = min(columns(word), columns(shown[place:].removesuffix("…")))
    assert carets.strip() == "^" * marked
    assert columns(shown) <= 120
    assert shown.startswith("…") == (len(before) > 300)
    assert shown.endswith("…") == (len(behind) > 1000 or len(word) > 200)


def test_a_terminal_is_not_controlled() -> None:
    source = Source("a\x1b[2J\nb.jkl", "let \x1b[31mK = \x07\u202e1")
    told = render(Report("E", "here is \x1b[1m", Span(source, 4, 5), "a \x07", help=("write \x1b",)))
    assert all(line.isprintable() for line in told.split("\n"))


def test_a_line_of_many_mistakes_is_told_in_short() -> None:
    line = "q(x) = Normal(0, " + " + ".join(f"unknown{i}" for i in range(10_000)) + ")"
    laws = "\n".join(f"q{i}(x) = Normal(a{i}, 1)" for i in range(60))
    for text in (f"var x: real {line}", f"var x: real {laws}", f"var x: real {laws.replace(chr(10), ' ')}"):
        with pytest.raises(JklError) as found:
            jointkl.parse(text)
        assert len(str(found.value)) < 20_000


@pytest.mark.parametrize(("many", "end"), [(MOST_TOLD, None), (51, "and 1 more mistake"), (90, "and 40 more mistakes")])
def test_of_many_mistakes_the_others_are_counted(many: int, end: str | None) -> None:
    source = Source("a.jkl", "x" * 100)
    error = JklError([Report("E", f"number {i}", Span(source, i, i + 1)) for i in range(many)])
    told = str(error)
    assert len(error.reports) == many
    assert told.count("error[E]") == MOST_TOLD
    assert (told.split("\n\n")[-1] == end) == (end is not None)


def test_a_search_that_stopped_says_so() -> None:
    laws = "\n".join(f"q{i}(x) = Normal(a{i}, 1)" for i in range(60))
    with pytest.raises(JklError, match="and maybe more"):
        jointkl.parse(f"var x: real\n{laws}")


def test_a_long_name_is_told_in_short() -> None:
    with pytest.raises(JklError) as found:
        jointkl.parse(f"var {'x' * 50_000}: real\nq({'x' * 50_000}) = Normal({'x' * 50_000}y, 1)")
    assert len(str(found.value)) < 5_000


def test_a_mistake_that_is_data_alone() -> None:
    lost = says("path rows", "{path} has {rows:,} rows", "give {{more}}, as in {path}")
    found = lost("a.npy", 1234)
    assert isinstance(found, DataError)
    assert (found.message, found.help) == ("a.npy has 1,234 rows", ("give {more}, as in a.npy",))
    with pytest.raises(ValueError, match="zip"):
        lost("a.npy")
    with pytest.raises(AssertionError, match="slots"):
        says("path", "{row} is wrong")
