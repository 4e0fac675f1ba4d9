"""Specs that once were accepted and wrong, crashed, or were refused without cause, and others of today: each judged."""

from __future__ import annotations

from pathlib import Path

import pytest

import jointkl
from jointkl.audit.findings import text
from jointkl.audit.judge import audit

SPECS = sorted((Path(__file__).parent / "specs").glob("*.jkl"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_it_means_what_it_says(path: Path) -> None:
    findings = audit(jointkl.load(path))
    assert [f for f in findings if f.met]
    assert not [f for f in findings if f.failed], text(path.stem, findings)
