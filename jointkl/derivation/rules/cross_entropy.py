"""CROSS-ENTROPY: a density alone whose expectation is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from jointkl.derivation.expr import ClosedCE, Expectation, LogFactor, Term
from jointkl.derivation.integrals import bar, is_plain, makers_of
from jointkl.derivation.parts import Line, Name, Over, formula
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.semantics import families
from jointkl.semantics.model import Distribution, Factor


def cross_entropy(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """-c log g(v|.) alone, f sampled on the path: c CE[f || g] at the parents."""
    makers = makers_of(entry)
    paired = {t.atom.factor.outputs for t in entry.terms if isinstance(t.atom, LogFactor) and t.coefficient > 0}
    terms: list[Term] = []
    told: list[Line] = []
    for t in entry.terms:
        f = _drawing(context, entry, makers, t)
        if f is None or not isinstance(t.atom, LogFactor) or t.coefficient > 0 or f.outputs in paired:
            terms.append(t)
            continue
        terms.append(replace(t, coefficient=-t.coefficient, atom=ClosedCE(f, t.atom.factor)))
        told.append((formula(Term(Fraction(-1), t.atom), "=", terms[-1].atom),))
    return Rewrite(entry.of(terms), tuple(told[:1]), tuple(told[1:])) if told else None


def _drawing(
    context: RuleContext, entry: Expectation, makers: Mapping[str, tuple[int, Factor]], t: Term
) -> Factor | None:
    """The law f of the path that draws what `t` is the log density g of, where E_f{-log g} is known."""
    if not (isinstance(t.atom, LogFactor) and is_plain(t)):
        return None
    g = t.atom.factor
    _, f = makers.get(g.outputs[0], (0, g))
    body = context.facts.model.laws[f.law].body
    known = isinstance(body, Distribution) and body.family in families.CROSS_ENTROPY and f.outputs == g.outputs
    return f if known and f != g and not bar(context, entry, makers, f, g) else None


F, G = Name("f"), Name("g")
CROSS_ENTROPY = Rule(
    "CROSS-ENTROPY",
    (
        formula(Over("E", "f"), "{", "neg", "log", G, "}", "=", Name("CE"), "[", F, "||", G, "]"),
        " where the integral is known",
    ),
    cross_entropy,
)
