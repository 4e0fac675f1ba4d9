"""Options of the tests, the seed of each, and golden files: expected output, committed beside what makes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
"""Before torch is imported, and for every process that a test starts: the tests run side by side already, and threads
that wait for each other's cores take more time than they save. `tests/repeat.py` runs with two as well."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
"""Bytecode is kept: of torch and all that it imports, compiled once and not in each process that a test starts."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the expected outputs instead of comparing")
    parser.addoption("--every-law", action="store_true", help="export every law of every model, not one of each kind")
    parser.addoption("--fuzz", type=int, default=8_000, help="how many mutated specs tests/fuzz tries")
    parser.addoption("--fuzz-seed", type=int, default=0, help="the seed of their mutations")
    parser.addoption("--seed-shift", type=int, default=0, help="added to every seed of torch and numpy: other numbers")


def pytest_configure(config: pytest.Config) -> None:
    if shift := config.getoption("--seed-shift"):
        from tests import seeds

        seeds.shift(shift)


@pytest.fixture(autouse=True)
def _own_seed() -> None:
    """What a test draws depends neither on the tests before it nor on who ran them."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)`: `text` is what stands in `path`, but for the end of the last line."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.write_text(text + "\n", encoding="utf-8", newline="\n")
        assert path.exists(), f"{path.name} is missing; write it with `pytest --update-golden`, then read it"
        assert text + "\n" == path.read_bytes().decode()

    return compare
