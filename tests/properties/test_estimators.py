"""Discrete draws above continuous ones: the gradient reaches the discrete law however it is estimated (property 19)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, Normal, kl_divergence

import jointkl
from tests.properties.compiled import close, scatter
from tests.properties.exact import grads, values
from tests.properties.expectation import expectation
from tests.properties.specs import Var

SPEC = """
data(x) = evidence()
var x, z: real
var k: SPACE
param s: positive
net E = mlp(3)
net F = linear()
net G = linear()
p(k | x) = FAMILY(E(x))
p(z | k) = Normal(F(k), s)
q(k) = PRIOR
q(z) = Normal(0, 1)
q(x | z) = Normal(G(z), 1)
minimize KL(data(x) * p(k|x) * p(z|k) || q(k) * q(z) * q(x|z))
"""

SPACES = {
    "{0..2}": ("Categorical", "Categorical([0.2, 0.5, 0.3])", 3),
    "binary": ("Bernoulli", "Bernoulli(0.3)", 2),
    "binary[2]": ("Bernoulli", "Bernoulli(0.3)", 4),
    "binary[7]": ("Bernoulli", "Bernoulli(0.3)", 128),
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("option", ["", " with estimate=score", " with estimate=monte_carlo"])
def test_19_a_discrete_law_above_a_continuous_one(space: str, option: str) -> None:
    """sum_k p(k|x) {log p(k|x)/q(k) + log p(z|k)/q(z) - log q(x|z)}, z = F(k) + s e, at given noise e."""
    family, prior, size = SPACES[space]
    text = SPEC.replace("SPACE", space).replace("FAMILY", family).replace("PRIOR", prior).rstrip() + option
    program = jointkl.compile(text).double()
    scatter(program)
    x, e = torch.tensor([0.3, -1.2]).double(), torch.tensor([0.7, -0.4]).double()
    weights = torch.tensor([0.25, 0.75]).double()
    (player,) = program.emitted.losses
    own = program.parameters_of(player)
    emitted = expectation(lambda b: program.loss(player, b), {"x": x, "z.noise": e}, weights)
    written = (weights * exact(program, Var("k", space, size), x, e, closed=not option)).sum()
    close(emitted, written, "value", text)
    for a, b in zip(grads(emitted, own), grads(written, own), strict=True):
        close(a, b, "gradient", text)


def exact(program: jointkl.Program, var: Var, x: Tensor, e: Tensor, *, closed: bool) -> Tensor:
    """By hand, for each datum; the closed form of KL[p(z|k) || q(z)], or its value at the draw."""
    logits = program.nets["E"](x)
    total = torch.zeros_like(x)
    for k in values(var):
        if var.kind == "finite":
            own, prior = Categorical(logits=logits), Categorical(torch.tensor([0.2, 0.5, 0.3]).double())
            log_p, log_q = own.log_prob(k), prior.log_prob(k)
        else:
            n = k.dim()
            prior = Independent(Bernoulli(torch.full(k.shape, 0.3, dtype=torch.float64)), n)
            log_p, log_q = Independent(Bernoulli(logits=logits), n).log_prob(k), prior.log_prob(k)
        loc, scale = program.nets["F"](k.expand(len(x), *k.shape)), program.params["s"]
        z = loc + scale * e
        code, standard = Normal(loc, scale.expand_as(loc)), Normal(torch.zeros_like(loc), 1.0)
        gap = kl_divergence(code, standard) if closed else code.log_prob(z) - standard.log_prob(z)
        nll = 0.5 * (x - program.nets["G"](z)) ** 2 + 0.5 * math.log(2 * math.pi)
        total = total + log_p.exp() * (log_p - log_q + gap + nll)
    return total
