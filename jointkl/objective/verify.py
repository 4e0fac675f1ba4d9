"""What may remain after lowering and sharing: every node refers backwards, and every loss has a gradient."""

from __future__ import annotations

from jointkl.objective.ir import Argument, Loss, Objective
from jointkl.objective.walk import operands


def verify(objective: Objective) -> Objective:
    """The objective itself. An assertion here is a mistake of ours, never of the spec."""
    for loss in objective.losses:
        _verify_loss(loss)
    return objective


def _verify_loss(loss: Loss) -> None:
    for i, node in enumerate(loss.nodes):
        assert all(j < i for j in operands(node)), f"{loss.player}: node {i} refers forward"
        assert not isinstance(node, Argument), f"{loss.player}: an argument in a loss"
