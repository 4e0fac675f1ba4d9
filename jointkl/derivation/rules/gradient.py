"""GRADIENT: how what is left is computed, and by which estimator it is differentiated."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import replace

from jointkl.derivation import errors
from jointkl.derivation.expr import ClosedCE, ClosedKL, Draw, Estimator, Expectation, Term, Way
from jointkl.derivation.facts import ancestors, outputs_of
from jointkl.derivation.parts import Call, Formula, Line, Name, formula, listed
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.diagnostics import Refused
from jointkl.semantics.model import Dirac, Distribution, Factor, Free, NetCall

MOST_VALUES = 64
"""A joint support up to this is summed over exactly; beyond, the score function is used."""


def gradient(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """Choose an estimator for every term (docs/rules.md, "Which gradient")."""
    if not entry.terms:
        return None
    facts = context.facts
    live = facts.live(context.player, entry.path)
    exact, scored = _discrete(context, entry, live)
    made = replace(entry, draws=tuple(Draw(f, _way(f, live, exact, scored)) for f in entry.path))
    if made.copies and (exact or scored):
        what = "importance weights over discrete variables"
        if scored and all(facts.model.space(v).support is None for v in scored) and _asks_for_score(context):
            what = "the score function under importance weights"
        raise Refused(errors.not_yet(context.divergence.span, what))
    terms = tuple(replace(t, estimator=_estimator(t, live, made)) for t in entry.terms)
    told: list[Line] = []
    if exact:
        told.append(("sum over ", *listed(map(Name, exact)), ", exact"))
    if scored:
        why = "" if _asks_for_score(context) else f": more than {MOST_VALUES} values"
        told.append(("score function of ", *listed(map(Name, scored)), f", with a baseline{why}"))
    if any(t.estimator == "pathwise" for t in terms):
        through = [v for f in entry.path for v in f.outputs if v in live and v not in (*exact, *scored)]
        told.append(("pathwise through ", *listed(_drawn(context, entry, v) for v in through)))
    if any(t.estimator == "closed form" for t in terms):
        told.append(("closed form",))
    parts = tuple(p for i, line in enumerate(told) for p in (("; ", *line) if i else line))
    return Rewrite(made.of(terms), (parts,) if parts else ())


def _way(f: Factor, live: frozenset[str], exact: tuple[str, ...], scored: tuple[str, ...]) -> Way:
    if not live.isdisjoint(f.outputs) or f.outputs[0] in exact:
        return "enumerated" if f.outputs[0] in exact else "scored" if f.outputs[0] in scored else "pathwise"
    return "drawn"


def _asks_for_score(context: RuleContext) -> bool:
    return "score" in context.goal.options.estimate


def _discrete(
    context: RuleContext, entry: Expectation, live: frozenset[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The variables of the path to sum over, and those to use the score function for.

    Free laws are always summed over; a live discrete variable is, if the joint support is small. Under `estimate=score`
    it never is; where none is live, it is the live continuous ones that are scored.
    """
    facts = context.facts
    used = {v for t in entry.terms if not t.detached for v in t.atom.variables}
    used |= {v for w in entry.weights for v in w.variables}
    needed = ancestors(entry.path, used)
    laws = facts.model.laws
    free = [f for f in needed if isinstance(laws[f.law].body, Free)]
    drawn = [f for f in needed if f not in free and not live.isdisjoint(f.outputs)]
    moving = [f for f in drawn if not facts.reparameterised(f)]
    if drawn and not moving and _asks_for_score(context):
        moving = [f for f in drawn if isinstance(laws[f.law].body, Distribution)]
        if not moving:
            law = laws[next((f.law for f in drawn if facts.owns(context.player, f)), drawn[0].law)]
            raise Refused(errors.score_of_dirac(context.goal.options.span("estimate"), law.text, law.span))
    support = _support(context, (*free, *moving))
    if support <= MOST_VALUES and not _asks_for_score(context):
        summed = {*free, *moving}
        summed |= _fixed(context, entry, needed, summed, MOST_VALUES // support)
        return tuple(v for f in needed if f in summed for v in f.outputs), ()
    if not entry.linear and moving:
        raise Refused(errors.not_yet(moving[0].span, "the score function of a function of densities"))
    if entry.weights and moving:
        raise Refused(errors.not_yet(moving[0].span, "the score function under a classifier's weight"))
    return tuple(v for f in free for v in f.outputs), tuple(v for f in moving for v in f.outputs)


def _support(context: RuleContext, factors: Iterable[Factor]) -> int:
    """How many values the outputs have together; more than `MOST_VALUES` may be any number beyond it."""
    support = 1
    for f in factors:
        for v in f.outputs:
            count = context.facts.model.space(v).support
            support = support * count if count is not None and support <= MOST_VALUES else MOST_VALUES + 1
    return support


def _fixed(
    context: RuleContext, entry: Expectation, needed: tuple[Factor, ...], summed: Set[Factor], most: int
) -> frozenset[Factor]:
    """The finite laws that nothing of the player moves, where one of them stands against a density over what it draws:
    summed exactly, too, as far as there are no more than `most` values and nothing else is drawn from theirs."""
    options = context.goal.options
    if entry.copies or entry.weighing or "monte_carlo" in options.estimate:
        return frozenset()
    model = context.facts.model
    chosen: list[Factor] = []
    for f in needed:
        finite = isinstance(model.laws[f.law].body, Distribution) and _support(context, (f,)) <= MOST_VALUES
        if f not in summed and finite and not any(model.variable(v).is_global for v in f.outputs):
            chosen.append(f)
    while chosen:
        every = {*summed, *chosen}
        bad = [f for f in chosen if any(g not in every and not set(g.givens).isdisjoint(f.outputs) for g in needed)]
        if not bad and _support(context, chosen) <= most:
            break
        chosen.remove((bad or chosen)[-1])
    against = {v for t in entry.terms if not t.detached for v in outputs_of(t.atom)}
    return frozenset(chosen if any(not against.isdisjoint(f.outputs) for f in chosen) else ())


def _estimator(term: Term, live: frozenset[str], entry: Expectation) -> Estimator:
    """By what an atom's variables descend from: a value also moves with the discrete draws that it is drawn under."""
    drawn = {v for f in ancestors(entry.path, term.atom.variables) for v in f.outputs}
    if not term.detached and not drawn.isdisjoint(entry.scored):
        return "score function"
    if isinstance(term.atom, ClosedKL | ClosedCE):
        return "closed form"
    if term.detached or live.isdisjoint(term.atom.variables):
        return "average"
    return "enumeration" if not drawn.isdisjoint(entry.enumerated) else "pathwise"


def _drawn(context: RuleContext, entry: Expectation, variable: str) -> Name | Formula:
    """`x = G(z)` for a Dirac of a net, else the variable alone."""
    f = next(f for f in entry.path if variable in f.outputs)
    law = context.facts.model.laws[f.law]
    if isinstance(law.body, Dirac) and isinstance(law.body.value, NetCall):
        return formula(Name(variable), "=", Call(law.body.value.net, f.arguments))
    return Name(variable)


GRADIENT = Rule("GRADIENT", ("plain average, pathwise or closed form, by what moves",), gradient)
