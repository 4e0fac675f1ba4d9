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
