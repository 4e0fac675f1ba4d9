"""One training step: the emitted program against the same system in Pyro and in Pixyz.

    uv run --with pixyz==0.3.3 python -m benchmarks.peers [--quick] [--threads N] [--rounds N] [--json FILE]

A peer is measured as its own examples have it, against a target, and with the fastest settings that it offers. Both
sides have the same networks and start from the same weights, read the same batches in the same process, and must agree
on every loss for the same noise in double precision before a clock starts. They take turns as in `step.py`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pyro
import torch
from torch import Tensor, nn

import jointkl
from benchmarks import peer_pyro, step
from benchmarks.peer_nets import OneHead, TwoHeads
from jointkl.program import Program

SAMPLED = step.VAE.rstrip() + " with estimate=monte_carlo"
"""The VAE with every term of its loss an average over the draw, as `Trace_ELBO` has it."""

Losses = Callable[[Tensor], Mapping[str, Tensor]]
Side = tuple[nn.Module, Sequence[tuple[str, Losses]]]
"""A peer's module, and specs with the losses of the peer's that each of them must equal."""


@dataclass(frozen=True)
class System:
    """What is measured: the spec, its nets, the shapes of a datum and of its noise, and Adam's betas."""

    name: str
    spec: str
    nets: Sequence[str]
    shape: Sequence[int]
    data: Callable[[Sequence[int]], Tensor]
    noise: str
    noise_shape: Sequence[int]
    betas: tuple[float, float]


def binary(shape: Sequence[int]) -> Tensor:
    return torch.rand(shape).round()


def real(shape: Sequence[int]) -> Tensor:
    return torch.randn(shape)


VAE = System("VAE 784-400-20", step.VAE, ("enc", "dec"), (784,), binary, "z.noise", (20,), (0.9, 0.999))
GAN = System("GAN 2-128-128", step.model("gan")(), ("G", "D"), (2,), real, "z", (2,), (0.5, 0.999))


def pyro_tutorial() -> Side:
    peer = peer_pyro.Tutorial()
    return peer, ((SAMPLED, peer.sampled), (step.VAE, peer.closed))


def pyro_fastest() -> Side:
    peer = peer_pyro.Fastest()
    return peer, ((step.VAE, peer.closed),)


def pixyz_vae(encoder: type[TwoHeads | OneHead], **options: bool) -> Side:
    from benchmarks import peer_pixyz

    peer = peer_pixyz.VAE(encoder(), **options)
    return peer, ((VAE.spec, peer.losses),)


def pixyz_gan(**options: bool) -> Side:
    from benchmarks import peer_pixyz

    peer = peer_pixyz.GAN(**options)
    return peer, ((GAN.spec, peer.losses),)


@dataclass(frozen=True)
class Peer:
    """A peer's side of a system; by the size of a batch the share of its step's time that the emitted one may take.
    `validating` False switches off what torch and Pyro check of the arguments of distributions."""

    name: str
    system: System
    side: Callable[[], Side]
    targets: Mapping[int, float | None]
    validating: bool = True

    def settings(self) -> AbstractContextManager[None]:
        return nullcontext() if self.validating else pyro.validation_enabled(False)


PEERS = (
    Peer("Pyro SVI, Trace_ELBO", VAE, pyro_tutorial, {128: 0.60, 32: 0.40}),
    Peer("Pyro, fastest", VAE, pyro_fastest, {128: None, 32: None}, validating=False),
    Peer("Pixyz", VAE, partial(pixyz_vae, TwoHeads), {128: 0.65}),
    Peer("Pixyz, fastest", VAE, partial(pixyz_vae, OneHead, fused=True), {128: None}, validating=False),
    Peer("Pixyz", GAN, pixyz_gan, {128: 0.65}),
    Peer("Pixyz, fastest", GAN, partial(pixyz_gan, fused=True), {128: None}, validating=False),
)


def available() -> list[Peer]:
    """The peers that are installed: Pyro always is."""
    return [peer for peer in PEERS if not peer.name.startswith("Pixyz") or find_spec("pixyz")]


# --- comparisons of equals


def pair(peer: Peer, size: int) -> step.Pair:
    """Both sides at the same weights. Raises `AssertionError` where their losses differ at the same noise."""
    torch.manual_seed(0)
    system = peer.system
    program = jointkl.compile(system.spec)
    verify_agree(peer, program, size)
    theirs, _ = sides(peer, program)
    batches = system.data((step.BATCHES * size, *system.shape)).split(size)
    name = f"{system.name}, batch {size}: {peer.name}"
    ours = step.emitted_step(program, system.betas)
    return step.Pair(name, peer.targets[size] or float("inf"), theirs.step(), ours, (batches, batches))


def sides(peer: Peer, program: Program) -> Side:
    """The peer's side with the program's weights."""
    module, equals = peer.side()
    module.assign({name: list(program.nets[name].parameters()) for name in peer.system.nets})
    return module, equals


def verify_agree(peer: Peer, program: Program, size: int) -> None:
    """At the program's weights every loss of each spec that the peer must equal is the peer's, whose first draw from a
    generator seeded alike is our noise. The modules compared are not used again: Pixyz keeps what it has computed.

    Raises `AssertionError`.
    """
    system = peer.system
    theirs, equals = sides(peer, program)
    for spec, losses in equals:
        ours = jointkl.compile(spec)
        ours.load_state_dict(program.state_dict())
        with step.in_double(ours, theirs), double_by_default():
            x = system.data((size, *system.shape))
            zeros = torch.zeros(size, *system.noise_shape)
            torch.manual_seed(1)
            noise = torch.normal(zeros, torch.ones_like(zeros))
            torch.manual_seed(1)
            wanted = losses(x)
            assert wanted.keys() == set(ours.players)
            for player, loss in wanted.items():
                found = ours.loss(player, {"x": x, system.noise: noise})
                torch.testing.assert_close(found, loss, rtol=1e-9, atol=0.0)


@contextmanager
def double_by_default() -> Iterator[None]:
    """What the peers make without a type, as Pixyz its labels, is double too."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


# --- the table

HEAD = "| step | peer, ms | emitted, ms | ratio | target | quartiles | min, max |\n|---|---|---|---|---|---|---|"


def row(found: step.Measured) -> str:
    target = f"{found.target:.2f}" if found.target < float("inf") else ""
    spread = (f"{a:.3f}, {b:.3f}" for a, b in (found.quartiles, found.extremes))
    cells = (found.name, f"{found.hand_ms:.2f}", f"{found.emitted_ms:.2f}", f"{found.ratio:.3f}", target, *spread)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15, help="how often each side is timed (default: 15)")
    options.add_argument("--seconds", type=float, default=1.0, help="length of a round (default: 1)")
    options.add_argument("--only", metavar="WORD", default="", help="the comparisons with this in their name")
    options.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    options.add_argument("--quick", action="store_true", help="7 rounds of 0.2 s: does it run")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    chosen = options.parse_args()
    if chosen.rounds < 2:
        options.error("a spread needs at least 2 rounds")
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    rounds, seconds = (7, 0.2) if chosen.quick else (chosen.rounds, chosen.seconds)

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds; ratio = emitted / peer\n")
    print(HEAD)
    results: list[step.Measured] = []
    for peer in available():
        for size in peer.targets if chosen.only in f"{peer.system.name}: {peer.name}" else ():
            with peer.settings():
                results.append(step.measure(pair(peer, size), rounds, seconds))
            print(row(results[-1]), flush=True)
    slow = [r.name for r in results if r.ratio > r.target]
    print(f"\nabove target: {', '.join(slow)}" if slow else "\nevery ratio is within its target")
    if len(available()) < len(PEERS):
        print("Pixyz is not installed: uv run --with pixyz==0.3.3 python -m benchmarks.peers")
    if chosen.json:
        record = {"torch": torch.__version__, "threads": torch.get_num_threads(), "steps": [asdict(r) for r in results]}
        chosen.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
