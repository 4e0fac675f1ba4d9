"""MOMENTS: the Gaussian with the batch's moments in place of a marginal."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation import errors
from jointkl.derivation.expr import Expectation, LogFactor, LogMarginal, Moments, Term
from jointkl.derivation.parts import Name, Number, formula
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.derivation.sampled import is_own
from jointkl.diagnostics import Refused
from jointkl.semantics.model import Constant, Distribution, Factor


def moments(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """log M - log N(0, I), M the path's marginal: the closed KL of the batch's Gaussian fit to N(0, I)."""
    if "moments" not in context.goal.options.estimate or not entry.terms:
        return None
    for t in entry.terms if entry.linear else ():
        outputs = _outputs(t)
        for other in entry.terms:
            one_path = not isinstance(t.atom, LogMarginal) or len(t.atom.branches) == 1
            own = len(outputs) == 1 and one_path and is_own(context.facts, entry, context.entries, t.atom)
            if own and t.coefficient == -other.coefficient and _is_standard(context, other, outputs):
                made = replace(t, atom=Moments(outputs[0]))
                rest = tuple(u for u in entry.terms if u is not t and u is not other)
                told = ((formula(t.atom, "-", other.atom), ": ", made.atom),)
                return Rewrite(entry.of((*rest, made)), told)
    raise Refused(errors.no_moments(context.goal.options.span("estimate")))


def _outputs(t: Term) -> tuple[str, ...]:
    match t.atom:
        case LogMarginal(outputs=outputs) | LogFactor(factor=Factor(outputs=outputs), value=None):
            return outputs
        case _:
            return ()


def _is_standard(context: RuleContext, t: Term, outputs: tuple[str, ...]) -> bool:
    """Is the atom the log of a standard normal over `outputs`?"""
    if not (isinstance(t.atom, LogFactor) and t.atom.factor.outputs == outputs and not t.atom.factor.givens):
        return False
    body = context.facts.model.laws[t.atom.factor.law].body
    standard = (("loc", Constant(0.0)), ("scale", Constant(1.0)))
    return isinstance(body, Distribution) and body.family == "Normal" and body.parameters == standard


M = Name("M")
MOMENTS = Rule(
    "MOMENTS",
    (
        *("the KL of the Gaussian with ", M, "'s moments stands for "),
        formula(Name("KL"), "(", M, "||", Name("N"), "(", Number(0), ",", " ", Name("I"), ")", ")"),
    ),
    moments,
)
