"""One training step: the emitted program against the same step written by hand, both eager with fused Adam.

    uv run python benchmarks/step.py [--quick] [--threads N] [--rounds N] [--json FILE]

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import jointkl
from jointkl.program import Program

TARGET = 1.05
"""The emitted step may take this much of the hand-written one's time."""

BATCHES, TURN = 64, 16
"""Batches of the data, and steps, each on the next of them, before the other side's turn."""

Step = Callable[[Tensor], None]

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

GAN = """
data(x) = evidence()
var x: real[2]
var z: real[2]
var y: {0, 1}
net G = mlp(128, 128)
net D = mlp(128, 128)

q(z)     = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))

q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
p(x, y) = data(x) * p(y|x)

minimize KL(q(x,y) || p(x,y))
"""


# --- by hand


class HandVAE(nn.Module):
    """The VAE of pytorch/examples, on logits; mean and log variance from one layer, which is faster than two."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc2 = nn.Linear(400, 40)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.fc2(F.relu(self.fc1(x))).chunk(2, dim=1)
        std = torch.exp(0.5 * logvar)
        z = mu + torch.randn_like(std) * std
        return self.fc4(F.relu(self.fc3(z))), mu, logvar


def hand_vae_loss(model: HandVAE, x: Tensor) -> Tensor:
    logits, mu, logvar = model(x)
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + kld) / len(x)


def hand_vae_step(model: HandVAE) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        hand_vae_loss(model, x).backward()
        optimizer.step()

    return step


class HandGAN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = self.net(2)
        self.discriminator = self.net(1)
        self.criterion = nn.BCEWithLogitsLoss()

    @staticmethod
    def net(outputs: int) -> nn.Sequential:
        hidden = (nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        return nn.Sequential(*hidden, nn.Linear(128, outputs))


def hand_discriminator_loss(model: HandGAN, x: Tensor, fake: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
    real = model.criterion(model.discriminator(x), ones)
    return real + model.criterion(model.discriminator(fake.detach()), zeros)


def hand_generator_loss(model: HandGAN, fake: Tensor, ones: Tensor) -> Tensor:
    return model.criterion(model.discriminator(fake), ones)


def hand_gan_step(model: HandGAN, batch: int) -> Step:
    """The loop of PyTorch's DCGAN tutorial: both players see one batch of fakes, detached for the discriminator.

    It is the fastest of the common forms: new fakes for each player, under `no_grad` or detached, take 5% longer.
    """
    ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)
    optimizer_d = torch.optim.Adam(model.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999), fused=True)
    optimizer_g = torch.optim.Adam(model.generator.parameters(), lr=1e-3, betas=(0.5, 0.999), fused=True)

    def step(x: Tensor) -> None:
        fake = model.generator(torch.randn(len(x), 2))
        optimizer_d.zero_grad()
        hand_discriminator_loss(model, x, fake, ones, zeros).backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        hand_generator_loss(model, fake, ones).backward()
        optimizer_g.step()

    return step


# --- emitted


def emitted_step(program: Program, betas: tuple[float, float]) -> Step:
    """The phases of the objective, each player on its own parameters."""
    phases = program.objective.phases
    own = {phase.player: program.parameters_of(phase.player) for phase in phases}
    optimizers = {player: torch.optim.Adam(own[player], lr=1e-3, betas=betas, fused=True) for player in own}

    def step(x: Tensor) -> None:
        batch = {"x": x}
        for phase in phases:
            if phase.snapshot:
                program.snapshot()
            optimizer = optimizers[phase.player]
            optimizer.zero_grad()
            program.loss(phase.player, batch).backward(inputs=own[phase.player])
            optimizer.step()

    return step


# --- comparisons of equals


@dataclass(frozen=True)
class Pair:
    """The two sides of one comparison, and the batches that both step through."""

    name: str
    hand: Step
    emitted: Step
    batches: Sequence[Tensor]


def vae_pair(size: int) -> Pair:
    torch.manual_seed(0)
    batches = torch.bernoulli(torch.full((BATCHES * size, 784), 0.3)).split(size)
    program, model = jointkl.compile(VAE), HandVAE()
    copy_weights(program.nets["enc"], nn.ModuleList([model.fc1, model.fc2]))
    copy_weights(program.nets["dec"], nn.ModuleList([model.fc3, model.fc4]))
    with torch.no_grad():  # ours are the means and log standard deviations, theirs the means and log variances
        model.fc2.weight[20:] *= 2
        model.fc2.bias[20:] *= 2
    with in_double(program, model):
        x = batches[0].double()
        verify_agree(lambda: hand_vae_loss(model, x), lambda: program.loss("enc+dec", {"x": x}))
    name = f"VAE 784-400-20, batch {size}"
    return Pair(name, hand_vae_step(model), emitted_step(program, (0.9, 0.999)), batches)


def gan_pair(size: int) -> Pair:
    torch.manual_seed(0)
    batches = torch.randn(BATCHES * size, 2).split(size)
    program, model = jointkl.compile(GAN), HandGAN()
    copy_weights(program.nets["G"], model.generator)
    copy_weights(program.nets["D"], model.discriminator)
    with in_double(program, model):
        x = batches[0].double()
        ones, zeros = torch.ones(size, 1).to(x), torch.zeros(size, 1).to(x)

        def fake() -> Tensor:
            return model.generator(torch.randn(size, 2, dtype=x.dtype))

        verify_agree(
            lambda: hand_discriminator_loss(model, x, fake(), ones, zeros), lambda: program.loss("D", {"x": x})
        )
        verify_agree(lambda: hand_generator_loss(model, fake(), ones), lambda: program.loss("G", {"x": x}))
    name = f"GAN 2-128-128, batch {size}"
    return Pair(name, hand_gan_step(model, size), emitted_step(program, (0.5, 0.999)), batches)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """The weights of one module, in the other's names."""
    with torch.no_grad():
        for theirs, ours in zip(target.parameters(), source.parameters(), strict=True):
            theirs.copy_(ours)


@contextmanager
def in_double(*modules: nn.Module) -> Iterator[None]:
    """In double precision a small term cannot hide beside a large one; the way there and back changes no weight."""
    for module in modules:
        module.double()
    yield
    for module in modules:
        module.float()


def verify_agree(hand: Callable[[], Tensor], emitted: Callable[[], Tensor]) -> None:
    """The same loss from the same noise. Raises `AssertionError`."""
    values = []
    for loss in (hand, emitted):
        torch.manual_seed(1)
        values.append(loss().detach())
    torch.testing.assert_close(values[1], values[0], rtol=1e-10, atol=0.0)


# --- the clock


@dataclass(frozen=True)
class Measured:
    """Milliseconds a step, median over the rounds, and the emitted step's share of the hand-written one's."""

    name: str
    hand_ms: float
    emitted_ms: float
    ratio: float
    quartiles: tuple[float, float]
    extremes: tuple[float, float]
    rounds: int


def measure(pair: Pair, rounds: int, seconds: float) -> Measured:
    """Time both sides; a round ends with the first pair of turns after `seconds`."""
    a_round(pair, seconds)
    times = [a_round(pair, seconds) for _ in range(rounds)]
    ratios = sorted(emitted / hand for hand, emitted in times)
    lower, middle, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return Measured(
        pair.name,
        1e3 * statistics.median(hand for hand, _ in times),
        1e3 * statistics.median(emitted for _, emitted in times),
        middle,
        (lower, upper),
        (ratios[0], ratios[-1]),
        rounds,
    )


def a_round(pair: Pair, seconds: float) -> tuple[float, float]:
    """Seconds a step of either side, over turns of `TURN` steps each; the sides take turns in going first."""
    sides = (pair.hand, pair.emitted)
    taken = [0.0, 0.0]
    turns = 0
    gc.collect()
    gc.disable()
    while sum(taken) < seconds or turns % 2:
        first = turns * TURN % BATCHES
        batches = pair.batches[first : first + TURN]
        for side in (0, 1) if turns % 2 == 0 else (1, 0):
            step = sides[side]
            start = time.perf_counter()
            for x in batches:
                step(x)
            taken[side] += time.perf_counter() - start
        turns += 1
    gc.enable()
    return taken[0] / (turns * TURN), taken[1] / (turns * TURN)


HEAD = "| step | hand, ms | emitted, ms | ratio | quartiles | min, max |\n|---|---|---|---|---|---|"


def row(found: Measured) -> str:
    ratios = (f"{found.ratio:.3f}", *(f"{a:.3f}, {b:.3f}" for a, b in (found.quartiles, found.extremes)))
    return f"| {' | '.join((found.name, f'{found.hand_ms:.2f}', f'{found.emitted_ms:.2f}', *ratios))} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15, help="how often each side is timed (default: 15)")
    options.add_argument("--seconds", type=float, default=1.0, help="length of a round (default: 1)")
    options.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    options.add_argument("--quick", action="store_true", help="7 rounds of 0.2 s: does it run")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    chosen = options.parse_args()
    if chosen.rounds < 2:
        options.error("a spread needs at least 2 rounds")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    rounds, seconds = (7, 0.2) if chosen.quick else (chosen.rounds, chosen.seconds)

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds; ratio = emitted / hand\n")
    print(HEAD)
    results: list[Measured] = []
    for make, size in ((vae_pair, 128), (vae_pair, 32), (gan_pair, 128), (gan_pair, 1024)):
        results.append(measure(make(size), rounds, seconds))
        print(row(results[-1]), flush=True)
    slow = [r.name for r in results if r.ratio > TARGET]
    print(f"\nabove {TARGET}: {', '.join(slow)}" if slow else f"\nevery ratio is at most {TARGET}")
    if chosen.json:
        record = {"torch": torch.__version__, "threads": torch.get_num_threads(), "steps": [asdict(r) for r in results]}
        chosen.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
