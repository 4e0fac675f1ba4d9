"""The benchmark of compiling runs, and compiling ends up with neither torch nor pyro."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import ROOT


def test_what_compiling_imports(benchmark: Callable[[str], ModuleType]) -> None:
    compiling = benchmark("compile")
    found = compiling.loaded(compiling.MODELS / "vae.jkl")
    assert "jointkl.emission.python" in found
    assert not set(compiling.HEAVY) & set(found)


@pytest.mark.slow
def test_every_process_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "compile.json"
    command = (sys.executable, "-m", "benchmarks.compile", "--rounds", "1", "--json", str(file))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    whole, imports, empty = json.loads(file.read_text(encoding="utf-8"))["processes"]
    assert min(whole["cpu"], imports["cpu"]) > empty["cpu"] > 0
