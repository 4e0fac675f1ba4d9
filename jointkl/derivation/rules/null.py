"""NULL: a pair whose density is drawn on the path has no gradient at the old value."""

from __future__ import annotations

from dataclasses import replace

from jointkl.derivation import errors
from jointkl.derivation.copies import is_weighed
from jointkl.derivation.expr import Atom, ClosedKL, Expectation, LogFactor, LogMarginal, OldDistance, Term
from jointkl.derivation.facts import ancestors, factors_of
from jointkl.derivation.integrals import known
from jointkl.derivation.live import moves
from jointkl.derivation.parts import Braces, Density, Line, Name, Number, Over, Sign, Symbol, formula
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext
from jointkl.derivation.sampled import is_own
from jointkl.derivation.showing import as_text
from jointkl.derivation.substitution import Pair, pairs, unmarked, without
from jointkl.derivation.suggestions import goal_line
from jointkl.derivation.unknown import weighed_score
from jointkl.diagnostics import Refused
from jointkl.semantics.model import Dirac, Factor, law_label


def null(context: RuleContext, entry: Expectation) -> Rewrite | None:
    """f sampled on this path, or the path's own marginal: E{log f - log f_old} has no gradient at the old value."""
    made, told = entry, list[Line]()
    for pair, term in pairs(entry):
        if not is_own(context.facts, entry, context.entries, pair.new) or not _is_whole(context, entry, pair.new):
            continue
        if is_weighed(context, entry):
            if not context.facts.evaluable(pair.new, entry.path):
                raise Refused(weighed_score(context.facts, context.goal, context.player, pair.new))
            made = unmarked(made, term)
            told.append((Braces(pair.terms(term)), ": under copies its score is weighed; kept"))
            continue
        kept, says = _proximal(context, entry, pair, term)
        made = made.of((*without(made, pair, term), *kept))
        told.append((formula(Over("E"), " ", Braces(pair.terms(term)), "=", *_divergence(pair)), f": {says}"))
    return Rewrite(made, tuple(told[:1]), tuple(told[1:])) if told else None


def _is_whole(context: RuleContext, entry: Expectation, atom: Atom) -> bool:
    """A mixture's score is zero over the entries of one label together: NULL is for all of them or for none. Of one
    without a substitution, as where nothing moves but the mixture's other branches, the score stays as it is."""
    if not isinstance(atom, LogMarginal) or len(atom.branches) == 1:
        return True
    facts, siblings = context.facts, [e for e in context.entries if e.label == entry.label]
    return all(
        any(
            not facts.evaluable(t.atom, e.path) and moves(facts, context.player, facts.live(context.player, e.path), t)
            for t in e.terms
        )
        for e in siblings
    )


def _divergence(pair: Pair) -> tuple[Symbol | Sign, ...]:
    """`2 x KL(q || q_old)`"""
    new, old = _densities(pair)
    times = () if pair.coefficient == 1 else (Number(float(pair.coefficient)), "x")
    return (*times, Name("KL"), "(", new, "||", old, ")")


def _densities(pair: Pair) -> tuple[Symbol, Symbol]:
    """Both halves by their label, `q` and `q_old`; a marginal without a name is written out."""
    match pair.new:
        case LogFactor(factor=f):
            label = f.label
        case LogMarginal(name=name) if name:
            label = law_label(name)
        case _:
            return Density(pair.new), Density(pair.old)
    return Name(label), Name(label, old=True)


def _proximal(context: RuleContext, entry: Expectation, pair: Pair, term: Term) -> tuple[tuple[Term, ...], str]:
    """What `proximal` keeps of a NULL pair."""
    options = context.goal.options
    gone = "no gradient at the old value; dropped"
    if options.proximal == "none" or pair.coefficient <= 0:
        return (), gone
    own = [f for f in factors_of(pair.new) if context.facts.owns(context.player, f)]
    if options.proximal == "dirac":
        drawn = [f for f in _drawn(entry, pair.new) if context.facts.owns(context.player, f)]
        diracs = [f for f in drawn if isinstance(context.facts.model.laws[f.law].body, Dirac)]
        if not diracs or options.dirac == 0:
            return (), gone
        kept = tuple(Term(options.dirac, OldDistance(f), span=options.span("proximal")) for f in diracs)
        return kept, "kept as the distance to the old copy (Su 26)"
    match pair.new:
        case LogFactor(factor=f) if known(context.facts, f, f):
            kl = ClosedKL(f, replace(f, old=True))
            return (Term(pair.coefficient, kl, span=term.span),), "kept in closed form"
        case _:
            cause = context.facts.model.laws[own[0].law].span if own else term.span
            name = as_text(Density(pair.new))
            line = goal_line(context.facts.model, context.goal, without=("proximal",))
            raise Refused(errors.no_closed_proximal(options.span("proximal"), name, cause, line))


def _drawn(entry: Expectation, atom: Atom) -> tuple[Factor, ...]:
    """The factors of the atom as this path draws them: of a mixture its own branch, under the path's names."""
    if not isinstance(atom, LogMarginal):
        return factors_of(atom)
    laws = {f.law for f in atom.factors}
    above = ancestors(entry.path, atom.givens)
    return tuple(f for f in ancestors(entry.path, atom.outputs) if f.law in laws and f not in above)


F, OLD = Name("f"), Name("f", old=True)
NULL = Rule(
    "NULL",
    (
        formula(
            *(Over("E", "f"), "{", "log", F, "-", "log", OLD, "}", "=", Name("KL"), "(", F, "||", OLD, ")"),
        ),
        ": no gradient at the old value",
    ),
    null,
)
