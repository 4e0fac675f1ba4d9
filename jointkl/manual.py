"""What the pages in `docs/` say of a word: a statement, option, family, source, builder, rule or error code.

A word is explained where it stands between backquotes in a heading, or first in a row of a table or in an item of a
list. Where a heading names it, the heading's section is the answer, and rows and items are not asked.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PAGES = ("language", "rules", "errors")

_HEADING = re.compile(r"(#+) (.*)")
_QUOTED = re.compile(r"`([^`]+)`")
_WORDS = re.compile(r"([A-Za-z][\w-]*)(?:=([A-Za-z]\w*))?")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with the text below it, down to the next heading of any level."""

    page: str
    level: int
    title: str
    lines: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """What the heading names: what it quotes, and what stands before its colon."""
        return (*_named(self.title), plain(self.title.split(":", 1)[0]))


@dataclass(frozen=True, slots=True)
class Entry:
    """What is said of a word, under a title."""

    title: str
    text: str


def sections() -> tuple[Section, ...]:
    """Every section of every page, in order."""
    folder = importlib.resources.files("jointkl.docs")
    return tuple(s for page in PAGES for s in _split(page, (folder / f"{page}.md").read_text(encoding="utf-8")))


def _split(page: str, text: str) -> Iterator[Section]:
    level, title, lines, fenced = 0, "", list[str](), False
    for line in text.split("\n"):
        fenced ^= line.startswith("```")
        found = None if fenced else _HEADING.fullmatch(line)
        if found is None:
            lines.append(line)
            continue
        yield Section(page, level, title, tuple(lines))
        level, title, lines = len(found[1]), found[2], []
    yield Section(page, level, title, tuple(lines))


def explained(word: str, known: tuple[Section, ...]) -> tuple[Entry, ...]:
    """What the pages say of a word, letters large or small; nothing if they do not know it."""
    wanted = word.strip("`").lower()
    named = [i for i, s in enumerate(known) if wanted in map(str.lower, s.words) and s.title]
    if named:
        return tuple(_whole(known, i) for i in named)
    rows = ((row, s) for s in known for row, names in _rows(s.lines) if wanted in map(str.lower, names))
    places: dict[str, list[str]] = {}
    for row, s in rows:
        places.setdefault(row, []).append(plain(s.title))
    return tuple(Entry(f"{word}, in {', '.join(titles)}", row) for row, titles in places.items())


def words(known: Iterable[Section]) -> tuple[str, ...]:
    """All that can be looked up."""
    found = {w for s in known if s.title for w in s.words}
    return tuple(sorted(found | {w for s in known for _, names in _rows(s.lines) for w in names}))


def near(word: str, known: Iterable[Section]) -> tuple[str, ...]:
    """The words most like one that is not known, at most five."""
    spelt = {w.lower(): w for w in words(known)}
    close = difflib.get_close_matches(word.lower(), spelt, n=5, cutoff=0.6)
    return tuple(spelt[w] for w in close) or tuple(w for s, w in spelt.items() if word.lower() in s)[:5]


def contents(known: Iterable[Section]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The title of each page, with nothing, and for each of its chapters what the sections name."""
    chapters: list[tuple[str, list[str]]] = []
    for s in known:
        if s.level in (1, 2):
            chapters.append((plain(s.title.split(":", 1)[0]), []))
        if s.level > 1:
            chapters[-1][1].extend(_named(s.title))
        elif s.title:
            yield from ((title, tuple(below)) for title, below in chapters[:-1] if below)
            yield chapters[-1][0], ()
            chapters = chapters[-1:]
    yield from ((title, tuple(below)) for title, below in chapters if below)


# --- text


def _whole(known: tuple[Section, ...], place: int) -> Entry:
    """A section with those below it, as text."""
    first = known[place]
    lines = list(first.lines)
    for s in known[place + 1 :]:
        if s.level <= first.level or s.page != first.page:
            break
        lines += [plain(s.title), "", *s.lines]
    return Entry(plain(first.title), _shown(lines))


def _shown(lines: Iterable[str]) -> str:
    """A page's lines for a terminal: code indented, tables in columns, no comments."""
    shown, table, fenced = list[str](), list[list[str]](), False
    for line in [*lines, ""]:
        if line.startswith("|") and not fenced:
            table.append(_cells(line))
            continue
        shown += _columns(table)
        table = []
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            shown.append(f"    {line}".rstrip())
        elif not line.startswith("<!--"):
            shown.append(plain(line))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(shown)).strip("\n")


def _columns(table: list[list[str]]) -> Iterator[str]:
    rows = [row for row in table if not all(re.fullmatch("-+", cell) for cell in row)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line)[1:-1]
    return [plain(cell.strip().replace("\\|", "|")) for cell in cells]


def _rows(lines: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Rows of tables and items of lists that begin with words in backquotes, as text, with these words."""
    head: list[str] = []
    for line in _joined(lines):
        if not line.startswith("|"):
            head = []
            if line.startswith("- `") and "`:" in line:
                yield plain(line.removeprefix("- ")), _named(line.split("`:", 1)[0] + "`")
            continue
        first = re.split(r"(?<!\\)\|", line)[1]
        cells = _cells(line)
        if not head:
            head = cells
        elif names := _named(first) if first.strip().startswith("`") else ():
            told = [f"{h}: {c}" if h and i else c for i, (h, c) in enumerate(zip(head, cells, strict=True)) if c]
            yield "\n".join(told), names


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """The lines, those of one item of a list as one."""
    item = ""
    for line in [*lines, ""]:
        if item and line.startswith("  "):
            item += f" {line.strip()}"
            continue
        if item:
            yield item
        item = line if line.startswith("- ") else ""
        if not item:
            yield line


def _named(text: str) -> tuple[str, ...]:
    """The words between backquotes: of `mlp(256, 256)` the first, of `game=minimax` both."""
    named = (_WORDS.match(quoted) for quoted in _QUOTED.findall(text))
    return tuple(word for found in named if found for word in found.groups() if word)


def plain(line: str) -> str:
    """A line without what only a browser shows."""
    return _LINK.sub(r"\1", line).replace("`", "").replace("**", "")
