"""The loop around the step: a run as `jointkl train` makes it, against its bare steps on batches that lie ready.

    uv run python -m benchmarks.loop [--quick] [--threads N] [--rounds N] [--json FILE]

The run draws its minibatches, notes and reads its losses, writes `metrics.jsonl` and shows its progress (to nobody);
its time is what it records itself, checkpoints left out. The bare steps are loss, backward and optimiser, player by
player. Both go on with one program, taking turns of so many steps in one process. What counts is the median over rounds
of the ratio within a round.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

import jointkl
from benchmarks.step import MODELS, VAE
from jointkl.training.engine import READ, Engine
from jointkl.training.folder.config import SEEDED, configuration
from jointkl.training.folder.record import Record
from jointkl.training.machine import threads
from jointkl.training.options import Options
from jointkl.training.plan import compiled_for, plan


@dataclass(frozen=True)
class Case:
    """A spec and its batch, how many steps are a turn, and the share that the loop may add to them."""

    name: str
    spec: Callable[[], str]
    batch: int
    steps: int
    target: float


CASES = (
    Case("VAE 784-400-20, batch 128", lambda: VAE, 128, 150, 0.05),
    Case("GAN 2-128-128, batch 256", lambda: (MODELS / "gan.jkl").read_text(encoding="utf-8"), 256, 500, 0.10),
)


@dataclass(frozen=True)
class Measured:
    """Milliseconds a step, medians over the rounds, and what the loop adds, as a share of the bare step."""

    name: str
    target: float
    bare_ms: float
    run_ms: float
    added: float
    quartiles: tuple[float, float]
    rounds: int


def measure(case: Case, rounds: int, shorter: int) -> Measured:
    steps = case.steps // shorter
    data = {"data": torch.rand(20_000, 784).round()} if case.spec() == VAE else None
    model = jointkl.parse(case.spec())
    options = Options(settings={"batch": case.batch}, steps=0, device="cpu", pictures=0)
    whole = plan(compiled_for(jointkl.derive(model), options), data, options)
    torch.manual_seed(0)
    program = jointkl.compile(model)
    engine = Engine(whole, program)
    engine.round = 100 * READ  # in the middle of a run: a short one reads its losses more often
    batches = [engine.minibatches.draw() for _ in range(64)]
    optimizers = {t.phase.player: torch.optim.Adam(t.parameters, lr=1e-3, fused=True) for t in engine.steppers}

    def bare() -> float:
        start = time.perf_counter()
        for i in range(steps):
            for stepper in engine.steppers:
                loss = program.loss(stepper.phase.player, batches[i % len(batches)])
                stepper.clear()
                loss.backward(inputs=stepper.inputs)
                optimizers[stepper.phase.player].step()
        return time.perf_counter() - start

    def run() -> float:
        before = engine.seconds
        engine.plan = replace(whole, rounds=engine.round + steps)
        engine.run(record, lambda number, losses, rate: None)
        return engine.seconds - before

    config = configuration(whole, program, (), SEEDED)
    with (
        tempfile.TemporaryDirectory() as folder,
        Record.new(Path(folder), program, config) as record,
        threads(program, whole.device),
    ):
        sides, times = (bare, run), list[list[float]]()
        for number in range(-1, rounds):
            taken = [0.0, 0.0]
            gc.collect()
            for side in (0, 1) if number % 2 else (1, 0):
                taken[side] = sides[side]() / steps
            if number >= 0:  # the first is to warm up
                times.append(taken)
    added = sorted(run / bare - 1 for bare, run in times)
    lower, middle, upper = statistics.quantiles(added, n=4, method="inclusive")
    medians = [1e3 * statistics.median(t[side] for t in times) for side in (0, 1)]
    return Measured(case.name, case.target, medians[0], medians[1], middle, (lower, upper), rounds)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15, help="how often each side is timed (default: 15)")
    options.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    options.add_argument("--quick", action="store_true", help="3 rounds of a tenth of the steps: does it run")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    chosen = options.parse_args()
    if chosen.rounds < 2:
        options.error("a spread needs at least 2 rounds")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    rounds, shorter = (3, 10) if chosen.quick else (chosen.rounds, 1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds; added = run / bare - 1\n")
    print("| run | bare, ms | run, ms | added | target | quartiles |\n|---|---|---|---|---|---|")
    results: list[Measured] = []
    for case in CASES:
        results.append(found := measure(case, rounds, shorter))
        added = " | ".join((f"{found.added:.3f}", f"{found.target:.2f}", "{:.3f}, {:.3f}".format(*found.quartiles)))
        print(f"| {found.name} | {found.bare_ms:.2f} | {found.run_ms:.2f} | {added} |", flush=True)
    slow = [r.name for r in results if r.added > r.target]
    print(f"\nabove target: {', '.join(slow)}" if slow else "\nevery loop is within its target")
    if chosen.json:
        record = {"torch": torch.__version__, "threads": torch.get_num_threads(), "loops": [asdict(r) for r in results]}
        chosen.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
