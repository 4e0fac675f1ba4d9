"""BLOCK and GAME: what of an entry concerns a player."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from jointkl.derivation import errors
from jointkl.derivation.expr import Braces, Entry, LogFactor, LogMarginal, Moments, Term
from jointkl.derivation.facts import ancestors
from jointkl.derivation.rewrite import Rewrite, Rule, Turn, listed
from jointkl.derivation.rules.closing import closable
from jointkl.derivation.rules.importance import replicated
from jointkl.derivation.rules.judges import classification, is_judge
from jointkl.derivation.sampled import is_own
from jointkl.diagnostics import Refused
from jointkl.semantics.model import Constant, Distribution, Factor


def block(turn: Turn, entry: Entry) -> Rewrite | None:
    if is_judge(turn):
        return classification(turn, entry)
    live = turn.facts.live(turn.player, entry.path)
    weighed = live_weight(turn, entry) is not None
    kept = tuple(
        t
        for t in entry.terms
        if turn.facts.param_live(turn.player, t.atom)
        or not live.isdisjoint(t.atom.variables)
        or (weighed and not _under_every_label(turn, entry, t))
    )
    if turn.counts:
        return None  # its constants move the hinge
    if kept and turn.goal.options.importance:
        drawn = replicated(turn, entry)
        kept = tuple(t for t in entry.terms if t in kept or not drawn.isdisjoint(t.atom.variables))
    held = {f for f, g in closable(turn, entry) if g in kept}
    kept = tuple(t for t in entry.terms if t in kept or t in held)
    if len(kept) == len(entry.terms):
        return None
    made = replace(entry, terms=kept)
    if not kept:
        return Rewrite(made, ((f"nothing of {turn.player.name}",),))
    staying = frozenset(kept)
    gone = tuple(t for t in entry.terms if t not in staying)
    return Rewrite(made, ((*listed(gone), f": constant for {turn.player.name}"),))


def _under_every_label(turn: Turn, entry: Entry, t: Term) -> bool:
    """Does the term stand under all values of the label alike? Then the weights sum to one: it is what it is."""
    weighing = {w.factor for w in entry.weights}
    siblings = [e for e in turn.entries if {w.factor for w in e.weights} == weighing]
    seen = {*t.atom.variables, *(v for w in entry.weights for v in w.variables)}
    above = ancestors(entry.path, seen)
    alike = [e for e in siblings if _coefficient(e, t) == t.coefficient and ancestors(e.path, seen) == above]
    labels = {e.label for e in siblings}
    return len(alike) == len(siblings) == len(labels)


def _coefficient(entry: Entry, t: Term) -> Fraction:
    return sum((u.coefficient for u in entry.terms if u.atom == t.atom), Fraction(0))


def live_weight(turn: Turn, entry: Entry) -> LogFactor | None:
    """A classifier that weighs the entry and moves with the player."""
    live = turn.facts.live(turn.player, entry.path)
    moved = (w for w in entry.weights if turn.facts.param_live(turn.player, w) or not live.isdisjoint(w.variables))
    return next(moved, None)


def game(turn: Turn, entry: Entry) -> Rewrite | None:
    """`minimax`: + log c(k|v) (Su 42); `nonsaturating`: - log c(1-k|v) (Su 43); in place of the derived term."""
    played = turn.goal.options.game
    if played is None or turn.labelled is None or entry.label is None or not entry.terms:
        return None
    c = turn.labelled.classifier
    if turn.facts.owns(turn.player, c):
        return None
    value = entry.label[1]
    if not turn.counts and turn.facts.live(turn.player, entry.path).isdisjoint(c.givens):
        return Rewrite(replace(entry, terms=()), (("the classifier's value does not move here",),))
    if played == "minimax":
        term = Term(Fraction(1), LogFactor(c, value), span=c.span)
        says = "the classifier's own value (minimax): "
    else:
        values = [v for v, _, _ in turn.labelled.branches]
        if len(values) != 2:
            raise Refused(errors.not_yet(turn.goal.options.span("game"), "flipped labels among more than two"))
        other = next(v for v in values if v != value)
        term = Term(Fraction(-1), LogFactor(c, other), span=c.span)
        says = "the label flipped (non-saturating): "
    return Rewrite(replace(entry, terms=(term,)), ((says, Braces((term,))),))


def moments(turn: Turn, entry: Entry) -> Rewrite | None:
    """log M - log N(0, I), M the path's marginal: the closed KL of the batch's Gaussian fit to N(0, I)."""
    if "moments" not in turn.goal.options.estimate or not entry.terms:
        return None
    for t in entry.terms:
        outputs = _outputs(t)
        for other in entry.terms:
            one_path = not isinstance(t.atom, LogMarginal) or len(t.atom.branches) == 1
            own = len(outputs) == 1 and one_path and is_own(turn.facts, entry, turn.entries, t.atom)
            if own and t.coefficient == -other.coefficient and _is_standard(turn, other, outputs):
                made = replace(t, atom=Moments(outputs[0]))
                rest = tuple(u for u in entry.terms if u is not t and u is not other)
                told = ((t.atom, " - ", other.atom, ": ", made.atom),)
                return Rewrite(replace(entry, terms=(*rest, made)), told)
    raise Refused(errors.no_moments(turn.goal.options.span("estimate")))


def _outputs(t: Term) -> tuple[str, ...]:
    match t.atom:
        case LogMarginal(outputs=outputs) | LogFactor(factor=Factor(outputs=outputs), value=None):
            return outputs
        case _:
            return ()


def _is_standard(turn: Turn, t: Term, outputs: tuple[str, ...]) -> bool:
    """Is the atom the log of a standard normal over `outputs`?"""
    if not (isinstance(t.atom, LogFactor) and t.atom.factor.outputs == outputs and not t.atom.factor.givens):
        return False
    body = turn.facts.model.laws[t.atom.factor.law].body
    standard = (("loc", Constant(0.0)), ("scale", Constant(1.0)))
    return isinstance(body, Distribution) and body.family == "Normal" and body.parameters == standard


def free(turn: Turn, entry: Entry) -> Rewrite | None:
    """A Free law on the path, c its own coefficient: f := softmax over its variable of -(the other atoms)/c."""
    if turn.player.kind != "free" or not entry.terms:
        return None
    f = next((f for f in entry.path if f.law in turn.player.laws), None)
    own = next((t for t in entry.terms if isinstance(t.atom, LogFactor) and t.atom.factor == f), None)
    if (weighing := live_weight(turn, entry)) is not None:
        raise Refused(errors.live_weight(turn.divergence.span, weighing.factor.span, turn.player.name))
    if f is None or own is None or entry.weight * own.coefficient <= 0 or entry.label is not None:
        law = turn.facts.model.laws[turn.player.laws[0]]
        raise Refused(errors.free_without_entropy(turn.divergence.span, law.text, law.span))
    others = tuple(replace(t, coefficient=t.coefficient / own.coefficient) for t in entry.terms if t is not own)
    if not all(set(t.atom.variables) <= {*f.outputs, *f.givens} for t in others):
        raise Refused(errors.free_beside(turn.divergence.span, f, _beside(f, others)))
    made = replace(entry, weight=Fraction(1), terms=others, free=f, enumerated=f.outputs)
    return Rewrite(made, ((f, " := softmax of -", Braces(others), f" over {f.outputs[0]}"),))


def _beside(f: Factor, others: tuple[Term, ...]) -> tuple[str, ...]:
    """The variables of the other atoms that a Free law does not see."""
    return tuple(dict.fromkeys(v for t in others for v in t.atom.variables if v not in (*f.outputs, *f.givens)))


BLOCK = Rule("BLOCK", "an atom without the player's parameters and moving variables is a constant for it", block)
FREE = Rule("FREE", "argmin_f E_f{c log f + g} = softmax(-g/c)", free)
MOMENTS = Rule("MOMENTS", "the KL of the Gaussian with M's moments stands for KL(M || N(0, I))", moments)
GAME = Rule("GAME", "who generates plays the classifier's value, or the flipped label's", game)
