"""The record of a derivation as one HTML page: no other file, no script; light or dark as the reader's system is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from jointkl.derivation.expr import Expectation
from jointkl.derivation.parts import Part
from jointkl.exposition import styles
from jointkl.exposition.formula import formula
from jointkl.exposition.notation import Notation
from jointkl.exposition.outline import Chapter, Group, Outline, Row, said
from jointkl.exposition.styles import HTML, escaped_html

NOTATION = Notation(HTML)

PALETTE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5d6b82; --line: #e3e6ec; --paper: #ffffff;
  --panel: #f6f7fa; --rule: #0b5cad; --loss: #0a6b3d; --loss-panel: #eaf6ef; --warn: #8a5300; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --soft: #97a1b3; --line: #2b3240; --paper: #12161d;
  --panel: #1a2029; --rule: #7db8f2; --loss: #7fd6a5; --loss-panel: #16291f; --warn: #e5b567; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 1.5rem; }
h1, h2, h3, h4, p, li, td { overflow-wrap: anywhere; }
code { font: .92em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
math { font-family: "STIX Two Math", "Cambria Math", "Latin Modern Math", math, serif; font-size: 1.12em; }
mtd { text-align: left; }
@media (max-width: 40rem) { body { padding: 1.25rem .9rem 3rem; } }
@media print { body { max-width: none; padding: 0; } }
"""
"""Colours, type and margins of a page."""

STYLE = """
.goal { font-size: 1.05rem; margin: 2.5rem 0 .25rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
.player { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
.role { font-weight: 400; }
.place { color: var(--soft); font-size: .875rem; margin: 0; }
.joints { margin: .75rem 0 0; padding: .6rem 1rem; background: var(--panel); border-radius: .5rem; list-style: none; }
.joints li { overflow-x: auto; }
.step { display: grid; grid-template-columns: 9.5rem 1fr; gap: 0 1rem; padding: .55rem 0;
  border-top: 1px solid var(--line); }
.rule { margin: 0; font-size: .8rem; line-height: 1.55rem; letter-spacing: .03em; color: var(--rule); }
.law { margin: 0 0 .2rem; color: var(--soft); font-size: .85rem; }
.step ul { margin: 0; padding: 0; list-style: none; }
.step li { display: grid; grid-template-columns: 3.5rem 1fr; padding: .1rem 0; }
.step .bare li { grid-template-columns: 1fr; }
.step .bare li > span { display: none; }
.step p { margin: 0; }
.change { color: var(--soft); font-size: .9rem; }
.loss { background: var(--loss-panel); border-radius: .5rem; border-top-color: transparent; padding: .55rem .75rem;
  margin: .35rem -.75rem; }
.loss .rule { color: var(--loss); }
.losses dt, .warning dt { font-weight: 600; margin-top: .5rem; }
.losses dd, .warning dd { margin: 0 0 0 1.25rem; }
.warning dt { color: var(--warn); }
@media (max-width: 40rem) { .step { grid-template-columns: 1fr; } }
@media print { .step { break-inside: avoid; } }
"""
"""What a derivation's parts look like."""


def page(outline: Outline) -> str:
    """Headings per goal and player, the steps under each rule, the losses at the end."""
    title = escaped_html(outline.title)
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Derivation of {title}</title>",
        f"<style>{PALETTE}{STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>Derivation of <code>{title}</code></h1>",
        *steps(outline, 2),
        '<h2 class="goal">Losses</h2>',
        *losses(outline),
    ]
    if outline.warnings:
        lines += ['<h2 class="goal">Warnings</h2>', *warnings(outline)]
    return "\n".join([*lines, "</body>", "</html>"])


def steps(outline: Outline, level: int) -> Iterator[str]:
    """Every step, goal by goal and player by player; a goal's heading is of this level, the others below."""
    for chapter in outline.chapters:
        yield from _chapter(outline, chapter, level)


def losses(outline: Outline) -> Iterator[str]:
    yield '<dl class="losses">'
    yield from (f"<dt>{_line(p)}</dt><dd>{_loss(outline, entries)}</dd>" for p, entries in outline.losses)
    yield "</dl>"


def warnings(outline: Outline) -> Iterator[str]:
    yield '<dl class="warning">'
    yield from (f"<dt>{escaped_html(w.code)}</dt><dd>{_line(*said(w))}</dd>" for w in outline.warnings)
    yield "</dl>"


def named(text: str) -> str:
    """A law or a player as a run's files name it, `q(x,y=1|z)` or `E+G`; any other text as words."""
    return " * ".join(map(_named, text.split(" * ")))


_LAW = re.compile(r"([A-Za-z_]\w*)\(([^()|]+)(?:\|([^()|]+))?\)")
_NAMES = re.compile(r"[A-Za-z_]\w*'*(?:\+[A-Za-z_]\w*'*)*")


def _named(text: str) -> str:
    if law := _LAW.fullmatch(text):
        outputs, givens = (tuple(map(_argument, part.split(","))) if part else () for part in law.group(2, 3))
        return HTML.formula(NOTATION.written(HTML.name(law[1]), outputs, givens))
    if _NAMES.fullmatch(text):
        return HTML.formula(NOTATION.joined(text.split("+")))
    return escaped_html(text)


def _argument(text: str) -> str:
    """A variable, or a label with its value."""
    name, _, value = text.strip().partition("=")
    return NOTATION.put(styles.LABEL, HTML.name(name), value) if value else HTML.name(name)


def _line(*parts: Part) -> str:
    return NOTATION.line(parts)


def _loss(outline: Outline, entries: Sequence[Expectation]) -> str:
    return HTML.formula(formula(outline.facts, entries, HTML))


def _chapter(outline: Outline, chapter: Chapter, level: int) -> Iterator[str]:
    yield f'<h{level} class="goal"><code>{escaped_html(chapter.goal)}</code></h{level}>'
    yield f'<p class="place">{escaped_html(chapter.place)}</p>'
    if chapter.sides:
        yield '<ul class="joints">'
        yield from (f"<li>{_line(side)}</li>" for side in chapter.sides)
        yield "</ul>"
    for section in chapter.sections:
        role = f'<span class="role">{_line(*section.role)}</span>'
        told = f"Player {_line(section.player)}{role}" if section.player else "Every player"
        yield f'<h{level + 1} class="player">{told}</h{level + 1}>'
        for group in section.groups:
            yield from _group(outline, group, level + 2)


def _group(outline: Outline, group: Group, level: int) -> Iterator[str]:
    loss = any(row.entries for row in group.rows)
    yield f'<section class="step{" loss" if loss else ""}">'
    yield f'<h{level} class="rule">{escaped_html(group.rule)}</h{level}>'
    yield "<div>"
    if group.law:
        yield f'<p class="law">{_line(*group.law)}</p>'
    yield "<ul>" if any(row.label for row in group.rows) else '<ul class="bare">'
    for row in group.rows:
        label = HTML.formula(NOTATION.at(row.label)) if row.label else ""
        yield f"<li><span>{label}</span><div>{''.join(_told(outline, row))}</div></li>"
    yield from ("</ul>", "</div>", "</section>")


def _told(outline: Outline, row: Row) -> Iterator[str]:
    if row.entries:
        yield f"<p>{_loss(outline, row.entries)}</p>"
    yield from (f"<p>{_line(*line)}</p>" for line in row.told)
    if row.change:
        yield f'<p class="change">{_line(*row.change)}</p>'
