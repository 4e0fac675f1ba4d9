"""When each player steps.

A round is: Free and closed steps; classifiers and critics; a snapshot; then the others in order of declaration.
"""

from __future__ import annotations

from collections.abc import Iterable

from jointkl.objective.ir import Phase, Player

RANK = {"free": 0, "classifier": 1, "critic": 1, "other": 2}


def phases(players: Iterable[Player]) -> tuple[Phase, ...]:
    """The phases of a round. The snapshot comes before the first of the others; the engine renews it only in rounds in
    which a classifier or critic stepped, in every round if there are none."""
    ordered = sorted(players, key=lambda p: RANK[p.kind])
    first = next((p for p in ordered if p.kind == "other"), None)
    return tuple(Phase(p.name, p.kind, p is first) for p in ordered)
