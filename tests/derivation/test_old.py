"""`old` laws that a spec writes: kept as they are wherever they stand, and never a substitution's partner."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.program import Program
from tests.derivation.finite import compiled, divergence, expected, known, moved, same_slopes

LAWS = """
var x: {0..2}
var z: {0, 1}
param a, b: real
param c: real[2,3]
param d: real[3]
p(z) = Bernoulli(logits=a)
q(z) = Bernoulli(logits=b)
q(x|z) = Categorical(logits=c[z])
p(x) = Categorical(logits=d)
"""

Values = dict[str, Tensor]


def coin(logits: Tensor) -> Tensor:
    return torch.stack([(-logits).sigmoid(), logits.sigmoid()], -1)


def values(p: Program) -> Values:
    return {k: v.detach().clone().requires_grad_() for k, v in p.params.items()}


def cross(p: Tensor, q: Tensor) -> Tensor:
    return -(p * q.log()).sum()


def joint(v: Values) -> Tensor:
    """q(z) q(x|z)"""
    return coin(v["b"])[:, None] * v["c"].softmax(-1)


OLD: dict[str, tuple[str, Callable[[Values, Values], Tensor]]] = {
    "a trust region": (
        "minimize KL(p(z) || q(z)) + 5 * KL(p(z) || old p(z)) over a",
        lambda v, o: divergence(coin(v["a"]), coin(v["b"])) + 5 * divergence(coin(v["a"]), coin(o["a"])),
    ),
    "a trust region with an option that is for substitutions": (
        "minimize KL(p(z) || q(z)) + 5 * KL(p(z) || old p(z)) over a with proximal=kl",
        lambda v, o: divergence(coin(v["a"]), coin(v["b"])) + 5 * divergence(coin(v["a"]), coin(o["a"])),
    ),
    "a trust region of samples": (
        "minimize KL(p(z) || q(z)) + 5 * KL(p(z) || old p(z)) over a with estimate=monte_carlo",
        lambda v, o: divergence(coin(v["a"]), coin(v["b"])) + 5 * divergence(coin(v["a"]), coin(o["a"])),
    ),
    "a frozen target": (
        "minimize KL(p(z) || old q(z)) over a",
        lambda v, o: divergence(coin(v["a"]), coin(o["b"])),
    ),
    "a frozen target of a law and its old copy": (
        "minimize KL(p(z) || q(z)) + KL(p(z) || old q(z)) over a",
        lambda v, o: divergence(coin(v["a"]), coin(v["b"])) + divergence(coin(v["a"]), coin(o["b"])),
    ),
    "a cross-entropy": (
        "minimize CE(p(z) || old q(z)) over a",
        lambda v, o: cross(coin(v["a"]), coin(o["b"])),
    ),
    "a cross-entropy to the snapshot": (
        "minimize CE(p(z) || old p(z)) over a",
        lambda v, o: cross(coin(v["a"]), coin(o["a"])),
    ),
    "a hinge": (
        "minimize KL(p(z) || q(z)) + max(0, 2 - KL(p(z) || old p(z))) over a",
        lambda v, o: divergence(coin(v["a"]), coin(v["b"])) + (2 - divergence(coin(v["a"]), coin(o["a"]))).relu(),
    ),
    "a marginal": (
        "m(x) = old q(z) * old q(x|z) minimize KL(p(x) || m(x)) over d",
        lambda v, o: divergence(v["d"].softmax(-1), joint(o).sum(0)),
    ),
    "a marginal of which one law is old": (
        "m(x) = q(z) * old q(x|z) minimize KL(p(x) || m(x)) over d, b",
        lambda v, o: divergence(v["d"].softmax(-1), coin(v["b"]) @ o["c"].softmax(-1)),
    ),
    "a marginal to its own snapshot": (
        "n(x) = q(z) * q(x|z) m(x) = old q(z) * old q(x|z) minimize KL(n(x) || m(x)) over b, c",
        lambda v, o: divergence(joint(v).sum(0), joint(o).sum(0)),
    ),
    "a mixture with its own snapshot": (
        "m(x) = { s=0: 0.25 * p(x); s=1: 0.75 * old p(x) } minimize KL(p(x) || m(x)) over d",
        lambda v, o: divergence(v["d"].softmax(-1), 0.25 * v["d"].softmax(-1) + 0.75 * o["d"].softmax(-1)),
    ),
    "an old joint": (
        "m(z,x) = q(z) * q(x|z) minimize KL(p(x) * p(z) || old m(z,x)) over a, d",
        lambda v, o: divergence(coin(v["a"])[:, None] * v["d"].softmax(-1), joint(o)),
    ),
    "an old law on the left": (
        "minimize KL(old p(z) || p(z)) over a",
        lambda v, o: divergence(coin(o["a"]), coin(v["a"])),
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_an_old_law_is_what_it_was_at_the_snapshot(name: str) -> None:
    """At parameters that have moved on since: the gradient of the divergence from, or of, the law of the snapshot."""
    goal, exact = OLD[name]
    used = [line for line in LAWS.splitlines() if "param" not in line]
    program = compiled("\n".join([*used, "param a, b: real param c: real[2,3] param d: real[3]", _trained(goal)]))
    old = values(program)
    moved(program, 5)
    now = values(program)
    player = next(q for q in program.emitted.losses if q in _players(goal))
    wanted = exact(now, old)
    found = expected(program, player)
    raw = dict(program.emitted.named_parameters())
    for member in player.split("+"):
        (a,) = torch.autograd.grad(found, [raw[member]], retain_graph=True)
        (b,) = torch.autograd.grad(wanted, [now[member]], retain_graph=True)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        assert b.abs().max() > 1e-3


def _players(goal: str) -> tuple[str, ...]:
    over = goal.split(" over ")[1].split(" with ")[0].split(", ")
    return ("+".join(sorted(over)),)


def _trained(goal: str) -> str:
    """The goal, and another for each of those that it leaves out: whatever is trained has an old copy."""
    left = [m for m in "abcd" if m not in _players(goal)[0].split("+")]
    more = {
        "a": "minimize CE(n0(z) || p(z)) over a",
        "b": "minimize CE(n0(z) || q(z)) over b",
        "c": "minimize CE(n0(z) * n0(x) || q(x|z)) over c",
        "d": "minimize CE(n0(x) || p(x)) over d",
    }
    fixed = "n0(z) = Bernoulli(0.3) n0(x) = Categorical([0.2, 0.3, 0.5])"
    return "\n".join([fixed, goal, *(more[m] for m in left)])


def test_what_nobody_trains_is_its_own_old_copy() -> None:
    """old q(z) of a fixed law cancels with q(z)."""
    derivation = jointkl.derive(
        jointkl.parse("""
var x, z: real
param w: real
q(z) = Normal(0, 1)
q(x|z) = Normal(w * z, 1)
p(x|z) = Normal(w, 1)
minimize KL(old q(z) * q(x|z) || q(z) * p(x|z))
""")
    )
    (entry,) = derivation.losses["w"]
    assert len(entry.terms) == 1
    assert not any(f.old for f in entry.path)


GAME = """
data(x) = evidence()
var x: {0..2}
var y: {0, 1}
param d: real[3]
net D = linear()
p(x) = Categorical(logits=d)
c(y|x) = Categorical(D(x))
m(x, y) = { y=1: data(x); y=0: p(x) }
minimize KL(m(x,y) || data(x) * c(y|x))
minimize 3 * KL(p(x) || old p(x))
"""


def test_a_trust_region_beside_a_classifier_is_kept() -> None:
    """The optimum's own pair log p - log p_old is dropped; the divergence that the spec writes is not."""
    program = compiled(GAME)
    old = values(program)["d"].softmax(-1)
    data = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    known(program, "D", torch.stack([old, data], -1).log())
    moved_to = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
    with torch.no_grad():
        program.emitted.d.copy_(moved_to)
    p = program.emitted.d.softmax(-1)
    game = -(p * (data / (data + old)).log()).sum()  # x 2, two labels of weight 1/2
    wanted = game + 3 * divergence(p, old)
    same_slopes(expected(program, "d", x=data.tolist()), wanted, list(program.parameters_of("d")))
