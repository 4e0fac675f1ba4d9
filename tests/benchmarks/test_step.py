"""The benchmark runs: both sides of every pair agree on their losses, and step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_pair_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    options = ("--rounds", "2", "--seconds", "0.01", "--turn", "1", "--threads", "1", "--json", str(file))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.step", *options], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    steps = json.loads(file.read_text(encoding="utf-8"))["steps"]
    names = [found["name"] for found in steps]
    assert len(set(names)) == len(names) == 15
    assert {name.split(" ")[0] for name in names} == {"VAE", "GAN", "ALI", "AAE", "alpha-GAN", "IWAE"}
    assert all(found["ratio"] > 0 and found["name"] in done.stdout for found in steps)
