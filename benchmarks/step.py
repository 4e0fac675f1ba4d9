"""One training step: the emitted program against the same step written by hand, both eager with fused Adam.

    uv run python -m benchmarks.step [--quick] [--threads N] [--rounds N] [--json FILE]

Both sides start from the same weights, read the same slices of the same data in the same process, and must agree on
every loss for the same noise before a clock starts. In a round the sides take short turns, going first alternately;
what counts is the median over rounds of the ratio within a round, so that a busy machine slows both sides alike.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

import jointkl
from benchmarks import hand
from benchmarks.hand import Step
from jointkl.objective.share import Passes
from jointkl.program import Program

MODELS = Path(__file__).resolve().parent.parent / "models"

BATCHES, TURN = 64, 16
"""Batches of the data, and steps, each on the next of them, before the other side's turn."""

VAE = """
data(x) = evidence()
var x: binary[784]
var z: real[20]
net enc = mlp(400)
net dec = mlp(400)

p(z | x) = Normal(enc(x))
q(z)     = Normal(0, 1)
q(x | z) = Bernoulli(dec(z))

p(x, z) = data(x) * p(z|x)
q(x, z) = q(z) * q(x|z)

minimize KL(p(x,z) || q(x,z))
"""


@dataclass(frozen=True)
class Comparison:
    """A spec, the same system by hand, whose modules' weights are its nets' in this order, the shapes of what a batch
    holds (K: copies of the code), and the share of the hand-written step's time that the emitted one may take."""

    name: str
    spec: Callable[[], str]
    by_hand: type[nn.Module]
    nets: Sequence[str]
    shapes: Mapping[str, Sequence[int]]
    sizes: Sequence[int]
    target: float
    betas: tuple[float, float] = (0.5, 0.999)
    copies: int = 0
    together: bool = False
    """Ours in the simultaneous schedule, one backward for all players; by hand one player after the other."""


def model(name: str) -> Callable[[], str]:
    return lambda: (MODELS / f"{name}.jkl").read_text(encoding="utf-8")


COMPARISONS = (
    Comparison(
        "VAE 784-400-20",
        lambda: VAE,
        hand.VAE,
        ("enc", "dec"),
        {"x": (784,), "z.noise": (20,)},
        (32, 128, 512),
        1.03,
        (0.9, 0.999),
    ),
    Comparison("GAN 2-128-128", model("gan"), hand.GAN, ("G", "D"), {"x": (2,), "z": (2,)}, (128, 1024), 1.0),
    Comparison(
        "ALI 2-128-128",
        model("ali"),
        hand.ALI,
        ("E", "G", "D"),
        {"x": (2,), "z": (2,), "z.noise": (2,), "x.noise": (2,)},
        (128, 1024),
        1.0,
    ),
    Comparison("AAE 64-256-8", model("aae"), hand.AAE, ("E", "G", "D"), {"x": (64,), "z": (8,)}, (128,), 1.0),
    Comparison(
        "alpha-GAN 64-256-8",
        model("alpha_gan"),
        hand.AlphaGAN,
        ("E", "G", "C", "D"),
        {"x": (64,), "z": (8,)},
        (128,),
        1.0,
    ),
    Comparison(
        "IWAE 784-400-20, 50 copies",
        lambda: VAE.rstrip() + " with importance=50",
        hand.IWAE,
        ("enc", "dec"),
        {"x": (784,), "z.noise": (20,)},
        (32,),
        1.1,
        (0.9, 0.999),
        50,
    ),
)
COMPARISONS += tuple(
    replace(c, name=f"{c.name}, simultaneous", target=0.85 if c.by_hand is hand.GAN else 1.0, together=True)
    for c in COMPARISONS
    if c.by_hand in (hand.GAN, hand.ALI, hand.AAE)
)  # fmt: skip


# --- emitted


def emitted_step(program: Program, betas: tuple[float, float]) -> Step:
    """The phases of the objective as the engine takes them, each player on its own parameters; all at once, if it was
    compiled so."""
    phases = program.objective.phases
    if program.objective.together is not None:
        return simultaneous_step(program, betas)
    own = {phase.player: program.parameters_of(phase.player) for phase in phases}
    inputs = own if len(own) > 1 else dict.fromkeys(own)
    optimizers = {player: torch.optim.Adam(own[player], lr=1e-3, betas=betas, fused=True) for player in own}

    def step(x: Tensor) -> None:
        batch = {"x": x}
        in_turn = program.in_turn(batch) if program.objective.in_turn else None
        for phase in phases:
            if phase.snapshot:
                program.snapshot()
            for parameter in own[phase.player]:
                parameter.grad = None
            loss = next(in_turn) if in_turn else program.loss(phase.player, batch)
            loss.backward(inputs=inputs[phase.player])
            optimizers[phase.player].step()

    return step


def simultaneous_step(program: Program, betas: tuple[float, float]) -> Step:
    parameters = list(program.parameters())
    optimizers = [
        torch.optim.Adam(program.parameters_of(phase.player), lr=1e-3, betas=betas, fused=True)
        for phase in program.objective.phases
    ]

    def step(x: Tensor) -> None:
        losses = program.losses({"x": x})
        assert losses is not None
        for parameter in parameters:
            parameter.grad = None
        torch.autograd.backward([loss for loss in losses.values() if loss.requires_grad])
        for optimizer in optimizers:
            optimizer.step()

    return step


# --- comparisons of equals


@dataclass(frozen=True)
class Pair:
    """The two sides of one comparison, and the batches that each steps through."""

    name: str
    target: float
    hand: Step
    emitted: Step
    batches: tuple[Sequence[Tensor], Sequence[Tensor]]


def pair(compared: Comparison, size: int) -> Pair:
    """Both sides at the same weights, which give the same losses at the same noise in double precision."""
    torch.manual_seed(0)
    program = jointkl.compile(compared.spec(), Passes(together=compared.together))
    module = compared.by_hand()
    weights = [p for name in compared.nets for p in program.nets[name].parameters()]
    copy_weights(weights, list(module.parameters()))
    if isinstance(
        module, hand.VAE
    ):  # ours are the means and log standard deviations, theirs the means and log variances
        with torch.no_grad():
            module.fc2.weight[20:] *= 2
            module.fc2.bias[20:] *= 2
    shape = program.model.space("x").shape
    with in_double(program, module):
        batch = {name: noise(compared, name, size) for name in compared.shapes}
        wanted = module.losses(batch)
        given = batch | {"x": batch["x"].reshape(size, *shape)}
        for player, loss in wanted.items():
            torch.testing.assert_close(program.loss(player, given), loss, rtol=1e-9, atol=0.0)
    data = torch.rand(BATCHES * size, *compared.shapes["x"]).round()
    batches = data.split(size), data.reshape(-1, *shape).split(size)
    name = f"{compared.name}, batch {size}"
    return Pair(name, compared.target, module.step(size), emitted_step(program, compared.betas), batches)


def noise(compared: Comparison, name: str, size: int) -> Tensor:
    shape = (size, *compared.shapes[name])
    if name == "x":
        return torch.rand(shape).round().double()
    return torch.randn((compared.copies, *shape) if compared.copies else shape).double()


def copy_weights(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            b.copy_(a)


@contextmanager
def in_double(*modules: nn.Module) -> Iterator[None]:
    """In double precision a small term cannot hide beside a large one; the way there and back changes no weight."""
    for module in modules:
        module.double()
    yield
    for module in modules:
        module.float()


# --- the clock


@dataclass(frozen=True)
class Measured:
    """Milliseconds a step, median over the rounds, and the emitted step's share of the hand-written one's."""

    name: str
    target: float
    hand_ms: float
    emitted_ms: float
    ratio: float
    quartiles: tuple[float, float]
    extremes: tuple[float, float]
    rounds: int


def measure(pair: Pair, rounds: int, seconds: float, turn: int = TURN) -> Measured:
    """Time both sides; a round ends with the first pair of turns, of `turn` steps each, after `seconds`."""
    a_round(pair, seconds, turn)
    times = [a_round(pair, seconds, turn) for _ in range(rounds)]
    ratios = sorted(emitted / hand for hand, emitted in times)
    lower, middle, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return Measured(
        pair.name,
        pair.target,
        1e3 * statistics.median(hand for hand, _ in times),
        1e3 * statistics.median(emitted for _, emitted in times),
        middle,
        (lower, upper),
        (ratios[0], ratios[-1]),
        rounds,
    )


def a_round(pair: Pair, seconds: float, turn: int = TURN) -> tuple[float, float]:
    """Seconds a step of either side, over turns of `turn` steps each; the sides take turns in going first."""
    sides = (pair.hand, pair.emitted)
    taken = [0.0, 0.0]
    turns = 0
    gc.collect()
    gc.disable()
    while sum(taken) < seconds or turns % 2:
        first = turns * turn % BATCHES
        for side in (0, 1) if turns % 2 == 0 else (1, 0):
            step, batches = sides[side], pair.batches[side][first : first + turn]
            start = time.perf_counter()
            for x in batches:
                step(x)
            taken[side] += time.perf_counter() - start
        turns += 1
    gc.enable()
    return taken[0] / (turns * turn), taken[1] / (turns * turn)


HEAD = "| step | hand, ms | emitted, ms | ratio | target | quartiles | min, max |\n|---|---|---|---|---|---|---|"


def row(found: Measured) -> str:
    ratios = (
        f"{found.ratio:.3f}",
        f"{found.target:.2f}",
        *(f"{a:.3f}, {b:.3f}" for a, b in (found.quartiles, found.extremes)),
    )
    return f"| {' | '.join((found.name, f'{found.hand_ms:.2f}', f'{found.emitted_ms:.2f}', *ratios))} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15, help="how often each side is timed (default: 15)")
    options.add_argument("--seconds", type=float, default=1.0, help="length of a round (default: 1)")
    options.add_argument(
        "--turn", type=int, default=TURN, help=f"steps in a turn, a divisor of {BATCHES} (default: {TURN})"
    )
    options.add_argument("--only", metavar="WORD", default="", help="the comparisons with this in their name")
    options.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    options.add_argument("--quick", action="store_true", help="7 rounds of 0.2 s: does it run")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    chosen = options.parse_args()
    if chosen.rounds < 2:
        options.error("a spread needs at least 2 rounds")
    if chosen.turn < 1 or BATCHES % chosen.turn:
        options.error(f"--turn must divide {BATCHES}")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    rounds, seconds = (7, 0.2) if chosen.quick else (chosen.rounds, chosen.seconds)

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds; ratio = emitted / hand\n")
    print(HEAD)
    results: list[Measured] = []
    for compared in COMPARISONS:
        for size in compared.sizes if chosen.only in compared.name else ():
            results.append(measure(pair(compared, size), rounds, seconds, chosen.turn))
            print(row(results[-1]), flush=True)
    slow = [r.name for r in results if r.ratio > r.target]
    print(f"\nabove target: {', '.join(slow)}" if slow else "\nevery ratio is within its target")
    if chosen.json:
        record = {"torch": torch.__version__, "threads": torch.get_num_threads(), "steps": [asdict(r) for r in results]}
        chosen.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
