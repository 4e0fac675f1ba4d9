"""What a program is judged against: rows that it was not trained on, where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from jointkl.evaluation import errors
from jointkl.semantics.catalogue import SOURCES, Option
from jointkl.semantics.model import Evidence, Law, Model
from jointkl.sources import Bound, bind
from jointkl.sources.keys import by_law

SPLIT = "test"
"""The split that is held out."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a law's rows come from, in words, and whether the program was trained on others."""

    text: str
    unseen: bool


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rows to judge against, by evidence law, and where each come from."""

    bound: tuple[Bound, ...]
    origins: Mapping[str, Origin]


def held_out(
    model: Model,
    trained_on: Mapping[str, object],
    data: Mapping[str, object] | None = None,
    split: str | None = None,
    download: bool = False,
) -> HeldOut:
    """The rows to judge against. `trained_on` are the files or arrays that training was given, `data` what to judge
    against in their place, both by law; `split` the split, `test` if none is said.

    A law takes the rows of `data`; else its source's split; else, of a source that draws its points, fresh ones by
    another seed; else the rows of training, and says so. Only with `download` is a split fetched that is not there.
    Raises `DataError` where rows are missing or wrong, or a `split` is asked for of sources that have none.
    """
    trained_on, data = by_law(model, trained_on), by_law(model, data)
    wanted = split or SPLIT
    own = [law for law in model.evidence if law.key not in data and law.key not in trained_on]
    if split is not None and not any("split" in _options(law) for law in own):
        raise errors.no_split(split, (law.key for law in model.evidence))
    laws = dict(model.laws)
    origins: dict[str, Origin] = {}
    for law in model.evidence:
        body = law.body
        assert isinstance(body, Evidence)
        if law.key in data:
            origins[law.key] = Origin(_words(data[law.key]), True)
        elif law.key in trained_on:
            origins[law.key] = Origin(f"{_words(trained_on[law.key])}, which it was trained on", False)
        else:
            laws[law.key], origins[law.key] = _source(law, body, wanted)
    bound = bind(replace(model, laws=MappingProxyType(laws)), {**trained_on, **data}, download=download)
    return HeldOut(bound, origins)


def _options(law: Law) -> dict[str, Option]:
    assert isinstance(law.body, Evidence)
    row = SOURCES.get(law.body.source)
    return {option.name: option for option in row.options} if row else {}


def _source(law: Law, body: Evidence, split: str) -> tuple[Law, Origin]:
    """A law bound to the rows of its source to judge against."""
    options = _options(law)
    own = dict(body.options)
    if "split" in options:
        trained = own.get("split", options["split"].default)
        seen = trained in (split, "all") or split == "all"
        law = replace(law, body=replace(body, options=tuple((own | {"split": split}).items())))
        return law, Origin(f"{body.source}(split={split})" + (", which it was trained on" if seen else ""), not seen)
    if "seed" in options:
        seed = own.get("seed", options["seed"].default)
        assert isinstance(seed, int)
        law = replace(law, body=replace(body, options=tuple((own | {"seed": seed + 1}).items())))
        return law, Origin(f"{body.source}(seed={seed + 1}), fresh points", True)
    return law, Origin(f"{body.source}, which it was trained on", False)


def training_rows(bound: Sequence[Bound]) -> HeldOut:
    """The rows of training themselves."""
    return HeldOut(tuple(bound), {b.law: Origin("what it was trained on", False) for b in bound})


def _words(value: object) -> str:
    from jointkl.sources.given import origin_of

    return origin_of(value)
