"""`jointkl help WORD`: what the pages say of a word, as a terminal shows it."""

from __future__ import annotations

import pytest

from jointkl import cli, manual


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]):
    """`told(*words)`: the exit code of `jointkl help` and all that it printed."""

    def run(*words: str) -> tuple[int, str]:
        code = cli.main(["help", *words])
        out, err = capsys.readouterr()
        return code, out + err

    return run


def test_a_section_is_printed_without_marks(told) -> None:
    code, text = told("NULL")
    assert code == 0
    assert text.startswith("NULL\nLaw. E_f{log f - log f_old} = KL(f || f_old)")
    assert "\n    player G\n      y=0   E { log q(x) - log q_old(x) } = KL(q || q_old)" in text
    assert not any(mark in text for mark in ("```", "<!--", "**", "`", "###", "]("))
    assert "OPTIMAL" not in text.replace("at D's optimum", ""), "the next section"


def test_a_row_is_printed_with_its_columns(told) -> None:
    code, text = told("Normal")
    assert code == 0
    assert text.split("\n")[:4] == [
        "Normal, in Families",
        "Normal",
        "parameters: loc (real), scale (positive)",
        "values: real",
    ]


def test_an_item_of_several_sections_is_printed_once_for_each_meaning(told) -> None:
    _, text = told("split")
    assert "split, in digits, mnist, fashion_mnist, cifar10, colour_mnist\n" in text
    assert text.count("which part") == 3


def test_tables_are_in_columns(told) -> None:
    _, text = told("game")
    assert "\ngame=minimax        log c(k|v): " in text


def test_letters_may_be_small_and_several_words_asked(told) -> None:
    code, text = told("e-ratio", "kl")
    assert code == 0
    assert "E-RATIO: a density that has no partner\n" in text
    assert "\n\nKL\nKL(P || Q)" in text


@pytest.mark.parametrize(("word", "meant"), [("Normall", "Normal"), ("minimise", "minimize"), ("E-RATO", "E-RATIO")])
def test_what_is_like_an_unknown_word_is_told(told, word: str, meant: str) -> None:
    code, text = told(word)
    assert code == 2
    assert f"nothing is known of `{word}`: did you mean {meant}" in text


def test_nothing_like_it(told) -> None:
    assert told("qqqqqq") == (2, told("qqqqqq")[1])
    assert "`jointkl help` lists the words" in told("qqqqqq")[1]


def test_a_command_is_named_beside_a_statement(told) -> None:
    assert "jointkl train --help" in told("train")[1]
    assert told("resume")[1] == "jointkl resume --help tells how the command is called\n"


def test_alone_it_lists_commands_and_words(told) -> None:
    code, text = told()
    assert code == 0
    assert "Commands:" in text
    assert "  Statements: var, param, net, let, minimize, maximize, over, with, player, train\n" in text
    assert "Error codes\n  Text and names: E-SYNTAX" in text


def test_code_in_a_page_is_no_heading() -> None:
    assert "# models/gan.jkl" not in {s.title for s in manual.sections()}
    assert all(not s.title.startswith(("#", "`data(x)")) for s in manual.sections())
