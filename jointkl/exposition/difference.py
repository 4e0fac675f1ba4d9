"""Two specs' losses side by side: player by player, term by term, and what differs."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from jointkl.derivation.expr import Expectation, Term
from jointkl.derivation.facts import Facts
from jointkl.derivation.players import Player
from jointkl.derivation.record import Derivation
from jointkl.exposition.formula import formula, over
from jointkl.exposition.notation import PLAIN, total
from jointkl.exposition.outline import Outline, outline

SAME, LEFT, RIGHT, CHANGED = "=<>|"
"""What stands between two terms: equal, only in the first, only in the second, another weight or estimator."""


@dataclass(frozen=True, slots=True)
class Row:
    """One term in both, or in one with None in the other; `head` is the expectation that it stands under."""

    head: str
    left: Term | str | None
    right: Term | str | None

    @property
    def sign(self) -> str:
        if self.left is None:
            return RIGHT
        if self.right is None:
            return LEFT
        return SAME if self.left == self.right else CHANGED

    def cells(self) -> tuple[str, str]:
        """Both terms as text; where they differ in the estimator alone, with it."""
        left, right = self.left, self.right
        told = isinstance(left, Term) and isinstance(right, Term) and left.estimator != right.estimator
        return _cell(left, told), _cell(right, told)


def _cell(t: Term | str | None, told: bool) -> str:
    if not isinstance(t, Term):
        return t or ""
    return f"{total((t,))} ({t.estimator})" if told else total((t,))


def text(first: Derivation, second: Derivation) -> str:
    """The goals of both, then each player's losses: side by side where both have the player, alone where one has."""
    a, b = outline(first), outline(second)
    names = _names(a, b)
    width = max(map(len, names))
    sides = zip(names, (a, b), strict=True)
    blocks = [[f"{name:<{width}}  {chapter.goal}" for name, one in sides for chapter in one.chapters]]
    signs: list[str] = []
    for left, right in pairs(a.players, b.players):
        if left is None or right is None:
            own, one, name = (a, left, names[0]) if left else (b, right, names[1])
            assert one is not None
            blocks.append([f"player {one.name}, only in {name}", f"  {_whole(own, one)}"])
            continue
        title = left.name if left.name == right.name else f"{left.name} in {names[0]}, {right.name} in {names[1]}"
        rows = tuple(compare(a, left, b, right))
        signs += [r.sign for r in rows]
        if all(r.sign == SAME for r in rows):
            blocks.append([f"player {title}: the same", f"  {_whole(a, left)}"])
        else:
            blocks.append([f"player {title}", *_table(rows, names)])
    blocks.append([_summary(signs, names)])
    return "\n\n".join("\n".join(block) for block in blocks)


def pairs(a: Sequence[Player], b: Sequence[Player]) -> Iterator[tuple[Player | None, Player | None]]:
    """Players of one name; then the others of one role, in order; then those that are left."""
    named = {p.name: p for p in b}
    partner = {p.name: named[p.name] for p in a if p.name in named}
    taken = {p.name for p in partner.values()}
    for p in a:
        if p.name not in partner:
            found = next((q for q in b if q.name not in taken and _role(q) == _role(p)), None)
            if found is not None:
                partner[p.name] = found
                taken.add(found.name)
    yield from ((p, partner.get(p.name)) for p in a)
    yield from ((None, q) for q in b if q.name not in taken)


def _role(player: Player) -> str:
    """A classifier and a critic play the same part."""
    return "classifier" if player.kind == "critic" else player.kind


def compare(a: Outline, left: Player, b: Outline, right: Player) -> Iterator[Row]:
    """The terms of two players, under each expectation those of the first in its order, then what only the second
    has."""
    ours, theirs = _terms(a.facts, a.entries(left)), _terms(b.facts, b.entries(right))
    for key in dict.fromkeys((*ours, *theirs)):
        (head, mine), (other, yours) = ours.get(key, ("", {})), theirs.get(key, ("", {}))
        for atom in dict.fromkeys((*mine, *yours)):
            yield Row(head or other, mine.get(atom), yours.get(atom))


_Terms = dict[Hashable, tuple[str, dict[Hashable, Term | str]]]


def _terms(facts: Facts, entries: Sequence[Expectation]) -> _Terms:
    """Each expectation's atoms with their whole weights; what is no plain sum (a hinge, `importance`, a softmax) is one
    piece."""
    found: _Terms = {}
    for e in entries:
        if e.copies or not e.linear or e.solved is not None or e.hinge is not None:
            same = [other for other in entries if other.hinge == e.hinge] if e.hinge is not None else [e]
            piece = formula(facts, same)
            found.setdefault(None, ("as a whole", {}))[1][piece] = piece
            continue
        key = (frozenset(e.path), e.weights, e.enumerated)
        known = found.setdefault(key, (over(PLAIN, e), {}))[1]
        for t in e.terms:
            of = (t.atom, t.detached, t.over_n)
            before = known.get(of)
            size = before.coefficient if isinstance(before, Term) else 0
            known[of] = replace(t, coefficient=size + e.weight * t.coefficient)
    return found


# --- layout


def _table(rows: Sequence[Row], names: tuple[str, str]) -> Iterator[str]:
    cells = [row.cells() for row in rows]
    width = max(len(names[0]), *(len(left) for left, _ in cells))
    yield f"    {names[0]:<{width}}      {names[1]}"
    head = None
    for row, (left, right) in zip(rows, cells, strict=True):
        if row.head != head:
            yield f"  {row.head}"
        head = row.head
        yield f"    {left:<{width}}  {row.sign}   {right}".rstrip()


def _whole(outline: Outline, player: Player) -> str:
    entries = outline.entries(player)
    return formula(outline.facts, entries) if entries else "no loss"


def _names(a: Outline, b: Outline) -> tuple[str, str]:
    """The files' names, as short as tells them apart."""
    for left, right in ((a.title, b.title), (a.name, b.name)):
        if left != right:
            return left, right
    return f"{a.title} (first)", f"{b.title} (second)"


def _summary(signs: Sequence[str], names: tuple[str, str]) -> str:
    counts = (
        (LEFT, f"only in {names[0]}"),
        (RIGHT, f"only in {names[1]}"),
        (CHANGED, "with another weight or estimator"),
        (SAME, "the same"),
    )
    told = [f"{n} {words}" for sign, words in counts if (n := signs.count(sign))]
    return f"terms of players in both: {', '.join(told) or 'none'}"
