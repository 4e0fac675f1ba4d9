"""What the tests of several processes have them do, in one start: `torchrun ... several.py FOLDER [DEVICE]`.

FOLDER/specs.json holds the small specs. Trains what `runs` says into FOLDER/several, goes on with what one process has
begun, and writes what each process is told of mistakes to FOLDER/told.RANK.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

import jointkl
from jointkl.diagnostics import DataError, JklError
from jointkl.training import steps
from jointkl.training.distributed import data_parallel

MODELS = Path(__file__).parents[3] / "models"

PENALTY = """
data(x) = ring8(std=0.02, n=500)
var x: real[2]
var z: real[2]
var y: {0, 1}
net G = mlp(16)
net D = mlp(16, activation=softplus)
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y)) + 5 * R1(data(x) || p(y|x))
train(batch=64)
"""
"""A gradient penalty: its own gradient is a second derivative."""

PAIRS = """
data(x) = ring8(std=0.02, n=500)
var x: real[2]
net R = mlp(16)
n(x | x') = Normal(R(x'), 1)
minimize CE(data(x) * data(x') || n(x|x'))
train(batch=64)
"""
"""Each datum with the one before it in the minibatch: its own loss depends on who that is."""

HINGE = """
data(x) = ring8(std=0.02, n=500)
var x, z: real[2]
net E = mlp(16)
p(z | x) = Normal(E(x), 1)
q(z) = Normal(0, 1)
minimize max(0, 0.3 - KL(data(x) * p(z|x) || data(x) * q(z)))
train(batch=8, lr=2e-2, optimizer=sgd)
"""
"""Its mean is driven to the margin, where the parts of a batch stand on both sides."""

SCORE = """
data(x) = digits(threshold=0.5)
var x: binary[1,8,8]
var z: binary[8]
net E = mlp(16)
net G = mlp(16)
p(z | x) = Bernoulli(E(x))
q(z) = Bernoulli(0.5)
q(x | z) = Bernoulli(G(z))
minimize KL(data(x) * p(z|x) || q(z) * q(x|z)) with estimate=score
train(batch=64)
"""
"""Discrete draws, which no batch gives, and a baseline over the batch."""


class Keeper(nn.Module):
    """Keeps what it has seen, as batch norm does, in a buffer that it puts in the old one's place."""

    def __init__(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs[0], outputs[0])
        self.register_buffer("seen", torch.zeros(inputs[0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen = 0.9 * self.seen + 0.1 * x.detach().mean(0)
        return self.layer(x - self.seen)


class Tied(nn.Module):
    """Two layers with the same weights."""

    def __init__(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.first, self.again = nn.Linear(inputs[0], inputs[0]), nn.Linear(inputs[0], inputs[0])
        self.again.weight = self.first.weight
        self.last = nn.Linear(inputs[0], outputs[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.again(self.first(x).tanh()).tanh())


def own(spec: str, name: str) -> str:
    """A spec whose classifier is a module of the user's own."""
    return spec.replace("D = mlp(16)", f'D = python("{Path(__file__).stem}:{name}")')


def model(name: str) -> str:
    return (MODELS / f"{name}.jkl").read_text(encoding="utf-8")


def runs(gan: str, vae: str, proximal: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Specs with settings, whose runs by any number of processes are the same up to how floats are summed."""
    few = {"steps": "12"}
    slow = {**few, "optimizer": "sgd", "lr": "1e-3"}
    return {
        "gan": (gan, {"steps": "40"}),
        "vae": (vae, {"steps": "40"}),
        "several steps and old copies": (f"{proximal}\ntrain G(repeat=2, every=3, clip=0.5)\n", {"steps": "30"}),
        "simultaneous, one backward": (f"{gan}\ntrain(updates=simultaneous)\n", few),
        "simultaneous, three players": (model("cyclegan"), {**slow, "updates": "simultaneous"}),
        "gradient penalty": (PENALTY, few),
        "copies of the minibatch": (PAIRS, few),
        "networks at copies": (model("alpha_gan"), slow),
        "moments of the batch": (model("age"), slow),
        "hinges on the batch": (HINGE, {"steps": "40"}),
        "importance": (model("iwae"), {**slow, "batch": "32"}),
        "closed steps": (model("em"), {**few, "batch": "50"}),
        "weights of two layers": (own(gan, "Tied"), few),
    }


def on_gpus(gan: str, vae: str, proximal: str) -> dict[str, tuple[str, dict[str, str]]]:
    """As `runs`, where there are GPUs."""
    batch = gan.replace("D = mlp(16)", "D = mlp(16, norm=batch)")
    return {"gan": (gan, {"steps": "40"}), "vae": (vae, {"steps": "40"}), "batch norm": (batch, {"steps": "40"})}


def train(spec: str, folder: Path, settings: dict[str, str], device: str = "cpu", pictures: int = 0) -> jointkl.Run:
    return jointkl.train(
        spec, settings=settings, out=folder, device=device, way="eager", quiet=True, pictures=pictures,
        checkpoints=1,
        allow_imports=(Path(__file__).stem,),
    )  # fmt: skip


class Once:
    """A step of one process, changed in one round."""

    def __init__(self, method: str, when: int, change: Callable[..., None]) -> None:
        self.method, self.own, self.when = method, getattr(steps.PhaseStepper, method), when

        def changed(stepper: steps.PhaseStepper, value: object, number: int) -> None:
            if number == self.when:
                self.when = 0
                value = change(value)
            self.own(stepper, value, number)

        setattr(steps.PhaseStepper, method, changed)

    def undo(self) -> None:
        setattr(steps.PhaseStepper, self.method, self.own)


def told(act: Callable[[], object]) -> list[str]:
    """The kind and the text of what it raises."""
    try:
        act()
    except (DataError, JklError, KeyboardInterrupt) as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


def interrupt(batch: object) -> object:
    os.kill(os.getpid(), signal.SIGINT)
    return batch


def fail(batch: object) -> object:
    raise DataError("the scales fell off", "put them back")


def verify_advantage(rank: int) -> None:
    """Of each cost over the mean of the seven others in the batch, by its definition."""
    cost = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([cost[:, i] - torch.cat([cost[:, :i], cost[:, i + 1 :]], 1).mean(1) for i in range(8)], 1)
    part = slice(4 * rank, 4 * rank + 4)
    torch.testing.assert_close(data_parallel.advantage(cost[:, part]), expected[:, part])


def main(folder: Path, device: str) -> None:
    rank = int(os.environ["RANK"])
    small = json.loads((folder / "specs.json").read_text())
    gan = small["gan"]
    for name, (spec, settings) in (on_gpus if device == "cuda" else runs)(**small).items():
        train(spec, folder / "several" / name, settings, device, pictures=name == "gan")
    if device == "cuda":
        return
    verify_advantage(rank)
    jointkl.resume(folder / "begun", steps=40, quiet=True)
    train(small["vae"], folder / "half", {"steps": "20"})
    dropout = gan.replace("D = mlp(16)", "D = mlp(16, dropout=0.3)")
    for name, spec in {"score": SCORE, "dropout": dropout}.items():
        train(spec, folder / f"{name} whole", {"steps": "20"})
        train(spec, folder / f"{name} broken", {"steps": "9"})
        jointkl.resume(folder / f"{name} broken", steps=20, quiet=True)
    np.save(folder / "points.0.npy", np.zeros((100, 2)))
    missing = {"data": str(folder / f"points.{rank}.npy")}
    evidence = gan.replace("ring8(std=0.02, n=1000)", "evidence()")
    found = {
        "uneven": told(lambda: train(gan, folder / "uneven", {"batch": "63"})),
        "way": told(lambda: jointkl.train(gan, way="compile", out=folder / "way")),
        "batch norm": told(lambda: train(gan.replace("mlp(16)", "mlp(16, norm=batch)"), folder / "norm", {})),
        "own statistics": told(lambda: train(own(gan, "Keeper"), folder / "keeper", {})),
        "one process": told(lambda: jointkl.train(evidence, missing, out=folder / "missing")),
        "taken": told(lambda: train(gan, folder / "half", {})),
    }
    once = Once("step", 5, interrupt if rank == 1 else lambda batch: batch)
    found["interrupted"] = told(lambda: train(gan, folder / "interrupted", {"steps": "100000"}))
    once.undo()
    once = Once("note", 7, lambda loss: loss * torch.nan if rank == 1 else loss)
    found["not finite"] = told(lambda: train(gan, folder / "not finite", {"steps": "20"}))
    once.undo()
    if rank == 1:
        Once("step", 5, fail)
    found["in a step"] = told(lambda: train(gan, folder / "failed", {"steps": "20"}))
    (folder / f"told.{rank}.json").write_text(json.dumps(found))
    os._exit(0)  # the group is broken, as it should be


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
