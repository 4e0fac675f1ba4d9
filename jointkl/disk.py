"""Files of a folder that somebody may have been handed: read whole and only so large, written all or nothing.

What is opened here is a regular file with that one name: no link leads out of the folder, no pipe or device is waited
for, and nothing is read before its size is known.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jointkl.diagnostics import DataError

GUARD = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""How a file is opened: not through a link, and without waiting for who is at the other end of a pipe."""

LONGEST_LINE = 1 << 20
"""No line that a run writes has so many bytes."""


def read(path: Path, most: int) -> bytes:
    """The bytes of a file of at most `most` of them.

    Raises `DataError` for one that is missing, larger, no regular file or reached through a link.
    """
    try:
        with os.fdopen(_opened(path, os.O_RDONLY), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(size) if size <= most else b""
    except OSError as error:
        raise cannot_read(path, error) from error
    if size > most:
        raise too_large(path, size, most)
    return content


def write(path: Path, content: bytes) -> None:
    """All of a file or nothing: written beside its place, synced, renamed, and the folder synced.

    What stood at the path, a link too, is replaced. Raises `DataError`; then it is as it was, and no piece is left.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | GUARD, 0o666), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:  # what is left gives its room back, if that can be
            with suppress(OSError):
                beside.unlink()
            raise
        _sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove(path: Path) -> None:
    """A file, if it is there, or the link that stands in its place. Raises `DataError`."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def folder(path: Path) -> Path:
    """A folder, made where there is none. Raises `DataError` where it cannot be, or is a link."""
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise cannot_write(path, error) from error
    verify_folder(path)
    return path


def verify_folder(path: Path) -> None:
    """Raises `DataError` for what is there and is no folder, or a link to one."""
    try:
        _verify_kind(path, stat.S_IFDIR)
    except OSError as error:
        raise cannot_read(path, error) from error


class Unwritable(DataError):
    """The disk does not take what is written."""


class Lines:
    """A file that grows by whole lines; `handle` is its own, to be locked by."""

    def __init__(self, path: Path) -> None:
        """Raises `DataError` for what is no regular file of one name, or cannot be written."""
        self.path = path
        try:
            self.handle = _opened(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            if os.fstat(self.handle).st_nlink > 1:
                raise not_its_own(path, "a hard link", "a file of its own")
        except DataError:
            self.close()
            raise

    def append(self, line: str) -> None:
        """One line more, or the file as it was and a `DataError`."""
        content = memoryview(line.encode() + b"\n")
        try:
            before = os.fstat(self.handle).st_size
            try:
                while content:
                    content = content[os.write(self.handle, content) :]
            except OSError:
                os.ftruncate(self.handle, before)
                raise
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def keep(self, holds: Callable[[bytes], bool]) -> None:
        """The lines up to the last that holds; what stands behind it is cut off. Nothing is read behind a line that has
        no end, or is longer than any that a run writes."""
        size = seen = 0
        try:
            with os.fdopen(os.dup(self.handle), "rb") as file:
                file.seek(0)
                while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
                    seen += len(line)
                    if holds(line):
                        size = seen
            os.ftruncate(self.handle, size)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def sync(self) -> None:
        """Until the disk has it."""
        try:
            os.fsync(self.handle)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        os.close(self.handle)


def _opened(path: Path, flags: int) -> int:
    """A handle of a regular file. Raises `OSError`, and `DataError` for what is none."""
    _verify_kind(path, stat.S_IFREG)  # before it is opened: of some devices that alone moves something
    handle = os.open(path, flags | GUARD, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise not_its_own(path, "no file", KINDS[stat.S_IFREG])
    return handle


def _verify_kind(path: Path, due: int) -> None:
    """What is there is of this kind itself, and no link."""
    try:
        found = stat.S_IFMT(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if found != due:
        raise not_its_own(path, KINDS.get(found, "no file"), KINDS[due])


def _sync(path: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- mistakes

KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

MENDED = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room: your quota on that disk is used up",
    errno.EROFS: "that disk is mounted to be read only: copy the run elsewhere",
    errno.EACCES: "its permissions do not let you: see `ls -l`",
    errno.EMFILE: "the process has too many files open: see `ulimit -n`",
}


def why(error: OSError) -> tuple[str, tuple[str, ...]]:
    """What the system says, and how to mend it."""
    return error.strerror or str(error), ((MENDED[error.errno],) if error.errno in MENDED else ())


def cannot_read(path: Path, error: OSError) -> DataError:
    said, help = why(error)
    return DataError(f"{path} cannot be read: {said}", *help)


def cannot_write(path: Path, error: OSError) -> Unwritable:
    said, help = why(error)
    return Unwritable(f"{path} cannot be written: {said}", *help)


def too_large(path: Path, size: int, most: int) -> DataError:
    return DataError(f"{path} is refused: it has {size:,} bytes, and such a file has at most {most:,}")


def not_its_own(path: Path, found: str, due: str) -> DataError:
    return DataError(f"{path} is refused: it is {found}, where a run has {due}", "copy what it stands for to its place")
