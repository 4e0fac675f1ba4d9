"""A line of a step in a document: its formulas, and those that stand among its words, found by their form alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from jointkl.derivation.parts import Call, Density, Formula, Name, Number, Over, Part
from jointkl.derivation.players import Player
from jointkl.exposition import styles
from jointkl.exposition.notation import LONG, PLAIN, Notation

SHORT = 24
"""A formula of at most so many characters among words is not broken over lines."""

_NAME = r"[A-Za-z_]\w*'*"


def _brackets(depth: int) -> str:
    """Something in brackets, brackets in it to a depth."""
    inner = rf"(?:[^()\[\]{{}}]|{_brackets(depth - 1)})*" if depth else r"[^()\[\]{}]*"
    return rf"(?:\({inner}\)|\[{inner}\]|\{{{inner}\}})"


def _formula(index: str, more: str = "") -> re.Pattern[str]:
    """Formulas in the notation of a spec; a name that ends in an `index` is one also where it stands alone."""
    operand = (
        rf"(?:{_NAME}(?:{_brackets(5)}|(?= = {_NAME}\())"  # q(x|z), KL(q || q_old), h = G(E(x'))
        rf"|[A-Za-z][A-Za-z0-9]*{index}(?!\w)"
        r"|(?![aAI] )(?<!\+)[A-Za-z]'*(?:/[A-Za-z])?(?![\w'(\[{+])"  # c, r/m; no article
        rf"|\d+(?![\w/.]){more})"
    )
    term = rf"-?(?:(?:log|exp) )?{operand}"
    return re.compile(
        r"(?P<times>(?<!\S)x(?= \d)|(?<=\d )x(?!\S))|(?P<mean>^E(?= $))"
        rf"|(?<![\w'])(?:{term}(?: (?:(?:=|>=|\+|-) )?{term})*)(?: >=(?= ))?"
        r"|(?<!\S)(?::?=|→)(?!\S)|(?<!\S)-"  # signs between formulas
    )


_OF_STEPS, _OF_LAWS = _formula("_old"), _formula("_[A-Za-z0-9]+", rf"|(?<=\b[A-Za-z] ){_brackets(5)}")
_STANDS = re.compile(r"[(\[{=_]|log |exp |^[^A-Za-z0-9]+$|^[A-Za-z]'*$")
"""What makes a formula of letters and numbers, that would else be words."""
_TOKEN = re.compile(rf"log (?![=+-] )|{_NAME}| (?:>=|[=+-])(?: |$)| ?\|\| ?|, ?|:=|\d+|.", re.DOTALL)


def prose(notation: Notation, parts: Sequence[Part], *, law: bool = False) -> str:
    """Words and formulas as a line of the notation's format; what touches in a formula is one formula.

    In a rule's `law` a name has its index below: `w_k`, `sum_k`, `E_f`; elsewhere the names are a spec's.
    """
    style = notation.style
    if style is styles.TEXT:
        return notation.line(parts)
    shown: list[str] = []
    formula: list[str] = []
    gap = ""
    for is_formula, run in _runs(notation, parts, law):
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
    alone = bool(first) and last in (row[notation.style.column] for row in styles.LONE.values())
    if alone:
        yield notation.style.formula("".join(first))
        yield gap
    yield notation.style.formula(last if alone else "".join(runs))


def _runs(notation: Notation, parts: Sequence[Part], law: bool) -> Iterator[tuple[bool, str]]:
    for part in _merged(parts):
        if not isinstance(part, str):
            yield True, notation.part(part)
            continue
        end = 0
        for found in (_OF_LAWS if law else _OF_STEPS).finditer(part):
            if not _STANDS.search(found[0]):
                continue
            if found.start() > end:
                yield False, part[end : found.start()]
            sign = found.lastgroup or found[0]
            known = sign in styles.LONE
            yield True, notation.put(styles.LONE[sign]) if known else written(notation, found[0], law=law)
            end = found.end()
        if end < len(part):
            yield False, part[end:]


_WRITTEN = (Density, Name, Player, Call, Number, Over)


def _edged(pieces: Sequence[Part]) -> list[Part]:
    text = [styles.SIGNS[p][0] if isinstance(p, str) else p for p in pieces]
    if isinstance(text[0], str):
        text[0] = text[0].lstrip()
    if isinstance(text[-1], str):
        text[-1] = text[-1].rstrip()
    return text


def _merged(parts: Sequence[Part]) -> Iterator[Part]:
    words = ""
    flat = [p for part in parts for p in (_edged(part.pieces) if isinstance(part, Formula) else (part,))]
    for part in flat:
        if isinstance(part, (str, *_WRITTEN)):
            words += PLAIN.part(part)
        else:
            if words:
                yield words
            words = ""
            yield part
    if words:
        yield words


def written(notation: Notation, source: str, *, law: bool = False) -> str:
    """A formula in the notation of a spec, `x = q_old(x|z)`, in another."""
    long = len(source) > LONG
    shown = "".join(_token(notation, token, long=long, law=law) for token in _TOKEN.findall(source))
    return notation.put(styles.GROUP, shown) if len(source) <= SHORT else shown


def _token(notation: Notation, token: str, *, long: bool, law: bool) -> str:
    bare = token if token in styles.PUNCTUATION or token == " " else token.strip()
    if token != bare and bare in styles.BETWEEN:
        return notation.put(styles.BETWEEN[bare])
    if long and bare == ",":
        return notation.put(styles.COMMA_LONG)
    if bare in styles.PUNCTUATION:
        return notation.put(styles.PUNCTUATION[bare])
    if re.fullmatch(_NAME, bare):
        return _name(notation, bare, law)
    return notation.put(styles.NUMBER if bare.isdigit() else styles.OTHER, notation.style.words(bare))


def _name(notation: Notation, name: str, law: bool) -> str:
    stem, _, index = name.rpartition("_")
    if stem and index == "old":
        return notation.put(styles.OLD, notation.style.name(stem))
    if not (stem and law):
        return notation.put(styles.EXPECTED_ALONE) if law and name == "E" else notation.style.name(name)
    below = notation.style.name(index)
    if stem in styles.OVER:
        return notation.put(styles.OVER[stem], below)
    return notation.put(styles.SUBSCRIPT, notation.style.name(stem), below)
