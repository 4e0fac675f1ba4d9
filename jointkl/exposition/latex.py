r"""The record of a derivation as a LaTeX document: in ASCII, with amsmath and amssymb alone; long formulas break."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jointkl.derivation.expr import Expectation
from jointkl.derivation.parts import Part
from jointkl.exposition.formula import formula
from jointkl.exposition.notation import Notation
from jointkl.exposition.outline import Chapter, Group, Outline, said
from jointkl.exposition.styles import LATEX, code_latex, escaped_latex

NOTATION = Notation(LATEX)

HEAD = r"""\documentclass[a4paper]{article}
\usepackage{amsmath,amssymb}
\setlength{\textwidth}{\paperwidth}\addtolength{\textwidth}{-5cm}
\setlength{\textheight}{\paperheight}\addtolength{\textheight}{-5.5cm}
\setlength{\oddsidemargin}{2.5cm}\addtolength{\oddsidemargin}{-1in}
\setlength{\topmargin}{2cm}\addtolength{\topmargin}{-1in}
\setlength{\headheight}{0pt}\setlength{\headsep}{0pt}
\setlength{\parindent}{0pt}\setlength{\parskip}{2pt}
\setlength{\leftmargini}{1.2em}
\raggedright\emergencystretch=3em\relpenalty=9000\binoppenalty=9000
\makeatletter\@beginparpenalty=10000\makeatother
\newcommand{\step}[2]{\par\addvspace{8pt}\textbf{#1}\quad{\footnotesize #2}\par\nopagebreak}
\newcommand{\at}[1]{\makebox[3.5em][l]{#1}}
\newenvironment{told}{\begin{list}{}{\setlength{\leftmargin}{5em}\setlength{\itemindent}{-3.5em}%
\setlength{\labelwidth}{0pt}\setlength{\labelsep}{0pt}\setlength{\topsep}{2pt}\setlength{\itemsep}{1pt}%
\setlength{\parsep}{1pt}\setlength{\partopsep}{0pt}}}{\end{list}}
\newcommand{\entry}[2]{\par\addvspace{5pt}\hangindent=1.2em\textbf{#1}\quad #2\par}
\newcommand{\change}[1]{\par{\footnotesize #1}}
\begin{document}"""
r"""\told is a list of steps, each behind its label's value; \change is what became of the terms."""


def document(outline: Outline) -> str:
    """Sections per goal and player, the steps under each rule, the losses at the end."""
    lines = [HEAD, rf"\section*{{Derivation of {code_latex(outline.title)}}}"]
    for chapter in outline.chapters:
        lines += _chapter(outline, chapter)
    lines += ["", r"\section*{Losses}"]
    lines += [rf"\entry{{{_line(p)}}}{{{_loss(outline, e)}}}" for p, e in outline.losses]
    if outline.warnings:
        lines += ["", r"\section*{Warnings}"]
        lines += [rf"\entry{{{escaped_latex(w.code)}}}{{{_line(*said(w))}}}" for w in outline.warnings]
    return "\n".join([*lines, r"\end{document}"])


def _line(*parts: Part) -> str:
    return NOTATION.line(parts)


def _loss(outline: Outline, entries: Sequence[Expectation]) -> str:
    return LATEX.formula(formula(outline.facts, entries, LATEX))


def _chapter(outline: Outline, chapter: Chapter) -> Iterator[str]:
    yield from ("", rf"\section*{{\normalsize {code_latex(chapter.goal)}}}")
    yield rf"{code_latex(chapter.place)}{', where' if chapter.sides else ''}"
    for side in chapter.sides:
        yield rf"\par\hangindent=2.4em\hspace*{{1.2em}}{_line(side)}"
    for section in chapter.sections:
        name = f"Player {_line(section.player)}{_line(*section.role)}" if section.player else "Every player"
        yield from ("", rf"\subsection*{{{name}}}")
        for group in section.groups:
            yield from _group(outline, group)


def _group(outline: Outline, group: Group) -> Iterator[str]:
    yield rf"\step{{{escaped_latex(group.rule)}}}{{{_line(*group.law)}}}"
    yield r"\begin{told}"
    for row in group.rows:
        label = LATEX.formula(NOTATION.at(row.label)) if row.label else ""
        told = [_loss(outline, row.entries)] if row.entries else [_line(*line) for line in row.told]
        yield rf"\item \at{{{label}}}" + "\n\\par ".join(told)
        if row.change:
            yield rf"\change{{{_line(*row.change)}}}"
    yield r"\end{told}"
