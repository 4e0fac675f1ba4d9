"""The statistical tests again, with other seeds and other arithmetic: `python -m tests.repeat [--seeds 20] [PATH ...]`.

Tests marked `statistical` are to hold whatever is drawn, and whatever a processor's vectors, a library's sums and the
number of threads do to the last bit, which a training makes any difference of. Each seed is run in one of the
environments, in turn, and the seeds as they are written in all of them. What failed is printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

TESTS = Path(__file__).resolve().parent

ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"},
    "compatible MKL": {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"},
}

SHIFT = 10_007
"""From one seed to the next: further than the seeds lie apart that one test takes."""


def marked() -> list[str]:
    """The files that hold a statistical test: the others need not be collected."""
    return [str(path) for path in sorted(TESTS.rglob("test_*.py")) if "mark.statistical" in path.read_text("utf-8")]


def failures(paths: list[str], shift: int, environment: Mapping[str, str], workers: str) -> list[str]:
    """Which tests fail, by name; a run that ends in another way is one too."""
    command = [sys.executable, "-m", "pytest", "-m", "statistical", "--seed-shift", str(shift), "-n", workers]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-rfE", "--tb=line", *paths],
        cwd=TESTS.parent, env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    found = re.findall(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode and not found:
        return [f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="tests; by default every file that holds one")
    parser.add_argument("--seeds", type=int, default=20, help="how many other seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--workers", default="auto", help="pytest's -n")
    given = parser.parse_args()
    paths, names = given.paths or marked(), list(ENVIRONMENTS)
    runs = [(0, name) for name in names if given.first == 1]
    runs += [(i, names[i % len(names)]) for i in range(given.first, given.first + given.seeds)]
    failed = 0
    for number, name in runs:
        start = time.perf_counter()
        found = failures(paths, number * SHIFT, ENVIRONMENTS[name], given.workers)
        failed += bool(found)
        told = "passed" if not found else f"{len(found)} failed"
        print(f"seed {number:2}, {name}: {told} in {time.perf_counter() - start:.0f} s", flush=True)
        for test in found:
            print(f"  {test}", flush=True)
    print(f"{len(runs) - failed} of {len(runs)} runs passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
