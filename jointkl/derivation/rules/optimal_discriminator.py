"""OPTIMAL-DISCRIMINATOR: at the frozen optimum of a classifier its logit is a log ratio of the branches (Su 18, 39)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.copies import is_bounded, replicated
from jointkl.derivation.expr import Atom, Expectation, Labelled, LogFactor, LogWeight, Sum, Term, collect
from jointkl.derivation.facts import Facts
from jointkl.derivation.live import moves
from jointkl.derivation.parts import Braces, Density, Line, Name, Number, Over, formula, listed
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.derivation.snapshot import at_old, old
from jointkl.diagnostics import Refused


def optimal_discriminator(context: RuleContext, entry: Expectation) -> Rewrite | None:
    facts = context.facts
    unknown = tuple(t for t in entry.terms if not facts.evaluable(t.atom, entry.path))
    if not unknown:
        return None
    labelled = context.labelled
    if labelled is None or len(labelled.branches) != 2:
        return None
    known = identity(facts, labelled)
    mu = _multiplier(context, unknown, known)
    if mu is None:
        return None
    _verify_sees(context, labelled, known)
    whole = (*known, *shares(labelled)) if context.counts else known
    terms = _merged(entry, (replace(t, coefficient=mu * t.coefficient) for t in whole))
    live = facts.live(context.player, entry.path)
    if is_bounded(context, entry):
        live |= replicated(context, entry)  # what does not move weighs the copies
    kept = tuple(t for t in terms if context.counts or moves(facts, context.player, live, t))
    made = entry.of(kept)
    return Rewrite(made, detail=_told(context, unknown, known, made))


def identity(facts: Facts, labelled: Labelled) -> tuple[Term, ...]:
    """The terms of 0 = log c(1|v) - log c(0|v) - log branch1_old + log branch0_old, up to `shares`."""
    (k1, _, b1), (k0, _, b0) = sorted(labelled.branches, key=lambda b: -b[0])
    c = labelled.classifier
    one, minus = Fraction(1), Fraction(-1)
    logit = (Term(one, LogFactor(c, k1), span=c.span), Term(minus, LogFactor(c, k0), span=c.span))
    difference = collect((*(replace(t, coefficient=-t.coefficient) for t in b1), *b0))
    return (*logit, *(at_old(facts, t) for t in difference))


def shares(labelled: Labelled) -> tuple[Term, ...]:
    """-log w1 + log w0, the identity's constant."""
    (_, w1, _), (_, w0, _) = sorted(labelled.branches, key=lambda b: -b[0])
    return collect((Term(Fraction(-1), LogWeight(w1)), Term(Fraction(1), LogWeight(w0))))


def _merged(entry: Expectation, known: Iterable[Term]) -> tuple[Term, ...]:
    """The terms with those of the identity. An old law that the spec itself compares with is the identity's, unless
    the law as it is now stands there too: then the two old ones have each their own partner."""
    present = {t.atom for t in entry.terms}
    whole = (
        replace(t, copy_of=None) if t.atom in present and t.copy_of is not None and t.copy_of not in present else t
        for t in known
    )
    return collect((*entry.terms, *whole))


def _verify_sees(context: RuleContext, labelled: Labelled, known: tuple[Term, ...]) -> None:
    c = labelled.classifier
    differs = tuple(dict.fromkeys(v for t in known for v in t.atom.variables))
    if not set(differs) <= set(c.givens):
        name = context.facts.model.laws[c.law].text
        raise Refused(errors.blind_classifier(context.divergence.left.span, name, c.givens, differs, c.span))


def _multiplier(context: RuleContext, unknown: tuple[Term, ...], known: tuple[Term, ...]) -> Fraction | None:
    """mu, the one number that zeroes every coefficient of an atom that cannot be evaluated, f and f_old as one."""
    facts = context.facts
    signs: dict[Atom, Fraction] = {}
    for t in known:
        signs[t.atom] = signs.get(t.atom, Fraction(0)) + t.coefficient
    wanted: set[Fraction | None] = set()
    for t in unknown:
        sign = signs.get(old(facts, t.atom), Fraction(0))
        wanted.add(-t.coefficient / sign if sign else None)
    return next(iter(wanted)) if len(wanted) == 1 else None


def _told(
    context: RuleContext, unknown: tuple[Term, ...], known: tuple[Term, ...], made: Expectation
) -> tuple[Line, ...]:
    """The identity solved for an atom that nobody trains, and what it makes of the entry."""
    solved = next((t for t in known if t.atom in {u.atom for u in unknown}), known[-1])
    rest = tuple(replace(t, coefficient=-t.coefficient / solved.coefficient) for t in known if t is not solved)
    word = "neither" if len(unknown) == 2 else "none of" if len(unknown) > 2 else ""
    densities = listed((Density(t.atom) for t in unknown), " nor " if len(unknown) == 2 else " and ")
    verb = " can be evaluated" if word else " cannot be evaluated"
    owner = next(p for p in context.facts.players if context.labelled and context.labelled.classifier.law in p.laws)
    return (
        (*((f"{word} ",) if word else ()), *densities, f"{verb}; at ", owner, "'s optimum"),
        (formula(solved.atom, "=", Sum(rest)), ", so"),
        (formula(Over("E"), " ", Braces(made.terms)),),
    )


C, V = Name("c"), Name("v")
OPTIMAL_DISCRIMINATOR = Rule(
    "OPTIMAL-DISCRIMINATOR",
    (
        formula(
            *(Number(0), "=", "log", C, "(", Number(1), "|", V, ")", "-", "log", C, "(", Number(0), "|", V, ")"),
            *("-", "log(", Name("w1"), "/", Name("w0"), ")"),
            *("-", "log", Name("branch1", old=True), "+", "log", Name("branch0", old=True)),
        ),
        " at the frozen optimum",
    ),
    optimal_discriminator,
)
