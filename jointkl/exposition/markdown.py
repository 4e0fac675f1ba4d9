"""The record of a derivation as GitHub-flavoured markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from jointkl.derivation.expr import Expectation
from jointkl.derivation.parts import Part
from jointkl.exposition.formula import formula
from jointkl.exposition.notation import Notation
from jointkl.exposition.outline import Chapter, Group, Outline, said
from jointkl.exposition.styles import MARKDOWN

NOTATION = Notation(MARKDOWN)


def page(outline: Outline) -> str:
    """Headings per goal and player, a list of steps under each rule, the losses at the end."""
    lines = [f"# Derivation of {code(outline.title)}"]
    for chapter in outline.chapters:
        lines += _chapter(outline, chapter)
    lines += ["", "## Losses", "", *(f"- **{_line(p)}**: {_loss(outline, e)}" for p, e in outline.losses)]
    if outline.warnings:
        lines += ["", "## Warnings", "", *(f"- **{w.code}**: {_line(*said(w))}" for w in outline.warnings)]
    return "\n".join(lines)


def code(words: str) -> str:
    """Words as code, fenced by more backticks than they hold."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", words)), default=0))
    space = " " if words.startswith("`") or words.endswith("`") else ""
    return f"{fence}{space}{words}{space}{fence}"


def _line(*parts: Part) -> str:
    return NOTATION.line(parts)


def _loss(outline: Outline, entries: Sequence[Expectation]) -> str:
    return MARKDOWN.formula(formula(outline.facts, entries, MARKDOWN))


def _chapter(outline: Outline, chapter: Chapter) -> Iterator[str]:
    yield from ("", f"## {code(chapter.goal)}", "", f"{code(chapter.place)}{', where' if chapter.sides else ''}")
    if chapter.sides:
        yield ""
        yield from (f"- {_line(side)}" for side in chapter.sides)
    for section in chapter.sections:
        yield ""
        yield f"### Player {_line(section.player)}{_line(*section.role)}" if section.player else "### Every player"
        for group in section.groups:
            yield from ("", *_group(outline, group))


def _group(outline: Outline, group: Group) -> Iterator[str]:
    yield f"**{group.rule}** {_line(*group.law)}" if group.law else f"**{group.rule}**"
    yield ""
    for row in group.rows:
        label = f"{MARKDOWN.formula(NOTATION.at(row.label))}: " if row.label else ""
        told = [_loss(outline, row.entries)] if row.entries else [_line(*line) for line in row.told]
        yield f"- {label}" + "\\\n  ".join(told)
        if row.change:
            yield f"  - {_line(*row.change)}"
