"""What `check`, `derive` and `compile` need is there in a blink, and no file imports itself by way of others."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import networkx
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


ROOT = Path(__file__).resolve().parent.parent

KNOWN = {
    frozenset(
        {
            "jointkl.derivation.derive",
            "jointkl.derivation.record",
            *(f"jointkl.exposition.{name}" for name in "latex markdown outline render text webpage".split()),
        }
    ),
}
"""Circles that are still to be opened. Whoever opens one takes its row away; none is added."""


def files_of(package: Path) -> dict[str, Path]:
    """Every file of a package, by the name of its module."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(tree: ast.Module, files: Collection[str]) -> set[str]:
    """The files that a file imports, wherever in it that stands: at its top, in a function, for the types alone."""
    found = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str() as module, names=names):
                found |= {name if (name := f"{module}.{alias.name}") in files else module for alias in names}
    return found & set(files)


def circles(imports: Mapping[str, Collection[str]]) -> set[frozenset[str]]:
    """The sets of files that reach one another."""
    graph = networkx.DiGraph((name, other) for name, others in imports.items() for other in others)
    return {
        frozenset(found)
        for found in networkx.strongly_connected_components(graph)
        if len(found) > 1 or any(graph.has_edge(name, name) for name in found)
    }


def test_circles_of_imports_are_found() -> None:
    files = {"a", "a.b", "a.c", "a.d"}
    texts = {
        "a.b": "def f():\n    from a import c",
        "a.c": "if TYPE_CHECKING:\n    import a.b",
        "a.d": "from a.b import f",
    }
    imports = {name: imports_of(ast.parse(text), files) for name, text in texts.items()}
    assert circles(imports) == {frozenset({"a.b", "a.c"})}


def test_no_circle_of_imports_between_files() -> None:
    files = files_of(ROOT / "jointkl")
    imports = {name: imports_of(ast.parse(path.read_text("utf-8")), files) for name, path in files.items()}
    assert len(imports) > 200
    found = circles(imports)
    assert [circle for circle in found if not any(circle <= known for known in KNOWN)] == []
    assert [known for known in KNOWN if not any(circle <= known for circle in found)] == [], "opened: take its row away"
