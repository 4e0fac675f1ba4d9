"""What several seeds came to: mean and standard deviation."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jointkl import disk

SUMMARY = "summary.json"


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation over the seeds, with n - 1; one seed has no deviation."""

    mean: float
    sd: float | None


def spread(every: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Of the value that each name has for every seed."""
    values = {name: [own[name] for own in every] for name in every[0]}
    return {n: Spread(statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else None) for n, v in values.items()}


def write(folder: Path, seeds: Sequence[int], number: int, losses: Sequence[Mapping[str, float]]) -> None:
    """`summary.json`: each player's loss at round `number`, over the seeds and of each."""
    found = {player: asdict(s) | {"each": [own[player] for own in losses]} for player, s in spread(losses).items()}
    content = {"round": number, "seeds": list(seeds), "losses": found}
    disk.write(folder / SUMMARY, (json.dumps(content, indent=2) + "\n").encode())
