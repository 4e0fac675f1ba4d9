"""All losses in one, for a simultaneous step: one backward gives every player its own gradient.

A classifier's loss has at a sample x the gradient a(l) dl/dx, l = D(x) its logit; who plays against it wants
b(l) dl/dx. So the classifier is run once, and what arrives at x is multiplied, datum by datum, by b/a. Up to weights a
is -sigma(-l) or sigma(l), of -log sigma(l) or -log sigma(-l), and b one of these or that of l itself, 1: b/a is a
constant or one of exp(l), exp(-l), 1 + exp(l), 1 + exp(-l), with a sign. Where a classifier wins a vanishes and b does
not: there a is the root of the smallest float more, in the classifier's gradient as in b/a, and b dl/dx comes out right
at any logit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from jointkl.objective.ir import (
    GradientTap,
    Id,
    LogProb,
    Loss,
    Node,
    Objective,
    Rescale,
    Term,
)
from jointkl.objective.walk import Line, are_terms, mapped, reached, upstream
from jointkl.semantics.layers import is_rowwise

REFEREES = ("classifier", "critic")

Owned = tuple[str, Term]
"""A term and the player whose loss it stands in."""

Ratio = tuple[Fraction, int, bool]
"""b/a = factor * exp(power l), or factor * (1 + exp(power l)); a power of 0 is the factor alone."""

SAME: Ratio = (Fraction(1), 0, False)


def together(objective: Objective) -> Loss | None:
    """The losses of classifiers and critics and of the one player beside them as one, its terms marked by player.

    None where that cannot be: other players, copies or hinges, a classifier that sees more than one datum at once, or
    terms that play by more than its logit.
    """
    losses = {loss.player: loss for loss in objective.losses}
    referees = [p for p in objective.players if p.name in losses and p.kind in REFEREES]
    others = [p for p in objective.players if p.name in losses and p.kind not in REFEREES]
    plain = not any(loss.copied or loss.hinges for loss in objective.losses)
    if not referees or len(others) != 1 or not plain or objective.solutions or objective.steps:
        return None
    judges = frozenset(m for p in referees for m in p.members)
    if not all(is_rowwise(net) for name, net in objective.nets.items() if name in judges):
        return None
    nodes, terms = _merged([losses[p.name] for p in (*referees, *others)])
    judged, moving = reached(nodes, judges), reached(nodes, frozenset(others[0].members))
    says = Verdicts(nodes, judged, are_terms(nodes))
    verdicts: dict[Id, tuple[bool, Fraction]] = {}
    ratios: dict[Id, Ratio] = {}
    for player, t in terms:
        logit, up = says.of(t.node)
        if player == others[0].name:
            if t.node not in judged:
                continue
            if logit is None or logit not in verdicts or logit in ratios:
                return None
            ratios[logit] = _ratio(*verdicts[logit], up, t.coefficient)
        elif logit is not None and up is not None and logit not in verdicts:
            verdicts[logit] = up, t.coefficient
        elif t.node in moving:
            return None
    return _joined(says, terms, others[0].name, moving, {v: ratios.get(v) for v in verdicts})


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What is made of logits; `judged` are the nodes that move with a classifier."""

    nodes: Sequence[Node]
    judged: frozenset[Id]
    terms: Sequence[bool]

    def of(self, i: Id) -> tuple[Id | None, bool | None]:
        """The logit that a term's node is a function of, and which: log sigma(l), log sigma(-l), or None: l itself."""
        match self.nodes[i]:
            case LogProb(density=d, value=None, fixed=fixed) if d.family == "Bernoulli" and fixed is not None:
                ((name, logit),) = d.parameters
                return (logit, bool(fixed)) if name == "logits" and logit in self.judged else (None, None)
            case _ if i in self.judged and not self.terms[i]:
                return i, None
            case _:
                return None, None


def _ratio(judge_up: bool, judge: Fraction, up: bool | None, own: Fraction) -> Ratio:
    """b/a of terms judge * log sigma(+-l) and own * log sigma(+-l), or own * l."""
    c = own / judge
    power = 1 if judge_up else -1
    if up is None:
        return c * power, power, True
    return (c, 0, False) if up == judge_up else (-c, power, False)


def _merged(losses: Sequence[Loss]) -> tuple[tuple[Node, ...], tuple[Owned, ...]]:
    """The nodes of all losses, equal ones once, and each loss's terms: a draw is the same for every player."""
    line = Line()
    terms: list[Owned] = []
    for loss in losses:
        moved: dict[Id, Id] = {}
        for i, node in enumerate(loss.nodes):
            moved[i] = line.add(mapped(node, moved.__getitem__))
        terms += [(loss.player, replace(t, node=moved[t.node])) for t in loss.terms]
    return tuple(line.nodes), tuple(terms)


def _joined(
    says: Verdicts,
    terms: Sequence[Owned],
    player: str,
    moving: frozenset[Id],
    ratios: dict[Id, Ratio | None],
) -> Loss:
    """The line in which each logit sees what moves with the player by a node of its own, which is rescaled."""
    nodes, judged = says.nodes, says.judged
    line = Line()
    base: dict[Id, Id] = {}
    for i, node in enumerate(nodes):
        if i not in judged:
            base[i] = line.add(mapped(node, base.__getitem__))
    rescales: dict[Id, Rescale] = {}

    def judgement(root: Id, place: int, ratio: Ratio | None) -> Id:
        """A judged node anew, what moves played in its place; `ratio` None: who moves it takes nothing of it."""
        inside = sorted(i for i in {root, *upstream(nodes, root)} if i in judged)
        made: dict[Id, Id] = {}
        seen: list[Id] = []

        def operand(i: Id) -> Id:
            if i in made or i not in moving or ratio == SAME:
                return made[i] if i in made else base[i]
            if ratio is None:
                return line.add(GradientTap(base[i]))
            seen.append(line.add(GradientTap(base[i], "rescaled", place)))
            return seen[-1]

        for i in inside:
            made[i] = line.add(mapped(nodes[i], operand))
        if ratio is not None:
            rescales.update((i, Rescale(i, made[root], *ratio)) for i in seen)
        return made[root]

    logits = {logit: judgement(logit, k, ratio) for k, (logit, ratio) in enumerate(ratios.items())}
    made: list[Term] = []
    for owner, t in terms:
        logit, _ = says.of(t.node)
        if logit is not None:
            node = line.add(GradientTap(logits[logit])) if owner == player else logits[logit]
            if isinstance(said := nodes[t.node], LogProb):
                lasting = owner != player and (ratio := ratios[logit]) is not None and ratio[1] != 0
                node = line.add(replace(mapped(said, lambda i, value=node: value), lasting=lasting))
        else:
            node = judgement(t.node, -1, SAME) if t.node in judged else base[t.node]
        made.append(replace(t, node=node, player=owner))
    return Loss("", (), tuple(line.nodes), tuple(made), rescales=tuple(rescales.values()))
