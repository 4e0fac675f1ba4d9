"""A formula is set the same way whatever the names in it: pages of a spec whose names are all others differ in those
names alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product
from string import ascii_letters

import pytest

import jointkl
from jointkl.derivation.derive import Derivation
from jointkl.exposition import styles
from tests.worlds import MODELS

FORMATS = {
    "text": (Derivation.text, styles.TEXT),
    "markdown": (Derivation.markdown, styles.MARKDOWN),
    "latex": (Derivation.latex, styles.LATEX),
    "html": (Derivation.html, styles.HTML),
}
NAMES = sorted(path.stem for path in MODELS.glob("*.jkl"))
RESERVED = {"data", "var", "net", "param", "let", "train", "player", "over", "with", "N", "K"}
LENGTHS = (1, 2, 12)


def names_of(derivation: Derivation) -> list[str]:
    """Every name that the spec itself gives, of whatever kind, in one order."""
    model = derivation.model
    players = [g.name for g in model.players]
    labels = [law.label for law in model.laws.values()]
    return sorted({*model.variables, *model.params, *model.nets, *labels, *players} - {"data"})


def made(names: list[str], text: str, length: int) -> dict[str, str]:
    """Others of a length, in the same order, none of them a word of the spec or of the language."""
    words = {*re.findall(r"\w+", text), *RESERVED}
    letters = [c for c in ascii_letters if c not in words]
    if length == 12:
        return {
            name: "q" + "".join(c) + "wertyuiop" for name, c in zip(names, product("bcdfg", repeat=2), strict=False)
        }
    found = letters if length == 1 else ["".join(c) for c in product(sorted(letters), repeat=2)]
    chosen = sorted([w for w in found if w not in words][: len(names)])
    return dict(zip(names, chosen, strict=True))


def renamed(text: str, names: Mapping[str, str]) -> Derivation:
    bare = "\n".join(line.split("#", 1)[0] for line in text.split("\n"))
    return jointkl.derive(jointkl.parse(re.sub(r"[A-Za-z_]\w*", lambda w: names.get(w[0], w[0]), bare), "spec.jkl"))


def structure(page: str) -> str:
    """A page without the marks at which its formulas may be broken over lines, and without its columns."""
    marks = r"\\allowbreak(?: |\{\})?|\$ \$(?:\{\} ?)?|</math><wbr><math>|\s+"
    return re.sub(marks, "", page)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_sets_it_alike(name: str) -> None:
    text = (MODELS / f"{name}.jkl").read_text()
    own = names_of(jointkl.derive(jointkl.parse(text)))
    tables = [made(own, text, length) for length in LENGTHS]
    pages = [renamed(text, table) for table in tables]
    *shorter, long = zip(tables, pages, strict=True)
    for write, style in FORMATS.values():
        whole = write(long[1])
        for table, derivation in shorter:
            expected = whole
            for old, word in long[0].items():
                expected = expected.replace(style.name(word), style.name(table[old])).replace(word, table[old])
            assert structure(expected) == structure(write(derivation))
