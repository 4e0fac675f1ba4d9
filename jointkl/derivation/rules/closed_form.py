"""CLOSED-FORM: a pair of densities whose expected difference is known."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.expr import ClosedKL, Expectation, Term
from jointkl.derivation.integrals import bar, makers_of, opposed
from jointkl.derivation.parts import Line, Name, Over, formula, listed
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext


def closed_form(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """+c log f(v|.) - c log g(v|.), f sampled on the path: c KL[f || g] at the parents."""
    makers = makers_of(entry)
    gone: set[Term] = set()
    closed: list[Term] = []
    told: list[Line] = []
    left: dict[str, list[str]] = {}
    for t, f, other, g in opposed(entry):
        why = bar(context, entry, makers, f, g)
        if why:
            left.setdefault(why, []).extend(f.outputs)
            continue
        kl = replace(t, atom=ClosedKL(f, g))
        gone |= {t, other}
        closed.append(kl)
        told.append((formula(t.atom, "-", other.atom, "=", kl.atom),))
    told += [("not for ", *_few(names), f": {why}") for why, names in left.items()]
    if not told:
        return None
    kept = tuple(t for t in entry.terms if t not in gone)
    return Rewrite(entry.of((*kept, *closed)), tuple(told[:1]), tuple(told[1:]))


MOST_NAMED = 6
"""Of more variables than this that have no closed form these are named."""


def _few(names: list[str]) -> Line:
    return (*listed(map(Name, names[:MOST_NAMED])), *((", ...",) if len(names) > MOST_NAMED else ()))


F, G = Name("f"), Name("g")
CLOSED_FORM = Rule(
    "CLOSED-FORM",
    (
        formula(Over("E", "f"), "{", "log", F, "-", "log", G, "}", "=", Name("KL"), "[", F, "||", G, "]"),
        " where the integral is known",
    ),
    closed_form,
)
