"""Specs of 500 pieces go through every stage, however deep; the benchmark of their cost runs and knows its slopes."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from jointkl.compiler import lower, parse
from jointkl.derivation.derive import derive
from jointkl.derivation.expr import ClosedKL, LogFactor
from jointkl.emission.python import emit

FILE = Path(__file__).parents[2] / "benchmarks" / "derive.py"


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_of_derive", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


BENCHMARK = benchmark()


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["chain", "wide", "labels", "goals", "globals"])
def test_five_hundred_pieces(shape: str) -> None:
    """No stage nests its calls by the size of the spec: few frames are enough for all of them."""
    model = parse(BENCHMARK.SHAPES[shape](500))
    derive(parse(BENCHMARK.SHAPES[shape](2)))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 120)
    try:
        derivation = derive(model)
        text = derivation.text()
        source = emit(lower(derivation), text)
    finally:
        sys.setrecursionlimit(limit)
    assert text.count("\nplayer ") == {"chain": 1, "wide": 1, "labels": 2, "goals": 500, "globals": 1}[shape]
    compile(source, shape, "exec")


@pytest.mark.slow
def test_the_chain_has_its_loss() -> None:
    """Reconstruction at each level, and a closed form for the top level only (Su 7)."""
    (entries,) = derive(parse(BENCHMARK.chain(500))).losses.values()
    (entry,) = entries
    assert sum(isinstance(t.atom, ClosedKL) for t in entry.terms) == 1
    assert sum(isinstance(t.atom, LogFactor) and t.coefficient == 1 for t in entry.terms) == 499
    assert sum(isinstance(t.atom, LogFactor) and t.coefficient == -1 for t in entry.terms) == 500


def test_slopes() -> None:
    sizes = (16, 32, 64, 128)
    assert BENCHMARK.exponent({n: 3.0 * n for n in sizes}) == pytest.approx(1)
    assert BENCHMARK.exponent({n: 0.5 * n**2 for n in sizes}) == pytest.approx(2)


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    written = tmp_path / "derive.json"
    command = [sys.executable, str(FILE), "--quick", "--rounds", "1", "--shape", "chain", "--json", str(written)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "| derive, ms |" in done.stdout
    assert written.exists()
