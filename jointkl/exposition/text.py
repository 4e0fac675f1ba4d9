"""The record of a derivation as text: what fired, goal by goal, player by player. Nothing is said that no step says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jointkl.exposition.formula import formula
from jointkl.exposition.notation import line
from jointkl.exposition.outline import Chapter, Group, Outline, Row, Section

Colours = tuple[tuple[str, dict[str, Any]], ...]
"""How a line begins, and the colour of the part in brackets."""

COLOURS: Colours = (
    (r"  (LOSS .*)", {"fg": "green", "bold": True}),
    (r"  ([A-Z][A-Z1-9-]+)(?: |$)", {"fg": "cyan"}),
    (r"player ([^,:]+)", {"fg": "magenta", "bold": True}),
    (r"    (\S.*  <)$", {"fg": "red"}),
    (r" +(>   .*)", {"fg": "green"}),
    (r"    (\S.*  \|   .*)", {"fg": "yellow"}),
)
"""Losses, rules, players; and of two derivations side by side what only one has and what has another weight."""

_RULE, _LABEL = 9, 6
"""Widths of the first two columns."""


def text(outline: Outline) -> str:
    """The whole derivation, ending in each player's loss and the laws that were used."""
    blocks: list[list[str]] = []
    for chapter in outline.chapters:
        for section in chapter.sections:
            header = [f"player {line((section.player, *section.role))}"] if section.player else [*_goal(chapter), ""]
            blocks.append([*header, *_rows(outline, section)])
    if len(outline.chapters) > 1:
        blocks.append(["in all", *(_item(f"{line((p,))}:", formula(outline.facts, e)) for p, e in outline.losses)])
    blocks.append(["rules", *(_item(rule, line(law)) for rule, law in outline.laws)])
    return "\n\n".join("\n".join(b) for b in blocks)


def _goal(chapter: Chapter) -> list[str]:
    told = [f"    {line((side,))}" for side in chapter.sides]
    return [f"{chapter.goal:<80} {chapter.place}", *told]


def _item(name: str, told: str) -> str:
    return f"  {name:<{_RULE}}{told}" if len(name) < _RULE else f"  {name}\n  {'':<{_RULE}}{told}"


def _rows(outline: Outline, section: Section) -> Iterator[str]:
    """Three columns: the rule, the label's value, what it did. A rule's name stands once for a run of its steps."""
    widths = _alignment(section.groups)
    for group in section.groups:
        name = group.rule
        if len(name) >= _RULE:
            yield f"  {name}"
            name = ""
        for row in group.rows:
            label = f"{row.label[0]}={row.label[1]}" if row.label else ""
            for told in _told(outline, row, widths[group.rule]):
                yield f"  {name:<{_RULE}}{label:<{_LABEL}}{told}"
                name = label = ""


def _told(outline: Outline, row: Row, widths: Sequence[int]) -> Iterator[str]:
    if row.entries:
        yield formula(outline.facts, row.entries)
    if row.cells:
        yield "  ".join(line(c).ljust(w) for c, w in zip(row.cells, widths, strict=False)).rstrip()
    yield from map(line, row.detail)


def _alignment(groups: Sequence[Group]) -> dict[str, list[int]]:
    """For each rule the width of each of its columns."""
    widths: dict[str, list[int]] = {}
    for group in groups:
        known = widths.setdefault(group.rule, [])
        for row in group.rows:
            for i, cell in enumerate(row.cells):
                known[i : i + 1] = [max(*known[i : i + 1], len(line(cell)), 0)]
    return widths
