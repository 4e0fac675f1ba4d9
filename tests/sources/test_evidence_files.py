"""Rows from files, and files that hold none."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from jointkl.semantics.spaces import Space
from jointkl.sources import bind, streams
from jointkl.sources.streams import Stream

SPACES = {"x": Space("real", (2,)), "t": Space("finite", (), (1, 2, 3))}
POINTS = np.array([[1.0, -2.0], [3.5, 4.0]])
CLASSES = np.array([3, 1])


@pytest.fixture
def model(spec):
    return spec(SPACES, ("data", ("x", "t")))


def write_npy(path: Path) -> Path:
    np.save(path / "a.npy", np.column_stack([POINTS, CLASSES]))
    return path / "a.npy"


def write_npz(path: Path) -> Path:
    np.savez(path / "a.npz", t=CLASSES, x=POINTS, names=np.array([{}, None], dtype=object))
    return path / "a.npz"


def write_csv(text: str, path: Path) -> Path:
    (path / "a.csv").write_text(text, encoding="utf-8")
    return path / "a.csv"


@pytest.mark.parametrize("spell", [str, Path])
@pytest.mark.parametrize("write", [write_npy, write_npz])
def test_arrays_are_read(model, tmp_path, write, spell):
    (data,) = bind(model, {"data": spell(write(tmp_path))})
    assert data.columns[0].tolist() == POINTS.tolist()
    assert data.columns[1].tolist() == [2, 0]


@pytest.mark.parametrize(
    "text",
    [
        "1,-2,3\n3.5,4,1\n",
        "\ufeff1, -2, 3.0\r\n\r\n3.5,4e0,1",
        "x0,x1,t\n1,-2,3\n3.5,4,1\n",
        "t,x_1,x_0\n3,-2,1\n1,4,3.5\n",
        '"t","name","x[0]","x[1]"\n3,0,1,-2\n1,0,3.5,4\n',
        "x,x,t\n1,-2,3\n3.5,4,1\n",
        "x,y,t\n1,-2,3\n3.5,4,1\n",
        "a,b,c\n1,-2,3\n3.5,4,1\n",
    ],
    ids=["plain", "bom", "names", "any order", "others left out", "repeated", "half by position", "by position"],
)
def test_tables_are_read_by_name_or_position(model, tmp_path, text):
    (data,) = bind(model, {"data": write_csv(text, tmp_path)})
    assert data.columns[0].tolist() == POINTS.tolist()
    assert data.columns[1].tolist() == [2, 0]


def test_a_header_in_another_order_is_never_read_by_position(model, refused, tmp_path):
    path = write_csv("t,a,b\n3,1,2\n", tmp_path)
    refused(model, {"data": path}, "a.csv", "data(x,t)", "column `t`", "`x` would be read")
    path = write_csv("x1,x0,class\n1,2,3\n", tmp_path)
    refused(model, {"data": path}, "column `x1` where `x0` would be read")


def test_each_variable_may_have_its_own_file(model, refused, tmp_path):
    np.save(tmp_path / "x.npy", POINTS)
    np.savez(tmp_path / "t.npz", classes=CLASSES)
    table = write_csv("grower\n3\n1\n", tmp_path)
    for rows in ([str(tmp_path / "x.npy"), tmp_path / "t.npz"], {"t": table, "x": tmp_path / "x.npy"}):
        (data,) = bind(model, {"data": rows})
        assert data.columns[0].tolist() == POINTS.tolist()
        assert data.columns[1].tolist() == [2, 0]
    np.savez(tmp_path / "two.npz", a=CLASSES, b=CLASSES)
    refused(model, {"data": (POINTS, tmp_path / "two.npz")}, "two.npz", "`t: {1..3}`; found `a`, `b`")


def test_a_variable_s_own_file_is_read_by_name_too(model, refused, tmp_path):
    """What another order of the columns means does not depend on to whom the file is given."""
    whole, turned = tmp_path / "whole.csv", tmp_path / "turned.csv"
    whole.write_text("t,x1,x0\n3,-2,1\n1,4,3.5\n")
    turned.write_text("x1,x0\n-2,1\n4,3.5\n")
    np.savez(tmp_path / "a.npz", t=CLASSES, x=POINTS, other=np.zeros(3))
    archive = tmp_path / "a.npz"
    for rows in (
        whole,
        [whole],
        {"rows": whole},
        {"x": turned, "t": whole},
        (whole, whole),
        {"x": archive, "t": archive},
        [archive],
        {"rows": archive},
    ):
        (data,) = bind(model, {"data": rows})
        assert data.columns[0].tolist() == POINTS.tolist()
        assert data.columns[1].tolist() == [2, 0]
    refused(
        model, {"data": {"x": tmp_path / "none.csv", "t": CLASSES}}, "none.csv", "no such file", "with `x: real[2]`;"
    )


def test_further_columns_of_a_table_may_hold_anything(model, refused, tmp_path):
    path = write_csv("name,x0,when,x1,t\nrose,1,monday,-2,3\n,3.5,,4,1\n", tmp_path)
    (data,) = bind(model, {"data": path})
    assert data.columns[0].tolist() == POINTS.tolist()
    assert data.columns[1].tolist() == [2, 0]
    path = write_csv("name,x0,when,x1,t\nrose,1,monday,,3\n", tmp_path)
    refused(model, {"data": path}, "an empty cell in row 0, column 3", "line 2")
    path = write_csv("name,x0,when,t\nrose,1,monday,3\n", tmp_path)
    refused(model, {"data": path}, "`rose` in row 0, column 0")


def test_names_that_are_not_there_are_told_before_anything_is_read(model, refused, tmp_path):
    np.savez(tmp_path / "a.npz", x=POINTS, names=np.array([Trap(), Trap()]))
    refused(model, {"data": tmp_path / "a.npz"}, "found `x`, `names`", "t=...")
    refused(model, {"data": {"x": POINTS, "names": np.array(["a", "b"])}}, "found `x`, `names`", "t=...")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x0,x1,t\n1,2,3\n1,abc,3\n", ["`abc`", "row 1, column 1", "line 3"]),
        ("1,2,3\n\n1,,3\n", ["an empty cell", "row 1, column 1", "line 3"]),
        ("1;2;3\n4;5;6\n", ["`4;5;6`", "row 0, column 0", "line 2", "separated by commas"]),
        ("1,two,3\n", ["`two`", "row 0, column 1", "line 1"]),
        ("1,2,3\n1,2\n", ["3 cells", "found 2 in row 1", "line 2"]),
        ("x0,x1,t\n", ["none (shape (0, 3))"]),
        ("", ["none"]),
        ("1,2\n3,4\n", ["rows of 3 numbers", "(2, 2)"]),
        ("1,2,3\n1,2_0,3\n", ["`2_0`", "row 1, column 1"]),
        (",,\n1,2,3\n", ["an empty cell", "row 0, column 0", "line 1"]),
        ("1,2,3\nnan,2,3\n", ["`x` of `data(x,t)`", "nan at [0] in row 1"]),
        ("1,2,3\n1,2,4\n", ["`t` of `data(x,t)`", "4.0 in row 1", "{1..3}"]),
    ],
)
def test_wrong_tables_are_refused(model, refused, tmp_path, text, words):
    refused(model, {"data": write_csv(text, tmp_path)}, "a.csv", "data(x,t)", *words)


def _npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


class Trap:
    """Unpickling it would leave a trace."""

    sprung = False

    @staticmethod
    def spring() -> None:
        Trap.sprung = True

    def __reduce__(self):
        return (Trap.spring, ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", b""),
        ("a.npy", b"hello"),
        ("a.npy", _npy(np.ones((50, 3)))[:-8]),
        ("a.npy", _npy(np.ones((50, 3)))[:20]),
        ("a.npy", _npy(np.ones((2, 3))).replace(b"(2, 3)", b"(1<3)")),
        ("a.npy", _npy(np.array([Trap()]), allow_pickle=True)),
        ("a.npy", pickle.dumps(Trap())),
        ("a.npz", b""),
        ("a.npz", b"PK\x03\x04 not a zip"),
        ("a.npz", pickle.dumps(Trap())),
        ("a.npz", _npy(np.ones((2, 3)))),
        ("a.csv", b"\xff\xfe\x00"),
    ],
)
def test_broken_and_pickled_files_are_refused(model, refused, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    mend = "in UTF-8" if name == "a.csv" else "pickled objects never"
    refused(model, {"data": tmp_path / name}, name, "`data(x,t)`", "readable", "x: real[2]", mend)
    assert not Trap.sprung


def test_arrays_of_something_else_are_refused(model, refused, tmp_path):
    np.save(tmp_path / "a.npy", np.array([["a", "b", "c"]]))
    refused(model, {"data": tmp_path / "a.npy"}, "a.npy", "`data(x,t)`", "expected real numbers", "<U1")
    np.save(tmp_path / "a.npy", np.ones((3, 3), dtype=complex))
    refused(model, {"data": tmp_path / "a.npy"}, "expected real numbers", "complex128")


def test_pickled_arrays_in_an_archive_are_refused(model, refused, tmp_path):
    np.savez(tmp_path / "a.npz", x=POINTS, t=np.array([Trap(), Trap()]))
    refused(model, {"data": tmp_path / "a.npz"}, "a.npz", "`data(x,t)`", "allow_pickle")
    assert not Trap.sprung


@pytest.mark.parametrize("large", [2**30, 0])
@pytest.mark.parametrize("array", [POINTS * 1j, np.array([["a", "b"]] * 2), np.array([[Trap(), Trap()]] * 2)])
def test_a_compressed_array_of_something_else_is_refused(model, refused, tmp_path, monkeypatch, array, large):
    """And no copy of it is written."""
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(streams, "LARGE", large)
    np.savez_compressed(tmp_path / "a.npz", x=array, t=CLASSES)
    words = ["allow_pickle"] if array.dtype == object and large else ["real numbers", str(array.dtype)]
    refused(model, {"data": tmp_path / "a.npz"}, "a.npz", *words)
    assert not Trap.sprung
    assert len(list((tmp_path / "data").rglob("*.npy"))) <= 1, "of the classes, if they came first"


def test_a_file_in_the_user_s_folder(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_npy(tmp_path)
    assert bind(model, {"data": "~/a.npy"})[0].columns[0].tolist() == POINTS.tolist()


def test_a_table_is_as_large_as_its_numbers_and_not_as_its_text(spec, tmp_path, monkeypatch):
    """8,000 bytes that say 4,000 numbers."""
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(streams, "LARGE", 10_000)
    path = write_csv("0,1,0,1\n" * 1000, tmp_path)
    (data,) = bind(spec({"x": Space("unit", (4,))}, ("data", ("x",))), {"data": path})
    assert isinstance(data.columns[0], Stream)
    assert torch.equal(data.columns[0][:], torch.tensor([0.0, 1, 0, 1]).expand(1000, 4))


def test_files_that_are_not_there(model, refused, tmp_path):
    (tmp_path / "folder.npy").mkdir()
    refused(model, {"data": tmp_path / "none.npy"}, "none.npy", "`data(x,t)`", "no such file", "x: real[2]")
    refused(model, {"data": tmp_path / "folder.npy"}, "folder.npy", "found a folder")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(model, {"data": tmp_path / "pipe.npy"}, "pipe.npy", "no such file")
    for name in ("a" * 300, "a" * 300 + ".npy"):
        refused(model, {"data": tmp_path / name}, "`data(x,t)`")
    refused(model, {"data": "~nobody-of-this-name/a.npy"}, "~nobody-of-this-name/a.npy", "no such file")
    (tmp_path / "faces").mkdir()
    refused(model, {"data": tmp_path / "faces"}, "found a folder", f'data(x,t) = images("{tmp_path / "faces"}")')
    refused(model, {"data": "points.txt"}, "points.txt", "`data(x,t)`", ".npy, .npz, .csv", ".txt")
    refused(model, {"data": "points"}, "no ending")
    refused(model, {"data": "a\0b.npy"}, "`data(x,t)`")
