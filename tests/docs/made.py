"""The parts of the pages that are made: tables of what the code knows, and what the compiler says of the specs in them.

A part stands between `<!-- made: KIND ARGUMENT -->` and `<!-- end -->`; one about a spec follows the spec.
`pytest tests/docs --update-golden` writes them anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jointkl
from jointkl.derivation.derive import table as known_rules
from jointkl.diagnostics import JklError, render
from jointkl.exposition.formula import formula
from jointkl.exposition.notation import line
from jointkl.exposition.outline import Outline, Row, outline
from jointkl.semantics import families
from jointkl.semantics.catalogue import BUILDERS, SOURCES, Open, Option, OptionValue, SourceRow
from jointkl.semantics.goals import FOR_A_PLAYER, FOR_EVERYONE, TRAIN
from jointkl.semantics.spaces import Space
from jointkl.training.nonfinite.errors import not_finite
from jointkl.training.phases import phases

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs"

PART = re.compile(r"(<!-- made: (?P<what>[^\n]*) -->\n).*?(<!-- end -->)", re.DOTALL)
SPEC = re.compile(r"^```jkl\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def page(text: str) -> str:
    """A page's text with its made parts made."""

    def made(found: re.Match[str]) -> str:
        kind, _, argument = found["what"].partition(" ")
        if kind in TABLES:
            return f"{found[1]}{TABLES[kind]()}\n{found[3]}"
        spec = SPEC.findall(text, 0, found.start())[-1]
        return f"{found[1]}```\n{OF_A_SPEC[kind](spec, argument)}\n```\n{found[3]}"

    return PART.sub(made, text)


def specs(text: str) -> Iterator[tuple[str, bool]]:
    """The specs of a page, and whether a message follows, so that they are wrong."""
    for found in SPEC.finditer(text):
        yield found[1], text[found.end() :].lstrip().startswith("<!-- made: message")


# --- of a spec


def message(spec: str, argument: str = "") -> str:
    """What is said of a wrong spec, by the first stage that finds it wrong; `of a run`: where its loss is no number."""
    try:
        model = jointkl.parse(spec, "spec.jkl")
        derivation = jointkl.derive(model)
        if derivation.warnings:
            return "\n\n".join(map(render, derivation.warnings))
        jointkl.python(model)
        objective = jointkl.lower(derivation)
        phases(model, objective, derivation.facts.players, {})
        if argument == "of a run":
            first = objective.losses[0]
            guilty = [(first.terms[0], f"{first.terms[0].text} is nan")]
            raise not_finite(first, "the loss", 1, None, value=": nan", labels=guilty)
    except JklError as error:
        return str(error)
    raise AssertionError(f"nothing is wrong with\n{spec}")


def losses(spec: str, argument: str) -> str:
    """The loss of each player."""
    found = outline(jointkl.derive(jointkl.parse(spec, "spec.jkl")))
    return "\n".join(f"{line((p,))}: {formula(found.facts, entries)}" for p, entries in found.losses)


def derivation(spec: str, argument: str) -> str:
    """The derivation, or the part of it for one player."""
    blocks = jointkl.derive(jointkl.parse(spec, "spec.jkl")).text().split("\n\n")
    chosen = [b for b in blocks if b.startswith(argument)] if argument else blocks
    return "\n\n".join(chosen)


def rule(spec: str, name: str) -> str:
    """What a rule did: for whom, what it told, and the terms before and after."""
    found = outline(jointkl.derive(jointkl.parse(spec, "spec.jkl")))
    shown: list[str] = []
    for chapter in found.chapters:
        for section in chapter.sections:
            rows = [row for group in section.groups if group.rule == name for row in group.rows]
            if rows:
                shown.append(f"player {section.player.name}" if section.player else chapter.goal)
                shown += [f"  {told}" for row in rows for told in _told(found, row)]
    assert shown, f"{name} does not fire"
    return "\n".join(shown)


def _told(found: Outline, row: Row) -> Iterator[str]:
    where = f"{row.label[0]}={row.label[1]}   " if row.label else ""
    said = [formula(found.facts, row.entries)] if row.entries else [line(told) for told in row.told]
    for i, told in enumerate(said):
        yield f"{where if i == 0 else ' ' * len(where)}{told}"
    before, arrow, after = line(row.change).partition(" → ")
    if arrow:
        yield f"{'':<{len(where)}}before: {before}"
        yield f"{'':<{len(where)}}after:  {after}"
    elif before:
        yield f"{'':<{len(where)}}by term: {before}"


OF_A_SPEC: dict[str, Callable[[str, str], str]] = {
    "message": message,
    "losses": losses,
    "derivation": derivation,
    "rule": rule,
}


# --- tables


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |" for row in cells)


EXTENTS: dict[families.Extent, str] = {
    "scalar": "",
    "vector": ", a vector",
    "short": ", a vector one shorter",
    "matrix": ", a matrix",
    "factor": ", a matrix of any number of columns",
    "classes": ", one number a value",
    "event": ", one number an event",
    "whole": ", one number for all data",
    "count": ", a whole number as such",
}


def _parameter(p: families.Parameter) -> str:
    default = "" if p.default is None else f", {p.default:g} if left out"
    return f"{p.name} ({p.space}{EXTENTS[p.extent]}{default})"


def _parameters(family: families.Family) -> str:
    instead = [f"or {p.name} for {p.instead}" for p in family.alternatives]
    return "; ".join([", ".join(map(_parameter, family.parameters)), *instead])


def family_table() -> str:
    rows = (
        (
            f"`{f.name}`",
            _parameters(f),
            f"{f.support}{('', ' vector', ' matrix')[f.event]}",
            "pathwise" if f.reparameterised else "score or sum",
            ", ".join(f.heads) if f.heads else "refused",
            "`{}` `{}`".format(*family_example(f)),
        )
        for f in families.FAMILIES.values()
    )
    head = ("family", "parameters", "values", "gradient of a draw", "heads of a net alone", "for example")
    return table(head, rows)


ONE_VALUE = {"real": "0", "positive": "1", "unit": "0.5", "natural": "3"}
ROW = {"real": "[0, 0, 0]", "positive": "[1, 1, 1]", "simplex": "[0.2, 0.3, 0.5]"}
EYE = "[[1, 0, 0], [0, 1, 0], [0, 0, 1]]"


def _written(p: families.Parameter) -> str:
    """A value that a parameter of an event of three numbers may have."""
    match p.extent:
        case "vector" | "classes":
            return ROW[p.space]
        case "short":
            return ROW[p.space].replace("[0, 0", "[0").replace("[1, 1", "[1")
        case "matrix":
            return EYE
        case "factor":
            return "[[1], [2], [3]]"
        case _:
            return ONE_VALUE[p.space]


def family_example(f: families.Family, variable: str = "x") -> tuple[str, str]:
    """The declaration of a variable, and a law over it."""
    space = "{0..2}" if f.support == "finite" else f.support + ("[3]" if f.event else "")
    values = [_written(p) for p in f.parameters]
    if f.name == "Uniform":
        values[-1] = "1"
    return f"var {variable}: {space}", f"q({variable}) = {f.name}({', '.join(values)})"


def closed_forms() -> str:
    pairs = sorted(families.CLOSED_FORM, key=lambda pair: [list(families.FAMILIES).index(name) for name in pair])
    same = ", ".join(f for f, g in pairs if f == g)
    others = ", ".join(f"{f} from {g}" for f, g in pairs if f != g)
    cross = ", ".join(f for f in families.FAMILIES if f in families.CROSS_ENTROPY)
    told = f"Of a family from itself: {same}.", f"Of one from another: {others}."
    return "\n\n".join([*told, f"Of cross-entropies those pairs whose first is {cross}."])


def refused_families() -> str:
    return "\n".join(f"- `{name}`: {reason}" for name, reason in sorted(families.REFUSED.items()))


VAST = 1e9
"""A bound beyond this is none that anybody meets."""


def _bounds(o: Option) -> str:
    if o.choices:
        return ", ".join(o.choices)
    word = {"integer": "whole number", "flag": "true or false", "folder": "path", "size": "whole number or [h, w]"}
    kind = word.get(o.type, o.type)
    if o.least is None:
        return kind
    if o.below is not None:
        return f"{kind}, {o.least:g} or more, below {o.below:g}"
    if o.most is not None and o.most < VAST:
        return f"{kind}, {o.least:g} to {o.most:.0f}"
    return f"{kind}, {o.least:g} or more"


def _default(o: Option) -> str:
    match o.default:
        case None:
            return ""
        case bool():
            return str(o.default).lower()
        case float():
            return f"{o.default:g}"
        case _:
            return str(o.default)


def _options(options: Sequence[Option], takes: str = "") -> Iterator[str]:
    for o in options:
        default = f"; {_default(o)} if left out" if o.default is not None else ""
        must = "; must be given, its name may be left out" if o.name == takes else ""
        yield f"- `{o.name}`: {o.about} ({_bounds(o)}{default}{must})"


def source_sections() -> str:
    parts: list[str] = []
    for row in SOURCES.values():
        defaults = {o.name: o.default for o in row.options if o.default is not None}
        columns = ", ".join(f"`{c}`" for c in row.columns(defaults)) if row.columns else "what its variables need"
        about = f"{row.about[0].upper()}{row.about[1:]}. Columns: {columns}.\n\n```jkl\n{source_example(row)}\n```"
        parts.append(
            "\n".join(
                [f"#### `{row.name}`", "", about, *(["", *_options(row.options, row.takes)] if row.options else [])]
            )
        )
    return "\n\n".join(parts)


def source_example(row: SourceRow) -> str:
    """A law bound to all columns of a source, with all its options."""
    options = {o.name: _sample(o) for o in row.options}
    columns = row.columns(options) if row.columns else (Space("real", (2,)),)
    spaces = [str(c.example if isinstance(c, Open) else c) for c in columns]
    names = "xcde"[: len(spaces)]
    written = {o.name: _as_text(o, options[o.name]) for o in row.options}
    given = [text if name == row.takes else f"{name}={text}" for name, text in written.items()]
    variables = [f"var {name}: {space}" for name, space in zip(names, spaces, strict=True)]
    return "\n".join([f"data({', '.join(names)}) = {row.name}({', '.join(given)})", *variables])


def _sample(o: Option) -> OptionValue:
    """A value that an option may have."""
    match o.type:
        case "text":
            return o.choices[-1]
        case "flag":
            return True
        case "folder":
            return f"{o.name}/"
        case "size":
            return 32
        case "integer":
            return 10
        case "number":
            return 0.5


def _as_text(o: Option, value: OptionValue) -> str:
    return {"flag": "true", "folder": f'"{value}"'}.get(o.type, str(value))


TAKES = {
    "widths": "any number of widths",
    "one width or more": "one width or more",
    "nothing": "no widths",
    "class": 'the text `"package.module:Class"`, and whatever else the class takes, by name',
}


def builder_sections() -> str:
    parts: list[str] = []
    for row in BUILDERS.values():
        about = f"{row.about[0].upper()}{row.about[1:]}. In brackets: {TAKES[row.takes]}."
        parts.append(
            "\n".join([f"#### `{row.name}`", "", about, *(["", *_options(row.options)] if row.options else [])])
        )
    return "\n\n".join(parts)


def settings() -> str:
    rows = ((f"`{o.name}`", o.about, _bounds(o), _default(o), _whose(o)) for o in TRAIN)
    return table(("setting", "what it is", "values", "default", "whose"), rows)


def _whose(o: Option) -> str:
    return "the run's" if o.name in FOR_EVERYONE else "a player's" if o.name in FOR_A_PLAYER else "anybody's"


def rules() -> str:
    return table(
        ("rule", "its law, as the derivation prints it"), ((f"`{r.name}`", line(r.law)) for r in known_rules())
    )


def grammar() -> str:
    text = (ROOT / "grammars" / "jkl.lark").read_text(encoding="utf-8").strip()
    return f"```\n{text}\n```"


TABLES: dict[str, Callable[[], str]] = {
    "families": family_table,
    "closed-forms": closed_forms,
    "refused-families": refused_families,
    "sources": source_sections,
    "builders": builder_sections,
    "settings": settings,
    "rules": rules,
    "grammar": grammar,
}
