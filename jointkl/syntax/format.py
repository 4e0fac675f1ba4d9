"""A spec in the one layout of `models/`: white space changes, and nothing else.

Tokens and comments come out as they went in, in their order; only a comment before a comma or a semicolon moves behind
it, and one behind a bracket that other comments spread over lines moves into it, to the line where it stood.

- A statement a line; what does not fit into 120 characters is broken at its outermost brackets or sums, or filled.
- Blank lines between statements and comments stay, one for several; inside a statement there are none.
- The `=` of definitions on consecutive lines stand below each other, while their heads differ by at most 8 characters.
- A comment behind code starts at column 44, or two spaces behind the longest line of its run.
"""

# lark's types are partly unknown
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise

from lark import Tree

from jointkl.syntax.layout import Comments, Gap, Line, Piece, flat, lines
from jointkl.syntax.parse import parse_tokens
from jointkl.syntax.spacing import CLOSING, OPENING, Word, labels, words

COMMENT_COLUMN = 43
"""Characters before a comment behind code."""

RAGGED = 8
"""By how much the heads of definitions below each other may differ, if their `=` are to be aligned."""

WHITE = " \t\f\r"
"""What the grammar skips inside a line."""


def format_text(text: str, name: str = "<text>") -> str:
    """The text in its layout. `parse_text` reads both as equal trees; formatted again, it stays.

    Raises `JklError` as `parse_text` does.
    """
    spec = parse_tokens(text, name)
    trees = [s for s in spec.children if isinstance(s, Tree)]
    laws = labels(spec)
    tokens = [words(tree, laws) for tree in trees]
    starts = [*(ws[0].start for ws in tokens), len(text)]
    ends = [0, *(ws[-1].end for ws in tokens)]
    gaps = [text[end:start] for end, start in zip(ends, starts, strict=True)]
    gaps[0] = "\n" + gaps[0]  # a comment on the first line stands behind nothing
    between = [_read(gap) for gap in [*gaps[:-1], gaps[-1] + "\n"]]
    statements = [
        _statement(ws, tree.data == "definition", text, above, trailing)
        for ws, tree, (_, above), (trailing, _) in zip(tokens, trees, between, between[1:], strict=False)
    ]
    written: list[Line] = []
    for statement in _aligned(statements):
        written += [Line(comment) for comment in statement.above]
        written += lines(statement.pieces)
        written[-1] = Line(written[-1].code, statement.trailing)
    written += [Line(comment) for comment in between[-1][1]]
    return _text(written)


@dataclass(frozen=True, slots=True)
class _Statement:
    pieces: list[Piece]
    above: tuple[str, ...]
    """The comments on lines of their own before it, and "" for each blank line."""
    trailing: str | None
    head: int | None
    """Characters before the `=` of a definition without comments inside: others are not aligned."""
    equal: Piece
    """That `=`, or any piece."""


def _read(gap: str) -> tuple[str | None, tuple[str, ...]]:
    """What stands between two tokens: the comment behind the first; those on lines of their own, and blank lines."""
    first, *others = (line.strip(WHITE) for line in gap.split("\n"))
    return first or None, tuple(others[:-1])


def _statement(
    tokens: list[Word], definition: bool, text: str, above: tuple[str, ...], trailing: str | None
) -> _Statement:
    gaps = [text[a.end : b.start] for a, b in pairwise(tokens)]
    read = [_read(gap) for gap in gaps]
    comments = [Comments(), *(Comments(first, tuple(filter(None, own))) for first, own in read), Comments(trailing)]
    _into_brackets(comments, tokens, [True, *("\n" in gap for gap in gaps)])
    _behind_commas(comments, tokens)
    pieces = [
        Piece(str(w.token), max(w.before, last), c, w.opens, w.closes, closer=str(w.token) in CLOSING)
        for w, last, c in zip(tokens, [Gap.SPACE, *(w.after for w in tokens)], comments, strict=False)
    ]
    equal = next((i for i, w in enumerate(tokens) if w.token == "="), 0)
    plain = definition and not any(comments[:-1])
    head = len(flat(pieces[:equal])) if plain else None
    return _Statement(pieces, above, comments[-1].trailing, head, pieces[equal])


def _into_brackets(comments: list[Comments], tokens: list[Word], first_on_line: list[bool]) -> None:
    """`{ y=1: a(x);  # one` and, on the next line, `y=0: b(x) }  # two`: the second comment is of its branch."""
    before = list(accumulate(map(bool, comments)))
    unended: list[int] = []
    opening: dict[int, int] = {}
    for i, word in enumerate(tokens):
        if word.token in OPENING:
            unended.append(i)
        elif word.token in CLOSING:
            opening[i] = unended.pop()
    for i in [i for i, comment in enumerate(comments) if comment.trailing]:
        place = i
        while (last := place - 1) in opening and before[last] > before[opening[last]] and not first_on_line[last]:
            place = last
        if place != i:
            comments[place] = Comments(comments[i].trailing)
            comments[i] = Comments(own=comments[i].own)


def _behind_commas(comments: list[Comments], tokens: list[Word]) -> None:
    for i, word in enumerate(tokens):
        if word.token in (",", ";") and comments[i]:
            here, there = comments[i], comments[i + 1]
            comments[i] = Comments()
            comments[i + 1] = Comments(here.trailing, (*here.own, *filter(None, [there.trailing]), *there.own))


def _aligned(statements: list[_Statement]) -> list[_Statement]:
    """The statements, with the `=` of runs of definitions below each other."""
    done: list[_Statement] = []
    for run in _runs(statements):
        widest = max(s.head or 0 for s in run)
        for s in run:
            pad = widest - (s.head or widest)
            done.append(
                replace(s, pieces=[replace(p, text=" " * pad + p.text) if p is s.equal else p for p in s.pieces])
            )
    return done


def _runs(statements: list[_Statement]) -> Iterator[list[_Statement]]:
    """Definitions on consecutive lines whose heads differ little; whatever else stands alone."""
    run: list[_Statement] = []
    least, most = 0, 0
    for statement in statements:
        head = statement.head
        joins = run and head is not None and run[-1].head is not None and "" not in statement.above
        least, most = (min(least, head or 0), max(most, head or 0)) if joins else (head or 0, head or 0)
        if run and (not joins or most - least > RAGGED):
            yield run
            run, least, most = [], head or 0, head or 0
        run.append(statement)
    if run:
        yield run


def _text(written: list[Line]) -> str:
    """The lines, with comments behind code in one column a run, and one blank line for several."""
    done: list[str] = []
    for behind, group in groupby(written, lambda line: bool(line.code and line.comment)):
        run = list(group)
        column = max(COMMENT_COLUMN, *(len(line.code) + 2 for line in run)) if behind else 0
        done += [(line.code.ljust(column) + (line.comment or "")) for line in run]
    kept = [line for line, last in zip(done, ["", *done], strict=False) if line or last]
    return "\n".join(kept).rstrip("\n") + "\n" if any(kept) else ""
