"""Copies that are mapped: written once, whole or not at all, and again when what they are made of changes."""

from __future__ import annotations

import errno
import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jointkl.diagnostics import DataError
from jointkl.semantics.spaces import Space
from jointkl.sources import bind, conversions, streams
from jointkl.sources.conversions import FOLDER, converted

ROWS = np.arange(60.0).reshape(20, 3)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where copies are kept. No column fits into memory."""
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(streams, "LARGE", 0)
    return tmp_path / "data" / FOLDER


def blocks(rows: np.ndarray, size: int = 7) -> Any:
    return lambda: (rows[start : start + size] for start in range(0, len(rows), size))


def unread() -> Any:
    pytest.fail("read again")


@pytest.mark.parametrize(
    "rows", [ROWS, ROWS.astype(">u2"), ROWS.reshape(20, 3, 1) > 5, ROWS[:, 0]], ids=lambda r: r.dtype
)
def test_a_copy_is_written_once_and_is_what_it_was_made_of(folder, rows):
    found = converted("here", ["a", "b"], blocks(rows))
    assert np.array_equal(found[:].numpy(), rows)
    (file,) = folder.iterdir()
    assert np.array_equal(np.load(file), rows)
    assert np.array_equal(converted("here", ["a", "b"], unread)[:].numpy(), rows)
    assert np.array_equal(converted("here", ["a", "c"], blocks(rows[:3]))[:].numpy(), rows[:3])


def test_a_table_is_copied_again_when_it_changes(spec, tmp_path, folder):
    file = tmp_path / "a.csv"
    model = spec({"x": Space("real", (3,))}, ("data", ("x",)))

    def read() -> list[Any]:
        return bind(model, {"data": file})[0].columns[0][:].tolist()

    file.write_text("1,2,3\n4,5,6\n")
    assert read() == read() == [[1, 2, 3], [4, 5, 6]]
    assert len(list(folder.iterdir())) == 1
    before = file.stat()
    file.write_text("1,2,3\n4,5,7\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert read() == [[1, 2, 3], [4, 5, 7]]
    time.sleep(0.05)
    file.write_text("1,2,3\n4,5,8\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert read() == [[1, 2, 3], [4, 5, 8]], "of the same length and time, as `cp -p` makes them"


class Full(io.RawIOBase):
    """A file on a disk that takes so many bytes."""

    def __init__(self, file: io.RawIOBase, room: int) -> None:
        self.file, self.room = file, room

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.room -= size
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.file.write(data)
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


@pytest.mark.parametrize("room", [0, 200, 400])
def test_a_full_disk_leaves_nothing_and_says_where(folder, monkeypatch, room):
    """480 bytes of rows behind a header of 128."""
    opened = io.open
    monkeypatch.setattr(Path, "open", lambda path, mode: io.BufferedWriter(Full(opened(path, mode, 0), room), 16))
    assert_refused(folder)
    monkeypatch.undo()
    assert not list(folder.iterdir())


def test_processes_that_copy_the_same_at_once_do_not_meet(folder):
    """Be they of one number, as on two machines: the second begins and ends while the first writes."""

    def slow() -> Any:
        yield ROWS[:7]
        assert np.array_equal(converted("here", ["a"], blocks(ROWS))[:].numpy(), ROWS)
        yield ROWS[7:]

    assert np.array_equal(converted("here", ["a"], slow)[:].numpy(), ROWS)
    assert len(list(folder.iterdir())) == 1


def test_what_a_killed_process_left_is_taken_away(folder, monkeypatch):
    """Once nobody has written to it for long: it may be another process's, which goes on."""
    folder.mkdir(parents=True)
    left, growing = folder / ".a.1.part", folder / ".b.2.part"
    for part in (left, growing):
        part.write_bytes(bytes(100))
    os.utime(left, (0, 0))
    converted("here", ["a"], blocks(ROWS))
    assert not left.exists()
    assert growing.exists()


def test_a_folder_that_cannot_be_made_is_named(folder):
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    assert_refused(folder)


def test_a_folder_that_cannot_be_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / ("a" * 300)))
    assert_refused(tmp_path / ("a" * 300))


def assert_refused(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        converted("`data(x)`, from a.csv", ["a"], blocks(ROWS))
    text = str(caught.value)
    for word in ("`data(x)`, from a.csv", str(folder), "make room there", "JOINTKL_DATA"):
        assert word in text


def test_rows_that_cannot_be_read_are_no_full_disk(folder):
    def broken() -> Any:
        yield ROWS
        raise OSError("the file ends too early")

    with pytest.raises(ValueError, match="ends too early"):
        converted("here", ["a"], broken)
    assert not list(folder.iterdir())


def test_a_damaged_copy_is_named(folder):
    converted("here", ["a"], blocks(ROWS))
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:150])
    with pytest.raises(DataError) as caught:
        converted("here", ["a"], unread)
    assert str(file) in str(caught.value)
    assert "delete it: it is made anew" in str(caught.value)


def test_the_header_has_room_for_any_number_of_rows():
    """What the rewriting of the header rests on."""
    lengths = set()
    for count in (0, 7, 10**6, 10**15):
        file = io.BytesIO()
        conversions._write_header(file, (count, 3, 2), np.dtype(np.float32))
        lengths.add(len(file.getvalue()))
    assert len(lengths) == 1
