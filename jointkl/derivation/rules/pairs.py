"""ZERO, NULL and RESIDUAL: a substitution is exact up to sum c_i (log f_i - log f_i_old); what becomes of each pair.

Under a classifier's optimum at the snapshot, R(theta) = R(theta_old) + sum c_i (log f_i - log f_i_old).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import (
    Atom,
    Braces,
    ClosedKL,
    Entry,
    LogFactor,
    LogMarginal,
    OldDistance,
    Part,
    Term,
    collect,
)
from jointkl.derivation.facts import Facts, ancestors, factors_of
from jointkl.derivation.rewrite import Rewrite, Rule, Turn
from jointkl.derivation.rules.importance import is_bounded
from jointkl.derivation.rules.optimal import moves
from jointkl.derivation.sampled import is_own
from jointkl.derivation.suggestions import goal_line
from jointkl.derivation.unknown import moving, weighed_score
from jointkl.diagnostics import Refused, Report
from jointkl.exposition.notation import atom as atom_text
from jointkl.semantics.families import CLOSED_FORM
from jointkl.semantics.model import Dirac, Distribution, Factor


@dataclass(frozen=True, slots=True)
class Pair:
    """coefficient * (log f - log f_old)"""

    coefficient: Fraction
    new: Atom
    old: Atom

    def terms(self, span: Term) -> tuple[Term, Term]:
        return (
            Term(self.coefficient, self.new, span=span.span),
            Term(-self.coefficient, self.old, copy_of=self.new, span=span.span),
        )


def _pairs(entry: Entry) -> Iterator[tuple[Pair, Term]]:
    """Each atom that a substitution brought in, with the one that it is the old copy of; its coefficient sets the
    pair's."""
    for t in entry.terms:
        if t.copy_of is not None:
            yield Pair(-t.coefficient, t.copy_of, t.atom), t


def _without(entry: Entry, pair: Pair, term: Term) -> tuple[Term, ...]:
    """The terms less the pair; a coefficient of log f beyond the pair's stays."""
    minus = tuple(replace(t, coefficient=-t.coefficient) for t in pair.terms(term))
    return collect((*entry.terms, *minus))


def zero(turn: Turn, entry: Entry) -> Rewrite | None:
    made, gone = entry, list[Term]()
    for pair, term in _pairs(entry):
        if not turn.facts.param_live(turn.player, pair.new):
            made = replace(made, terms=_without(made, pair, term))
            gone += pair.terms(term)
    if not gone:
        return None
    return Rewrite(made, ((Braces(tuple(gone)), f" = 0: not moved by {turn.player.name}"),))


def null(turn: Turn, entry: Entry) -> Rewrite | None:
    """f sampled on this path, or the path's own marginal: E{log f - log f_old} has no gradient at the old value."""
    made, told = entry, list[tuple[Part, ...]]()
    for pair, term in _pairs(entry):
        if not is_own(turn.facts, entry, turn.entries, pair.new) or not _is_whole(turn, entry, pair.new):
            continue
        if _is_weighed(turn, entry):
            if not turn.facts.evaluable(pair.new, entry.path):
                raise Refused(weighed_score(turn.facts, turn.goal, turn.player, pair.new))
            made = _kept(made, term)
            told.append((Braces(pair.terms(term)), ": under copies its score is weighed; kept"))
            continue
        kept, says = _proximal(turn, entry, pair, term)
        made = replace(made, terms=(*_without(made, pair, term), *kept))
        name = _density(pair.new)
        told.append(("E ", Braces(pair.terms(term)), f" = {_times(pair)}KL({name} || {name}_old): {says}"))
    return Rewrite(made, tuple(told[:1]), tuple(told[1:])) if told else None


def _is_whole(turn: Turn, entry: Entry, atom: Atom) -> bool:
    """A mixture's score is zero over the entries of one label together: NULL is for all of them or for none. Of one
    without a substitution, as where nothing moves but the mixture's other branches, the score stays as it is."""
    if not isinstance(atom, LogMarginal) or len(atom.branches) == 1:
        return True
    facts, siblings = turn.facts, [e for e in turn.entries if e.label == entry.label]
    return all(
        any(
            not facts.evaluable(t.atom, e.path) and moves(facts, turn.player, facts.live(turn.player, e.path), t)
            for t in e.terms
        )
        for e in siblings
    )


def _is_weighed(turn: Turn, entry: Entry) -> bool:
    """Under copies E{w grad log f} is not zero even at the old value: the weights w see what f draws. The pair, whose
    value is zero there, stays in the sum as it is."""
    return (turn.goal.options.importance or 1) > 1 and is_bounded(turn, entry)


def _kept(entry: Entry, term: Term) -> Entry:
    """The old half of a pair is an atom like the others from here on: the pair stays, as a value that is zero at the
    snapshot and has the gradient of its new half there."""
    return replace(entry, terms=collect(tuple(replace(t, copy_of=None) if t is term else t for t in entry.terms)))


def _times(pair: Pair) -> str:
    return "" if pair.coefficient == 1 else f"{float(pair.coefficient):g} x "


def _density(atom: Atom) -> str:
    return atom_text(atom).removeprefix("log ").split("(", 1)[0] if isinstance(atom, LogFactor | LogMarginal) else ""


def _proximal(turn: Turn, entry: Entry, pair: Pair, term: Term) -> tuple[tuple[Term, ...], str]:
    """What `proximal` keeps of a NULL pair."""
    options = turn.goal.options
    gone = "no gradient at the old value; dropped"
    if options.proximal == "none" or pair.coefficient <= 0:
        return (), gone
    own = [f for f in factors_of(pair.new) if turn.facts.owns(turn.player, f)]
    if options.proximal == "dirac":
        drawn = [f for f in _drawn(entry, pair.new) if turn.facts.owns(turn.player, f)]
        diracs = [f for f in drawn if isinstance(turn.facts.model.laws[f.law].body, Dirac)]
        if not diracs or options.dirac == 0:
            return (), gone
        kept = tuple(Term(options.dirac, OldDistance(f), span=options.span("proximal")) for f in diracs)
        return kept, "kept as the distance to the old copy (Su 26)"
    match pair.new:
        case LogFactor(factor=f) if _closed(turn.facts, f):
            kl = ClosedKL(f, replace(f, old=True))
            return (Term(pair.coefficient, kl, span=term.span),), "kept in closed form"
        case _:
            cause = turn.facts.model.laws[own[0].law].span if own else term.span
            name = atom_text(pair.new).removeprefix("log ")
            line = goal_line(turn.facts.model, turn.goal, without=("proximal",))
            raise Refused(errors.no_closed_proximal(options.span("proximal"), name, cause, line))


def _drawn(entry: Entry, atom: Atom) -> tuple[Factor, ...]:
    """The factors of the atom as this path draws them: of a mixture its own branch, under the path's names."""
    if not isinstance(atom, LogMarginal):
        return factors_of(atom)
    laws = {f.law for f in atom.factors}
    above = ancestors(entry.path, atom.givens)
    return tuple(f for f in ancestors(entry.path, atom.outputs) if f.law in laws and f not in above)


def _closed(facts: Facts, f: Factor) -> bool:
    body = facts.model.laws[f.law].body
    return isinstance(body, Distribution) and (body.family, body.family) in CLOSED_FORM


def residual(turn: Turn, entry: Entry) -> Rewrite | None:
    """Otherwise: c log f at detached samples; its value at the old parameters is known, its gradient is not zero."""
    made, told, warnings = entry, list[tuple[Part, ...]](), list[Report]()
    options = turn.goal.options
    for pair, term in _pairs(entry):
        laws = {f.law for f in factors_of(pair.new)}
        if not laws.isdisjoint(options.drop):
            made = replace(made, terms=_without(made, pair, term))
            name = atom_text(pair.new).removeprefix("log ")
            line = goal_line(turn.facts.model, turn.goal, without=("drop",))
            warnings.append(errors.dropped(options.span("drop"), name, turn.player.name, line))
            told.append((pair.new, ": left out by `drop`"))
            continue
        if not turn.facts.evaluable(pair.new, entry.path):
            raise Refused(
                moving(turn.facts, turn.goal, turn.divergence, turn.entries, turn.player, pair.terms(term)[0])
            )
        if turn.counts or _is_weighed(turn, entry):
            made = _kept(made, term)
            why = "its value counts in the hinge" if turn.counts else "it weighs the copies"
            told.append((Braces(pair.terms(term)), f": not drawn on this path, and {why}; kept"))
            continue
        if options.proximal == "kl":
            told.append((Braces(pair.terms(term)), ": not drawn on this path; kept, with the gradient of the path"))
            continue
        kept = Term(pair.coefficient, pair.new, detached=True, span=term.span)
        made = replace(made, terms=(*_without(made, pair, term), kept))
        told.append((Braces(pair.terms(term)), ": not drawn on this path, so the reference moves; ", kept))
    return Rewrite(made, tuple(told[:1]), tuple(told[1:]), tuple(warnings)) if told else None


ZERO = Rule("ZERO", "the player does not own f: log f - log f_old is zero", zero)
NULL = Rule("NULL", "E_f{log f - log f_old} = KL(f || f_old): no gradient at the old value", null)
RESIDUAL = Rule("RESIDUAL", "c (log f - log f_old) has the gradient of c log f at detached samples", residual)
