"""What the player does not move is not sampled where a closed form or an exact sum exists: against both by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Beta, Gamma, Normal, kl_divergence
from torch.nn.functional import logsigmoid

import jointkl
from jointkl.program import Program

N = 5
ROWS = {"rows": torch.zeros(1)}
"""A batch of a spec without evidence."""


def compiled(text: str) -> Program:
    torch.manual_seed(1)
    program = jointkl.compile(text).double()
    with torch.no_grad():
        for p in program.parameters():
            p.normal_()
    program.snapshot()
    return program


def verify(program: Program, player: str, batch: dict[str, Tensor], hand: Callable[[], Tensor]) -> None:
    """Value and gradient, whatever the seed."""
    own = program.parameters_of(player)
    wanted = torch.autograd.grad(hand(), own, allow_unused=True)
    for seed in range(2):
        torch.manual_seed(seed)
        loss = program.loss(player, batch)
        torch.testing.assert_close(loss, hand())
        torch.testing.assert_close(torch.autograd.grad(loss, own, allow_unused=True), wanted)


def data(*shape: int) -> Tensor:
    torch.manual_seed(7)
    return torch.randn(N, *shape).double()


def number(value: float) -> Tensor:
    return torch.tensor(value).double()


# --- closed forms


def test_a_fixed_normal_against_a_trained_one() -> None:
    p = compiled("""
        data(x) = evidence()
        var x, t: real
        net F = mlp(4)
        p(t | x) = Normal(2*x, 1)
        r(t | x) = Normal(F(x), 0.5)
        minimize KL(data(x) * p(t|x) || data(x) * r(t|x))
    """)
    x = data()
    verify(p, "F", {"x": x}, lambda: kl_divergence(Normal(2 * x, 1.0), Normal(p.nets["F"](x), 0.5)).mean())


@pytest.mark.parametrize(
    ("space", "fixed", "trained", "left", "right"),
    [
        ("positive", "Gamma(2, 3)", "Gamma(s, 1)", lambda: Gamma(number(2), number(3)), lambda s: Gamma(s, 1.0)),
        ("unit", "Beta(2, 3)", "Beta(s, 2)", lambda: Beta(number(2), number(3)), lambda s: Beta(s, 2.0)),
        (
            "{0,1}",
            "Bernoulli(0.3)",
            "Bernoulli(logits=s)",
            lambda: Bernoulli(number(0.3)),
            lambda s: Bernoulli(None, s),
        ),
    ],
    ids=["gamma", "beta", "bernoulli"],
)
def test_other_families(
    space: str, fixed: str, trained: str, left: Callable[[], Any], right: Callable[[Tensor], Any]
) -> None:
    p = compiled(f"var t: {space}\nparam s: positive\np(t) = {fixed}\nr(t) = {trained}\nminimize KL(p(t) || r(t))")
    verify(p, "s", ROWS, lambda: kl_divergence(left(), right(p.params["s"])))


def test_an_old_law_against_the_moving_one() -> None:
    """A trust region: KL[old p || p] is zero at the snapshot, and closed away from it."""
    p = compiled("""
        data(x) = evidence()
        var x, t: real
        net F = mlp(4)
        param s: positive
        p(t | x) = Normal(F(x), s)
        minimize KL(data(x) * old p(t|x) || data(x) * p(t|x))
    """)
    x, (player,) = data(), p.players
    before = Normal(p.nets["F"](x).detach(), p.params["s"].detach())
    torch.testing.assert_close(p.loss(player, {"x": x}), number(0))
    with torch.no_grad():
        for w in p.parameters_of(player):
            w.add_(torch.randn_like(w))
    verify(p, player, {"x": x}, lambda: kl_divergence(before, Normal(p.nets["F"](x), p.params["s"])).mean())


@pytest.mark.parametrize(
    ("declared", "mine"),
    [
        ("net F = mlp(4)\nparam s: positive", "Normal(F(x), s)"),
        ("net F = mlp(4)", "Normal(F(x), 2)"),
        ("", "Normal(0.5, 2)"),
    ],
    ids=["trained", "half trained", "fixed"],
)
def test_a_cross_entropy_of_normals(declared: str, mine: str) -> None:
    """CE[N(a, b^2) || N(m, 1/4)] = log(1/2) + log(2 pi)/2 + 2 (b^2 + (a - m)^2)."""
    p = compiled(f"""
        data(x) = evidence()
        var x, t: real
        param m: real
        {declared}
        p(t | x) = {mine}
        r(t) = Normal(m, 0.5)
        minimize CE(data(x) * p(t|x) || r(t))
    """)
    x, (player,) = data(), p.players

    def hand() -> Tensor:
        a = p.nets["F"](x) if "F" in declared else number(0.5)
        b = p.params["s"] if "s:" in declared else number(2)
        return (math.log(0.5) + math.log(2 * math.pi) / 2 + 2 * (b**2 + (a - p.params["m"]) ** 2)).mean()

    verify(p, player, {"x": x}, hand)


def sums(p: Tensor, q: Tensor) -> Tensor:
    """E_p{-log q}, over the last dimension, averaged over the rest."""
    return -(p * q.log()).sum(-1).mean()


@pytest.mark.parametrize("form", ["logits=x@F", "probs=softmax(x@F)"])
def test_a_cross_entropy_of_classes(form: str) -> None:
    """p is another player's: its entropy is a constant, and the cross-entropy exact."""
    p = compiled(f"""
        data(x) = evidence()
        var x: real[2]
        var k: {{0..2}}
        param E: real[2,3]
        param F: real[2,3]
        p(k | x) = Categorical(logits=x@E)
        r(k | x) = Categorical({form})
        minimize KL(data(x) * p(k|x) || data(x) * r(k|x)) over F
        minimize CE(data(x) * old r(k|x) || p(k|x)) over E
    """)
    x, e, f = data(2), p.params["E"], p.params["F"]
    before = (x @ f).softmax(-1).detach()
    verify(p, "F", {"x": x}, lambda: sums((x @ e).softmax(-1).detach(), (x @ f).softmax(-1)))
    verify(p, "E", {"x": x}, lambda: sums(before, (x @ e).softmax(-1)))


@pytest.mark.parametrize(("fixed", "chance"), [("Bernoulli(0.3)", 0.3), ("Bernoulli(logits=0.4)", 0.598687660112452)])
def test_a_cross_entropy_of_bits_is_finite_at_any_logit(fixed: str, chance: float) -> None:
    p = compiled(f"""
        var t: binary[3]
        param a: real[3]
        p(t) = {fixed}
        r(t) = Bernoulli(logits=a)
        minimize CE(p(t) || r(t))
    """)
    a = p.params["a"]

    def hand() -> Tensor:
        return -(chance * logsigmoid(a) + (1 - chance) * logsigmoid(-a)).sum()

    verify(p, "a", ROWS, hand)
    with torch.no_grad():
        a.fill_(1e4)
    verify(p, "a", ROWS, hand)


# --- sums

A, B = "var a: {0..2}\np(a) = Categorical([0.2, 0.3, 0.5])\n", "var b: {0,1}\n"
AGAINST = "param w: real[2,3]\nr(b) = Bernoulli(0.4)\nr(a | b) = Categorical(logits=w[b])\nr(a) = r(b) * r(a|b)\n"


def test_other_families_over_the_same_values_are_summed() -> None:
    p = compiled(f"{B}param u: real[2]\np(b) = Bernoulli(0.3)\nr(b) = Categorical(logits=u)\nminimize KL(p(b) || r(b))")
    weights = torch.tensor([0.7, 0.3]).double()
    verify(p, "u", ROWS, lambda: sums(weights, p.params["u"].softmax(-1)))


def test_a_fixed_law_against_a_marginal_is_summed() -> None:
    p = compiled(A + B + AGAINST + "minimize KL(p(a) || r(a))")
    left, right = torch.tensor([0.2, 0.3, 0.5]).double(), torch.tensor([0.6, 0.4]).double()
    verify(p, "w", ROWS, lambda: sums(left, right @ p.params["w"].softmax(-1)))


def test_a_chain_of_fixed_laws_is_summed_in_any_direction() -> None:
    """Up to the constant that the closed form of b leaves."""
    p = compiled(f"""{A}{B}
        param u: real
        param w: real[2,3]
        p(b | a) = Bernoulli(0.25)
        r(b) = Bernoulli(logits=u)
        r(a | b) = Categorical(logits=w[b])
        minimize KL(p(a) * p(b|a) || r(b) * r(a|b))
    """)
    joint = torch.outer(torch.tensor([0.2, 0.3, 0.5]), torch.tensor([0.75, 0.25])).double()
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))

    def hand() -> Tensor:
        one = p.params["u"].sigmoid()
        right = p.params["w"].softmax(-1).T * torch.stack([1 - one, one])
        return -(joint * right.log()).sum() - entropy

    (player,) = p.players
    verify(p, player, ROWS, hand)


@pytest.mark.parametrize(
    "text",
    [
        (A + B + AGAINST).replace("0..2", "0..99").replace("[0.2, 0.3, 0.5]", "").replace("[2,3]", "[2,100]")
        + "minimize KL(p(a) || r(a))",
        A + B + AGAINST + "minimize KL(p(a) || r(a)) with estimate=monte_carlo",
        A + "var x: real\np(x | a) = Normal(a, 1)\nnet F = mlp(3)\nr(a | x) = Categorical(F(x))\n"
        "minimize CE(p(a) * p(x|a) || r(a|x))",
    ],
    ids=["more than 64 values", "monte_carlo", "something is drawn from it"],
)
def test_what_is_too_much_is_drawn(text: str) -> None:
    p = compiled(text)
    (player,) = p.players
    found: set[float] = set()
    for seed in range(5):
        torch.manual_seed(seed)
        found.add(p.loss(player, ROWS).item())
    assert len(found) > 1
