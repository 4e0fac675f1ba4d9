"""Golden files: expected output, committed beside what makes it. `pytest --update-golden` rewrites them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the expected outputs instead of comparing")
    parser.addoption("--every-law", action="store_true", help="export every law of every model, not one of each kind")
    parser.addoption("--fuzz", type=int, default=20_000, help="how many mutated specs tests/fuzz tries")
    parser.addoption("--fuzz-seed", type=int, default=0, help="the seed of their mutations")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """`golden(path, text)`: `text` is what stands in `path`, but for the end of the last line."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.write_text(text + "\n", encoding="utf-8", newline="\n")
        assert path.exists(), f"{path.name} is missing; write it with `pytest --update-golden`, then read it"
        assert text + "\n" == path.read_text(encoding="utf-8")

    return compare
