"""A file's text replaced by another: shown, and written."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

from jointkl.disk import cannot_write


def difference(name: str, old: str, new: str) -> str:
    """As `diff -u` shows it; `name` is the file's."""
    before, after = (text.removesuffix("\n").split("\n") for text in (old, new))
    lines = difflib.unified_diff(before, after, name, name, lineterm="")
    return "\n".join(lines) or f"would change {name}: only how its lines end"


def write(path: Path, text: str) -> None:
    """All or nothing: written beside the file and renamed, its mode kept; a link stays a link. Raises `DataError`."""
    target = path.resolve()
    beside = target.with_name(f".{target.name}.part")
    try:
        beside.write_bytes(text.encode())
        shutil.copymode(target, beside)
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
