"""Which law the caller's data belong to."""

from __future__ import annotations

from collections.abc import Mapping

from jointkl.semantics.model import Evidence, Law, Model
from jointkl.sources import errors


def by_law(model: Model, data: object) -> dict[str, object]:
    """The data by the key of their law. Keys are `"target(x)"`, white space ignored, or a label that is unique."""
    laws = [law.key for law in model.evidence]
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise errors.not_a_mapping(data, laws)
    spelt: dict[str, str] = {}
    given: dict[str, object] = {}
    for key, value in data.items():
        law = _law(model, key)
        if law in given:
            raise errors.given_twice(law, spelt[law], str(key))
        spelt[law], given[law] = str(key), value
    return given


def short_key(model: Model, law: Law) -> str:
    """The shortest key that names an evidence law: its label, if no other has it."""
    return law.label if len(_labelled(model, law.label)) == 1 else law.key


def _law(model: Model, key: object) -> str:
    laws = [law.key for law in model.evidence]
    name = "".join(key.split()) if isinstance(key, str) else ""
    if name in laws:
        return name
    match _labelled(model, name):
        case [law]:
            return law
        case []:
            pass
        case several:
            raise errors.ambiguous_label(name, several)
    other = model.laws.get(name)
    if other is not None and isinstance(other.body, Evidence):
        raise errors.marginal_law(name, other.body.rows)
    raise errors.unknown_law(key, laws, (law.label for law in model.evidence))


def _labelled(model: Model, label: str) -> list[str]:
    return [law.key for law in model.evidence if law.label == label]
