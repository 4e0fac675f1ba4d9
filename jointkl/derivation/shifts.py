"""Which rows of the minibatch an evidence factor reads, so that two on one path are independent draws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from jointkl.derivation.variables import Variable, variable
from jointkl.semantics.model import Evidence, Factor, Law, Model

Taken = dict[str, set[int]]
"""By source, the law whose rows they are, the shifts that factors of a path have."""


def shifted(model: Model, path: Iterable[Factor]) -> tuple[Factor, ...]:
    """The path with the shift of each evidence factor: how many rows behind the minibatch it reads, all its columns
    alike. No two factors of one source have the same."""
    taken: Taken = {}
    return tuple(apart(model, f, taken) for f in path)


def apart(model: Model, factor: Factor, taken: Taken) -> Factor:
    """A factor with its shift, which is taken from then on: as many as its variables have primes beyond the law's own
    (`data(x')`: 1), or the next one free (`data(x) * data(t)`: t has 1)."""
    law = model.laws[factor.law]
    if not isinstance(law.body, Evidence):
        return factor
    used = taken.setdefault(law.body.rows, set())
    columns = {_column(model, law, v) for v in model.laws[law.body.rows].outputs}
    own = [_column(model, law, v) for v in law.outputs]
    names = zip(factor.outputs, law.outputs, strict=True)
    shift = max(0, *(variable(v).copy - variable(u).copy for v, u in names))
    while shift in used or (shift and any(column.further(shift) in columns for column in own)):
        shift += 1
    used.add(shift)
    return replace(factor, shift=shift)


def keys(model: Model, factor: Factor) -> Mapping[str, str]:
    """What a batch calls the variables of an evidence factor: the column, with a prime for each row of its shift."""
    law = model.laws[factor.law]
    found = zip(factor.outputs, law.outputs, strict=True)
    return {v: str(_column(model, law, u).further(factor.shift)) for v, u in found}


def _column(model: Model, law: Law, name: str) -> Variable:
    """What a batch calls a variable of an evidence law."""
    assert isinstance(law.body, Evidence)
    own = variable(name)
    return replace(own, name=model.batch_key(law.body.rows, own.name))
