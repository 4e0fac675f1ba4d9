"""What the tests of several processes have them do: `torchrun ... several.py FOLDER`, one start for all of it.

Trains each spec of `runs()` into FOLDER/several, goes on with what one process began in FOLDER/begun, and writes what
each process was told of mistakes to FOLDER/told.RANK.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

MODELS = Path(__file__).parents[2] / "models"

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
        "copies of the minibatch": (model("alpha_gan"), slow),
        "moments of the batch": (model("age"), slow),
        "hinges on the batch": (model("introvae"), {**slow, "batch": "32"}),
        "importance": (model("iwae"), {**slow, "batch": "32"}),
        "closed steps": (model("em"), {**few, "batch": "50"}),
        "a shared trunk": (model("infogan"), slow),
    }
