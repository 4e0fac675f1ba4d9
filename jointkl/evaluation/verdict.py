"""An evaluation told: as a table for the terminal, and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from jointkl.evaluation.judge import Evaluation, Judged
from jointkl.evaluation.metrics.table import METRICS

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADINGS = ("metric", "value", "95 % interval", "n", "training data", "better")

REFERENCE = {
    True: "rows of training in the samples' place, or, of a likelihood, in the place of the rows judged by",
    False: "rows of training in the place of the rows judged by",
}
"""What stands in that column, where there are samples and where there are none."""

NEEDS = {
    "modes": "a law that draws what ring8 or grid25 gives",
    "density": "a law whose density is known, or known but for hidden variables",
    "codes": "a law that encodes, and one that decodes",
    "points": "a law that draws what evidence gives",
    "images": "a law that draws images",
    "features": "a law that draws images, and features of them",
    "logits": "a law that draws images, and a classifier of them",
    "critic": "a law that draws what evidence gives",
}
"""What each need asks of a spec, for the reader."""


def listed() -> str:
    """Every metric, what it says and what it needs, as text."""
    lines: list[str] = []
    for row in METRICS.values():
        lines += [f"{row.name}: {row.about}; better: {row.better}", f"    needs {NEEDS[row.need]}"]
    return "\n".join(lines)


def tables(found: Evaluation) -> list[RenderableType]:
    """One table for each law and evidence, between what stands against what and how they were compared."""
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for law, evidence in dict.fromkeys((j.law, j.evidence) for j in found.judged):
        rows = [j for j in found.judged if (j.law, j.evidence) == (law, evidence)]
        referred = any(j.reference is not None for j in rows)
        origin = found.origins[evidence]
        parts.append(Text(f"{law} against {evidence}: {found.rows[evidence]} rows of {origin.text}", style="bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in HEADINGS:
            if heading != "training data" or referred:
                table.add_column(heading, justify="left" if heading in ("metric", "better") else "right", no_wrap=True)
        for j in rows:
            table.add_row(*_cells(j, referred))
        beneath = [f"  compared by {view}" for view in dict.fromkeys(j.view for j in rows if j.view)]
        if referred:
            beneath.append(f"  training data: {REFERENCE[any(j.value.samples for j in rows)]}")
        parts += [table, *map(Text, beneath), Text("")]
    return parts


def text(found: Evaluation, colour: bool = False) -> str:
    """The tables as text."""
    from rich.console import Console

    console = Console(width=160, highlight=False, force_terminal=colour, color_system="standard" if colour else None)
    with console.capture() as caught:
        for part in tables(found):
            console.print(part)
    return "\n".join(line.rstrip() for line in caught.get().split("\n")).rstrip("\n")


def _cells(j: Judged, referred: bool) -> list[str]:
    v = j.value
    reference = [] if not referred else ["" if j.reference is None else number(j.reference)]
    interval = "" if v.interval is None else f"{number(v.interval[0])} .. {number(v.interval[1])}"
    counts = " + ".join(str(n) for n in (v.samples, v.data) if n)
    return [f"  {j.metric}", number(v.value), interval, counts, *reference, METRICS[j.metric].better]


def number(value: float) -> str:
    """Four digits that count."""
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"


def notes(found: Evaluation) -> list[str]:
    """What the reader should know of single values, and which metrics failed."""
    told: dict[str, list[str]] = {}
    for j in found.judged:
        for note in j.value.notes:
            told.setdefault(note, []).append(j.metric)
    lines = [f"{', '.join(dict.fromkeys(metrics))}: {note}" for note, metrics in told.items()]
    lines += [f"left out {metric}: {why}" for metric, why in found.failed.items()]
    seen = [law for law, origin in found.origins.items() if not origin.unseen]
    if seen:
        lines.append(f"{', '.join(seen)}: no rows are held out; --data LABEL=FILE gives others to judge against")
    return lines


def document(found: Evaluation, **run: Any) -> bytes:
    """The whole of it as JSON, `run` said first."""
    content = {
        **run,
        "samples": found.samples,
        "particles": found.particles,
        "seed": found.seed,
        "data": {
            law: {"rows": found.rows[law], "from": origin.text, "unseen": origin.unseen}
            for law, origin in found.origins.items()
        },
        "metrics": [_record(j) for j in found.judged],
        "failed": dict(found.failed),
    }
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _record(j: Judged) -> dict[str, Any]:
    v = j.value
    return {
        "metric": j.metric,
        "law": j.law,
        "evidence": j.evidence,
        "value": v.value,
        "interval": v.interval,
        "interval_accounts": v.accounts,
        "training_data": j.reference,
        "better": METRICS[j.metric].better,
        "samples": v.samples,
        "data": v.data,
        "compared_by": j.view,
        "details": dict(v.details),
        "notes": list(v.notes),
    }
