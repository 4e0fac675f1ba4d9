"""A disk that is full, read only or worse ends a run in one sentence; with room again it goes on to the same bits."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jointkl
from jointkl import cli, disk
from jointkl.diagnostics import DataError
from jointkl.training.folder import checkpoints
from jointkl.training.folder.run import load_run
from tests.training.runs import assert_same, metrics
from tests.training.specs import GAN

# --- errors of the system, where it would raise them

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Fault:
    """From its `after`th time on, an act of the system on a file of this name fails, until it is mended."""

    def __init__(self, patch: pytest.MonkeyPatch, act: str, name: str, after: int = 1) -> None:
        self.act, self.name, self.left, self.broken = act, name, after, True
        self.handles: dict[int, str] = {}
        for function in ("open", "write", "fsync", "fdopen", "replace"):
            patch.setattr(disk.os, function, self.watched(function, getattr(os, function)))
        patch.setattr(Path, "replace", self.watched("replace", Path.replace))

    def watched(self, function: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(at: Any, *rest: Any, **named: Any) -> Any:
            path = self.handles.get(at, "") if isinstance(at, int) else Path(at).name
            if function == "fdopen":
                return Writing(self, path, real(at, *rest, **named)) if path else real(at, *rest, **named)
            if function == "open":
                if self.due("open", path):
                    raise FULL
                handle = real(at, *rest, **named)
                self.handles[handle] = path
                return handle
            if self.due(function, path):
                if function == "write":
                    real(at, rest[0][: len(rest[0]) // 2])
                raise FULL
            return real(at, *rest, **named)

        return call

    def due(self, act: str, path: str) -> bool:
        if not self.broken or act != self.act or path.strip(".").removesuffix(".part") != self.name:
            return False
        self.left -= 1
        return self.left <= 0


class Writing:
    """A file that takes half of what is written."""

    def __init__(self, fault: Fault, path: str, file: Any) -> None:
        self.fault, self.path, self.file = fault, path, file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> int:
        if self.fault.due("write", self.path):
            self.file.write(content[: len(content) // 2])
            raise FULL
        return self.file.write(content)


WHERE = [
    ("open", "00000120.safetensors", 1, 100),
    ("write", "00000120.safetensors", 1, 100),
    ("fsync", "00000120.safetensors", 1, 100),
    ("replace", "00000120.safetensors", 1, 100),
    ("open", "00000120.json", 1, 100),
    ("write", "00000120.json", 1, 100),
    ("fsync", "00000120.json", 1, 100),
    ("replace", "00000120.json", 1, 100),
    ("fsync", "checkpoints", 13, 100),
    ("write", "metrics.jsonl", 60, 100),
    ("fsync", "metrics.jsonl", 8, 120),
    ("open", "00000200.png", 1, 180),
    ("write", "00000200.png", 1, 180),
    ("replace", "00000200.png", 1, 180),
    ("write", "00000000.safetensors", 1, None),
    ("replace", "00000000.json", 1, None),
]
"""What fails on which file at which time, and the round of the checkpoint that is there then."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jointkl.train(GAN, out=tmp_path_factory.mktemp("whole") / "run", quiet=True).folder


@pytest.fixture(scope="module")
def drawn_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With pictures before and after what fails: one is kept, the other made when it goes on."""
    return jointkl.train(GAN, out=tmp_path_factory.mktemp("twice") / "run", quiet=True, pictures=2).folder


@pytest.mark.slow
@pytest.mark.parametrize(("act", "name", "after", "kept"), WHERE, ids=lambda value: str(value))
def test_a_full_disk_ends_the_run_and_the_last_checkpoint_is_whole(
    act: str, name: str, after: int, kept: int | None, drawn_twice: Path, gan: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        fault = Fault(patch, act, name, after)
        with pytest.raises(DataError) as found:
            jointkl.train(gan, out=folder, quiet=True, pictures=2)
        assert fault.left <= 0
    said = str(found.value)
    assert "cannot be written: No space left on device\nhelp: make room on that disk" in said
    assert name in said.split("\n")[0] or act == "fsync"
    assert f"jointkl resume {folder}" in said
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert all(json.loads(line) and line.endswith("\n") for line in lines)
    assert not [path.name for path in folder.rglob("*.part")]
    if kept is None:
        assert "there is no checkpoint yet" in said
        with pytest.raises(DataError, match="holds no checkpoint"):
            load_run(folder)
    else:
        run = load_run(folder)
        assert (run.rounds, run.notes) == (kept, ())
        assert f"the last checkpoint is {checkpoints.whole(folder)[-1]}" in said
    jointkl.resume(folder, quiet=True)
    assert_same(drawn_twice, folder)


@pytest.mark.slow
def test_a_line_of_metrics_that_was_cut_is_written_again(drawn_twice: Path, gan: str, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The disk does not even take back what it has of the line."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        Fault(patch, "write", "metrics.jsonl", 60)

        def refuses(*_: object) -> None:
            raise FULL

        patch.setattr(disk.os, "ftruncate", refuses)
        with pytest.raises(DataError, match="No space left on device"):
            jointkl.train(gan, out=folder, quiet=True, pictures=2)
    text = (folder / "metrics.jsonl").read_text()
    assert not text.endswith("\n")
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(text.splitlines()[-1])
    jointkl.resume(folder, quiet=True)
    assert_same(drawn_twice, folder)


@pytest.mark.parametrize(("act", "name"), [("replace", "config.json"), ("open", "metrics.jsonl")])
def test_a_full_disk_before_it_goes_on(
    act: str, name: str, whole: Path, gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the run is lost by trying."""
    folder = tmp_path / "run"
    jointkl.train(gan, steps=20, out=folder, quiet=True, pictures=0)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        Fault(patch, act, name)
        with pytest.raises(DataError, match=f"{name} cannot be written: No space left on device"):
            jointkl.resume(folder, steps=30, quiet=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    jointkl.resume(folder, steps=30, quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spec.jkl", "gan.py", "config.json", "metrics.jsonl"])
def test_a_full_disk_before_the_first_round(name: str, gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("gan.jkl").write_text(gan)
    with monkeypatch.context() as patch:
        Fault(patch, "open", name)
        assert cli.main(["train", "gan.jkl", "--steps", "3"]) == 1
    said = capsys.readouterr().err
    assert f"error: runs/gan/{name} cannot be written: No space left on device" in said
    assert "Traceback" not in said
    assert cli.main(["train", "gan.jkl", "--steps", "3", "--quiet"]) == 0


@pytest.mark.parametrize("error", [errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE])
def test_what_the_system_says_is_told_with_how_to_mend_it(
    error: int, gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(handle: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(disk.os, "fsync", fails)
    with pytest.raises(DataError) as found:
        jointkl.train(gan, out=tmp_path / "run", quiet=True)
    assert os.strerror(error) in found.value.message
    assert set(found.value.help) >= ({disk.MENDED[error]} if error in disk.MENDED else set())


# --- real ones


@pytest.fixture
def small() -> Iterator[Path]:
    """A disk of its own, of 300 KiB; not where pytest clears up."""
    place = Path(tempfile.mkdtemp(prefix="jointkl-disk-"))
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "jointkl", str(place)], capture_output=True, text=True
    ) if os.geteuid() == 0 else None  # fmt: skip
    if done is None or done.returncode:
        place.rmdir()
        pytest.skip(f"no disk may be mounted here: {done.stderr.strip() if done else 'not root'}")
    yield place
    subprocess.run(["umount", str(place)], check=True)  # fails where a file was left open
    place.rmdir()


def again(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("free", [4, 12, 24, 40, 56, 80, 120, 180])
def test_a_disk_that_fills_up(free: int, whole: Path, small: Path, gan: str) -> None:
    """Of so many KiB: wherever that ends it, what is there goes on once there is room."""
    room = os.statvfs(small)
    (small / "filler").write_bytes(b"0" * (room.f_bavail * room.f_frsize - free * 1024))
    folder = small / "run"
    with pytest.raises(DataError, match="cannot be written: No space left on device\nhelp: make room on that disk"):
        jointkl.train(gan, out=folder, quiet=True)
    again(small, "size=20m")
    if not (folder / "config.json").exists():
        return
    if made := checkpoints.whole(folder):
        run = load_run(folder)
        assert (run.rounds, run.notes) == (int(made[-1].stem), ())
    jointkl.resume(folder, quiet=True)
    assert_same(whole, folder)


@pytest.mark.slow
def test_a_disk_that_is_read_only(small: Path, gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again(small, "size=20m")
    jointkl.train(gan, steps=5, out=small / "run", quiet=True)
    again(small, "ro")
    assert load_run(small / "run").rounds == 5
    for line in (["resume", str(small / "run"), "--steps", "9"], ["sample", str(small / "run")]):
        assert cli.main(line) == 1
        said = capsys.readouterr().err
        assert "cannot be written: Read-only file system\nhelp: that disk is mounted to be read only" in said
    (tmp_path / "gan.jkl").write_text(gan)
    assert cli.main(["train", str(tmp_path / "gan.jkl"), "--out", str(small / "other")]) == 1
    assert f"{small / 'other'} cannot be written: Read-only file system" in capsys.readouterr().err
    again(small, "rw")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(gan: str, tmp_path: Path) -> None:
    run = jointkl.train(gan, steps=5, out=tmp_path / "run", quiet=True)
    (run.folder / "checkpoints").chmod(0o555)
    with pytest.raises(DataError, match="Permission denied\nhelp: its permissions"):
        jointkl.resume(run.folder, steps=9, quiet=True)
    (run.folder / "checkpoints").chmod(0o755)


@pytest.mark.slow
def test_no_file_can_be_opened_any_more(whole: Path, gan: str, tmp_path: Path) -> None:
    """After the first checkpoint somebody else of the process takes all handles that are left."""
    folder = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    forget = checkpoints._forget

    def taken(*arguments: Any) -> None:
        forget(*arguments)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, before[1]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "_forget", taken)
        try:
            with pytest.raises(DataError, match="Too many open files\nhelp: the process has too many files open"):
                jointkl.train(gan, out=folder, quiet=True, pictures=4)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    jointkl.resume(folder, quiet=True)
    assert_same(whole, folder)


# --- the files themselves


def test_a_file_is_as_readable_as_the_user_wants_it(gan: str, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        run = jointkl.train(gan, steps=2, out=tmp_path / "run", quiet=True)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in run.folder.rglob("*") if path.is_file()}
    assert modes == {0o640}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    disk.write(path, b"old")

    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(disk.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        disk.write(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_metrics_are_on_the_disk_before_the_checkpoint_that_is_behind_them(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that loses its power loses no line of before the checkpoint from which it goes on."""
    synced, real = [], os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real(handle)

    if not Path("/proc/self/fd").exists():
        pytest.skip("open files are counted in /proc")
    monkeypatch.setattr(disk.os, "fsync", fsync)
    run = jointkl.train(gan, steps=3, out=tmp_path / "run", quiet=True, pictures=0, checkpoints=3)
    order = [name for name in synced if name == "metrics.jsonl" or name.endswith(".safetensors.part")]
    assert order == [n for i in range(4) for n in ("metrics.jsonl", f".{i:08d}.safetensors.part")]
    assert metrics(run.folder)[-1]["round"] == 3
