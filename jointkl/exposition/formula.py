"""A player's loss as one formula: `E data(x) {-log p(1|x)} + E q(z) {-log p(0|G(z))}`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jointkl.derivation.expr import Expectation
from jointkl.derivation.facts import Facts
from jointkl.exposition import styles
from jointkl.exposition.notation import Notation
from jointkl.exposition.styles import TEXT, Style
from jointkl.semantics.model import Dirac, NetCall


def formula(facts: Facts, entries: Sequence[Expectation], style: Style = TEXT) -> str:
    """The sum of a player's entries; a hinge holds its own."""
    return Notation(style).signed(_summands(facts, entries, style))


def summands(facts: Facts, entries: Sequence[Expectation]) -> tuple[str, ...]:
    """The formula as text, cut before each sign."""
    notation, parts = Notation(TEXT), _summands(facts, entries, TEXT)
    return tuple(notation.signed([part], first=i == 0).lstrip() for i, part in enumerate(parts))


def _summands(facts: Facts, entries: Sequence[Expectation], style: Style) -> list[tuple[bool, str]]:
    """What is added up, and whether it is subtracted."""
    notation = Notation(style)
    parts = [(e.weight < 0, expectation(facts, e, style)) for e in entries if e.hinge is None]
    for hinge in dict.fromkeys(e.hinge for e in entries if e.hinge is not None):
        inside = [(e.weight < 0, expectation(facts, e, style)) for e in entries if e.hinge == hinge]
        margin = notation.number(hinge.margin)
        shown = notation.put(styles.HINGE, margin, notation.signed(inside, first=False))
        parts.append((hinge.weight < 0, notation.scaled(abs(hinge.weight), shown)))
    return parts


def expectation(facts: Facts, e: Expectation, style: Style = TEXT) -> str:
    """weight E path {terms}, without its sign; a Dirac that the gradient goes through is written out: E q(z)
    {-log p(1|G(z))}."""
    notation = _written_out(facts, e, style)
    if e.solved is not None:
        variable = notation.style.name(e.solved.outputs[0])
        return notation.put(styles.SOFTMAX, variable, notation.total(_negative(e).terms))
    return notation.scaled(abs(e.weight), over(notation, e, bracketed(notation, e)))


def over(notation: Notation, e: Expectation, *beside: str) -> str:
    """E path, the sums over finite variables, the weights, and what stands beside them."""
    path = [f for f in e.path if f.outputs[0] not in notation.values]
    summed = [f for f in path if f.outputs[0] in e.enumerated]
    drawn = [f for f in path if f not in summed]
    sums = [notation.put(styles.SUMMED, notation.style.name(f.outputs[0]), notation.factor(f)) for f in summed]
    return notation.expected(drawn, *sums, *map(notation.weight, e.weights), *beside)


def bracketed(notation: Notation, e: Expectation) -> str:
    """The braces of an entry: its terms, or what `importance` makes of them."""
    if e.odds is not None:
        odds = notation.weight(e.odds)
        return notation.put(styles.COPIES, str(e.copies), odds, notation.total(e.terms))
    if e.copies:
        return notation.put(styles.MEAN_EXP, str(e.copies), notation.total(_negative(e).terms))
    return notation.put(styles.CLOSE_BRACES, notation.body(e.body))


def _negative(e: Expectation) -> Expectation:
    return e.of(replace(t, coefficient=-t.coefficient) for t in e.terms)


def _written_out(facts: Facts, e: Expectation, style: Style) -> Notation:
    """Variables shown as their network's output: Diracs of a net, where every term's gradient goes through."""
    values = dict[str, str]()
    notation = Notation(style, values)
    if e.solved is None and all(t.estimator == "pathwise" for t in e.terms):
        for f in e.path:
            body = facts.model.laws[f.law].body
            if isinstance(body, Dirac) and isinstance(body.value, NetCall) and not f.old:
                values[f.outputs[0]] = notation.applied(style.name(body.value.net), f.givens)
    return notation
