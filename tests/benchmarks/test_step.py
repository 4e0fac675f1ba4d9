"""The benchmark runs: both sides of every pair agree on their losses, and step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

STEP = Path(__file__).resolve().parents[2] / "benchmarks" / "step.py"


def test_every_pair_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    options = ("--rounds", "2", "--seconds", "0.01", "--threads", "1", "--json", str(file))
    done = subprocess.run([sys.executable, str(STEP), *options], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    steps = json.loads(file.read_text(encoding="utf-8"))["steps"]
    assert [found["name"] for found in steps] == [
        "VAE 784-400-20, batch 128",
        "VAE 784-400-20, batch 32",
        "GAN 2-128-128, batch 128",
        "GAN 2-128-128, batch 1024",
    ]
    assert all(found["ratio"] > 0 and found["name"] in done.stdout for found in steps)
