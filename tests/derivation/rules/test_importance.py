"""IMPORTANCE beside a classifier's optimum: the bound of the divergence itself, at given noise, for K copies.

Under weights the score of what is drawn has no average of zero, so what a substitution leaves of it stays in the sum.
In a Gaussian world every density is known, the optimal classifier too: the loss by the definition, log data and all,
is written out below and must be the derived one, as a function of the parameters, on either side of the snapshot.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import jointkl
from jointkl.program import Program

SPEC = """
data(x) = evidence()
var x, z: real
var y: {0, 1}
param a, s, e, f: real
net D = mlp(8)
q(z) = Normal(0, 1)
r(z) = Normal(0.3, 2)
q(x|z) = Normal(a * z + s, 0.7)
p(z|x) = Normal(e * x + f, 1.2)
c(y|x,z) = Bernoulli(D(x,z))
m(x,z,y) = { y=1: data(x) * p(z|x); y=0: q(z) * q(x|z) }
minimize GOAL with importance=COPIES
"""

Params = dict[str, Tensor]


def normal(x: Tensor, loc: Tensor | float, scale: float) -> Tensor:
    return -0.5 * ((x - loc) / scale) ** 2 - math.log(scale * math.sqrt(2 * math.pi))


def data(x: Tensor) -> Tensor:
    """log of what the batch's x come from, which only this test knows."""
    return normal(x, 0.4, 1.1)


def encoder(z: Tensor, x: Tensor, v: Params) -> Tensor:
    return normal(z, v["e"] * x + v["f"], 1.2)


def decoder(x: Tensor, z: Tensor, v: Params) -> Tensor:
    return normal(x, v["a"] * z + v["s"], 0.7)


class Optimum(nn.Module):
    """The logit of the best classifier between the branches, at parameters that stand still."""

    def __init__(self, v: Params) -> None:
        super().__init__()
        self.v = v

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return data(x) + encoder(z, x, self.v) - normal(z, 0.0, 1.0) - decoder(x, z, self.v)


def bounded(total: Tensor) -> Tensor:
    """-log mean_k exp(-total_k), the copies leading"""
    return -((-total).logsumexp(0) - math.log(len(total))).mean()


def by_definition(v: Params, best: Optimum, batch: dict[str, Tensor], right: str) -> Tensor:
    """2 sum_k 1/2 E_k{-log mean exp(-(log branch_k - log c(k|x,z) - log data(x) - log right))}, weights left out."""

    def reference(x: Tensor, z: Tensor) -> Tensor:
        return data(x) + (encoder(z, x, v) if right == "p(z|x)" else normal(z, 0.3, 2.0))

    x = batch["x"]
    z = v["e"] * x + v["f"] + 1.2 * batch["z.noise"]
    up = data(x) + encoder(z, x, v) - nn.functional.logsigmoid(best(x, z)) - reference(x.expand_as(z), z)
    z = batch["z"]
    x = v["a"] * z + v["s"] + 0.7 * batch["x.noise"]
    down = normal(z, 0.0, 1.0) + decoder(x, z, v) - nn.functional.logsigmoid(-best(x, z)) - reference(x, z)
    return bounded(up) + bounded(down)


def world(goal: str, copies: int) -> tuple[Program, Params, Optimum, dict[str, Tensor]]:
    """The program with its classifier at the optimum of the snapshot, its parameters, and noise for each copy."""
    p = jointkl.compile(SPEC.replace("GOAL", goal).replace("COPIES", str(copies))).double()
    with torch.no_grad():
        for name, value in (("a", 0.8), ("s", -0.2), ("e", 0.5), ("f", 0.1)):
            p.emitted.get_parameter(name).fill_(value)
    p.snapshot()
    old = {k: w.detach().clone() for k, w in p.params.items()}
    best = Optimum(old)
    setattr(p.emitted, p.emitted.nets["D"], best)
    chance = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance, dtype=torch.float64)

    batch = {"x": noise(5), "z": noise(copies, 5), "z.noise": noise(copies, 5), "x.noise": noise(copies, 5)}
    return p, old, best, batch


@pytest.mark.parametrize("right", ["p(z|x)", "r(z)"])
@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_the_bound_is_that_of_the_divergence(right: str, copies: int, moved: float) -> None:
    p, _, best, batch = world(f"KL(m(x,z,y) || data(x) * {right} * c(y|x,z))", copies)
    with torch.no_grad():
        for name in "asef":
            p.emitted.get_parameter(name).add_(moved)
    v = {name: p.emitted.get_parameter(name) for name in "asef"}
    (player,) = (q for q in p.emitted.losses if q != "D")
    found, wanted = p.loss(player, batch), by_definition(v, best, batch, right)
    used = [v[name] for name in "asef"]
    slopes = zip(
        torch.autograd.grad(found, used, allow_unused=True),
        torch.autograd.grad(wanted, used, allow_unused=True),
        strict=True,
    )
    for a, b in slopes:
        assert a is not None
        assert b is not None
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_terms_of_one_goal_have_each_their_bound() -> None:
    """A sum of bounds, each with its weight: not the bound of the sum."""
    right = "KL(m(x,z,y) || data(x) * p(z|x) * c(y|x,z))"
    p, _, best, batch = world(f"{right} + 3 * KL(m(x,z,y) || data(x) * r(z) * c(y|x,z))", 2)
    v = {name: p.emitted.get_parameter(name) for name in "asef"}
    (player,) = (q for q in p.emitted.losses if q != "D")
    wanted = by_definition(v, best, batch, "p(z|x)") + 3 * by_definition(v, best, batch, "r(z)")
    used = [v[name] for name in "asef"]
    for a, b in zip(torch.autograd.grad(p.loss(player, batch), used), torch.autograd.grad(wanted, used), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_one_copy_is_the_plain_derivation() -> None:
    """The score of a single draw has no weight."""
    plain = SPEC.replace("GOAL", "KL(m(x,z,y) || data(x) * p(z|x) * c(y|x,z))")
    one = jointkl.derive(jointkl.parse(plain.replace("COPIES", "1")))
    none = jointkl.derive(jointkl.parse(plain.replace("with importance=COPIES", "")))
    for player, entries in none.losses.items():
        bounded_terms = [{(t.coefficient, t.atom, t.detached) for t in e.terms} for e in one.losses[player]]
        assert bounded_terms == [{(t.coefficient, t.atom, t.detached) for t in e.terms} for e in entries]
