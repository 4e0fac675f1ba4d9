"""What one training step allocates at most: the emitted program against the same step written by hand, on the CPU.

    uv run python -m benchmarks.memory [--only WORD] [--json FILE]

Torch's profiler records every allocation and release of its CPU allocator. The peak is the largest sum of what is held
at once beyond what stands between steps, which both sides share: weights and Adam's moments. Activations, noise, labels
and gradients count. It does not depend on what else the machine does; the sides are those of `step.py`.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import step
from benchmarks.hand import Step

TARGET = 1.1
"""The emitted step may hold this much of what the hand-written one holds at its peak."""

WARM, RECORDED = 3, 3
"""Steps before recording, and recorded. What was held before recording is released unseen, so that the gradients of
the step before it are no part of the first step's sum; those of the recorded steps are."""


@dataclass(frozen=True)
class Measured:
    """Bytes at the peak of a step."""

    name: str
    hand: int
    emitted: int

    @property
    def ratio(self) -> float:
        return self.emitted / self.hand


def peak(run: Step, batches: Sequence[Tensor]) -> int:
    """The most bytes that a step holds at once, of those it allocates. Python collects no garbage meanwhile: what it
    would release of others' is not the step's."""
    for x in batches[:WARM]:
        run(x)
    gc.collect()
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            for x in batches[WARM : WARM + RECORDED]:
                run(x)
    finally:
        gc.enable()
    return max(accumulate(changes(recorded)))


def changes(recorded: profile) -> list[int]:
    """Bytes allocated, or released if negative, in the order of time."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    found = [(event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"]
    return [size for _, size in sorted(found, key=lambda event: event[0])]


def measure(compared: step.Comparison, size: int) -> Measured:
    pair = step.pair(compared, size)
    by_hand, emitted = (peak(run, xs) for run, xs in zip((pair.hand, pair.emitted), pair.batches, strict=True))
    return Measured(pair.name, by_hand, emitted)


HEAD = "| step | hand, KiB | emitted, KiB | ratio |\n|---|---|---|---|"


def row(found: Measured) -> str:
    return f"| {found.name} | {found.hand / 1024:.0f} | {found.emitted / 1024:.0f} | {found.ratio:.3f} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", metavar="WORD", default="", help="the comparisons with this in their name")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    chosen = options.parse_args()
    print(f"torch {torch.__version__}; the peak of a step beyond weights and moments; ratio = emitted / hand\n")
    print(HEAD)
    results: list[Measured] = []
    for compared in step.COMPARISONS:
        for size in compared.sizes if chosen.only in compared.name else ():
            results.append(measure(compared, size))
            print(row(results[-1]), flush=True)
    large = [r.name for r in results if r.ratio > TARGET]
    print(f"\nabove {TARGET}: {', '.join(large)}" if large else f"\nevery ratio is at most {TARGET}")
    if chosen.json:
        record = {"torch": torch.__version__, "steps": [asdict(r) | {"ratio": r.ratio} for r in results]}
        chosen.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
