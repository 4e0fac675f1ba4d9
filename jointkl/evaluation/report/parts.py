"""The parts of a report that are words and tables: the spec, what was measured, what it was made with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jointkl.diagnostics import printable
from jointkl.evaluation.report.curves import number
from jointkl.evaluation.report.folder import Folder, finite
from jointkl.exposition.styles import escaped_html
from jointkl.exposition.webpage import named

LONGEST, ROWS = 400, 200
"""How many characters of a value are shown, and how many rows of a table."""

_TOKEN = re.compile(
    r"(?P<c>#.*)|(?P<s>\"[^\"]*\")"
    r"|(?P<k>\b(?:var|param|net|let|player|train|minimize|maximize|over|with|global|old|max|sum)\b)"
    r"|(?P<n>(?<![\w.])\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
)


def words(value: object) -> str:
    """Anything a file may hold, as text on one line, escaped, its end left out where it is long."""
    match value:
        case None:
            shown = "none"
        case bool():
            shown = "yes" if value else "no"
        case float():
            shown = number(value)
        case int():
            shown = f"{value:,}" if abs(value) < 10**18 else str(value)[:LONGEST]
        case str():
            shown = value
        case list() if all(isinstance(item, str | int | float) for item in value):
            shown = ", ".join(str(item) for item in value[:ROWS])
        case _:
            shown = _written(value)
    shown = printable(shown)
    return escaped_html(shown if len(shown) <= LONGEST else shown[:LONGEST] + "…")


def _written(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "…"


# --- the spec


def spec(text: str) -> str:
    """The spec as it was written, its lines numbered."""
    lines = (f'<span class="l">{_marked(row)}</span>' for row in text.rstrip("\n").split("\n"))
    return f'<pre class="spec"><code>{"".join(lines)}</code></pre>'


def _marked(row: str) -> str:
    shown, end = "", 0
    row = printable(row.rstrip("\r"))
    for found in _TOKEN.finditer(row):
        kind = "n" if found.lastgroup == "s" else found.lastgroup
        shown += escaped_html(row[end : found.start()]) + f'<span class="{kind}">{escaped_html(found[0])}</span>'
        end = found.end()
    return shown + escaped_html(row[end:]) or " "


# --- tables


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", kind: str = "") -> Iterator[str]:
    """Cells are HTML already; those of a number stand by themselves."""
    yield f'<div class="scroll"><table class="{kind}">' if kind else '<div class="scroll"><table>'
    if caption:
        yield f"<caption>{caption}</caption>"
    if head:
        heads = "".join(f'<th scope="col">{h}</th>' for h in head)
        yield f"<thead><tr>{heads}</tr></thead>"
    yield "<tbody>"
    for first, *cells in rows[:ROWS]:
        others = "".join(f'<td class="n">{c}</td>' for c in cells)
        yield f'<tr><th scope="row">{first}</th>{others}</tr>'
    yield "</tbody></table></div>"


# --- what was measured

REFERENCE = (
    "Training data: the metric's value where rows of training stand in the samples' place, or, of a density or a code, "
    "in the place of the rows judged by."
)


def judged(found: Mapping[str, Any] | None) -> Iterator[str]:
    """What `jointkl eval` has written: a table for each law and evidence, the notes below."""
    if found is None:
        yield '<p class="note">Not judged yet: <code>jointkl eval RUN</code> does, against held-out data.</p>'
        return
    records = [r for r in _records(found.get("metrics")) if finite(r.get("value")) is not None][:ROWS]
    if not records:
        yield '<p class="note">The evaluation holds no metric.</p>'
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault((str(record.get("law", "")), str(record.get("evidence", ""))), []).append(record)
    for (law, evidence), rows in groups.items():
        referred = any(finite(r.get("training_data")) is not None for r in rows)
        head = ["metric", "value", "95 % interval", "n", *(["training data"] if referred else []), "better"]
        caption = f"{named(printable(law[:LONGEST]))} against {named(printable(evidence[:LONGEST]))}" if law else ""
        origin = dict(_mapping(found.get("data"))).get(evidence)
        if isinstance(origin, dict):
            caption += f": {words(origin.get('rows'))} rows of {words(origin.get('from'))}"
        yield from table(head, [_measured(r, referred) for r in rows], caption)
        for view in dict.fromkeys(r["compared_by"] for r in rows if isinstance(r.get("compared_by"), str)):
            yield f'<p class="note">Compared by {words(view)}.</p>' if view else ""
        if referred:
            yield f'<p class="note">{REFERENCE}</p>'
    if records and type(found.get("round")) is int:
        yield f'<p class="note">Judged at round {words(found["round"])}.</p>'
    notes = [str(note) for r in records for note in listed(r.get("notes"))]
    failed = found.get("failed")
    if isinstance(failed, dict):
        notes += [f"{name}: left out, {why}" for name, why in failed.items()]
    for note in list(dict.fromkeys(notes))[:ROWS]:
        yield f'<p class="note">{words(note)}</p>'


def _records(metrics: object) -> Iterator[Mapping[str, Any]]:
    """A list of records with their names, or records or bare numbers by name."""
    if isinstance(metrics, list):
        yield from (r for r in metrics if isinstance(r, dict))
    elif isinstance(metrics, dict):
        for name, value in metrics.items():
            yield {"metric": name, **(value if isinstance(value, dict) else {"value": value})}


def _measured(record: Mapping[str, Any], referred: bool) -> list[str]:
    interval = [finite(end) for end in listed(record.get("interval"))]
    counts = [record.get("samples"), record.get("data")]
    return [
        words(str(record.get("metric", ""))),
        f"<strong>{words(finite(record.get('value')))}</strong>",
        f"{words(interval[0])} to {words(interval[1])}" if len(interval) == 2 and None not in interval else "",
        " + ".join(words(n) for n in counts if isinstance(n, int) and n),
        *([words(reference)] if (reference := finite(record.get("training_data"))) is not None else [""] * referred),
        words(str(record.get("better", ""))),
    ]


def listed(value: object) -> list[Any]:
    return list(value) if isinstance(value, list) else []


# --- what it was made with

FACTS = ("spec", "rounds", "batch", "seed", "device", "started", "module", "pictures", "checkpoints")
"""Plain values of a run's options, in this order; what a later version adds follows them."""

APART = {"ways", "phases", "parameters", "data", "lets", "settings", "notes", "versions"}


def environment(found: Folder) -> Iterator[str]:
    """Everything that a run's `config.json` says."""
    config = found.config
    rows = [[words(name), words(config[name])] for name in FACTS if name in config]
    rows += [[words(name), words(value)] for name, value in config.items() if name not in APART and name not in FACTS]
    rows += [[words(f"{kind} {name}"), words(value)] for kind in ("let", "set") for name, value in _of(config, kind)]
    yield '<div class="tables">'
    yield from table((), rows, "Run", "facts")
    yield from table((), [[words(n), words(v)] for n, v in _mapping(config.get("versions"))], "Versions", "facts")
    data = [[named(printable(str(law)[:LONGEST])), _origin(value)] for law, value in _mapping(config.get("data"))]
    if data:
        yield from table((), data, "Data", "facts")
    yield "</div>"
    yield from _phases(config)


def _of(config: Mapping[str, Any], kind: str) -> list[tuple[str, Any]]:
    return _mapping(config.get({"let": "lets", "set": "settings"}[kind]))


def _mapping(value: object) -> list[tuple[str, Any]]:
    return [(str(k), v) for k, v in list(value.items())[:ROWS]] if isinstance(value, dict) else []


def _origin(value: object) -> str:
    """`digits(threshold=0.5), 1,797 rows`"""
    if not isinstance(value, dict):
        return words(value)
    told = [words(value[key]) for key in ("source", "file", "given") if key in value]
    rest = [
        f"{words(k)} {words(v)}" for k, v in value.items() if k not in ("source", "file", "given", "rows", "digest")
    ]
    rows = [f"{words(value['rows'])} rows"] if "rows" in value else []
    return ", ".join((*told, *rest, *rows))


def _phases(config: Mapping[str, Any]) -> Iterator[str]:
    """A row for each player: how it is optimised, how its steps are taken, how many parameters it has."""
    phases = [p for p in listed(config.get("phases")) if isinstance(p, dict)][:ROWS]
    if not phases:
        return
    parameters = dict(_mapping(config.get("parameters")))
    ways = {str(w.get("player")): w.get("way") for w in listed(config.get("ways")) if isinstance(w, dict)}
    options = [key for key in dict.fromkeys(k for p in phases for k in p) if key not in ("player", "kind")][:20]
    options = [key for key in options if any(p.get(key) is not None for p in phases)]
    rows = [
        [
            named(printable(str(p.get("player"))[:LONGEST])),
            *(words(p.get(key)) for key in options),
            words(ways.get(str(p.get("player")), "")),
            words(parameters.get(str(p.get("player")), "")),
        ]
        for p in phases
    ]
    head = ("player", *(words(key.replace("_", " ")) for key in options), "way", "parameters")
    yield from table(head, rows, "Phases of a round")
