"""CLOSED-FORM: a pair of densities whose expected difference is known."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation.expr import ClosedKL, Entry, Term
from jointkl.derivation.integrals import bar, makers_of, opposed
from jointkl.derivation.parts import Part
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.semantics.wording import words


def closed_form(context: RuleContext, entry: Entry) -> Rewrite | None:
    """+c log f(v|.) - c log g(v|.), f sampled on the path: c KL[f || g] at the parents."""
    makers = makers_of(entry)
    gone: set[Term] = set()
    closed: list[Term] = []
    told: list[tuple[Part, ...]] = []
    left: dict[str, list[str]] = {}
    for t, f, other, g in opposed(entry):
        why = bar(context, entry, makers, f, g)
        if why:
            left.setdefault(why, []).extend(f.outputs)
            continue
        kl = replace(t, atom=ClosedKL(f, g))
        gone |= {t, other}
        closed.append(kl)
        told.append((t.atom, " - ", other.atom, " = ", kl.atom))
    told += [(f"not for {words(names, 6)}: {why}",) for why, names in left.items()]
    if not told:
        return None
    kept = tuple(t for t in entry.terms if t not in gone)
    return Rewrite(replace(entry, terms=(*kept, *closed)), tuple(told[:1]), tuple(told[1:]))


CLOSED_FORM = Rule("CLOSED-FORM", "E_f{log f - log g} = KL[f || g] where the integral is known", closed_form)
