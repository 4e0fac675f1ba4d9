"""What `check`, `derive` and `compile` need is there in a blink: no torch, no pyro, no networkx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_compiling_to_python_imports_nothing_heavy() -> None:
    """The whole of `jointkl compile`, which names torch and pyro in what it writes, and the version too."""
    spec = Path(__file__).resolve().parent.parent / "models" / "vae.jkl"
    heavy = [*HEAVY, "rich", "importlib.metadata"]
    code = f"""
import sys
from jointkl.cli import main
assert main(["compile", {str(spec)!r}, "-o", "-"]) == 0
print([m for m in {heavy} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stderr.strip() == "[]"
    assert "import torch" in done.stdout
