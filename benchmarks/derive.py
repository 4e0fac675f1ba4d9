"""What deriving costs: specs of n pieces, n up to 500, through every stage of the compiler.

    python benchmarks/derive.py [--quick] [--rounds N] [--shape NAME] [--json FILE]

In a round every size is compiled once, from small to large and back alternately, so that a busy machine slows all of
them alike. A time is the processor's, to which waiting for other programs adds nothing; the median over the rounds.
The exponent is the slope of log time over log n by least squares: 1 is linear. Memory is the largest that Python held
while deriving, by tracemalloc, in a run that is not timed.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import log
from pathlib import Path

from jointkl.compiler import lower
from jointkl.derivation.derive import derive
from jointkl.emission.python import emit
from jointkl.semantics.elaborate import elaborate
from jointkl.syntax.parse import parse_text

SIZES = (16, 32, 63, 125, 250, 500)
STAGES = ("parse", "elaborate", "derive", "show", "lower", "emit")
TARGET = 1.1
"""Deriving a chain grows with no larger exponent than this."""


# --- specs of n pieces


def chain(n: int) -> str:
    """A deep VAE: q(z_n) .. q(z1|z2) q(x|z1) against data(x) p(z1|x) .. p(z_n|z_n-1)."""
    zs = [f"z{i}" for i in range(1, n + 1)]
    up, down = ["x", *zs], [*reversed(zs), "x"]
    given = [f"p({b}|{a})" for a, b in pairwise(up)]
    made = [f"q({b}|{a})" for a, b in pairwise(down)]
    rows = ["data(x) = evidence()", f"var x, {', '.join(zs)}: real[2]", f"q({zs[-1]}) = Normal(0, 1)"]
    rows += [f"net E{i} = mlp(4)\nnet G{i} = mlp(4)" for i in range(n)]
    rows += [f"{law} = Normal(E{i}({up[i]}))" for i, law in enumerate(given)]
    rows += [f"{law} = Normal(G{i}({down[i]}))" for i, law in enumerate(made)]
    left, right = " * ".join(["data(x)", *given]), " * ".join([f"q({zs[-1]})", *made])
    return "\n".join([*rows, f"minimize KL({left} || {right})"])


def wide(n: int) -> str:
    """One joint of n independent latent variables, all of them given to x."""
    zs = [f"z{i}" for i in range(n)]
    rows = ["data(x) = evidence()", f"var x, {', '.join(zs)}: real", "net G = mlp(4)"]
    rows += [f"net E{i} = mlp(4)\np({z}|x) = Normal(E{i}(x))\nq({z}) = Normal(0, 1)" for i, z in enumerate(zs)]
    rows.append(f"q(x|{','.join(zs)}) = Normal(G({', '.join(zs)}))")
    left = " * ".join(["data(x)", *(f"p({z}|x)" for z in zs)])
    right = " * ".join([*(f"q({z})" for z in zs), f"q(x|{','.join(zs)})"])
    return "\n".join([*rows, f"minimize KL({left} || {right})"])


def labels(n: int) -> str:
    """A mixture with n labels against a classifier of them."""
    rows = ["var x: real", f"var y: {{0..{n - 1}}}", "net D = mlp(4)", "r(x) = Normal(0, 1)"]
    rows += [f"param m{k}: real\ng{k}(x) = Normal(m{k}, 1)" for k in range(n)]
    branches = "; ".join(f"y={k}: g{k}(x)" for k in range(n))
    rows.append(f"c(y|x) = Categorical(D(x))\nq(x, y) = {{ {branches} }}")
    return "\n".join([*rows, "minimize KL(q(x,y) || r(x) * c(y|x))"])


def goals(n: int) -> str:
    """n goals, each with a player of its own."""
    rows = ["data(x) = evidence()", "var x: real"]
    for i in range(n):
        rows.append(f"param m{i}: real\nq{i}(x) = Normal(m{i}, 1)\nminimize CE(data(x) || q{i}(x)) over m{i}")
    return "\n".join(rows)


def shared(n: int) -> str:
    """A chain of n globals, each given the one before it."""
    ws = [f"w{i}" for i in range(n)]
    rows = ["data(x) = evidence()", "var x: real[2]", f"var {', '.join(ws)}: real[2] global"]
    rows += [f"param m{i}: real[2]" for i in range(n)]
    rows += ["q(w0) = Normal(0, 1)", "p(w0) = Normal(m0, 1)"]
    rows += [
        f"q({b}|{a}) = Normal({a}, 1)\np({b}|{a}) = Normal({a} + m{i}, 1)" for i, (a, b) in enumerate(pairwise(ws), 1)
    ]
    rows.append(f"q(x|{ws[-1]}) = Normal({ws[-1]}, 1)")
    p, q = ([f"{label}(w0)", *(f"{label}({b}|{a})" for a, b in pairwise(ws))] for label in "pq")
    return "\n".join([*rows, f"minimize KL({' * '.join(['data(x)', *p])} || {' * '.join([*q, f'q(x|{ws[-1]})'])})"])


def parents(n: int) -> str:
    """A law given n variables, the sum of which is where it stands."""
    zs = [f"z{i}" for i in range(n)]
    rows = ["data(x) = evidence()", f"var x, {', '.join(zs)}: real"]
    rows += [f"param m{i}: real\np({z}|x) = Normal(m{i} * x, 1)\nq({z}) = Normal(0, 1)" for i, z in enumerate(zs)]
    groups = (" + ".join(zs[k : k + 50]) for k in range(0, n, 50))
    rows.append(f"q(x|{','.join(zs)}) = Normal({' + '.join(f'({group})' for group in groups)}, 1)")
    left = " * ".join(["data(x)", *(f"p({z}|x)" for z in zs)])
    right = " * ".join([*(f"q({z})" for z in zs), f"q(x|{','.join(zs)})"])
    return "\n".join([*rows, f"minimize KL({left} || {right})"])


SHAPES: Mapping[str, Callable[[int], str]] = {
    "chain": chain,
    "wide": wide,
    "labels": labels,
    "goals": goals,
    "globals": shared,
    "parents": parents,
}


# --- the clock


@dataclass(frozen=True)
class Measured:
    """Median processor seconds of every stage by size, their exponents, and the peak bytes of deriving the largest."""

    shape: str
    seconds: dict[str, dict[int, float]]
    exponents: dict[str, float]
    peak: int
    peak_exponent: float


def compiled(text: str) -> dict[str, float]:
    """Processor seconds of each stage of one compilation."""
    clock = [time.process_time()]
    spec = parse_text(text)
    clock.append(time.process_time())
    model = elaborate(spec)
    clock.append(time.process_time())
    derivation = derive(model)
    clock.append(time.process_time())
    told = derivation.text()
    clock.append(time.process_time())
    objective = lower(derivation)
    clock.append(time.process_time())
    emit(objective, told)
    clock.append(time.process_time())
    return {stage: b - a for stage, a, b in zip(STAGES, clock, clock[1:], strict=False)}


def peak(text: str) -> int:
    """The largest number of bytes that deriving adds to what is held."""
    model = elaborate(parse_text(text))
    gc.collect()
    tracemalloc.start()
    derivation = derive(model)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del derivation
    return found


def exponent(values: Mapping[int, float]) -> float:
    """The slope of log value over log n."""
    xs, ys = [log(n) for n in values], [log(v) for v in values.values()]
    return statistics.linear_regression(xs, ys).slope


def measure(shape: str, sizes: Sequence[int], rounds: int) -> Measured:
    texts = {n: SHAPES[shape](n) for n in sizes}
    compiled(texts[sizes[0]])  # imports, the grammar
    taken: dict[str, dict[int, list[float]]] = {stage: {n: [] for n in sizes} for stage in STAGES}
    for turn in range(rounds):
        for n in sizes if turn % 2 == 0 else reversed(sizes):
            gc.collect()
            gc.disable()
            for stage, seconds in compiled(texts[n]).items():
                taken[stage][n].append(seconds)
            gc.enable()
    medians = {stage: {n: statistics.median(found) for n, found in by.items()} for stage, by in taken.items()}
    peaks = {n: float(peak(texts[n])) for n in sizes}
    slopes = {stage: exponent(by) for stage, by in medians.items()}
    return Measured(shape, medians, slopes, int(peaks[sizes[-1]]), exponent(peaks))


def table(found: Measured) -> str:
    sizes = tuple(found.seconds["derive"])
    head = f"| {found.shape} | {' | '.join(f'n = {n}' for n in sizes)} | exponent |"
    rows = [head, "|" + "---|" * (len(sizes) + 2)]
    for stage in STAGES:
        cells = " | ".join(f"{1e3 * found.seconds[stage][n]:.1f}" for n in sizes)
        rows.append(f"| {stage}, ms | {cells} | {found.exponents[stage]:.2f} |")
    memory = f"deriving n = {sizes[-1]} takes {found.peak / 2**20:.1f} MiB at most, exponent {found.peak_exponent:.2f}"
    return "\n".join([*rows, "", memory])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=9, help="how often each size is compiled (default: 9)")
    options.add_argument("--shape", choices=SHAPES, help="one shape alone")
    options.add_argument("--quick", action="store_true", help="3 rounds up to n = 63: does it run")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    chosen = options.parse_args()
    if chosen.rounds < 1:
        options.error("there is nothing to measure in no round")
    sizes, rounds = (SIZES[:3], 3) if chosen.quick else (SIZES, chosen.rounds)
    results: list[Measured] = []
    for shape in (chosen.shape,) if chosen.shape else SHAPES:
        results.append(measure(shape, sizes, rounds))
        print(table(results[-1]) + "\n", flush=True)
    steep = [r.shape for r in results if r.exponents["derive"] > TARGET]
    print(f"steeper than n^{TARGET}: {', '.join(steep)}" if steep else f"deriving grows no faster than n^{TARGET}")
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
