"""Models made of evidence alone, without the front end, and the check of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from jointkl.diagnostics import DataError, Source
from jointkl.semantics.catalogue import SOURCES
from jointkl.semantics.model import Evidence, Law, Model, Variable, law_key
from jointkl.semantics.spaces import Space
from jointkl.sources import bind

Spec = Callable[..., Model]
Refused = Callable[..., str]


def evidence_law(
    label: str,
    outputs: tuple[str, ...],
    source: str = "evidence",
    options: Mapping[str, Any] | None = None,
    columns: tuple[int, ...] | None = None,
    rows: str = "",
) -> Law:
    assert source in SOURCES
    columns = tuple(range(len(outputs))) if columns is None else columns
    body = Evidence(source, tuple((options or {}).items()), columns, rows or law_key(label, outputs, ()))
    return Law(label, outputs, (), body)


@pytest.fixture
def spec() -> Spec:
    """`spec({"x": space}, ("data", ("x",), "digits", {"split": "test"}))`: a law's entries as in `evidence_law`."""

    def make(spaces: Mapping[str, Space], *laws: tuple[Any, ...]) -> Model:
        made = [evidence_law(*law) for law in laws]
        variables = {name: Variable(name, space) for name, space in spaces.items()}
        return Model(Source("made.jkl", ""), variables, {}, {}, {law.key: law for law in made}, ())

    return make


@pytest.fixture
def refused() -> Refused:
    """Binding is refused by a `DataError` that offers help and contains all of the words; its text."""

    def check(model: Model, data: object, *words: str) -> str:
        with pytest.raises(DataError) as caught:
            bind(model, data)
        text = str(caught.value)
        assert caught.value.help, text
        for word in words:
            assert word in text, f"{word!r} is not in:\n{text}"
        return text

    return check
