"""OPTIMAL-DISCRIMINATOR with hidden mixtures in its branches: gradients at the best classifier against exact sums."""

from __future__ import annotations

import pytest
import torch

from tests.derivation.finite import compiled, divergence, expected, known, same_slopes

SPEC = """
data(x) = evidence()
var x: {0..2}
var z, y: {0, 1}
param a, b: real[2,3]
net D = linear()
q(z) = Bernoulli(0.4)
q(x|z) = Categorical(logits=a[z])
r(x|z) = Categorical(logits=b[z])
c(y|x) = Categorical(D(x))
n(x) = { s=0: 0.3 * q(z) * q(x|z); s=1: 0.7 * q(z) * r(x|z) }
m(x, y) = { y=1: 0.25 * data(x); y=0: 0.75 * n(x) }
minimize KL(m(x,y) || data(x) * c(y|x)) OVER
"""
DATA = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
Z = torch.tensor([0.6, 0.4], dtype=torch.float64)


@pytest.mark.parametrize(
    ("over", "player"),
    [
        ("", "a+b"),
        ("over D, a minimize CE(data(x) * q(z) || r(x|z)) over b", "a"),
        ("over D, b minimize CE(data(x) * q(z) || q(x|z)) over a", "b"),
    ],
)
def test_a_branch_is_trained_whoever_trains_the_others(over: str, player: str) -> None:
    """2 (0.75 KL(n || data) + the classifier's part), of which what is drawn elsewhere has only the mixture's score."""
    p = compiled(SPEC.replace("OVER", over))
    tables = {name: p.params[name].softmax(-1) for name in "ab"}
    n = 0.3 * Z @ tables["a"] + 0.7 * Z @ tables["b"]
    best = torch.stack([0.75 * n, 0.25 * DATA], -1).log().log_softmax(-1).detach()
    known(p, "D", best)
    wanted = 2 * 0.75 * (divergence(n, DATA) - (n * best[:, 0]).sum())
    same_slopes(expected(p, player, x=DATA.tolist()), wanted, list(p.parameters_of(player)))


HINGE = """
data(x) = evidence()
var x: {0..2}
var z, y: {0, 1}
param a: real[2,3]
param e: real[3]
net D = linear()
q(z) = Bernoulli(0.4)
q(x|z) = Categorical(logits=a[z])
p(z|x) = Bernoulli(logits=e[x])
c(y|x,z) = Categorical(D(x,z))
m(x,z,y) = { y=1: 0.25 * data(x) * p(z|x); y=0: 0.75 * q(z) * q(x|z) }
minimize max(0, KL(m(x,z,y) || data(x) * p(z|x) * c(y|x,z)) - MARGIN)
"""


@pytest.mark.parametrize("beyond", [0.01, -0.01])
def test_in_a_hinge_the_optimum_stands_for_the_value_too(beyond: float) -> None:
    """2 max(0, KL - margin), log w and residuals in it: the margin lies just below the exact KL, or just above."""
    start = compiled(HINGE.replace("MARGIN", "1"))
    q = Z[:, None] * start.params["a"].softmax(-1)
    up = start.params["e"].sigmoid()
    p = torch.stack([1 - up, up]) * DATA
    left = torch.stack([0.75 * q, 0.25 * p], -1)  # z, x, y
    best = left.log().log_softmax(-1).detach()
    exact = divergence(left, p[..., None] * best.exp())
    program = compiled(HINGE.replace("MARGIN", f"{exact.item() - beyond:.17f}"))
    known(program, "D", best.transpose(0, 1))
    batch = {"x": torch.tensor([0] * 2 + [1] * 5 + [2] * 3)}
    torch.testing.assert_close(program.loss("a+e", batch), torch.tensor(2 * max(0.0, beyond), dtype=torch.float64))
    if beyond > 0:
        wanted = torch.autograd.grad(2 * exact, [start.emitted.a, start.emitted.e])
        found = torch.autograd.grad(program.loss("a+e", batch), [program.emitted.a, program.emitted.e])
        for x, y in zip(found, wanted, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-10)
