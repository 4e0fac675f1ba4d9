"""CLOSED-FORM, PRUNE and GRADIENT: how what is left is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import ClosedCE, ClosedKL, Entry, Estimator, LogFactor, LogMarginal, Part, Term
from jointkl.derivation.facts import ancestors
from jointkl.derivation.rewrite import Rewrite, Rule, Turn
from jointkl.diagnostics import Refused
from jointkl.semantics.families import CLOSED_FORM, CROSS_ENTROPY
from jointkl.semantics.model import Dirac, Distribution, Factor, Free, NetCall
from jointkl.semantics.wording import words

Pair = tuple[Term, Factor, Term, Factor]
"""+c log f(v|.) and -c log g(v|.), f sampled on the path, each with its factor."""


def closed_form(turn: Turn, entry: Entry) -> Rewrite | None:
    """+c log f(v|.) - c log g(v|.), f sampled on the path: c KL[f || g] at the parents."""
    makers = _makers(entry)
    gone: set[Term] = set()
    closed: list[Term] = []
    told: list[tuple[Part, ...]] = []
    left: dict[str, list[str]] = {}
    for t, f, other, g in _pairs(entry):
        why = _bar(turn, entry, makers, f, g)
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


def closable(turn: Turn, entry: Entry) -> tuple[tuple[Term, Term], ...]:
    """The pairs that have a closed form, f a law that nobody trains: log f alone would be a constant for everybody."""
    if turn.player.kind == "free" or turn.goal.options.game is not None or "moments" in turn.goal.options.estimate:
        return ()
    makers = _makers(entry)
    fixed = [(t, f, other, g) for t, f, other, g in _pairs(entry) if not turn.facts.trained(f)]
    return tuple((t, other) for t, f, other, g in fixed if not _bar(turn, entry, makers, f, g))


def _pairs(entry: Entry) -> Iterator[Pair]:
    against = {
        t.atom.factor.outputs: t
        for t in entry.terms
        if _is_plain(t) and t.coefficient < 0 and isinstance(t.atom, LogFactor)
    }
    on_path = frozenset(entry.path)
    for t in entry.terms:
        if not (isinstance(t.atom, LogFactor) and _is_plain(t) and t.coefficient > 0 and t.atom.factor in on_path):
            continue
        other = against.get(t.atom.factor.outputs)
        if other is not None and isinstance(other.atom, LogFactor) and other.coefficient == -t.coefficient:
            yield t, t.atom.factor, other, other.atom.factor


def cross_entropy(turn: Turn, entry: Entry) -> Rewrite | None:
    """-c log g(v|.) alone, f sampled on the path: c CE[f || g] at the parents."""
    makers = _makers(entry)
    paired = {t.atom.factor.outputs for t in entry.terms if isinstance(t.atom, LogFactor) and t.coefficient > 0}
    terms: list[Term] = []
    told: list[tuple[Part, ...]] = []
    for t in entry.terms:
        f = _drawing(turn, entry, makers, t)
        if f is None or not isinstance(t.atom, LogFactor) or t.coefficient > 0 or f.outputs in paired:
            terms.append(t)
            continue
        terms.append(replace(t, coefficient=-t.coefficient, atom=ClosedCE(f, t.atom.factor)))
        told.append((Term(Fraction(-1), t.atom), " = ", terms[-1].atom))
    return Rewrite(replace(entry, terms=tuple(terms)), tuple(told[:1]), tuple(told[1:])) if told else None


def _drawing(turn: Turn, entry: Entry, makers: Mapping[str, tuple[int, Factor]], t: Term) -> Factor | None:
    """The law f of the path that draws what `t` is the log density g of, where E_f{-log g} is known."""
    if not (isinstance(t.atom, LogFactor) and _is_plain(t)):
        return None
    g = t.atom.factor
    _, f = makers.get(g.outputs[0], (0, g))
    body = turn.facts.model.laws[f.law].body
    known = isinstance(body, Distribution) and body.family in CROSS_ENTROPY and f.outputs == g.outputs
    return f if known and f != g and not _bar(turn, entry, makers, f, g) else None


def _makers(entry: Entry) -> Mapping[str, tuple[int, Factor]]:
    """By variable the factor of the path that draws it, and its place."""
    return {v: (i, f) for i, f in enumerate(entry.path) for v in f.outputs}


def _bar(turn: Turn, entry: Entry, makers: Mapping[str, tuple[int, Factor]], f: Factor, g: Factor) -> str:
    """Why a pair has no closed form here, or nothing."""
    return _barred(turn) or _why_not(turn, makers, f, g) or _weighed(entry, makers, f)


def _barred(turn: Turn) -> str:
    """What bars closed forms from a goal, or nothing."""
    options = turn.goal.options
    if options.importance and turn.divergence.name == "KL":
        return "copies are averaged within the logarithm"
    return next((f"estimate={e}" for e in options.estimate if e in ("monte_carlo", "score")), "")


def _why_not(turn: Turn, makers: Mapping[str, tuple[int, Factor]], f: Factor, g: Factor) -> str:
    """The side condition of the closed form that fails, or nothing."""
    if not _known(turn, f, g):
        return "the integral is not known"
    below = any(_descends(makers, v, w) for v in g.givens for w in f.outputs)
    return "what the second is given descends from it" if below else ""


def _is_plain(t: Term) -> bool:
    return isinstance(t.atom, LogFactor) and t.atom.value is None and not t.detached


def _known(turn: Turn, f: Factor, g: Factor) -> bool:
    left, right = turn.facts.model.laws[f.law].body, turn.facts.model.laws[g.law].body
    if not (isinstance(left, Distribution) and isinstance(right, Distribution)):
        return False
    return (left.family, right.family) in CLOSED_FORM


def _descends(makers: Mapping[str, tuple[int, Factor]], variable: str, other: str) -> bool:
    """Does `variable` descend from `other`? What is drawn before it does not, which ends the search early."""
    if variable not in makers:
        return False
    first = makers[other][0]
    seen: set[str] = set()
    pending = [variable]
    while pending:
        v = pending.pop()
        if v == other:
            return True
        place, f = makers[v]
        if place > first:
            above = [g for g in f.givens if g in makers and g not in seen]
            seen.update(above)
            pending += above
    return False


def prune(turn: Turn, entry: Entry) -> Rewrite | None:
    """The path to the ancestors of the variables used."""
    weighing = (*entry.weights, *((entry.softmax,) if entry.softmax else ()))
    used = {v for a in (*(t.atom for t in entry.terms), *weighing) for v in a.variables}
    path = ancestors(entry.path, used)
    if path == entry.path or not entry.terms:
        return None
    kept = frozenset(path)
    gone = [f for f in entry.path if f not in kept]
    parts: list[Part] = []
    for i, f in enumerate(gone):
        parts += [", ", f] if i else [f]
    return Rewrite(replace(entry, path=path), ((*parts, ": not used"),))


MOST_VALUES = 64
"""A joint support up to this is summed over exactly; beyond, the score function is used."""


def gradient(turn: Turn, entry: Entry) -> Rewrite | None:
    """Choose an estimator for every term (the table "Which gradient")."""
    if not entry.terms:
        return None
    facts = turn.facts
    live = facts.live(turn.player, entry.path)
    exact, scored = _discrete(turn, entry, live)
    made = replace(entry, enumerated=exact, scored=scored)
    if made.importance and (exact or scored):
        what = "importance weights over discrete variables"
        if scored and all(facts.model.space(v).support is None for v in scored) and _asks_for_score(turn):
            what = "the score function under importance weights"
        raise Refused(errors.not_yet(turn.divergence.span, what))
    terms = tuple(replace(t, estimator=_estimator(t, live, made)) for t in entry.terms)
    told: list[tuple[Part, ...]] = []
    if exact:
        told.append((f"sum over {', '.join(exact)}, exact",))
    if scored:
        why = "" if _asks_for_score(turn) else f": more than {MOST_VALUES} values"
        told.append((f"score function of {', '.join(scored)}, with a baseline{why}",))
    if any(t.estimator == "pathwise" for t in terms):
        through = [v for f in entry.path for v in f.outputs if v in live and v not in (*exact, *scored)]
        told.append(("pathwise through " + ", ".join(_drawn(turn, entry, v) for v in through),))
    if any(t.estimator == "closed form" for t in terms):
        told.append(("closed form",))
    parts: tuple[Part, ...] = tuple(p for i, line in enumerate(told) for p in ((("; ", *line)) if i else line))
    return Rewrite(replace(made, terms=terms), (parts,) if parts else ())


def _weighed(entry: Entry, makers: Mapping[str, tuple[int, Factor]], f: Factor) -> str:
    """Whether a classifier that weighs the sum sees what f draws, or nothing."""
    seen = any(_descends(makers, v, u) for w in entry.weights for v in w.variables for u in f.outputs)
    return "the classifier that weighs it sees what is drawn" if seen else ""


def _asks_for_score(turn: Turn) -> bool:
    return "score" in turn.goal.options.estimate


def _discrete(turn: Turn, entry: Entry, live: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The variables of the path to sum over, and those to use the score function for.

    Free laws are always summed over; a live discrete variable is, if the joint support is small. Under `estimate=score`
    it never is; where none is live, it is the live continuous ones that are scored.
    """
    facts = turn.facts
    used = {v for t in entry.terms if not t.detached for v in t.atom.variables}
    used |= {v for w in entry.weights for v in w.variables}
    needed = ancestors(entry.path, used)
    laws = facts.model.laws
    free = [f for f in needed if isinstance(laws[f.law].body, Free)]
    drawn = [f for f in needed if f not in free and not live.isdisjoint(f.outputs)]
    moving = [f for f in drawn if not facts.reparameterised(f)]
    if drawn and not moving and _asks_for_score(turn):
        moving = [f for f in drawn if isinstance(laws[f.law].body, Distribution)]
        if not moving:
            law = laws[next((f.law for f in drawn if facts.owns(turn.player, f)), drawn[0].law)]
            raise Refused(errors.score_of_dirac(turn.goal.options.span("estimate"), law.text, law.span))
    support = _support(turn, (*free, *moving))
    if support <= MOST_VALUES and not _asks_for_score(turn):
        summed = {*free, *moving}
        summed |= _fixed(turn, entry, needed, summed, MOST_VALUES // support)
        return tuple(v for f in needed if f in summed for v in f.outputs), ()
    if entry.weights and moving:
        raise Refused(errors.not_yet(moving[0].span, "the score function under a classifier's weight"))
    return tuple(v for f in free for v in f.outputs), tuple(v for f in moving for v in f.outputs)


def _support(turn: Turn, factors: Iterable[Factor]) -> int:
    """How many values the outputs have together; more than `MOST_VALUES` may be any number beyond it."""
    support = 1
    for f in factors:
        for v in f.outputs:
            count = turn.facts.model.space(v).support
            support = support * count if count is not None and support <= MOST_VALUES else MOST_VALUES + 1
    return support


def _fixed(turn: Turn, entry: Entry, needed: tuple[Factor, ...], summed: Set[Factor], most: int) -> frozenset[Factor]:
    """The finite laws that nothing of the player moves, where one of them stands against a density over what it draws:
    summed exactly, too, as far as there are no more than `most` values and nothing else is drawn from theirs."""
    options = turn.goal.options
    if entry.importance or entry.weights or entry.softmax or "monte_carlo" in options.estimate:
        return frozenset()
    model = turn.facts.model
    chosen: list[Factor] = []
    for f in needed:
        finite = isinstance(model.laws[f.law].body, Distribution) and _support(turn, (f,)) <= MOST_VALUES
        if f not in summed and finite and not any(model.variable(v).is_global for v in f.outputs):
            chosen.append(f)
    while chosen:
        every = {*summed, *chosen}
        bad = [f for f in chosen if any(g not in every and not set(g.givens).isdisjoint(f.outputs) for g in needed)]
        if not bad and _support(turn, chosen) <= most:
            break
        chosen.remove((bad or chosen)[-1])
    against = {v for t in entry.terms if not t.detached for v in _density_of(t)}
    return frozenset(chosen if any(not against.isdisjoint(f.outputs) for f in chosen) else ())


def _density_of(t: Term) -> tuple[str, ...]:
    """The variables that a term is the log density of."""
    match t.atom:
        case LogFactor(factor=f, value=None):
            return f.outputs
        case LogMarginal(outputs=outputs):
            return outputs
        case _:
            return ()


def _estimator(term: Term, live: frozenset[str], entry: Entry) -> Estimator:
    """By what an atom's variables descend from: a value also moves with the discrete draws that it is drawn under."""
    drawn = {v for f in ancestors(entry.path, term.atom.variables) for v in f.outputs}
    if not term.detached and not drawn.isdisjoint(entry.scored):
        return "score function"
    if isinstance(term.atom, ClosedKL | ClosedCE):
        return "closed form"
    if term.detached or live.isdisjoint(term.atom.variables):
        return "average"
    return "enumeration" if not drawn.isdisjoint(entry.enumerated) else "pathwise"


def _drawn(turn: Turn, entry: Entry, variable: str) -> str:
    """`x = G(z)` for a Dirac of a net, else the variable alone."""
    f = next(f for f in entry.path if variable in f.outputs)
    law = turn.facts.model.laws[f.law]
    if isinstance(law.body, Dirac) and isinstance(law.body.value, NetCall):
        return f"{variable} = {law.body.value.net}({','.join(map(str, f.arguments))})"
    return variable


CLOSED = Rule("CLOSED-FORM", "E_f{log f - log g} = KL[f || g] where the integral is known", closed_form)
CROSS = Rule("CROSS-ENTROPY", "E_f{-log g} = CE[f || g] where the integral is known", cross_entropy)
PRUNE = Rule("PRUNE", "what no term depends on integrates to one", prune)
GRADIENT = Rule("GRADIENT", "plain average, pathwise or closed form, by what moves", gradient)
