"""The pages say what is so: examples compile, made parts are made, links lead somewhere, and nothing is left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import jointkl
from jointkl import manual
from jointkl.derivation.derive import table
from jointkl.semantics.catalogue import BUILDERS, SOURCES
from jointkl.semantics.families import FAMILIES, NOT_FAMILIES, REFUSED
from jointkl.semantics.goals import TRAIN
from jointkl.semantics.options import ESTIMATES, OPTIONS
from jointkl.semantics.scope import CONSTANT_FUNCTIONS, FUNCTIONS
from jointkl.semantics.spaces import KINDS
from tests.docs import made

NAMES = tuple(f"{name}.md" for name in manual.PAGES)
TEXTS = {name: (made.PAGES / name).read_text(encoding="utf-8") for name in NAMES}
KNOWN = manual.sections()
EXPLAINED = {word.lower() for word in manual.words(KNOWN)}

RULE_NAMES = {rule.name for rule in table()}
UNPRINTED = {"INLINE", "MARGINALISE", "DIRAC"}
"""Rules that leave no line in a derivation."""

CODES = set[str]().union(
    *(re.findall(r'"([EW]-[A-Z-]+)"', path.read_text()) for path in (made.ROOT / "jointkl").rglob("*.py"))
)
STATEMENTS = ("var", "param", "net", "let", "minimize", "maximize", "over", "with", "player", "train", "data")
DIVERGENCES = ("KL", "CE", "R1", "max")
OTHERS = ("old", "global", "classifier", "critic", "label", "snapshot", "minimax", "nonsaturating", "dirac")


def section(name: str) -> manual.Section:
    (found,) = (s for s in KNOWN if s.level == 3 and name in s.words)
    return found


# --- what is made


@pytest.mark.parametrize("name", NAMES)
def test_what_is_made_is_up_to_date(name: str, golden: Callable[[Path, str], None]) -> None:
    golden(made.PAGES / name, made.page(TEXTS[name]).removesuffix("\n"))


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_accepted_or_its_message_shown(name: str) -> None:
    for spec, wrong in made.specs(TEXTS[name]):
        model = None if wrong else jointkl.parse(spec)
        if model is not None and model.goals:
            jointkl.python(model)


def test_every_family_s_example_is_accepted() -> None:
    written = (line for f in FAMILIES.values() for line in made.family_example(f, f"x_{f.name}"))
    jointkl.parse("\n".join(written))


# --- nothing is left out


WORDS = {
    "statements": STATEMENTS,
    "divergences": DIVERGENCES,
    "words": OTHERS,
    "spaces": KINDS,
    "functions": (*FUNCTIONS, *CONSTANT_FUNCTIONS),
    "options": (*OPTIONS, *ESTIMATES),
    "settings": [o.name for o in TRAIN],
    "families": (*FAMILIES, *NOT_FAMILIES, *REFUSED),
    "sources": SOURCES,
    "builders": BUILDERS,
    "their options": [o.name for row in (*SOURCES.values(), *BUILDERS.values()) for o in row.options],
    "rules": RULE_NAMES,
    "codes": CODES,
}


@pytest.mark.parametrize("kind", WORDS)
def test_help_knows_every_word(kind: str) -> None:
    assert {w.lower() for w in WORDS[kind]} <= EXPLAINED


@pytest.mark.parametrize("kind", sorted(WORDS.keys() - {"words", "families", "rules", "codes"}))
def test_every_word_stands_in_an_example(kind: str) -> None:
    examples = "\n".join(spec for text in TEXTS.values() for spec, wrong in made.specs(text) if not wrong)
    assert set(WORDS[kind]) <= set(re.findall(r"\w+", examples))


def test_no_section_is_of_what_is_not() -> None:
    named = {w for s in KNOWN if s.page in ("rules", "errors") for w in re.findall(r"`([A-Z][A-Z1-9-]+)`", s.title)}
    assert named == RULE_NAMES | UNPRINTED | CODES
    assert set(re.findall(r"\b[EW]-[A-Z-]+\b", "".join(TEXTS.values()))) == CODES


@pytest.mark.parametrize("rule", sorted(RULE_NAMES | UNPRINTED))
def test_a_rule_has_its_law_its_conditions_and_an_example(rule: str) -> None:
    text = "\n".join(section(rule).lines)
    assert "**Law.** " in text
    assert "**When.** " in text
    assert (f"<!-- made: rule {rule} -->" in text) == (rule not in UNPRINTED)


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_has_an_example_that_makes_it(code: str) -> None:
    shown = re.findall(r"^(?:error|warning)\[(.*)\]:", "\n".join(section(code).lines), re.MULTILINE)
    assert shown == [code]


def test_the_reserved_words_are_those_of_the_grammar() -> None:
    grammar = (made.ROOT / "grammars" / "jkl.lark").read_text()
    reserved = re.search(r"\(\?!\(\?:([a-z|]+)\)\\b\)", grammar)
    told = re.search(r"These words cannot be names: ([a-z\s]+)\.", TEXTS["language.md"])
    assert reserved
    assert told
    assert sorted(told[1].split()) == sorted(reserved[1].split("|"))


# --- links and citations


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    code = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", code, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "path", [*(made.PAGES / name for name in NAMES), made.ROOT / "README.md"], ids=lambda p: p.name
)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        file, _, anchor = target.partition("#")
        page = path.parent / file if file else path
        assert page.exists(), target
        assert not anchor or anchor in anchors(page.read_text(encoding="utf-8")), target


SOURCE_FILES = [p for folder in ("jointkl", "tests", "benchmarks") for p in (made.ROOT / folder).rglob("*.py")]


def test_what_comments_cite_is_there() -> None:
    """`docs/PAGE.md, "Heading"`; a rule by its name, not by a number; a property by its number."""
    titles = {page: {manual.plain(s.title) for s in KNOWN if s.page == page} for page in manual.PAGES}
    properties = set(re.findall(r"^(\d+)\. ", TEXTS["rules.md"], re.MULTILINE))
    for path in SOURCE_FILES:
        text = "" if path == Path(__file__) else path.read_text(encoding="utf-8")
        assert not re.search(r"\b[Rr]ule \d", text), path
        assert not re.search(r"(?<!docs/)\b(?:language|rules|errors)\.md", text.replace("name}.md", "")), path
        for page, heading in re.findall(r'docs/(\w+)\.md(?:, "([^"]+)")?', text):
            assert page in manual.PAGES, path
            assert not heading or heading in titles[page], (path, heading)
        for number in re.findall(r"[Pp]roperty (\d+)", text):
            assert number in properties, path
        if path.parent.name == "properties":
            assert {n for name in re.findall(r"def test_([\d_]+)_", text) for n in name.split("_")} <= properties, path
