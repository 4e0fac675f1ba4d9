"""SCALE multiplies a whole goal, and a hinge stands on the exact value: losses against exact sums."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.program import Program
from tests.worlds import losses

LAWS = """
var x: {0,1}
var y: {0,1}
var k: {0..2}
param a: real
param b: real
p(x) = Bernoulli(logits=a)
q(x) = Bernoulli(logits=b)
t(x) = Bernoulli(0.2)
m(x,y) = {y=1: 0.3*p(x); y=0: 0.7*q(x)}
n(x,y) = {y=1: 0.25*q(x); y=0: 0.75*p(x)}
s(x,y) = {y=1: 0.25*t(x); y=0: 0.75*t(x)}
u(x,k) = {k=0: p(x); k=1: q(x); k=2: t(x)}
v(x,k) = {k=0: 0.2*t(x); k=1: 0.3*p(x); k=2: 0.5*q(x)}
"""

Tables = dict[str, Tensor]


def tables(program: Program) -> Tables:
    """Every law and joint as probabilities, over x, or x by label."""
    one = {name: torch.sigmoid(program.params[name]) for name in ("a", "b")} | {"t": torch.tensor(0.2).double()}
    p, q, t = (torch.stack([1 - one[name], one[name]]) for name in ("a", "b", "t"))
    return {
        "p": p, "q": q, "t": t, "m": torch.stack([0.7 * q, 0.3 * p]), "n": torch.stack([0.75 * p, 0.25 * q]),
        "s": torch.stack([0.75 * t, 0.25 * t]), "u": torch.stack([p, q, t]) / 3,
        "v": torch.stack([0.2 * t, 0.3 * p, 0.5 * q]),
    }  # fmt: skip


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum()


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


@pytest.mark.parametrize(
    ("goal", "exact", "constant"),
    [
        ("KL(m(x,y) || n(x,y))", lambda w: 2 * kl(w["m"], w["n"]), True),
        ("KL(m(x,y) || n(x,y)) + KL(q(x) || t(x))", lambda w: 2 * (kl(w["m"], w["n"]) + kl(w["q"], w["t"])), True),
        (
            "3 * KL(q(x) || t(x)) - 1/2 * CE(p(x) || q(x)) + KL(u(x,k) || v(x,k))",
            lambda w: 3 * (3 * kl(w["q"], w["t"]) + 0.5 * (w["p"] * w["q"].log()).sum() + kl(w["u"], w["v"])),
            True,
        ),
        (
            "KL(m(x,y) || n(x,y)) + KL(u(x,k) || v(x,k)) + KL(q(x) || t(x))",
            lambda w: kl(w["m"], w["n"]) + kl(w["u"], w["v"]) + kl(w["q"], w["t"]),
            True,
        ),
        ("max(0, 1 - KL(m(x,y) || n(x,y)))", lambda w: 2 * relu(1 - kl(w["m"], w["n"])), False),
        (
            "KL(m(x,y) || s(x,y)) + 3 * max(0, 2 - KL(m(x,y) || n(x,y)) - KL(p(x) || t(x)))",
            lambda w: 2 * (kl(w["m"], w["s"]) + 3 * relu(2 - kl(w["m"], w["n"]) - kl(w["p"], w["t"]))),
            True,
        ),
        (
            "KL(p(x) || t(x)) + max(0, KL(u(x,k) || v(x,k)) - 1/4)",
            lambda w: 3 * (kl(w["p"], w["t"]) + relu(kl(w["u"], w["v"]) - 0.25)),
            False,
        ),
        (
            "KL(m(x,y) || s(x,y)) + max(0, 1 - KL(u(x,k) || v(x,k)))",
            lambda w: kl(w["m"], w["s"]) + relu(1 - kl(w["u"], w["v"])),
            True,
        ),
    ],
)
def test_a_goal_is_the_exact_sum_up_to_one_factor(goal: str, exact: Callable[[Tables], Tensor], constant: bool) -> None:
    """In its gradient; in its value too but for `constant`s, which a term may lose outside of hinges."""
    program = jointkl.compile(f"{LAWS}\nminimize {goal}").double()
    (player,) = program.players
    parameters = program.parameters_of(player)
    differences: list[Tensor] = []
    for point in ((0.3, -0.8), (2.0, 1.0), (-1.5, 0.4)):
        with torch.no_grad():
            for parameter, value in zip(parameters, point, strict=True):
                parameter.fill_(value)
        loss, wanted = program.loss(player, {"rows": torch.zeros(1)}), exact(tables(program))
        differences.append((loss - wanted).detach())
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        gradient = torch.autograd.grad(wanted, parameters, allow_unused=True)
        for one, other in zip(found, gradient, strict=True):
            zero = torch.zeros(()).double()
            torch.testing.assert_close(zero if one is None else one, zero if other is None else other)
    torch.testing.assert_close(torch.stack(differences), differences[0].expand(3))
    if not constant:
        torch.testing.assert_close(differences[0], torch.zeros(()).double())


@pytest.mark.parametrize(
    ("goal", "player", "exact"),
    [
        (
            "max(0, 1 - KL(m(x,y) || s(x,y))) over a",
            "a",
            lambda w: 2 * relu(1 - kl(w["m"], w["s"])),
        ),
        (
            "max(0, 1 - KL(p(x) || t(x)) - 3 * KL(q(x) || t(x))) over b",
            "b",
            lambda w: relu(1 - kl(w["p"], w["t"]) - 3 * kl(w["q"], w["t"])),
        ),
    ],
)
def test_what_a_player_does_not_move_counts_in_its_hinge(
    goal: str, player: str, exact: Callable[[Tables], Tensor]
) -> None:
    program = jointkl.compile(f"{LAWS}\nminimize {goal}\nminimize 0.1 * CE(p(x) || q(x))").double()
    own = program.parameters_of(player)
    for point in ((0.3, -0.8), (2.0, 1.0), (-1.5, -1.4)):
        with torch.no_grad():
            for name, value in zip(("a", "b"), point, strict=True):
                program.params[name].fill_(value)
        wanted = exact(w := tables(program)) - 0.1 * (w["p"] * w["q"].log()).sum()
        loss = program.loss(player, {"rows": torch.zeros(1)})
        torch.testing.assert_close(loss, wanted)
        torch.testing.assert_close(torch.autograd.grad(loss, own), torch.autograd.grad(wanted, own))


def test_the_derivation_says_what_was_scaled() -> None:
    text = f"{LAWS}\nminimize KL(m(x,y) || s(x,y)) + CE(p(x) || q(x)) + max(0, 1 - KL(m(x,y) || n(x,y)))"
    told = jointkl.derive(jointkl.parse(text)).text().splitlines()
    assert [line.split(None, 1)[1].strip() for line in told if line.startswith("  SCALE")][:3] == [
        "x 2, two labels; constant: log 0.3, log 1/4, log 0.7, log 3/4",
        "x 2, two labels in the goal",
        "x 2, two labels in the goal: the hinge as a whole, as its value counts",
    ]
    assert "2 max(0, 1 - 0.3 E" in losses(text)["a+b"]
