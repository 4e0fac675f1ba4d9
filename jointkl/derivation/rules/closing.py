"""CLOSED-FORM, PRUNE and GRADIENT: how what is left is computed."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation import errors
from jointkl.derivation.expr import Atom, ClosedKL, Entry, Estimator, LogFactor, Part, Term
from jointkl.derivation.facts import ancestors
from jointkl.derivation.rewrite import Rewrite, Rule, Turn
from jointkl.semantics.families import CLOSED_FORM
from jointkl.semantics.model import Dirac, Distribution, Factor, NetCall
from jointkl.semantics.scope import Refused


def closed_form(turn: Turn, entry: Entry) -> Rewrite | None:
    """+c log f(v|.) - c log g(v|.), f sampled on the path: c KL[f || g] at the parents."""
    if "monte_carlo" in turn.goal.options.estimate:
        return None
    made, told = entry, list[tuple[Part, ...]]()
    against = {
        t.atom.factor.outputs: t
        for t in entry.terms
        if _is_plain(t) and t.coefficient < 0 and isinstance(t.atom, LogFactor)
    }
    descendants = _descendants(entry.path)
    for t in entry.terms:
        if not (isinstance(t.atom, LogFactor) and _is_plain(t) and t.coefficient > 0 and t.atom.factor in entry.path):
            continue
        f = t.atom.factor
        other = against.get(f.outputs)
        if other is None or not isinstance(other.atom, LogFactor) or other.coefficient != -t.coefficient:
            continue
        g = other.atom.factor
        if not _known(turn, f, g) or any(v in descendants.get(w, ()) for v in g.givens for w in f.outputs):
            continue
        kl = replace(t, atom=ClosedKL(f, g))
        made = replace(made, terms=(*(u for u in made.terms if u is not t and u is not other), kl))
        told.append((t.atom, " - ", other.atom, " = ", kl.atom))
    return Rewrite(made, tuple(told[:1]), tuple(told[1:])) if told else None


def _is_plain(t: Term) -> bool:
    return isinstance(t.atom, LogFactor) and t.atom.value is None and not t.detached


def _known(turn: Turn, f: Factor, g: Factor) -> bool:
    left, right = turn.facts.model.laws[f.law].body, turn.facts.model.laws[g.law].body
    if not (isinstance(left, Distribution) and isinstance(right, Distribution)):
        return False
    return (left.family, right.family) in CLOSED_FORM


def _descendants(path: tuple[Factor, ...]) -> dict[str, frozenset[str]]:
    """For each variable sampled, itself and what descends from it."""
    found: dict[str, set[str]] = {}
    for f in path:
        for v in f.outputs:
            found[v] = {v}
    parents: dict[str, tuple[str, ...]] = {v: f.givens for f in path for v in f.outputs}
    below: dict[str, set[str]] = {v: set() for v in found}
    for v, givens in parents.items():
        for g in givens:
            if g in below:
                below[g].add(v)
    return {v: frozenset(_reached(v, below)) for v in found}


def _reached(start: str, below: dict[str, set[str]]) -> set[str]:
    seen, pending = {start}, [start]
    while pending:
        for v in below[pending.pop()]:
            if v not in seen:
                seen.add(v)
                pending.append(v)
    return seen


def prune(turn: Turn, entry: Entry) -> Rewrite | None:
    """The path to the ancestors of the variables used."""
    path = ancestors(entry.path, {v for t in entry.terms for v in t.atom.variables})
    if path == entry.path or not entry.terms:
        return None
    gone = [f for f in entry.path if f not in path]
    parts: list[Part] = []
    for i, f in enumerate(gone):
        parts += [", ", f] if i else [f]
    return Rewrite(replace(entry, path=path), ((*parts, ": not used"),))


def gradient(turn: Turn, entry: Entry) -> Rewrite | None:
    """Choose an estimator for every term (the table "Which gradient")."""
    if not entry.terms:
        return None
    live = turn.facts.live(turn.player, entry.path)
    terms = tuple(replace(t, estimator=_estimator(turn, entry, t, live)) for t in entry.terms)
    told: list[tuple[Part, ...]] = []
    if any(t.estimator == "pathwise" for t in terms):
        through = [v for v in (v for f in entry.path for v in f.outputs) if v in live]
        told.append(("pathwise through " + ", ".join(_drawn(turn, entry, v) for v in through),))
    if any(t.estimator == "closed form" for t in terms):
        told.append(("closed form",))
    parts: tuple[Part, ...] = tuple(p for i, line in enumerate(told) for p in ((("; ", *line)) if i else line))
    return Rewrite(replace(entry, terms=terms), (parts,) if parts else ())


def _estimator(turn: Turn, entry: Entry, term: Term, live: frozenset[str]) -> Estimator:
    if isinstance(term.atom, ClosedKL):
        _verify_reparameterised(turn, entry, term.atom, live)
        return "closed form"
    if term.detached or live.isdisjoint(term.atom.variables):
        return "average"
    _verify_reparameterised(turn, entry, term.atom, live)
    return "pathwise"


def _verify_reparameterised(turn: Turn, entry: Entry, atom: Atom, live: frozenset[str]) -> None:
    for f in ancestors(entry.path, atom.variables):
        if not live.isdisjoint(f.outputs) and not turn.facts.reparameterised(f):
            what = "the gradient through a discrete variable (enumeration or the score function)"
            raise Refused(errors.not_yet(f.span, what))


def _drawn(turn: Turn, entry: Entry, variable: str) -> str:
    """`x = G(z)` for a Dirac of a net, else the variable alone."""
    f = next(f for f in entry.path if variable in f.outputs)
    law = turn.facts.model.laws[f.law]
    if isinstance(law.body, Dirac) and isinstance(law.body.value, NetCall):
        return f"{variable} = {law.body.value.net}({','.join(f.givens)})"
    return variable


CLOSED = Rule("CLOSED-FORM", "E_f{log f - log g} = KL[f || g] where the integral is known", closed_form)
PRUNE = Rule("PRUNE", "what no term depends on integrates to one", prune)
GRADIENT = Rule("GRADIENT", "plain average, pathwise or closed form, by what moves", gradient)
