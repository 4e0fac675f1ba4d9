"""RESIDUAL: a pair whose density is not drawn on the path leaves its gradient at detached samples."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation import errors
from jointkl.derivation.copies import is_weighed
from jointkl.derivation.expr import Braces, Entry, Part, Term
from jointkl.derivation.facts import factors_of
from jointkl.derivation.rewrite import Rewrite, Rule, Turn
from jointkl.derivation.substitution import pairs, unmarked, without
from jointkl.derivation.suggestions import goal_line
from jointkl.derivation.unknown import moving
from jointkl.diagnostics import Refused, Report
from jointkl.exposition.notation import atom as atom_text


def residual(turn: Turn, entry: Entry) -> Rewrite | None:
    """Otherwise: c log f at detached samples; its value at the old parameters is known, its gradient is not zero."""
    made, told, warnings = entry, list[tuple[Part, ...]](), list[Report]()
    options = turn.goal.options
    for pair, term in pairs(entry):
        laws = {f.law for f in factors_of(pair.new)}
        if not laws.isdisjoint(options.drop):
            made = replace(made, terms=without(made, pair, term))
            name = atom_text(pair.new).removeprefix("log ")
            line = goal_line(turn.facts.model, turn.goal, without=("drop",))
            warnings.append(errors.dropped(options.span("drop"), name, turn.player.name, line))
            told.append((pair.new, ": left out by `drop`"))
            continue
        if not turn.facts.evaluable(pair.new, entry.path):
            raise Refused(
                moving(
                    turn.facts,
                    turn.goal,
                    turn.divergence,
                    turn.entries,
                    turn.player,
                    pair.terms(term)[0],
                )
            )
        if turn.counts or is_weighed(turn, entry):
            made = unmarked(made, term)
            why = "its value counts in the hinge" if turn.counts else "it weighs the copies"
            told.append((Braces(pair.terms(term)), f": not drawn on this path, and {why}; kept"))
            continue
        if options.proximal == "kl":
            told.append((Braces(pair.terms(term)), ": not drawn on this path; kept, with the gradient of the path"))
            continue
        kept = Term(pair.coefficient, pair.new, detached=True, span=term.span)
        made = replace(made, terms=(*without(made, pair, term), kept))
        told.append((Braces(pair.terms(term)), ": not drawn on this path, so the reference moves; ", kept))
    return Rewrite(made, tuple(told[:1]), tuple(told[1:]), tuple(warnings)) if told else None


RESIDUAL = Rule("RESIDUAL", "c (log f - log f_old) has the gradient of c log f at detached samples", residual)
