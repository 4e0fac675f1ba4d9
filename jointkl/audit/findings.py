"""What the audit finds: for whom, what was compared, how far apart it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

EXACT = 1e-9
"""Exact sums in double precision agree to this, relative to the size of what is compared."""

DEVIATION = 5.0
"""Standard errors beyond which a mean is called wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`error` is the largest difference relative to the size of what is compared, or, with `deviates`, in standard
    errors; None where nothing could be compared."""

    subject: str
    what: str
    error: float | None
    why: str = ""
    """Why nothing was compared, or why a failure is expected."""
    deviates: bool = False
    instance: str = "finite"
    within: float = EXACT
    """The error that an exact comparison may have."""

    @property
    def met(self) -> bool:
        return self.error is not None and self.error < (DEVIATION if self.deviates else self.within)

    @property
    def failed(self) -> bool:
        """A failure that nothing in the spec asks for."""
        return self.error is not None and not self.met and not self.why

    @property
    def verdict(self) -> str:
        if self.error is None:
            return f"not judged: {self.why}"
        if self.met:
            return "met"
        return f"not met, as expected: {self.why}" if self.why else "NOT MET"


def summed(noun: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """One line for all that was met of each thing compared, with the worst error and how many there are; what failed
    stands alone, and what could not be judged where nothing else was."""
    kinds: dict[str, list[Finding]] = {}
    for f in findings:
        if f.error is not None and not f.met:
            yield f
        else:
            kinds.setdefault(f.what, []).append(f)
    for what, group in kinds.items():
        errors = [f.error for f in group if f.error is not None]
        if errors:
            left = f", {len(group) - len(errors)} not judged" if len(errors) < len(group) else ""
            count = f"{len(errors)} {noun}{'s' if len(errors) > 1 else ''}"
            yield Finding(count, what + left, max(errors), deviates=group[0].deviates)
        else:
            yield Finding(f"0 {noun}s", what, None, group[0].why)


def text(name: str, findings: Sequence[Finding]) -> str:
    """The findings as a table."""
    rows = [("instance", "subject", "compared", "error", "verdict"), *(_row(f) for f in findings)]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
    told = "the emitted module against exact values; errors relative, or in standard errors (s.e.)"
    return "\n".join([f"{name}: {told}", *(f"  {line}" for line in lines)])


def _row(f: Finding) -> tuple[str, str, str, str, str]:
    error = "-" if f.error is None else f"{f.error:.1f} s.e." if f.deviates else f"{f.error:.1e}"
    return (f.instance, f.subject, f.what, error, f.verdict)
