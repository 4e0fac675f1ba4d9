"""Ten seeds trained at once (`--replicas 10`) against ten runs, one after the other.

    uv run python -m benchmarks.replicas [--quick] [--only WORD] [--count N] [--threads N] [--rounds N] [--json FILE]

Both sides are runs as `jointkl train` makes them, losses recorded, checkpoints and pictures left out. They take turns
of so many steps of every seed in one process, going first alternately; what counts is the median over rounds of the
ratio within a round, so that a busy machine slows both sides alike. Before a clock starts, both sides must have come to
the same losses.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import jointkl
from benchmarks.step import MODELS
from jointkl.training.engine import READ, Engine
from jointkl.training.folder.config import SEEDED, configuration
from jointkl.training.folder.record import Record
from jointkl.training.options import Options
from jointkl.training.plan import compiled_for, plan
from jointkl.training.seeds.engine import SeedsEngine
from jointkl.training.seeds.replicas import of_seed


@dataclass(frozen=True)
class Case:
    """A model and its batch, how many steps are a turn, and the share of the runs' time that the replicas may take."""

    name: str
    model: str
    batch: int
    steps: int
    target: float


CASES = (
    Case("GAN 2-128-128, batch 256", "gan", 256, 20, 0.8),
    Case("ALI 2-128-128, batch 256", "ali", 256, 10, 1.0),
    Case("VAE 64-256-8, batch 128", "vae", 128, 20, 1.0),
)


@dataclass(frozen=True)
class Measured:
    """Milliseconds of one step of all seeds, medians over the rounds, and the replicas' share of the runs': of the
    clock's time, and of the processor's over all threads."""

    name: str
    target: float
    count: int
    runs_ms: float
    replicas_ms: float
    ratio: float
    quartiles: tuple[float, float]
    processor: float
    threads: int
    rounds: int


def measure(case: Case, count: int, rounds: int, shorter: int, threads: int | None) -> Measured:
    steps = max(1, case.steps // shorter)
    model = jointkl.load(MODELS / f"{case.model}.jkl")
    options = Options(settings={"batch": case.batch}, steps=0, seed=0, pictures=0, way="eager")
    whole = plan(compiled_for(jointkl.derive(model), options), None, options)
    plans = [of_seed(whole, seed) for seed in range(count)]
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        runs: list[tuple[Engine, Any]] = []
        for own in plans:
            torch.manual_seed(own.seed)
            engine = Engine(own, jointkl.compile(model))
            runs.append((engine, record(folder / f"run-{own.seed}", engine, opened)))
            turn(runs[-1:], steps)  # before another seed is set
        seeds_engine = SeedsEngine(plans, threads=threads)
        with seeds_engine.at_work():
            seeds_engine.choose_ways()
        replicas = [
            (seeds_engine, [record(folder / f"replica-{e.plan.seed}", e, opened) for e in seeds_engine.engines])
        ]
        turn(replicas, steps)
        for (one, _), replica in zip(runs, seeds_engine.engines, strict=True):
            for player, loss in one.losses.items():
                assert math.isclose(replica.losses[player], loss, rel_tol=1e-3), "both sides train the same"
        sides = (runs, replicas)
        for engine, _ in (*runs, *replicas):
            engine.round = 100 * READ  # in the middle of a run: a short one reads its losses more often
        times: list[list[tuple[float, float]]] = []
        for number in range(rounds):
            taken = [(0.0, 0.0)] * 2
            gc.collect()
            for side in (0, 1) if number % 2 else (1, 0):
                taken[side] = turn(sides[side], steps)
            times.append(taken)
    ratios = sorted(together[0] / apart[0] for apart, together in times)
    lower, middle, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    medians = [1e3 / steps * statistics.median(t[side][0] for t in times) for side in (0, 1)]
    processor = statistics.median(together[1] / apart[1] for apart, together in times)
    return Measured(
        name=case.name,
        target=case.target,
        count=count,
        runs_ms=medians[0],
        replicas_ms=medians[1],
        threads=seeds_engine.threads or torch.get_num_threads(),
        ratio=middle,
        quartiles=(lower, upper),
        processor=processor,
        rounds=rounds,
    )


def record(folder: Path, engine: Engine, opened: ExitStack) -> Record:
    folder.mkdir()
    options = configuration(engine.plan, engine.program, (), SEEDED)
    return opened.enter_context(Record.new(folder, engine.program, options))


def turn(side: list[tuple[Engine, Any]], steps: int) -> tuple[float, float]:
    """So many steps of every seed: seconds, and the processor's."""
    seconds = processor = 0.0
    for engine, own in side:
        engine.plan = replace(engine.plan, rounds=engine.round + steps)
        engine._save = lambda record: None
        before, start = engine.seconds, time.process_time()
        with engine.at_work():
            engine.run(own, lambda number, losses, rate: None)
        processor += time.process_time() - start
        seconds += engine.seconds - before
    return seconds, processor


HEAD = (
    "| system | runs, ms | replicas, ms | threads | ratio | target | quartiles | processor's time, ratio |\n"
    "|---|---|---|---|---|---|---|---|"
)


def row(found: Measured) -> str:
    times = f"{found.runs_ms:.2f} | {found.replicas_ms:.2f} | {found.threads}"
    spread = ", ".join(f"{q:.3f}" for q in found.quartiles)
    return f"| {found.name} | {times} | {found.ratio:.3f} | {found.target:.2f} | {spread} | {found.processor:.3f} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=10, help="how many seeds (default: 10)")
    options.add_argument("--rounds", type=int, default=15, help="how often each side is timed (default: 15)")
    options.add_argument("--threads", type=int, help="of the replicas (default: as jointkl chooses)")
    options.add_argument("--only", metavar="WORD", default="", help="the systems with this in their name")
    options.add_argument("--quick", action="store_true", help="3 rounds of a tenth of the steps: does it run")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    chosen = options.parse_args()
    if chosen.rounds < 2:
        options.error("a spread needs at least 2 rounds")
    rounds, shorter = (3, 10) if chosen.quick else (chosen.rounds, 1)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds, {chosen.count} seeds")
    print(f"milliseconds a step of all seeds; ratio = replicas / runs one after the other\n\n{HEAD}")
    results: list[Measured] = []
    for case in CASES:
        if chosen.only in case.name:
            results.append(measure(case, chosen.count, rounds, shorter, chosen.threads))
            print(row(results[-1]), flush=True)
    over = [r.name for r in results if r.ratio > r.target]
    print(f"\nabove target: {', '.join(over)}" if over else "\nevery ratio is within its target")
    if chosen.json:
        found = {"torch": torch.__version__, "threads": torch.get_num_threads(), "cases": [asdict(r) for r in results]}
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
