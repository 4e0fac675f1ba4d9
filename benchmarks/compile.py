"""What compiling a spec to Python takes, as a whole process, and how much of it is importing.

    uv run python -m benchmarks.compile [--spec FILE] [--rounds N] [--json FILE]

In a round three processes run, one by one: `jointkl compile SPEC -o -`, one that only imports the modules which
that ends up with, and an empty Python. The time that counts is the processor's, to which waiting for other programs
adds nothing; the wall's stands beside it. Medians over the rounds, after one that is not counted, in which Python keeps
the bytecode of what it imports, as it does unless PYTHONDONTWRITEBYTECODE forbids it: that is taken away here.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MODELS = Path(__file__).resolve().parent.parent / "models"
TARGET = 0.4
"""Seconds for the whole process."""

HEAVY = ("torch", "pyro", "networkx")

COMPILE = "import sys; from jointkl.cli import main; sys.exit(main(['compile', {spec!r}, '-o', '-']))"
LOADED = """
import sys
from jointkl.cli import main
code = main(['compile', {spec!r}, '-o', '-'])
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""
IMPORT = "import importlib\nfor name in {modules!r}: importlib.import_module(name)"


@dataclass(frozen=True)
class Measured:
    """Seconds of one process, medians over the rounds."""

    name: str
    cpu: float
    wall: float


def loaded(spec: Path) -> list[str]:
    """The modules that compiling ends up with. Raises `CalledProcessError` where it does not compile."""
    code = LOADED.format(spec=str(spec))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    return done.stderr.split()


def run(code: str) -> tuple[float, float]:
    """Seconds of the processor and of the wall that a Python takes for this. Raises `CalledProcessError`."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True, env=environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def measure(spec: Path, rounds: int) -> list[Measured]:
    modules = [name for name in loaded(spec) if name.partition(".")[0] in ("jointkl", "lark", "click")]
    processes = {
        f"jointkl compile {spec.name} -o -": COMPILE.format(spec=str(spec)),
        "its imports alone": IMPORT.format(modules=modules),
        "python": "pass",
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
    for turn in range(rounds + 1):
        for name, code in processes.items():
            taken = run(code)
            if turn:
                times[name].append(taken)
    return [Measured(name, *map(statistics.median, zip(*found, strict=True))) for name, found in times.items()]


def table(results: Sequence[Measured]) -> str:
    rows = ["| process | processor, s | wall, s |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| `{r.name}` | {r.cpu:.3f} | {r.wall:.3f} |" for r in results)])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--spec", type=Path, default=MODELS / "vae.jkl", help="what is compiled (default: vae.jkl)")
    options.add_argument("--rounds", type=int, default=15, help="how often each process runs (default: 15)")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    chosen = options.parse_args()
    if chosen.rounds < 1:
        options.error("at least 1 round")
    heavy = [name for name in HEAVY if name in loaded(chosen.spec)]
    results = measure(chosen.spec, chosen.rounds)
    print(table(results))
    print(f"\nimported besides: {', '.join(heavy) or 'neither torch nor pyro nor networkx'}")
    within = results[0].cpu <= TARGET and not heavy
    print(f"within the target of {TARGET} s" if within else f"above the target of {TARGET} s, or too much imported")
    if chosen.json:
        record = {"processes": [asdict(r) for r in results], "heavy": heavy}
        chosen.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
