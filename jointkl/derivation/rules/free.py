"""FREE: a law without a form is the softmax of what stands against it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import Expectation, LogFactor, Optimum, Sum, Term, with_core
from jointkl.derivation.live import live_weight
from jointkl.derivation.parts import Braces, Name, Over, formula
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.diagnostics import Refused
from jointkl.semantics.model import Factor


def free(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """A Free law on the path, c its own coefficient: f := softmax over its variable of -(the other atoms)/c."""
    if context.player.kind != "free" or not entry.terms:
        return None
    f = next((f for f in entry.path if f.law in context.player.laws), None)
    own = next((t for t in entry.terms if isinstance(t.atom, LogFactor) and t.atom.factor == f), None)
    if (weighing := live_weight(context, entry)) is not None:
        raise Refused(errors.live_weight(context.divergence.span, weighing.factor.span, context.player.name))
    if f is None or own is None or not entry.linear or entry.weight * own.coefficient <= 0 or entry.label is not None:
        law = context.facts.model.laws[context.player.laws[0]]
        raise Refused(errors.free_without_entropy(context.divergence.span, law.text, law.span))
    others = tuple(replace(t, coefficient=t.coefficient / own.coefficient) for t in entry.terms if t is not own)
    if not all(set(t.atom.variables) <= {*f.outputs, *f.givens} for t in others):
        raise Refused(errors.free_beside(context.divergence.span, f, _beside(f, others)))
    made = replace(entry, weight=Fraction(1), body=Optimum(f, with_core(entry.body, Sum(others))))
    return Rewrite(
        made, ((formula(f, ":="), " softmax of ", formula("neg", Braces(others)), " over ", Name(f.outputs[0])),)
    )


def _beside(f: Factor, others: tuple[Term, ...]) -> tuple[str, ...]:
    """The variables of the other atoms that a Free law does not see."""
    return tuple(dict.fromkeys(v for t in others for v in t.atom.variables if v not in (*f.outputs, *f.givens)))


C, F, G = Name("c"), Name("f"), Name("g")
FREE = Rule(
    "FREE",
    (
        formula(
            *(Over("argmin", "f"), " ", Over("E", "f"), "{", C, " ", "log", F, "+", G, "}"),
            *("=", Name("softmax"), "(", "neg", G, "/", C, ")"),
        ),
    ),
    free,
)
