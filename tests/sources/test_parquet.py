"""Tables that pyarrow reads: which columns are taken, and what is no number."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jointkl.semantics.spaces import Space
from jointkl.sources import bind, streams

SPACES = {"x": Space("real", (2,)), "t": Space("finite", (), (1, 2, 3))}


@pytest.fixture
def model(spec):
    return spec(SPACES, ("data", ("x", "t")))


def write(path: Path, columns: dict[str, object], **options: object) -> Path:
    pq.write_table(pa.table(columns), path / "a.parquet", **options)
    return path / "a.parquet"


@pytest.mark.parametrize("large", [2**30, 0])
@pytest.mark.parametrize(
    "columns",
    [
        {"x0": [1.0, 3.5], "x1": [-2.0, 4.0], "t": [3, 1]},
        {"t": [3, 1], "name": ["a", "b"], "x": [[1, -2], [3.5, 4]]},
        {"t": [3, 1], "x": pa.array([[1, -2], [3.5, 4]], pa.list_(pa.float32(), 2))},
        {"t": pa.array([3, 1], pa.uint8()), "x": pa.array([[1, -2], [3.5, 4]], pa.large_list(pa.float16()))},
        {"a": [1.0, 3.5], "b": [-2.0, 4.0], "c": pa.array([3, 1], pa.int16())},
        {"when": pa.array([1, 2], pa.timestamp("s")), "x_1": [-2.0, 4.0], "x_0": [1.0, 3.5], "t": [3.0, 1.0]},
    ],
    ids=["numbered", "list", "fixed list", "large list", "by position", "others left out"],
)
def test_columns_are_read_by_name_or_position(model, tmp_path, monkeypatch, columns, large):
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(streams, "LARGE", large)
    (data,) = bind(model, {"data": write(tmp_path, columns)})
    assert data.columns[0][:].tolist() == [[1, -2], [3.5, 4]]
    assert data.columns[1][:].tolist() == [2, 0]


def test_booleans_are_zero_and_one(spec, tmp_path):
    model = spec({"x": Space("binary", (2,))}, ("data", ("x",)))
    path = write(tmp_path, {"x0": [True, False], "x1": [True, True]})
    assert bind(model, {"data": path})[0].columns[0].tolist() == [[1, 1], [0, 1]]


def test_row_groups_make_no_difference(model, tmp_path):
    x = np.random.default_rng(0).normal(size=(1000, 2))
    path = write(tmp_path, {"x": list(x), "t": np.arange(1000) % 3 + 1}, row_group_size=17)
    assert np.array_equal(bind(model, {"data": path})[0].columns[0].numpy(), x.astype(np.float32))


@pytest.mark.parametrize("large", [2**30, 0])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": ["a", "b"], "t": [3, 1]}, ["column `x` of type string", "name the columns"]),
        ({"x": [[1, 2], [3, 4]], "t": ["3", "1"]}, ["column `t` of type string"]),
        ({"a": [["u", "v"]] * 2, "b": [3, 1]}, ["column `a` of type list"]),
        ({"x": [[1.0, 2.0], None], "t": [3, 1]}, ["nothing in column `x`, row 1"]),
        ({"x": [None, [1.0, 2.0]], "t": [3, 1]}, ["nothing in column `x`, row 0"]),
        ({"x": [[1.0, 2.0], [None, 1.0]], "t": [3, 1]}, ["nothing in column `x`, row 1"]),
        ({"x": [[1.0, 2.0], [3.0, 4.0]], "t": [None, 1]}, ["nothing in column `t`, row 0"]),
        ({"x": [[1.0, 2.0], [3.0]], "t": [3, 1]}, ["2 numbers in every row of column `x`", "found 1 in row 1"]),
        ({"x": [[], [1.0, 2.0]], "t": [3, 1]}, ["2 numbers in every row of column `x`", "found 0 in row 0"]),
        ({"name": ["a", "b"], "x": [None, [1.0, 2.0]], "t": [3, 1]}, ["nothing in column `x`, row 0"]),
        ({"x": [None, ["a", "b"]], "t": [3, 1]}, ["column `x`"]),
        ({"a": [[1.0], [3.0]], "b": [3, 1]}, ["rows of 3 numbers", "(2, 2)"]),
        ({"x": [[1.0, 2.0], [3.0, np.nan]], "t": [3, 1]}, ["`x` of `data(x,t)`", "nan at [1] in row 1"]),
        ({"t": [1, 2], "a": [1.0, 1.0], "b": [1.0, 1.0]}, ["column `t` where `x` would be read"]),
        ({"x": pa.array([], pa.float64()), "t": pa.array([], pa.int8())}, ["none (shape (0, 2))"]),
    ],
)
def test_wrong_tables_are_refused(model, refused, tmp_path, monkeypatch, columns, words, large):
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(streams, "LARGE", large)
    refused(model, {"data": write(tmp_path, columns)}, "a.parquet", "data(x,t)", *words)


def test_what_is_no_table_is_refused(model, refused, tmp_path):
    path = write(tmp_path, {"x": [[1.0, 2.0]], "t": [1]})
    content = path.read_bytes()
    for broken in (b"", b"PAR1", content[:-5], content[: len(content) // 2] + content[len(content) // 2 + 9 :]):
        path.write_bytes(broken)
        refused(model, {"data": path}, "a.parquet", "readable .parquet", "x: real[2]")


def test_without_its_library_the_extra_is_named(model, refused, tmp_path, monkeypatch):
    path = write(tmp_path, {"x": [[1.0, 2.0]], "t": [1]})
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(
        model, {"data": path}, "`data(x,t)`, from", ".parquet files need pyarrow", "uv pip install 'jointkl[parquet]'"
    )
