"""Closed steps: a Free law's solution and a weighted maximum likelihood are stationary points of what they minimise."""

from __future__ import annotations

import torch
from torch import Tensor

from jointkl.audit.case import Case, apart, gradient
from jointkl.audit.expectation import Batch, whole
from jointkl.audit.findings import Finding
from jointkl.reference.goals import Undefined
from jointkl.reference.players import Player
from jointkl.reference.tables import Table


def solve_free(case: Case, name: str, player: Player) -> Finding:
    """The module's solution, kept for whoever plays beside it; the goal has no gradient in its logits there."""
    (key,) = player.members
    law = case.model.laws[key]
    batch = whole(case.sources)
    if name not in case.program.emitted.solutions:
        return Finding(name or key, "solution: none", float("inf"))
    found = case.solve(name, batch).detach()
    sizes = [case.world().size(g) for g in law.givens]
    rows = [_places(case, batch, g) for g in law.givens]
    table = torch.full((*sizes, found.shape[-1]), torch.nan, dtype=torch.float64)
    for i in range(len(found)):
        at = tuple(int(r[i]) for r in rows)
        table[at] = found[i]
    logits = table.log().requires_grad_()
    case.solved[key] = Table((*law.givens, *law.outputs), logits.softmax(-1))
    slope = gradient(case.exact(player), [logits])
    case.solved[key] = Table((*law.givens, *law.outputs), table)
    return Finding(name, "solution: stationary", apart(slope, torch.zeros_like(slope), 1.0))


def _places(case: Case, batch: Batch, variable: str) -> Tensor:
    """Which of its values a variable has in each row of a batch."""
    keys = [k for k in batch if k.rpartition(".")[2] == variable]
    if not keys:
        raise Undefined(f"{variable} is not given by evidence")
    values = batch[keys[0]]
    if case.model.space(variable).kind == "finite":
        return values.long()
    flat = values.reshape(len(values), -1).long()
    return (flat * 2 ** torch.arange(flat.shape[-1] - 1, -1, -1)).sum(-1)


def step(case: Case, name: str, player: Player) -> Finding:
    """After a closed step on the whole evidence the goal has no gradient, the Free laws as they were."""
    size = gradient(case.exact(player), case.parameters(player)).abs().max().item()
    case.solve(name, case.data())
    slope = gradient(case.exact(player), case.parameters(player))
    return Finding(name, "closed step: stationary", apart(slope, torch.zeros_like(slope), max(size, 1.0)))
