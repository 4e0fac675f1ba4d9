"""Small specs that train in a blink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from jointkl.compiler import derive
from jointkl.semantics.model import Model
from jointkl.sources import load
from jointkl.training.distributed.processes import ALONE, ProcessGroup
from jointkl.training.options import Options
from jointkl.training.plan import Plan, compiled_for, plan

GAN = """# a comment
data(x) = ring8(std=0.02, n=1000)
var x: real[2]
var z: real[2]
var y: {0, 1}
net G = mlp(16)
net D = mlp(16)
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y))
train(batch=64, steps=200, beta1=0.5)
"""

VAE = """
data(x) = digits(threshold=0.5)
var x: binary[1,8,8]
var z: real[8]
let H = 64
net enc = mlp(H)
net dec = mlp(H)
p(z | x) = Normal(enc(x))
q(z) = Normal(0, 1)
q(x | z) = Bernoulli(dec(z))
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
train(batch=128, steps=300)
"""

PROXIMAL = GAN.replace("minimize KL(q(x,y) || p(x,y))", "minimize KL(q(x,y) || p(x,y)) with proximal=dirac(1)")


def planned(
    model: Model, data: Mapping[str, object] | None = None, group: ProcessGroup = ALONE, **options: Any
) -> Plan:
    """The plan of a run, by the options of `train`."""
    asked = Options(**options)
    return plan(compiled_for(derive(model), asked), data, asked, group)


@pytest.fixture(scope="session")
def halfway() -> float:
    """Between the loss of pixels of probability 1/2 and that of the best decoder of digits that ignores its code, the
    entropy of each pixel by itself: 64 log 2 = 44.4 and 25.7. An autoencoder that has learnt anything is below."""
    p = load("digits", {"threshold": 0.5})[0].double().mean(0)
    entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum()
    return float(entropy + 64 * torch.tensor(2.0).log()) / 2


@pytest.fixture
def gan() -> str:
    return GAN


@pytest.fixture
def vae() -> str:
    return VAE


@pytest.fixture
def proximal() -> str:
    return PROXIMAL
