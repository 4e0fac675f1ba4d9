"""A line of a step in a document: its formulas, and those that stand among its words, found by their form alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from jointkl.derivation import styles
from jointkl.derivation.expr import Part
from jointkl.derivation.notation import LONG, Notation
from jointkl.semantics.model import Side

_NAME = r"[A-Za-z_]\w*'*"
_PLAIN = r"[^()\s]"


def _arguments(depth: int) -> str:
    inner = f"{_PLAIN}|{_arguments(depth - 1)}" if depth else _PLAIN
    return rf"\((?:{inner})*\)"


_FORMULA = re.compile(
    rf"{_NAME}\({_NAME} \|\| {_NAME}\)"  # KL(q || q_old)
    rf"|(?:{_NAME} = )?{_NAME}{_arguments(4)}"  # q(x|z), x = G(E(x'))
    r"|(?<!\S)(?::?=|→)(?!\S)|(?<!\S)-"  # signs between formulas
    r"|(?<!\S)x(?= \d)|(?<=\d )x(?!\S)"  # times
    r"|^E(?= $)"
)
_TOKEN = re.compile(rf"{_NAME}|\|\||:=|\d+|.", re.DOTALL)


def prose(notation: Notation, parts: Sequence[Part | Side]) -> str:
    """Words and formulas as a line of the notation's format; what touches in a formula is one formula."""
    style = notation.style
    if style is styles.TEXT:
        return notation.line(parts)
    shown: list[str] = []
    formula: list[str] = []
    gap = ""
    for is_formula, run in _runs(notation, parts):
        if is_formula:
            formula += [gap, run]
            gap = ""
        elif formula and not run.strip():
            gap += run
        else:
            shown += [*_formulas(notation, formula), gap, style.words(run)]
            formula, gap = [], ""
    return "".join([*shown, *_formulas(notation, formula), gap])


def _formulas(notation: Notation, runs: Sequence[str]) -> Iterator[str]:
    """What touches, as one formula; a sign that words follow stands alone, since it joins nothing."""
    if not runs:
        return
    *first, gap, last = runs
    alone = bool(first) and last in (row[notation.style.column] for row in styles.SIGNS.values())
    if alone:
        yield notation.style.formula("".join(first))
        yield gap
    yield notation.style.formula(last if alone else "".join(runs))


def _runs(notation: Notation, parts: Sequence[Part | Side]) -> Iterator[tuple[bool, str]]:
    for part in parts:
        if not isinstance(part, str):
            yield True, notation.part(part)
            continue
        end = 0
        for found in _FORMULA.finditer(part):
            if found.start() > end:
                yield False, part[end : found.start()]
            yield True, written(notation, found[0])
            end = found.end()
        if end < len(part):
            yield False, part[end:]


def written(notation: Notation, source: str) -> str:
    """A sign, or a formula in the notation of a spec, `x = q_old(x|z)`, in another."""
    if source in styles.SIGNS:
        return notation.put(styles.SIGNS[source])
    left, sign, right = source.rpartition(" = ")
    shown = "".join(_token(notation, t, long=len(right) > LONG) for t in _TOKEN.findall(right))
    shown = shown if len(right) > LONG else notation.put(styles.GROUP, shown)
    return notation.style.name(left) + notation.put(styles.IS) + shown if sign else shown


def _token(notation: Notation, token: str, *, long: bool) -> str:
    if long and token == ",":
        return notation.put(styles.COMMA_LONG)
    if token in styles.PUNCTUATION:
        return notation.put(styles.PUNCTUATION[token])
    if re.fullmatch(_NAME, token):
        name = notation.style.name(token.removesuffix("_old"))
        return notation.put(styles.OLD, name) if token.endswith("_old") else name
    return token if token in "() " or token.isdigit() else notation.style.words(token)
