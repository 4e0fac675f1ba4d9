"""What `check`, `derive` and `compile` need is there in a blink: no torch, no pyro, no networkx."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = [
    "jointkl",
    "jointkl.diagnostics",
    "jointkl.syntax.parse",
    "jointkl.semantics.elaborate",
    "jointkl.derivation.derive",
]
HEAVY = ["torch", "torchvision", "pyro", "networkx", "sklearn", "matplotlib"]


@pytest.mark.parametrize("module", LIGHT)
def test_importing_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
