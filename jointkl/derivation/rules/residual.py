"""RESIDUAL: a pair whose density is not drawn on the path leaves its gradient at detached samples."""

from __future__ import annotations

from jointkl.derivation import errors
from jointkl.derivation.copies import is_weighed
from jointkl.derivation.expr import Expectation, Term
from jointkl.derivation.facts import factors_of
from jointkl.derivation.parts import Braces, Density, Line, Name, formula
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.derivation.substitution import pairs, unmarked, without
from jointkl.derivation.suggestions import goal_line
from jointkl.derivation.unknown import moving
from jointkl.diagnostics import Refused, Report


def residual(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """Otherwise: c log f at detached samples; its value at the old parameters is known, its gradient is not zero."""
    made, told, warnings = entry, list[Line](), list[Report]()
    options = context.goal.options
    for pair, term in pairs(entry):
        laws = {f.law for f in factors_of(pair.new)}
        if not laws.isdisjoint(options.drop):
            made = made.of(without(made, pair, term))
            line = goal_line(context.facts.model, context.goal, without=("drop",))
            warnings.append(errors.dropped(options.span("drop"), Density(pair.new), context.player, line))
            told.append((pair.new, ": left out by `drop`"))
            continue
        if not context.facts.evaluable(pair.new, entry.path):
            raise Refused(
                moving(
                    context.facts,
                    context.goal,
                    context.divergence,
                    context.entries,
                    context.player,
                    pair.terms(term)[0],
                )
            )
        if context.counts or is_weighed(context, entry):
            made = unmarked(made, term)
            why = "its value counts in the hinge" if context.counts else "it weighs the copies"
            told.append((Braces(pair.terms(term)), f": not drawn on this path, and {why}; kept"))
            continue
        if options.proximal == "kl":
            told.append((Braces(pair.terms(term)), ": not drawn on this path; kept, with the gradient of the path"))
            continue
        kept = Term(pair.coefficient, pair.new, detached=True, span=term.span)
        made = made.of((*without(made, pair, term), kept))
        told.append((Braces(pair.terms(term)), ": not drawn on this path, so the reference moves; ", kept))
    return Rewrite(made, tuple(told[:1]), tuple(told[1:]), tuple(warnings)) if told else None


C, F, OLD = Name("c"), Name("f"), Name("f", old=True)
RESIDUAL = Rule(
    "RESIDUAL",
    (
        formula(C, " ", "(", "log", F, "-", "log", OLD, ")"),
        " has the gradient of ",
        formula(C, " ", "log", F),
        " at detached samples",
    ),
    residual,
)
