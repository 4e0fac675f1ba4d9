"""Two specs' losses side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jointkl
from jointkl import cli
from jointkl.derivation.derive import Derivation
from jointkl.exposition import difference
from jointkl.exposition.outline import outline
from tests.worlds import GAN, MODELS

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in MODELS.glob("*.jkl"))


def derived(name: str) -> Derivation:
    return jointkl.derive(jointkl.load(MODELS / f"{name}.jkl"))


def named(name: str, text: str = GAN) -> Derivation:
    """The derivation of a spec read under a file's name."""
    return jointkl.derive(jointkl.parse(text, name))


def compared(a: str, b: str) -> str:
    return difference.text(derived(a), derived(b))


@pytest.mark.parametrize(
    ("a", "b"), [("ali", "ali_nonsaturating"), ("ali", "ali_dropped"), ("gan", "gan_regularized"), ("gan", "gan_ratio")]
)
def test_the_difference_is_golden(a: str, b: str, golden) -> None:
    golden(HERE / f"{a}-{b}.diff.txt", compared(a, b))


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_does_not_differ_from_itself(name: str) -> None:
    shown = compared(name, name)
    assert re.search(r"^terms of players in both: (\d+ the same|none)$", shown, re.MULTILINE)
    assert f"{name}.jkl (first)" in shown


@pytest.mark.parametrize(("a", "b"), [("vae", "iwae"), ("age", "introvae"), ("em", "vae"), ("ali", "ali_proximal")])
def test_the_difference_turned_round_has_its_signs_turned(a: str, b: str) -> None:
    one, other = outline(derived(a)), outline(derived(b))
    turned = {difference.LEFT: difference.RIGHT, difference.RIGHT: difference.LEFT}
    for left, right in difference.pairs(one.players, other.players):
        if left is not None and right is not None:
            there = [row.sign for row in difference.compare(one, left, other, right)]
            back = [row.sign for row in difference.compare(other, right, one, left)]
            assert sorted(turned.get(sign, sign) for sign in there) == sorted(back)


def test_a_changed_weight_is_shown_with_both() -> None:
    a, b = named("a.jkl"), named("b.jkl", GAN.replace("minimize KL", "minimize 3 * KL"))
    shown = difference.text(a, b)
    assert "    -log p(1|x)  |   -3 log p(1|x)\n" in shown
    assert "3 with another weight or estimator" in shown


def test_players_meet_by_name_then_by_role() -> None:
    a, b = outline(derived("gan")), outline(derived("gan_ratio"))
    met = [(p and p.name, q and q.name) for p, q in difference.pairs(a.players, b.players)]
    assert met == [("D", "T"), ("G", "G")]
    alone = [(p and p.name, q and q.name) for p, q in difference.pairs(outline(derived("em")).players, a.players)]
    assert alone == [("p(k|x)", None), ("mu+L+w", "G"), (None, "D")]


def test_derive_shows_two_specs_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["derive", "--diff", str(MODELS / "ali.jkl"), str(MODELS / "ali_minimax.jkl")])
    assert (code, capsys.readouterr().out) == (0, compared("ali", "ali_minimax") + "\n")
