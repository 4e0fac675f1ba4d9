"""The judge over random specs, its figures printed: `python -m tests.audit.random_specs 20000 [first seed]`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import jointkl
from jointkl.audit.findings import Finding, text
from jointkl.audit.judge import audit
from tests.audit.drawing import spec

WHOLE = 20
"""Of one spec in so many densities, samples and Pyro programs are judged too."""


@dataclass
class Figures:
    """What became of the specs of some seeds."""

    judged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unjudged: int = 0
    compared: int = 0
    worst: float = 0.0
    deviation: float = 0.0
    wrong: list[str] = field(default_factory=list)
    """The specs that failed, with the findings."""

    def add(self, seed: int | str, whole: bool = False) -> None:
        """Judge the spec of a seed: its gradients, or all that the audit looks at."""
        written = spec(seed)
        try:
            model = jointkl.parse(written)
            jointkl.derive(model)
        except jointkl.JklError as error:
            self.refused[error.reports[0].code] += 1
            return
        self.count(audit(model, gradients_only=not whole), written, seed)

    def count(self, findings: Iterable[Finding], written: str, seed: int | str) -> None:
        found = tuple(findings)
        measured = [f for f in found if f.error is not None]
        self.judged += bool(measured)
        self.unjudged += not measured
        self.compared += len(measured)
        for f in measured:
            if f.failed:
                self.wrong.append(f"seed {seed!r}\n{written}\n{text('it', found)}")
                return
            if f.deviates:
                self.deviation = max(self.deviation, f.error or 0.0)
            elif f.met:
                self.worst = max(self.worst, f.error or 0.0)

    def __str__(self) -> str:
        refused = ", ".join(f"{n} {code}" for code, n in self.refused.most_common())
        return (
            f"{self.judged:,} specs judged, {self.compared:,} comparisons, worst error {self.worst:.1e}, of means"
            f" {self.deviation:.1f} standard errors; {len(self.wrong)} wrong; {self.unjudged} not judged;"
            f" refused: {sum(self.refused.values())} ({refused})"
        )


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    figures = Figures()
    for k in range(first, first + count):
        figures.add(k, whole=k % WHOLE == 0)
        if (k - first) % 500 == 499:
            print(figures, flush=True)
    for failed in figures.wrong:
        print(failed)
    print(figures)
