"""Pieces to lines: where a line breaks. Linear in the pieces, and without recursion.

A group is written flat if it fits, else all its `LINE` and `SOFT` gaps break; a `FILL` or `FILL_SOFT` gap breaks alone,
where what follows it up to the next gap of its group or of an outer one does not fit (Oppen 1980, Wadler 2003). A
comment ends its line, so no group around one is flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

WIDTH = 120
INDENT = "  "


class Gap(IntEnum):
    """What stands between two tokens. Of what the left and the right one ask for, the larger holds."""

    SPACE = 0
    FILL = 1
    LINE = 2
    FILL_SOFT = 3
    SOFT = 4
    NONE = 5

    @property
    def flat(self) -> str:
        return " " if self in (Gap.SPACE, Gap.FILL, Gap.LINE) else ""


@dataclass(frozen=True, slots=True)
class Comments:
    """`trailing` stands behind the token on its line, `own` on lines of their own."""

    trailing: str | None = None
    own: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.trailing is not None or bool(self.own)


@dataclass(frozen=True, slots=True)
class Piece:
    """A token, what is between it and the one before, and the groups that it opens and closes.

    `closer`: the bracket that ends a group; broken off, it stands as far left as the line that the group opened on.
    """

    text: str
    gap: Gap = Gap.SPACE
    comments: Comments = Comments()
    opens: int = 0
    closes: int = 0
    closer: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the output: indented code, a comment, or both."""

    code: str = ""
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    broken: bool
    outer: int
    """Indents of the line it opened on."""


def flat(pieces: list[Piece]) -> str:
    """All on one line, whatever its length; for pieces without comments."""
    return "".join((p.gap.flat if i else "") + p.text for i, p in enumerate(pieces))


def lines(pieces: list[Piece]) -> list[Line]:
    """The lines of one statement; what stands before its first piece is left out."""
    measure = _Measure(pieces)
    done: list[Line] = []
    groups = [_Group(broken=True, outer=0)]
    code, indents = "", 0
    for i, piece in enumerate(pieces):
        group = groups[-1]
        space = piece.gap.flat if i else ""
        if i and (piece.comments or measure.breaks(i, group, len(code))):
            done.append(Line(code, piece.comments.trailing))
            done += [Line(INDENT * (group.outer + 1) + own) for own in piece.comments.own]
            indents = group.outer + (0 if piece.closer else 1)
            code, space = INDENT * indents, ""
        start = len(code) + len(space)
        code += space + piece.text
        for k in range(piece.opens):
            groups.append(_Group(broken=not measure.group_fits(i, k, start), outer=indents))
        del groups[len(groups) - piece.closes :]
    return [*done, Line(code)]


class _Measure:
    """Widths of what follows a place, each found once."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        self._width = [0]
        """The column of the gap before each piece, and of the end, if all stood on one line."""
        self._comments = [0]
        """How many pieces before each bear comments."""
        for p in pieces:
            self._width.append(self._width[-1] + len(p.gap.flat) + len(p.text))
            self._comments.append(self._comments[-1] + bool(p.comments))
        self._ends: dict[tuple[int, int], int] = {}
        """The last piece of each group, which is known by its first piece and its number there."""
        self._outer = _stops(pieces, self._find_ends(pieces))
        """For each piece, the next gap at which a line may end if groups that begin behind it stay whole."""
        self._nearest = _stops(pieces, [0] * len(pieces))
        """For each piece, the next gap at which a line may end."""

    def _find_ends(self, pieces: list[Piece]) -> list[int]:
        """In how many groups the gap before each piece stands."""
        depths: list[int] = []
        unended: list[tuple[int, int]] = []
        for i, p in enumerate(pieces):
            depths.append(len(unended))
            unended += [(i, k) for k in range(p.opens)]
            for _ in range(p.closes):
                self._ends[unended.pop()] = i
        return depths

    def group_fits(self, i: int, k: int, column: int) -> bool:
        """Does the `k`-th group that piece `i` opens fit behind `column`, with what cannot be parted from it?"""
        end = self._ends[i, k]
        if self._comments[end + 1] > self._comments[i + 1]:
            return False
        return column + self._width[self._nearest[end]] - self._width[i] - len(self._pieces[i].gap.flat) <= WIDTH

    def breaks(self, i: int, group: _Group, column: int) -> bool:
        """Does the line end in the gap of piece `i`, which lies in `group`, behind `column`?"""
        match self._pieces[i].gap:
            case Gap.LINE | Gap.SOFT:
                return group.broken
            case Gap.FILL | Gap.FILL_SOFT:
                return group.broken and not self._run_fits(i, column)
            case Gap.SPACE | Gap.NONE:
                return False

    def _run_fits(self, i: int, column: int) -> bool:
        """Does what follows the gap of piece `i`, up to where a line may next end, fit behind `column`?"""
        return column + self._width[self._outer[i]] - self._width[i] <= WIDTH


def _stops(pieces: list[Piece], depths: list[int]) -> list[int]:
    """For each piece the next gap, behind it, that may end a line, and that lies in no deeper group than all between.

    From the last to the first; `ahead` are the gaps that may still be meant, the nearest last and deepest.
    """
    stops = [len(pieces)] * len(pieces)
    ahead: list[int] = []
    for i in range(len(pieces) - 1, -1, -1):
        while ahead and depths[ahead[-1]] > depths[i] and not pieces[ahead[-1]].comments:
            ahead.pop()
        stops[i] = ahead[-1] if ahead else len(pieces)
        if pieces[i].comments:
            ahead = [i]
        elif pieces[i].gap not in (Gap.SPACE, Gap.NONE):
            ahead.append(i)
    return stops
