"""What may remain after lowering and sharing: every node refers backwards, and every loss has a gradient."""

from __future__ import annotations

from jointkl.objective.ir import (
    KL,
    Argument,
    Bound,
    Distance,
    GradientNorm,
    LogMixture,
    LogProb,
    LogSumExp,
    Loss,
    MomentKL,
    Objective,
    Score,
    ScoreFunction,
    Softmaxed,
    Weighted,
)
from jointkl.objective.walk import operands

TERMS = (
    LogProb
    | LogSumExp
    | LogMixture
    | KL
    | Distance
    | Score
    | Weighted
    | Bound
    | Softmaxed
    | ScoreFunction
    | MomentKL
    | GradientNorm
)
"""What a term of a loss may be."""


def verify(objective: Objective) -> Objective:
    """The objective itself. An assertion here is a mistake of ours, never of the spec."""
    for loss in objective.losses:
        _verify_loss(loss)
    return objective


def _verify_loss(loss: Loss) -> None:
    for i, node in enumerate(loss.nodes):
        assert all(j < i for j in operands(node)), f"{loss.player}: node {i} refers forward"
        assert not isinstance(node, Argument), f"{loss.player}: an argument in a loss"
    for term in loss.terms:
        assert isinstance(loss.nodes[term.node], TERMS), f"{loss.player}: a term without a density"
