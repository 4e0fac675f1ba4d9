"""Rows that are read where they are drawn: the same values, mistakes and rows as in memory, and little memory."""

from __future__ import annotations

import dataclasses
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from jointkl.diagnostics import DataError
from jointkl.semantics.spaces import Space
from jointkl.sources import Bound, bind, maps, streams
from jointkl.sources.maps import Mapped
from jointkl.sources.streams import Stream, at

N = 50
CLASSES = Space("finite", (), (1, 3, 5))
SPACES = {"x": Space("unit", (2, 3)), "c": CLASSES}
X = np.random.default_rng(0).random((N, 2, 3)).astype(np.float32)
C = np.array([1, 3, 5])[np.arange(N) % 3]
TABLE = np.column_stack([X.reshape(N, 6), C])

Write = Callable[[Path, np.ndarray, np.ndarray], object]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds no column, and looks at few rows at a time."""
    monkeypatch.setattr(streams, "LARGE", 0)
    monkeypatch.setattr(streams, "CHUNK", 4 * 6 * 7)


def npy(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    np.save(path / "x.npy", x)
    np.save(path / "c.npy", c)
    return (path / "x.npy", path / "c.npy")


def by_columns(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    np.save(path / "x.npy", np.asfortranarray(x))
    np.save(path / "c.npy", c.astype(">i2"))
    return {"c": path / "c.npy", "x": path / "x.npy"}


def one_table(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    np.save(path / "t.npy", np.column_stack([x.reshape(len(x), -1), c]))
    return path / "t.npy"


def npz(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    np.savez(path / "a.npz", c=c, other=np.zeros(3), x=x)
    return path / "a.npz"


def compressed(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    np.savez_compressed(path / "a.npz", c=c, x=np.asfortranarray(x))
    return path / "a.npz"


def squeezed(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    np.savez_compressed(path / "a.npz", c=c, x=x)
    return path / "a.npz"


def csv(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    lines = [",".join(map(repr, map(float, [*row.flatten(), k]))) for row, k in zip(x, c, strict=True)]
    (path / "a.csv").write_text("\n".join([",".join([*(f"x{i}" for i in range(6)), "c"]), *lines]))
    return path / "a.csv"


def parquet(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    columns = {"name": ["a"] * len(x), "c": c, "x": list(x.reshape(len(x), -1))}
    pq.write_table(pa.table(columns), path / "a.parquet", row_group_size=8)
    return path / "a.parquet"


def memory_map(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    npy(path, x, c)
    return (np.load(path / "x.npy", mmap_mode="r"), np.load(path / "c.npy", mmap_mode="r"))


def dataset(path: Path, x: np.ndarray, c: np.ndarray) -> object:
    return TensorDataset(torch.from_numpy(x.copy()), torch.from_numpy(c.copy()))


WRITERS = [npy, by_columns, one_table, npz, compressed, squeezed, csv, parquet, memory_map, dataset]
every_form = pytest.mark.parametrize("write", WRITERS, ids=lambda f: f.__name__)


def bound_to(spec: Any, rows: object) -> Bound:
    return bind(spec(SPACES, ("data", ("x", "c"))), {"data": rows})[0]


@every_form
def test_rows_are_those_in_memory(spec, tmp_path, monkeypatch, nothing_fits, write):
    rows = write(tmp_path, X, C)
    streamed = bound_to(spec, rows)
    monkeypatch.setattr(streams, "LARGE", 2**30)
    held = bound_to(spec, rows)
    assert len(streamed) == len(held) == N
    assert np.array_equal(held.columns[0].numpy(), X)
    assert held.columns[1].tolist() == (np.arange(N) % 3).tolist()
    for there, here in zip(streamed.columns, held.columns, strict=True):
        assert isinstance(there, Stream)
        assert isinstance(here, Tensor)
        assert (there.shape, there.dtype, there.nbytes) == (here.shape, here.dtype, here.nbytes)
        for index in (torch.tensor([7, 0, 49, 7]), torch.arange(N) % 4 == 1, torch.tensor([], dtype=torch.int64)):
            assert torch.equal(at(there, index), at(here, index))
            assert at(here, index).shape == here[index].shape
        assert torch.equal(there[3:20:2], here[3:20:2])
        assert torch.equal(there[:], here)


FAULTS = {
    "above one": lambda x, c: x.__setitem__((31, 1, 2), 1.5),
    "not a number": lambda x, c: x.__setitem__((8, 0, 1), np.nan),
    "bytes": lambda x, c: x.__imul__(255),
    "another class": lambda x, c: c.__setitem__(49, 2),
}


@every_form
@pytest.mark.parametrize("fault", FAULTS)
def test_mistakes_are_told_as_in_memory(spec, tmp_path, monkeypatch, nothing_fits, write, fault):
    """The value, its place and its row, in the same words."""
    x, c = X.copy(), C.copy()
    FAULTS[fault](x, c)
    rows = write(tmp_path, x, c)

    def told() -> str:
        with pytest.raises(DataError) as caught:
            bound_to(spec, rows)
        return str(caught.value)

    streamed = told()
    monkeypatch.setattr(streams, "LARGE", 2**30)
    assert streamed == told()
    assert f"in row {dict(zip(FAULTS, (31, 8, 0, 49), strict=True))[fault]} (counted from 0)" in streamed


@pytest.mark.parametrize("kind", ["real", "positive", "unit", "binary", "natural", "simplex", "cholesky"])
def test_every_kind_of_space_is_checked_row_by_row(spec, tmp_path, monkeypatch, nothing_fits, kind):
    good = np.tile({"simplex": [[0.25, 0.75]], "cholesky": [[2.0, 0], [1, 1]]}.get(kind, [[1.0, 1.0]]), (30, 1, 1))
    good = good if kind == "cholesky" else good[:, 0]
    bad = good.copy()
    bad[23] = -np.inf
    model = spec({"x": Space(kind, (2,))}, ("data", ("x",)))
    np.save(tmp_path / "good.npy", good)
    np.save(tmp_path / "bad.npy", bad)
    assert np.array_equal(bind(model, {"data": tmp_path / "good.npy"})[0].columns[0][:].numpy(), good)
    with pytest.raises(DataError, match="in row 23"):
        bind(model, {"data": tmp_path / "bad.npy"})


def test_a_small_column_of_a_large_file_is_held(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LARGE", 8 * N)
    data = bound_to(spec, npz(tmp_path, X, C))
    assert isinstance(data.columns[0], Stream)
    assert isinstance(data.columns[1], Tensor)


def test_a_column_that_is_held_outlives_its_file(spec, tmp_path):
    data = bound_to(spec, npy(tmp_path, X, C))
    np.save(tmp_path / "x.npy", 1 - X)
    assert np.array_equal(data.columns[0].numpy(), X)


def test_bytes_want_to_be_divided_in_a_file_too(spec, refused, tmp_path, nothing_fits):
    np.save(tmp_path / "x.npy", np.full((N, 6), 7, np.uint8))
    model = spec({"x": Space("unit", (2, 3))}, ("data", ("x",)))
    refused(model, {"data": tmp_path / "x.npy"}, "7 at [0, 0] in row 0", "divide by 255")


@pytest.mark.parametrize("write", [npy, npz, squeezed], ids=lambda f: f.__name__)
def test_rows_of_what_is_larger_than_memory_are_called_for(spec, tmp_path, monkeypatch, nothing_fits, write):
    """The very bytes of the rows, in whole pages, before they are read."""
    monkeypatch.setattr(maps, "memory", lambda: 0)
    wide = np.random.default_rng(1).random((N, 2, 3000)).astype(np.float32)
    model = spec({"x": Space("unit", (2, 3000)), "c": CLASSES}, ("data", ("x", "c")))
    (data,) = bind(model, {"data": write(tmp_path, wide, C)})
    stream = data.columns[0]
    assert isinstance(stream, Stream)
    assert isinstance(stream.reader, Mapped)
    asked: list[tuple[int, int]] = []

    class Spy:
        def madvise(self, advice: int, start: int, length: int) -> None:
            assert advice == mmap.MADV_WILLNEED
            assert start % mmap.PAGESIZE == 0
            asked.append((start, start + length))

    spied = dataclasses.replace(stream, reader=dataclasses.replace(stream.reader, file=Spy()))
    for index in (torch.tensor([41, 2]), torch.arange(N) == 7):
        assert torch.equal(spied[index], torch.from_numpy(wide)[index])
        assert torch.equal(stream[index], torch.from_numpy(wide)[index])
    whole = stream.reader.file
    assert whole is not None
    assert len(asked) == 3
    for (start, end), row in zip(asked, (41, 2, 7), strict=True):
        assert whole[start:end].endswith(wide[row].tobytes())
        assert end - start < wide[row].nbytes + mmap.PAGESIZE


def test_what_fits_into_memory_is_not_called_for(spec, tmp_path, nothing_fits):
    stream = bound_to(spec, npy(tmp_path, X, C)).columns[0]
    assert isinstance(stream, Stream)
    assert isinstance(stream.reader, Mapped)
    assert stream.reader.file is None


@pytest.mark.parametrize("write", [npy, npz, squeezed, parquet, csv], ids=lambda f: f.__name__)
def test_a_file_cut_short_is_refused(spec, tmp_path, nothing_fits, write):
    write(tmp_path, X, C)
    for file in sorted(tmp_path.glob("*.*")):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) - 90] + (b",1" if write is csv else b""))
    rows = {npy: (tmp_path / "x.npy", tmp_path / "c.npy"), csv: tmp_path / "a.csv", parquet: tmp_path / "a.parquet"}
    with pytest.raises(DataError) as caught:
        bound_to(spec, rows.get(write, tmp_path / "a.npz"))
    assert caught.value.help


def test_a_large_dataset_is_read_where_it_is_drawn(spec, nothing_fits):
    reads: list[int] = []

    class Counted(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            reads.append(index)
            return super().__getitem__(index)

    data = bound_to(spec, Counted(torch.from_numpy(X), torch.from_numpy(C)))
    assert reads == [0, *range(N), *range(N)], "the first for its form, then all of them to check each column"
    reads.clear()
    assert np.array_equal(data.take(torch.tensor([5, 3]))["x"].numpy(), X[[5, 3]])
    assert reads == [5, 3, 5, 3]


def test_an_uneven_item_of_a_large_dataset_is_named(spec, refused, nothing_fits):
    class Uneven(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            x, c = super().__getitem__(index)
            return (x[:1] if index == 33 else x), c

    model = spec(SPACES, ("data", ("x", "c")))
    refused(model, {"data": Uneven(torch.from_numpy(X), torch.from_numpy(C))}, "item 33", "(1, 3)", "(2, 3)")


PROBE = """
import resource, sys
import torch
from jointkl.diagnostics import Source
from jointkl.semantics.model import Evidence, Law, Model, Variable
from jointkl.semantics.spaces import Space
from jointkl.sources import bind, streams

def mebibytes(field):
    fields = dict(line.split(":") for line in open("/proc/self/status"))
    return int(fields[field].split()[0]) // 1024

streams.LARGE = int(sys.argv[2])
law = Law("data", ("x",), (), Evidence("evidence", (), (0,), "data(x)"))
model = Model(Source("made.jkl", ""), {"x": Variable("x", Space("unit", (1024,)))}, {}, {}, {law.key: law}, ())
torch.ones(100, 100) @ torch.ones(100, 100)
before = mebibytes("RssAnon")
limit = (mebibytes("VmData") + 180) * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
(data,) = bind(model, {"data": sys.argv[1]})
for _ in range(20):
    batch = data.take(torch.randint(len(data), (64,)))
print(mebibytes("RssAnon") - before, len(batch["x"]), len(data))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_file_larger_than_the_memory_allowed_is_trained_on(tmp_path):
    """A file of 256 MiB, with holes, where 180 MiB may be had at most: not if it is to be held."""
    rows = 2**16
    file = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(rows, 1024))
    file[-1] = 1
    file.flush()
    del file

    def probe(large: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROBE, str(tmp_path / "x.npy"), str(large)]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    streamed = probe(2**20)
    assert streamed.returncode == 0, streamed.stderr
    used, batch, count = map(int, streamed.stdout.split())
    assert (batch, count) == (64, rows)
    assert used < 120, "MiB beyond what torch takes"
    held = probe(2**40)
    assert held.returncode != 0
    assert "memory" in held.stderr
