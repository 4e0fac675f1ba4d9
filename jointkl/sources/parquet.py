"""Rows from .parquet files, by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jointkl.sources import errors, source_errors
from jointkl.sources.columns import Rows, Table, needed
from jointkl.sources.tables import BLOCK, table

if TYPE_CHECKING:
    from pyarrow import DataType


FIRST = 100
"""Rows by which it is judged what a column holds."""


def read_parquet(path: Path, place: errors.Place) -> Rows:
    """Columns of numbers, or of lists of equally many; of a file with further columns those named as the variables.

    Raises `DataError` for a column that holds anything else, or nothing somewhere.
    """
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise source_errors.missing_library(str(place), ".parquet files", "pyarrow", "parquet") from None

    with pq.ParquetFile(path, memory_map=True) as file:
        count = file.metadata.num_rows
        names = tuple(file.schema_arrow.names)
        if not count:
            raise errors.no_rows(place, (0, len(names)))
        first: Any = next(file.iter_batches(batch_size=FIRST))
    widths = {field.name: _width(first.column(i), field.type) for i, field in enumerate(first.schema)}
    chosen = needed(tuple(name for name in names for _ in range(max(1, widths[name]))), place)
    for name in chosen:
        if not widths[name] and not first.column(name)[0].is_valid:
            raise source_errors.empty_cell(place, name, 0)
        if not widths[name]:
            raise source_errors.not_a_number_column(place, name, str(first.schema.field(name).type))
    header = tuple(name for name in chosen for _ in range(widths[name]))

    def blocks() -> Iterator[np.ndarray]:
        with pq.ParquetFile(path, memory_map=True) as file:
            row = 0
            for batch in file.iter_batches(batch_size=max(1, BLOCK // len(header)), columns=list(chosen)):
                parts = [_numbers(batch.column(name), widths[name], name, row, place) for name in chosen]
                yield np.concatenate(parts, axis=1)
                row += batch.num_rows

    return Table(header, table(blocks, 8 * count * len(header), path, chosen, place))


def _width(first: Any, kind: DataType) -> int:
    """How many numbers a row of a column holds, by the first that holds any; 0 if none does."""
    import pyarrow.types as types

    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        inner = kind.value_type
        count = next((len(row) for row in first if row.is_valid and len(row)), 0)
    else:
        inner, count = kind, 1
    return count if types.is_integer(inner) or types.is_floating(inner) or types.is_boolean(inner) else 0


def _numbers(column: Any, width: int, name: str, row: int, place: errors.Place) -> np.ndarray:
    """Rows (n, width) of a column from row `row` on."""
    import pyarrow.types as types

    if column.null_count:
        raise source_errors.empty_cell(place, name, row + column.is_null().to_pylist().index(True))
    if not types.is_nested(column.type):
        return column.to_numpy(zero_copy_only=False).reshape(-1, 1)
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if (lengths != width).any():
        at = int((lengths != width).argmax())
        raise source_errors.uneven_list(place, name, row + at, int(lengths[at]), width)
    values = column.flatten()
    if values.null_count:
        raise source_errors.empty_cell(place, name, row + values.is_null().to_pylist().index(True) // width)
    return values.to_numpy(zero_copy_only=False).reshape(-1, width)
