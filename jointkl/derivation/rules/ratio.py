"""RATIO: a pair of densities of opposite sign, one of them on the path, becomes the logit of a critic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import Expectation, Term, collect
from jointkl.derivation.live import live_weight, moves
from jointkl.derivation.parts import Braces, Density, Line, Name, formula, listed
from jointkl.derivation.rewrite import Ratio, Rewrite, Rule, RuleContext
from jointkl.derivation.snapshot import at_old
from jointkl.diagnostics import Refused


def ratio(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """c log m - c log r becomes -c l, exact up to c (log m - log m_old) - c (log r - log r_old)."""
    facts, planned = context.facts, context.ratio
    if planned is None:
        return None
    unknown = [t for t in entry.terms if not facts.evaluable(t.atom, entry.path)]
    if not unknown:
        return None
    if (weighing := live_weight(context, entry)) is not None:
        raise Refused(errors.live_weight(context.divergence.span, weighing.factor.span, context.player.name))
    involved = {t.atom: t.coefficient for t in (*planned.moving, *planned.reference)}
    alike = all(t.coefficient == involved.get(t.atom, t.coefficient) for t in entry.terms)
    if not alike or not all(t.atom in involved for t in unknown):
        raise Refused(errors.no_partner(context.divergence.span))
    c = planned.moving[0].coefficient
    rest = tuple(t for t in entry.terms if t.atom not in involved)
    corrections = tuple(
        term
        for t in (*planned.moving, *planned.reference)
        for term in (t, at_old(facts, replace(t, coefficient=-t.coefficient)))
    )
    logit = Term(-c, planned.logit, span=context.goal.options.span("critic"))
    made = entry.of(collect((*rest, *corrections, logit)))
    live = facts.live(context.player, entry.path)
    made = made.of(t for t in made.terms if context.counts or moves(facts, context.player, live, t))
    return Rewrite(made, detail=_told(planned, unknown, logit, c))


def _told(planned: Ratio, unknown: list[Term], logit: Term, c: Fraction) -> tuple[Line, ...]:
    sign = Fraction(1) if c > 0 else Fraction(-1)
    terms = tuple(replace(t, coefficient=t.coefficient * sign / abs(c)) for t in planned.moving)
    against = tuple(replace(t, coefficient=t.coefficient * sign / abs(c)) for t in planned.reference)
    return (
        (*listed((Density(t.atom) for t in unknown), " and "), " cannot be evaluated; the critic gives the ratio"),
        (formula(planned.logit, "=", "neg", Braces((*terms, *against))), ", so ", logit),
    )


C, L, MOVING, REFERENCE = Name("c"), Name("l"), Name("m"), Name("r")
RATIO = Rule(
    "RATIO",
    (
        formula(C, " ", "(", "log", MOVING, "-", "log", REFERENCE, ")", "=", "neg", C, " ", L),
        " at the critic's optimum ",
        formula(L, "=", "log", REFERENCE, "/", MOVING),
    ),
    ratio,
)
