"""`config.json`, which is written and read by one schema."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

import jointkl
from jointkl.diagnostics import DataError
from jointkl.training.folder import schema
from jointkl.training.folder.config import Config
from jointkl.training.folder.run import load_run


def test_what_is_needed_is_refused_by_name_where_it_is_missing(gan: str, tmp_path: Path) -> None:
    run = jointkl.train(gan, steps=1, out=tmp_path / "run", quiet=True, pictures=0)
    path = run.folder / "config.json"
    whole = json.loads(path.read_text())
    assert list(whole) == [field.name for field in fields(Config)]
    needed = schema.tests_of(Config)
    assert 10 < len(needed) < len(whole)
    path.write_text(json.dumps({name: whole[name] for name in needed}))
    assert load_run(run.folder).rounds == 1, "what only informs may be missing"
    for name in needed.keys() - {"stop"}:  # of which nothing is said by null
        path.write_text(json.dumps({**whole, name: None}))
        with pytest.raises(DataError, match=f"it has no `{name}`, or not as a run writes it"):
            load_run(run.folder)
