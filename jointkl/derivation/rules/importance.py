"""IMPORTANCE: copies of what is drawn, averaged inside the logarithm."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.copies import is_bounded
from jointkl.derivation.expr import (
    Detach,
    Expectation,
    LogFactor,
    Logit,
    LogMeanExp,
    Scale,
    Softmax,
    Sum,
    Term,
    Weighted,
    core,
    with_core,
)
from jointkl.derivation.parts import Name, Over, formula
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.derivation.unknown import under_importance
from jointkl.diagnostics import Refused


def importance(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """K copies of what is drawn: -log mean_K exp(-sum) (Burda et al. 2016), or softmax weights (Hu et al. 2018)."""
    if not is_bounded(context, entry):
        return None
    copies = context.goal.options.importance or 1
    if context.labelled is not None and context.goal.options.game == "nonsaturating" and entry.label is not None:
        other = next(v for v, _, _ in context.labelled.branches if v != entry.label[1])
        odds = tuple(
            Term(Fraction(sign), LogFactor(context.labelled.classifier, v))
            for sign, v in ((1, other), (-1, entry.label[1]))
        )
        told = f"weights softmax of the log odds over {copies} copies, detached; a heuristic"
        return Rewrite(replace(entry, body=Weighted(Detach(Softmax(Sum(odds), copies)), entry.body)), ((told,),))
    facts = context.facts
    unknown = [t for t in entry.terms if not facts.evaluable(t.atom, entry.path) or isinstance(t.atom, Logit)]
    if unknown:
        raise Refused(under_importance(facts, context.goal, unknown))
    if len({e.label for e in context.entries}) != len(context.entries):
        left = context.divergence.left
        raise Refused(errors.importance_mixture(context.goal.options.span("importance"), left.text, left.span))
    minus = Fraction(-1)
    bound = Scale(minus, LogMeanExp(Scale(minus, core(entry.body)), copies))
    return Rewrite(
        replace(entry, body=with_core(entry.body, bound)),
        (
            (
                formula("neg", "log", Name("mean")),
                f" over {copies} copies of ",
                formula("exp(", "neg", Name("sum"), ")"),
            ),
        ),
    )


SUM, E = Name("sum"), Over("E")
IMPORTANCE = Rule(
    "IMPORTANCE",
    (
        formula(
            *(E, "{", SUM, "}", ">=", E, "{", "neg", "log", Over("mean", "K"), " ", "exp(", "neg", SUM, ")", "}"),
            ">=",
        ),
        " the KL of the marginals",
    ),
    importance,
)
