"""Estimators of gradients against exact sums: a discrete latent never loses its gradient silently."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.program import Program
from tests.bounds import reach, sigmas

N, RUNS = 5, 600

DISCRETE = """
data(x) = evidence()
var x: real[3]
var k: SPACE
net E = mlp(4)
net G = mlp(4)
p(k | x) = FAMILY(E(x))
q(k)     = PRIOR
q(x | k) = Normal(G(k), 1)
minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
"""


def compiled(text: str) -> Program:
    torch.manual_seed(0)
    return jointkl.compile(jointkl.parse(text)).double()


def finite(options: str = "") -> Program:
    text = DISCRETE.replace("SPACE", "{0..3}").replace("FAMILY", "Categorical")
    return compiled(text.replace("PRIOR", "Categorical([0.1, 0.2, 0.3, 0.4])") + options)


def binary(size: int, options: str = "") -> Program:
    text = DISCRETE.replace("SPACE", f"binary[{size}]").replace("FAMILY", "Bernoulli")
    return compiled(text.replace("PRIOR", "Bernoulli(0.3)") + options)


def normal(x: Tensor, loc: Tensor) -> Tensor:
    return -0.5 * ((x - loc) ** 2 + torch.log(torch.tensor(2 * torch.pi))).sum(-1)


def exact_finite(p: Program, x: Tensor) -> Tensor:
    """E_x sum_k p(k|x) (log p(k|x) - log q(k) - log q(x|k))."""
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    posterior = p.nets["E"](x).softmax(-1)
    total = torch.zeros(len(x), dtype=torch.float64)
    for k in range(4):
        log_lik = normal(x, p.nets["G"](torch.full((len(x),), k)))
        total = total + posterior[:, k] * (posterior[:, k].log() - prior[k].log() - log_lik)
    return total.mean()


def exact_binary(p: Program, x: Tensor, size: int) -> Tensor:
    logits = p.nets["E"](x)
    total = torch.zeros(len(x), dtype=torch.float64)
    for code in range(2**size):
        k = torch.tensor([(code >> i) & 1 for i in range(size)], dtype=torch.float64).expand(len(x), size)
        log_p = torch.distributions.Bernoulli(logits=logits).log_prob(k).sum(-1)
        log_q = torch.distributions.Bernoulli(torch.tensor(0.3, dtype=torch.float64)).log_prob(k).sum(-1)
        total = total + log_p.exp() * (log_p - log_q - normal(x, p.nets["G"](k)))
    return total.mean()


def grads(p: Program, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, p.parameters_of("E+G"))
    return torch.cat([g.flatten() for g in found])


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(N, 3, dtype=torch.float64)


@pytest.mark.parametrize("options", ["", " with estimate=monte_carlo"])
def test_a_finite_latent_is_summed_over(x: Tensor, options: str) -> None:
    p = finite(options)
    loss, exact = p.loss("E+G", {"x": x}), exact_finite(p, x)
    torch.testing.assert_close(loss, exact)
    torch.testing.assert_close(grads(p, loss), grads(p, exact))


@pytest.mark.parametrize("options", ["", " with estimate=monte_carlo"])
def test_a_small_binary_latent_is_summed_over(x: Tensor, options: str) -> None:
    p = binary(5, options)  # 32 values
    loss, exact = p.loss("E+G", {"x": x}), exact_binary(p, x, 5)
    torch.testing.assert_close(loss, exact)
    torch.testing.assert_close(grads(p, loss), grads(p, exact))


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("case", ["finite", "binary"])
def test_the_score_function_is_right_in_expectation(x: Tensor, case: str) -> None:
    """`estimate=score`, and a support beyond 64 by itself; over many draws within five standard errors."""
    p = finite(" with estimate=score") if case == "finite" else binary(7)
    exact = exact_finite(p, x) if case == "finite" else exact_binary(p, x, 7)
    target = grads(p, exact)
    torch.manual_seed(2)
    values, found = [], []
    for _ in range(RUNS):
        loss = p.loss("E+G", {"x": x})
        values.append(loss.detach())
        found.append(grads(p, loss))
    mean, error = torch.stack(found).mean(0), torch.stack(found).std(0) / RUNS**0.5
    assert ((mean - target).abs() <= sigmas(RUNS) * error + 1e-9).all()
    spread = torch.stack(values)
    assert abs(spread.mean() - exact) < reach(spread) + 1e-9
    assert target.abs().max() > 10 * error.max()


def test_the_score_function_of_one_datum_has_a_gradient() -> None:
    p = finite(" with estimate=score")
    assert grads(p, p.loss("E+G", {"x": torch.randn(1, 3, dtype=torch.float64)})).abs().sum() > 0


def test_two_discrete_latents_are_summed_over_together(x: Tensor) -> None:
    p = compiled("""
        data(x) = evidence()
        var x: real[3]
        var j: {0, 1}
        var k: {0..2}
        net A = mlp(4)
        net B = mlp(4)
        net G = mlp(4)
        p(j | x) = Bernoulli(A(x))
        p(k | x, j) = Categorical(B(x, j))
        q(j) = Bernoulli(0.5)
        q(k) = Categorical()
        q(x | j, k) = Normal(G(j, k), 1)
        minimize KL(data(x) * p(j|x) * p(k|x,j) || q(j) * q(k) * q(x|j,k))
    """)
    total = torch.zeros(N, dtype=torch.float64)
    for j in (0, 1):
        pj = p.nets["A"](x).sigmoid() if j else 1 - p.nets["A"](x).sigmoid()
        pk = p.nets["B"](x, torch.full((N,), j)).softmax(-1)
        for k in range(3):
            log_lik = normal(x, p.nets["G"](torch.full((N,), j), torch.full((N,), k)))
            both = pj * pk[:, k]
            total = total + both * (both.log() - torch.log(torch.tensor(1 / 6)) - log_lik)
    loss = p.loss("A+B+G", {"x": x})
    torch.testing.assert_close(loss, total.mean())
    weights = p.parameters_of("A+B+G")
    for a, b in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(total.mean(), weights), strict=True):
        torch.testing.assert_close(a, b)


def test_gradient_penalty() -> None:
    """R1: E ||d logit / dx||^2 at the data, for the classifier alone; its own gradient is a second derivative.

    The goal is scaled by its two labels.
    """
    p = compiled("""
        data(x) = evidence()
        var x, z: real[2]
        var y: {0, 1}
        net G = mlp(4)
        net D = mlp(4, activation="tanh")
        q(z) = Normal(0, 1)
        q(x | z) = Delta(G(z))
        p(y | x) = Bernoulli(D(x))
        q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
        minimize KL(q(x,y) || data(x) * p(y|x)) + 5/2 * R1(data(x) || p(y|x))
    """)
    torch.manual_seed(3)
    x, z = torch.randn(N, 2, dtype=torch.float64), torch.randn(N, 2, dtype=torch.float64)
    W1, b1, W2 = (p.nets["D"].layers[0].weight, p.nets["D"].layers[0].bias, p.nets["D"].layers[2].weight)
    slope = ((1 - (x @ W1.T + b1).tanh() ** 2) * W2) @ W1  # by hand: d/dx of W2 tanh(W1 x + b1)
    real, fake = p.nets["D"](x), p.nets["D"](p.nets["G"](z))
    hand = -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean() + 5 * (slope**2).sum(1).mean()
    loss = p.loss("D", {"x": x, "z": z})
    torch.testing.assert_close(loss, hand)
    weights = [W1, b1, W2]
    for a, b in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(hand, weights), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(p.loss("G", {"x": x, "z": z}), -fake.sigmoid().log().mean())


def test_a_residual_at_enumerated_samples_leaves_their_law_alone() -> None:
    """ALI over finite codes: -log p(z) at sg(z) under q(z) trains p, and moves q not at all."""
    p = compiled("""
        data(x) = evidence()
        var x: real[2]
        var z: {0..2}
        var y: {0, 1}
        param a, b: real[3]
        param c: real[2]
        net D = mlp(4)
        p(z) = Categorical(logits=a)
        q(z) = Categorical(logits=b)
        q(x) = Normal(c, 1)
        d(y | x, z) = Bernoulli(D(x, z))
        m(x, z, y) = { y=1: data(x) * p(z); y=0: q(x) * q(z) }
        minimize KL(m(x,z,y) || data(x) * p(z) * d(y|x,z))
    """)
    torch.manual_seed(5)
    x, e = torch.randn(N, 2, dtype=torch.float64), torch.randn(N, 2, dtype=torch.float64)
    a, b = p.params["a"].softmax(-1), p.params["b"].softmax(-1)
    real = torch.stack([p.nets["D"](x, torch.full((N,), k)) for k in range(3)])
    fake = torch.stack([p.nets["D"](p.params["c"] + e, torch.full((N,), k)) for k in range(3)])
    soft = torch.nn.functional.softplus
    hand = (a[:, None] * soft(-real)).sum(0).mean() + (b[:, None] * soft(-fake)).sum(0).mean()
    hand = hand - (b.detach() * a.log()).sum()
    loss = p.loss("a+b+c", {"x": x, "x.noise": e})
    torch.testing.assert_close(loss, hand)
    weights = p.parameters_of("a+b+c")
    for g, h in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(hand, weights), strict=True):
        torch.testing.assert_close(g, h)
