"""Every mistake is reachable, is shown by a bad spec, and knows every word of the grammar."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jointkl.diagnostics import JklError, Report
from jointkl.syntax import mistakes
from jointkl.syntax.characters import CHARACTERS, FOREIGN
from jointkl.syntax.parse import parse_text
from jointkl.syntax.samples import SAMPLES, Sample
from jointkl.syntax.stop import RESERVED
from jointkl.syntax.wording import TOKENS
from tests.mistakes import every

BAD = [m.spec for m in every() if m.stage == "syntax" and m.name != "several"]
GRAMMAR = (Path(__file__).parents[2] / "grammars" / "jkl.lark").read_text()


def report(text: str) -> Report:
    with pytest.raises(JklError) as found:
        parse_text(text)
    (only,) = found.value.reports
    return only


def is_by(sample: Sample, said: Report) -> bool:
    pattern = re.sub(r"\\\{\w+\\\}", ".*", re.escape(sample.message))
    return re.fullmatch(pattern, said.message) is not None


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.texts[0])
def test_a_sample_makes_its_own_mistake(sample: Sample) -> None:
    for text in sample.texts:
        assert is_by(sample, report(text)), text


def test_every_sample_is_shown_by_a_bad_spec() -> None:
    said = [report(text) for text in BAD]
    assert [s.message for s in SAMPLES if not any(is_by(s, r) for r in said)] == []


@pytest.mark.slow
def test_every_finder_is_shown_by_a_bad_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finder that could be left out would not be needed."""
    finders = {"FINDERS": mistakes.FINDERS, "BEFORE_SAMPLES": mistakes.BEFORE_SAMPLES}
    said = {text: report(text) for text in BAD}
    for name, row in finders.items():
        for finder in row:
            with monkeypatch.context() as patch:
                patch.setattr(mistakes, name, tuple(f for f in row if f is not finder))
                assert any(report(text) != said[text] for text in BAD), finder.__name__


def test_reserved_words_are_those_of_the_grammar() -> None:
    (names,) = re.findall(r"^NAME: /\(\?!\(\?:(.*?)\)", GRAMMAR, re.MULTILINE)
    assert set(names.split("|")) == RESERVED


def test_every_terminal_has_words() -> None:
    patterns = set(re.findall(r"^([A-Z]+)(?:\.\d+)?: /", GRAMMAR, re.MULTILINE))
    assert patterns == set(TOKENS)


@pytest.mark.parametrize("character", sorted(CHARACTERS))
def test_a_character_is_told_what_to_type(character: str) -> None:
    said = report(f"let K = {character} 5" if character != "\ufeff" else f"{character}let K = 5")
    assert said.span.text == character
    assert character not in said.help[-1]


@pytest.mark.parametrize("sign", sorted(FOREIGN))
def test_a_foreign_sign_is_underlined_whole(sign: str) -> None:
    assert report(f"let K = 5 {sign} 3" if sign not in ("==", ":=") else f"let K {sign} 5").span.text == sign


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_a_reserved_word_is_no_name(word: str) -> None:
    said = report(f"let K = 5\nvar {word}: real")
    assert said.message == f"`{word}` is a reserved word"
    assert said.span.text == word


@given(st.sampled_from(["minimize", "maximize", "param", "player", "train"]), st.data())
def test_a_misspelt_statement_is_recognised(word: str, data: st.DataObject) -> None:
    """Two neighbouring letters exchanged."""
    at = data.draw(st.integers(0, len(word) - 2))
    typo = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if typo != word:
        assert f"did you mean `{word}`?" in report(f"{typo} x: real").help


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("indent", ["", "  ", "\t"])
def test_the_place_is_right_whatever_the_white_space(end: str, indent: str) -> None:
    said = report(end.join(["var x: real", f"{indent}let K 5", ""]))
    assert (said.span.line, said.span.column, said.span.text) == (2, len(indent) + 7, "5")
    assert said.help[-1] == "let K = 5"


def test_reading_goes_on_behind_a_mistake() -> None:
    """Each mistake where it stands in the text, and none that only follows from another."""
    text = "let K 5\nvar x: real\nq(x) = {\n    y=1: data(x); y=0 data(x)\n}\nlet M 6\nq(z) ~ Normal(0, 1)\nlet N = 1"
    with pytest.raises(JklError) as found:
        parse_text(text)
    places = [(r.span.line, r.span.column, r.span.source.text == text) for r in found.value.reports]
    assert places == [(1, 7, True), (4, 23, True), (6, 7, True), (7, 6, True)]


def test_the_mistakes_of_a_text_without_end_are_cut() -> None:
    with pytest.raises(JklError) as found:
        parse_text("let K 5\n" * 100)
    assert len(found.value.reports) == 20
