"""The evidence laws of a model with their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from jointkl.semantics.catalogue import SOURCES
from jointkl.semantics.model import Evidence, Law, Model
from jointkl.sources import errors
from jointkl.sources.columns import Listed, assign
from jointkl.sources.given import origin_of, read
from jointkl.sources.keys import by_law, short_key
from jointkl.sources.loaders import load_for
from jointkl.sources.streams import Array, at


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """One evidence law with its rows.

    `law` is its key, `keys` the keys of a batch, one per output in order, and `columns` their values: (N, *shape of the
    space), float32; for a finite space (N,), int64, the index into `space.values`. A column is a tensor on the CPU that
    shares nothing with what was given, or, if it would be larger than `streams.LARGE` and was not given as a tensor, a
    `Stream`, whose rows are read where they are taken; both are indexed by rows, with a shape, a dtype and a length.
    """

    law: str
    keys: tuple[str, ...]
    columns: tuple[Array, ...]

    def __len__(self) -> int:
        return self.columns[0].shape[0]

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """The rows at `index`, (B,) integers or (N,) booleans, by key."""
        return {key: at(column, index) for key, column in zip(self.keys, self.columns, strict=True)}


def bind(
    model: Model, data: Mapping[str, object] | None = None, *, split: str | None = None, download: bool = False
) -> tuple[Bound, ...]:
    """One `Bound` for each of `model.evidence`, in its order.

    `data` maps a law's key (`"target(x)"`, white space ignored) or, if unique, its label to its rows, which replace a
    source built in: the path of a .npy, .npz, .csv or .parquet file; a tensor or array; a sequence of them in the order
    of the law's variables; a dict by variable name; or a map-style torch `Dataset`, whose items are tensors, tuples
    (read by position, further parts left out) or dicts. Rows of equal size are reshaped; one 2-D array for several
    variables is split by their widths. `split` replaces the split of every source that has one. Only with `download`
    is a data set fetched that is not there.

    Every row is read once, whatever is larger than memory some rows at a time, and held against its space: raises
    `DataError` for data that are missing, unreadable, of another size, or outside a variable's space.
    """
    given = by_law(model, data)
    return tuple(_bound(model, law, given, split, download) for law in model.evidence)


def _bound(model: Model, law: Law, given: Mapping[str, object], split: str | None, download: bool) -> Bound:
    body = law.body
    assert isinstance(body, Evidence)
    outputs = tuple((name, model.space(name)) for name in law.outputs)
    if law.key in given:
        place = errors.Place(law.key, origin_of(given[law.key]), outputs)
        rows = read(given[law.key], place)
    else:
        scaled = any(option.name == "size" for option in SOURCES[body.source].options)
        place = errors.Place(law.key, f"source `{body.source}`", outputs, scaled=scaled)
        rows = Listed(_built_in(model, law, body, place, split, download))
    keys = tuple(model.batch_key(law.key, name) for name in law.outputs)
    return Bound(law.key, keys, assign(rows, place))


def _built_in(
    model: Model, law: Law, body: Evidence, place: errors.Place, split: str | None, download: bool
) -> tuple[Array, ...]:
    row = SOURCES.get(body.source)
    if row is not None and row.columns is None:
        raise errors.no_data(law.key, short_key(model, law), place)
    options = dict(body.options)
    if split is not None and row is not None and any(option.name == "split" for option in row.options):
        options["split"] = split
    columns = load_for(str(place), body.source, options, body.columns, download)
    return tuple(columns[i] for i in body.columns)
