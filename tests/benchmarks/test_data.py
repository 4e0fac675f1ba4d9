"""Each form of data is bound and drawn from, held or not, and the peak is of memory that is really taken."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from jointkl.sources import streams

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@pytest.fixture
def data(benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark("data")


FORMS = ["npy", "npz", "npz, compressed", "parquet", "csv", "images, jpeg"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_drawn_from(data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "kept"))
    monkeypatch.setattr(streams, "LARGE", streams.LARGE)
    assert list(data.FORMS) == FORMS
    path = data.FORMS[form](tmp_path, 300)
    for large, where in ((math.inf, "memory"), (0, "file")):
        found = data.probe(path, large)
        assert found["where"] == where
        assert found["batch"] > 0


def test_the_peak_is_what_is_taken(data: ModuleType) -> None:
    peak = data.Peak()
    peak.start()
    before = data.anonymous()
    taken = np.ones(80 * data.MIB, np.uint8)
    peak.over.wait(0.1)
    peak.over.set()
    peak.join()
    assert len(taken) / data.MIB - 1 < peak.most - before < 120


@pytest.mark.slow
def test_held_rows_are_in_the_peak_and_others_are_not(data: ModuleType) -> None:
    held = data.measure("npy", data.npy, 160, math.inf)
    streamed = data.measure("npy", data.npy, 160, 0)
    assert held.peak > 160 > streamed.peak
    assert data.row(streamed).startswith("| npy | 160 | file | ")
