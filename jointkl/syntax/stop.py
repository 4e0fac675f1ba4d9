"""Where the parser stopped, and what the text around it says: the words before, the open brackets, the layout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from jointkl.diagnostics import Source, Span

END = "$END"

STATEMENTS = ("var", "param", "net", "let", "player", "train", "minimize", "maximize")

RESERVED = frozenset(
    [
        *(*STATEMENTS, "over", "with", "global", "old", "max"),
        *("prod", "sum", "for", "in", "where", "given", "per", "use", "frozen", "observed", "missing"),
    ]
)
"""Words that are no names; the same as in the grammar's NAME."""

CLOSERS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Stop:
    """Where the grammar cannot go on.

    `kind` says what stands there and `expected` what could: a fixed word or sign as it is written, else a terminal's
    name, or END. `state` is the parser's. `opening` is the first word of the statement being read, if one has begun.
    """

    span: Span
    kind: str
    expected: frozenset[str]
    state: int
    opening: Span | None = None

    @property
    def source(self) -> Source:
        return self.span.source

    @property
    def before(self) -> Span:
        """The word before; empty at the start of the text."""
        words = words_before(self.span)
        return words[-1] if words else Span(self.source, 0, 0)

    @property
    def head(self) -> str:
        """The first word of the statement, or nothing."""
        return self.opening.text if self.opening else ""

    @property
    def line(self) -> str:
        return self.source.line(self.span.line).strip()

    @property
    def starts_statement(self) -> bool:
        """Whether a statement could start here."""
        return "var" in self.expected

    @property
    def same_line(self) -> bool:
        """Whether the word before stands on the same line."""
        return self.kind != END and self.before.end > 0 and self.before.line == self.span.line

    @property
    def goes_on(self) -> bool:
        """Whether the layout has the word belong to what is being read, and not start a statement."""
        return self.kind != END and (self.same_line or indent(self.span) > indent(self.opening or self.before))

    @property
    def open_brackets(self) -> list[Span]:
        """The brackets open here, the innermost last."""
        opened: list[Span] = []
        for word in words_before(self.span):
            if word.text in CLOSERS:
                opened.append(word)
            elif opened and word.text == CLOSERS[opened[-1].text]:
                opened.pop()
        return opened

    @property
    def closable(self) -> Span | None:
        """The innermost open bracket, if it could close here."""
        opened = self.open_brackets
        return opened[-1] if opened and CLOSERS[opened[-1].text] in self.expected else None

    def astray(self) -> Span | None:
        """The first word of the statement, if by the layout it starts none: `p` in `data(x) p(y|x)`."""
        opening = self.opening
        if opening is None or not opening.text.isidentifier() or opening.text in RESERVED:
            return None
        words = words_before(opening)
        if not words or "=" in self.source.text[opening.start : self.span.start]:
            return None
        apart = words[-1].line != opening.line and indent(opening) <= indent(words[-1])
        return None if apart else opening


_WORD = re.compile(r"#[^\n]*|\"[^\"\n]*\"|\|\||\.\.|[A-Za-z_]\w*'*|\d\w*(?:\.\d\w*)?|\S", re.ASCII)


@lru_cache(maxsize=4)  # one mistake asks for the same words again and again
def words_before(span: Span) -> tuple[Span, ...]:
    """The words before a place, without comments."""
    found = _WORD.finditer(span.source.text, 0, span.start)
    return tuple(Span(span.source, *m.span()) for m in found if m.group()[0] != "#")


def first_word(source: Source, start: int) -> Span:
    """The word at a place or behind it."""
    found = _WORD.search(source.text, start)
    return Span(source, *found.span()) if found else Span(source, start, start)


def indent(span: Span) -> int:
    """The width of the white space that the line of `span` starts with."""
    line = span.source.line(span.line)
    return len(line) - len(line.lstrip())


def mended(source: Source, start: int, end: int, new: str) -> str:
    """The line of `start` with the characters from `start` to `end`, and the space around them, replaced by `new`."""
    text = source.text
    left = text[text.rfind("\n", 0, start) + 1 : start].rstrip()
    right = text[end : (text + "\n").index("\n", end)].lstrip()
    return (left + new + right).expandtabs(1).strip()


def replaced(span: Span, new: str) -> str:
    """The line of `span` with just its characters replaced by `new`."""
    text = span.source.text
    left = text[text.rfind("\n", 0, span.start) + 1 : span.start]
    right = text[span.end : (text + "\n").index("\n", span.end)]
    return (left + new + right).expandtabs(1).strip()
