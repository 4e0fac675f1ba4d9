"""A run told on one HTML page that needs no other file: nothing is loaded, nothing of the run is executed.

Its policy lets in what stands in it and nothing else: pictures as data, the style and the script by their digests.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from jointkl import compiler, disk
from jointkl.derivation.derive import Derivation
from jointkl.derivation.players import law_trainables
from jointkl.diagnostics import printable
from jointkl.evaluation.report import curves, graph, parts
from jointkl.evaluation.report.folder import Folder, Picture, Series, read
from jointkl.evaluation.report.style import SCRIPT, STYLE
from jointkl.exposition import webpage
from jointkl.exposition.diagram import diagrams
from jointkl.exposition.outline import outline
from jointkl.exposition.styles import escaped_html
from jointkl.exposition.webpage import named
from jointkl.version import VERSION

NAME = "report.html"

SECTIONS = ("Spec", "Factor graph", "Derivation", "Curves", "Samples", "Metrics", "Environment")

CAPTIONS = {
    "": "Samples",
    "reconstruction": "Reconstruction: data, and below them what is made of their codes",
    "interpolation": "Interpolation: on the way from one draw to another",
    "traversal": "Traversal: a row for each value of a finite variable, all other noise the same",
}


def report(run: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a run, by default to `report.html` in its folder; returns its path.

    The spec is compiled again as far as its derivation. Raises `DataError` for a folder that is no run or a path that
    cannot be written, `JklError` for a spec that does not derive.
    """
    folder = Path(run)
    path = Path(out) if out is not None else folder / NAME
    disk.write(path, page(read(folder)).encode())
    return path


def page(found: Folder) -> str:
    name = str(found.config.get("spec", "spec.jkl")).replace("\\", "/").rsplit("/", 1)[-1][:100]
    lets = found.config.get("lets")
    lets = {str(k): str(v) for k, v in lets.items()} if isinstance(lets, dict) else {}
    derivation = compiler.derive(compiler.parse(found.spec, name, lets))
    style = webpage.PALETTE + webpage.STYLE + STYLE
    policy = (
        f"default-src 'none'; img-src data:; style-src '{digest(style)}'; script-src '{digest(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = escaped_html(printable(found.path.resolve().name))
    bodies = {
        "Spec": (parts.spec(found.spec),),
        "Factor graph": graphs(derivation),
        "Derivation": derived(derivation),
        "Curves": drawn_curves(found),
        "Samples": album(found),
        "Metrics": parts.judged(found.judged),
        "Environment": parts.environment(found),
    }
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}: report of a run</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        *header(found, derivation, title),
        "<main>",
    ]
    for section, body in bodies.items():
        place = section.lower().replace(" ", "-")
        lines += [f'<section id="{place}">', f"<h2>{section}</h2>", *body, "</section>"]
    lines += ["</main>", f"<footer>Written by jointkl {escaped_html(VERSION)}.</footer>"]
    lines += [f"<script>{SCRIPT}</script>"] if found.pictures else []
    return "\n".join([*lines, "</body>", "</html>"])


def digest(text: str) -> str:
    """What a policy knows an inline style or script by."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def header(found: Folder, derivation: Derivation, title: str) -> Iterator[str]:
    yield "<header>"
    yield f"<h1>{title}</h1>"
    yield f'<p class="lead">{escaped_html(how_far(found))}</p>'
    links = (f'<a href="#{s.lower().replace(" ", "-")}">{s}</a>' for s in SECTIONS)
    yield f'<nav aria-label="Sections">{"".join(links)}</nav>'
    notes = [*found.notes, *map(str, parts.listed(found.config.get("notes")))]
    if notes:
        yield '<ul class="notes">'
        yield from (f"<li>{parts.words(note)}</li>" for note in notes[: parts.ROWS])
        yield "</ul>"
    yield "</header>"


def how_far(found: Folder) -> str:
    """`gan.jkl, 8,000 rounds in 28.3 s on cpu`, or how many of them so far."""
    name = printable(str(found.config.get("spec", "spec.jkl"))).replace("\\", "/").rsplit("/", 1)[-1][:100]
    total = found.config.get("rounds")
    whole = not isinstance(total, int) or found.last >= total
    rounds = f"{found.last:,} rounds" if whole else f"{found.last:,} of {total:,} rounds so far"
    device = printable(str(found.config.get("device", "")))[:20]
    return f"{name}: {rounds} in {duration(found.seconds)}" + (f" on {device}" if device else "")


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


# --- the model


def graphs(derivation: Derivation) -> Iterator[str]:
    model = derivation.model
    yield (
        '<p class="note">Circles are variables, boxes laws with their family and who trains it. Filled: data give it. '
        "Dashed: integrated out.</p>"
    )
    yield '<div class="joint-list">'
    for diagram in diagrams(model, law_trainables(model)):
        yield f'<figure class="joint"><figcaption>{named(diagram.title)}</figcaption><div class="products">'
        for title, drawing in graph.figure(diagram):
            yield '<div class="product">'
            yield f"<h4>{escaped_html(title)}</h4>" if title else ""
            yield drawing
            yield "</div>"
        yield "</div></figure>"
    yield "</div>"


def derived(derivation: Derivation) -> Iterator[str]:
    """What each player minimises, then how that follows."""
    read = outline(derivation)
    yield '<div class="objective">'
    yield from webpage.losses(read)
    yield "</div>"
    if read.warnings:
        yield from webpage.warnings(read)
    yield from webpage.steps(read, 3)


# --- how it went


def drawn_curves(found: Folder) -> Iterator[str]:
    if not found.series:
        yield '<p class="note">Nothing has been recorded yet.</p>'
        return
    losses = [s for s in found.series if s.group == "losses"]
    others = [s for s in found.series if s.group != "losses"]
    yield '<p class="note">The mean loss between two records, pale, and its running mean.</p>'
    yield from _panels(losses, found.last)
    for group, series in groupby(others, lambda s: s.group):
        yield f"<h3>{parts.words(group)}</h3>"
        yield from _panels(list(series), found.last)


def _panels(series: Sequence[Series], last: int) -> Iterator[str]:
    yield '<div class="curves">'
    for s in series:
        yield f"<figure><figcaption>{named(s.name)}</figcaption>"
        yield curves.panel(s, last)
        yield f'<p class="note">{escaped_html(curves.course(s))}</p></figure>'
    yield "</div>"


def album(found: Folder) -> Iterator[str]:
    """The pictures by kind, each with its round; the script shows one round at a time."""
    if found.numbers:
        few = f"{parts.words(found.numbers[0])} to {parts.words(found.numbers[-1])}"
        yield f'<p class="note">Without a picture, samples are kept as numbers: {few} in <code>samples/</code>.</p>'
    if not found.pictures:
        yield '<p class="note">No pictures have been kept yet.</p>' if not found.numbers else ""
        return
    yield '<div class="album">'
    yield '<label class="slide"><span>Over time</span><input type="range" min="0" value="0"><output></output></label>'
    yield '<div class="kinds">'
    order = list(CAPTIONS)
    kinds = {(p.kind, p.variable) for p in found.pictures}
    for kind, variable in sorted(kinds, key=lambda k: (order.index(k[0]) if k[0] in order else len(order), *k)):
        own = [p for p in found.pictures if (p.kind, p.variable) == (kind, variable)]
        name, _, about = CAPTIONS.get(kind, kind.capitalize()).partition(": ")
        yield f'<section class="kind"><h3>{escaped_html(name)}{f" of {named(variable)}" if variable else ""}</h3>'
        yield f'<p class="note">{escaped_html(about)}</p>' if about else ""
        yield '<div class="frames">'
        yield from (_frame(p, name) for p in own)
        yield "</div></section>"
    yield "</div></div>"


def _frame(picture: Picture, name: str) -> str:
    """Images of few pixels stay sharp; what is drawn for the screen is scaled as usual."""
    source = f"data:image/png;base64,{b64encode(picture.content).decode()}"
    told = escaped_html(f"{name} at round {picture.round}")
    return (
        f'<figure class="frame" data-round="{picture.round}"><img src="{source}" alt="{told}" width="{picture.width}" '
        f'height="{picture.height}"><figcaption>round {picture.round:,}</figcaption></figure>'
    )
