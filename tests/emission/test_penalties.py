"""R1: the squared gradient of a classifier's logit log p(1|x) - log p(0|x), from the probabilities themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import jointkl

SPEC = """
data(x, c, k) = evidence()
var x: real[2]
var c: real[1,4,4]
var k: {{0..2}}
var y: {{0, 1}}
{declared}
n(x) = Normal(0, 1)
p(y | x, c, k) = {family}
q(x, c, k, y) = {{ y=1: data(x,c,k); y=0: n(x) * data(c,k) }}
minimize KL(q(x,c,k,y) || data(x,c,k) * p(y|x,c,k))
minimize 3 * R1(data(x,c,k) || p(y|x,c,k))
"""
D, TWO = "net D: real = mlp(8, activation=tanh)", "net D: real[2] = mlp(8, activation=tanh)"
FAMILIES = {
    "a logit": (D, "Bernoulli(D(x, c, k))", lambda out: out.sigmoid()),
    "half a logit": (D, "Bernoulli(logits=D(x, c, k)/2)", lambda out: (out / 2).sigmoid()),
    "a probability": (D, "Bernoulli(probs=sigmoid(D(x, c, k)))", lambda out: out.sigmoid()),
    "part of one": (D, "Bernoulli(probs=0.1 + 0.8*sigmoid(D(x, c, k)))", lambda out: 0.1 + 0.8 * out.sigmoid()),
    "two logits": (TWO, "Categorical(D(x, c, k))", lambda out: out.softmax(-1)[:, 1]),
    "two probabilities": (TWO, "Categorical(probs=softmax(D(x, c, k)))", lambda out: out.softmax(-1)[:, 1]),
    "part of two": (TWO, "Categorical(probs=0.1 + 0.8*softmax(D(x, c, k)))",
                    lambda out: 0.1 + 0.8 * out.softmax(-1)[:, 1]),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_gradient_of_the_log_odds(family: str) -> None:
    declared, law, probability = FAMILIES[family]
    torch.manual_seed(0)
    p = jointkl.compile(SPEC.format(declared=declared, family=law)).double()
    (player,) = p.players
    x, c, k = torch.randn(5, 2).double(), torch.randn(5, 1, 4, 4).double(), torch.tensor([0, 1, 2, 1, 0])
    noise = torch.randn(5, 2).double()

    def odds(x: Tensor, c: Tensor, k: Tensor) -> Tensor:
        return probability(p.emitted.D(x, c, k)).logit()

    at, beside = x.clone().requires_grad_(), c.clone().requires_grad_()
    slopes = torch.autograd.grad(odds(at, beside, k).sum(), [at, beside], create_graph=True)
    penalty = sum(s.square().flatten(1).sum(1) for s in slopes)
    batch = {"x": x, "c": c, "k": k, "n.x": noise}
    softplus = torch.nn.functional.softplus
    judged = softplus(-odds(x, c, k)).mean() + softplus(odds(noise, c, k)).mean()
    wanted = judged + 3 * penalty.mean()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    found = p.loss(player, batch)

    torch.testing.assert_close(found, wanted)
    own = p.parameters_of(player)
    for pair in zip(*(torch.autograd.grad(loss, own, allow_unused=True) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(*(torch.zeros(()).double() if g is None else g for g in pair), check_device=False)


def test_a_classifier_that_does_not_look_has_no_penalty() -> None:
    p = jointkl.compile("""
        data(x) = evidence()
        var x: real[2]
        var y: {0, 1}
        param b: real
        n(x) = Normal(0, 1)
        p(y | x) = Bernoulli(logits=b)
        q(x, y) = { y=1: data(x); y=0: n(x) }
        minimize KL(q(x,y) || data(x) * p(y|x))
        minimize 3 * R1(data(x) || p(y|x))
    """)
    loss = p.loss("b", {"x": torch.randn(4, 2)})
    torch.testing.assert_close(loss, 2 * torch.tensor(2.0).log())


def test_it_saturates_without_loss() -> None:
    """At a logit of 200 the probability is 1 to rounding, in float32; the gradient of the logit is what it was."""
    p = jointkl.compile("""
        data(x) = evidence()
        var x: real[2]
        var y: {0, 1}
        param b: real
        param a: real[2]
        n(x) = Normal(0, 1)
        p(y | x) = Bernoulli(probs=sigmoid(b + a @ x))
        q(x, y) = { y=1: data(x); y=0: n(x) }
        minimize KL(q(x,y) || data(x) * p(y|x))
        minimize 3 * R1(data(x) || p(y|x))
    """)
    with torch.no_grad():
        p.emitted.b.fill_(200.0)
        p.emitted.a.copy_(torch.tensor([0.5, -0.25]))
    x = torch.zeros(2, 2)
    (player,) = p.players
    torch.testing.assert_close(p.loss(player, {"x": x, "n.x": x}), torch.tensor(200 + 3 * (0.25 + 0.0625)))


def test_the_cross_entropy_of_a_labelled_mixture() -> None:
    """CE trains the classifier on both branches, each with its label and share."""
    for family, out in (("Bernoulli(D(x))", 1), ("Categorical(D(x))", 2), ("Bernoulli(probs=sigmoid(D(x)))", 1)):
        torch.manual_seed(0)
        p = jointkl.compile(f"""
            data(x) = evidence()
            var x: real[2]
            var y: {{0, 1}}
            net D{": real" if out == 1 else ""} = mlp(8)
            n(x)     = Normal(0, 1)
            p(y | x) = {family}
            m(x, y)  = {{ y=1: 0.3 * data(x); y=0: 0.7 * n(x) }}
            minimize CE(m(x,y) || p(y|x))
        """).double()
        x, noise = torch.randn(3, 2).double(), torch.randn(3, 2).double()
        across = torch.tensor([-1.0, 1]).double()
        real, fake = (p.emitted.D(v) if out == 1 else p.emitted.D(v) @ across for v in (x, noise))
        softplus = torch.nn.functional.softplus
        torch.testing.assert_close(
            p.loss("D", {"x": x, "n.x": noise}), 0.3 * softplus(-real).mean() + 0.7 * softplus(fake).mean()
        )
