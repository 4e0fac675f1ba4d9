"""Closed steps: EM against scikit-learn from the same start, and each family's maximum by its gradient."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, load_wine
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import constraints, transform_to

import jointkl
from jointkl.program import Program
from tests.worlds import MODELS


def set_param(p: Program, name: str, value: Tensor) -> None:
    """Put a param at a value of its space."""
    kind = {"real": None, "simplex": constraints.simplex, "cholesky": constraints.lower_cholesky}[
        p.model.params[name].space.kind
    ]
    with torch.no_grad():
        if kind is None:
            getattr(p.emitted, name).copy_(value)
        else:
            getattr(p.emitted, f"{name}_raw").copy_(transform_to(kind).inv(value))


def log_likelihood(p: Program, x: Tensor) -> float:
    k, w, mu, scale = 3, p.params["w"], p.params["mu"], p.params["L"]
    parts = [
        w[i].log() + torch.distributions.MultivariateNormal(mu[i], scale_tril=scale[i]).log_prob(x) for i in range(k)
    ]
    return torch.stack(parts).logsumexp(0).mean().item()


@pytest.mark.parametrize(("data", "size"), [(load_iris, 4), (load_wine, 13)], ids=["iris", "wine"])
def test_em_is_scikit_learn_s_at_every_iteration(data, size: int) -> None:
    values = data().data
    values = (values - values.mean(0)) / values.std(0)
    x = torch.tensor(values)
    text = (MODELS / "em.jkl").read_text(encoding="utf-8").replace("iris()", "evidence()")
    p = jointkl.compile(
        jointkl.parse(text.replace("real[4]", f"real[{size}]").replace("[K,4]", f"[K,{size}]"))
    ).double()
    means = values[[0, len(values) // 2, len(values) - 1]]
    cov = np.cov(values.T, bias=True)
    set_param(p, "w", torch.full((3,), 1 / 3, dtype=torch.float64))
    set_param(p, "mu", torch.tensor(means))
    set_param(p, "L", torch.linalg.cholesky(torch.tensor(cov)).expand(3, size, size))
    for iteration in range(1, 9):
        p.solve("mu+L+w", {"x": x})
        theirs = GaussianMixture(
            3, reg_covar=0.0, tol=0.0, max_iter=iteration, weights_init=np.full(3, 1 / 3), means_init=means,
            precisions_init=np.stack([np.linalg.inv(cov)] * 3),
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it has not converged
            theirs.fit(values)
        assert log_likelihood(p, x) == pytest.approx(theirs.score(values), abs=1e-6)


def test_the_e_step_is_bayes_rule() -> None:
    torch.manual_seed(0)
    p = jointkl.compile(MODELS / "em.jkl").double()
    x = torch.randn(6, 4, dtype=torch.float64)
    r = p.solve("p(k|x)", {"x": x})
    w, mu, scale = p.params["w"], p.params["mu"], p.params["L"]
    normals = [torch.distributions.MultivariateNormal(mu[k], scale_tril=scale[k]) for k in range(3)]
    joint = torch.stack([w[k] * normals[k].log_prob(x).exp() for k in range(3)], 1)
    torch.testing.assert_close(r, joint / joint.sum(1, keepdim=True))


FAMILIES = {
    "Normal": ("real[2]", "param a: real[K,2]\nparam b: positive[K,2]", "Normal(a[k], b[k])"),
    "Normal, scale known": ("real[2]", "param a: real[K,2]", "Normal(a[k], 0.5)"),
    "scalar Normal": ("real", "param a: real[K]\nparam b: positive[K]", "Normal(a[k], b[k])"),
    "Bernoulli": ("binary[3]", "param a: unit[K,3]", "Bernoulli(a[k])"),
    "Bernoulli, logits": ("binary[3]", "param a: real[K,3]", "Bernoulli(logits=a[k])"),
    "Categorical": ("{0..4}", "param a: simplex[K,5]", "Categorical(a[k])"),
    "Poisson": ("natural[2]", "param a: positive[K,2]", "Poisson(a[k])"),
    "Exponential": ("positive[2]", "param a: positive[K,2]", "Exponential(a[k])"),
    # one number for the whole event
    "isotropic": ("real[2]", "param m: real[K,2]\nparam s: positive[K]", "Normal(m[k], s[k])"),
    "one location and scale": ("real[2]", "param m: real[K]\nparam s: positive[K]", "Normal(m[k], s[k])"),
    "one location": ("real[2]", "param m: real[K]", "Normal(m[k], 0.7)"),
    "one logit": ("binary[3]", "param m: real[K]", "Bernoulli(logits=m[k])"),
    "one probability": ("binary[3]", "param m: unit[K]", "Bernoulli(m[k])"),
    "one rate": ("natural[2]", "param m: positive[K]", "Poisson(m[k])"),
    "one exponential rate": ("positive[2]", "param m: positive[K]", "Exponential(m[k])"),
}


def data_of(space: str) -> Tensor:
    torch.manual_seed(3)
    match space.split("[")[0]:
        case "real":
            return torch.randn(40, 2, dtype=torch.float64) if "[" in space else torch.randn(40, dtype=torch.float64)
        case "binary":
            return torch.bernoulli(torch.full((40, 3), 0.4, dtype=torch.float64))
        case "natural":
            return torch.poisson(torch.full((40, 2), 3.0, dtype=torch.float64))
        case "positive":
            return torch.rand(40, 2, dtype=torch.float64) + 0.1
        case _:
            return torch.randint(0, 5, (40,))


@pytest.mark.parametrize("name", FAMILIES)
def test_after_the_step_the_loss_has_no_gradient(name: str) -> None:
    """The M step at fixed weights: the gradient of the loss with the weights of before vanishes at the new params."""
    space, params, law = FAMILIES[name]
    torch.manual_seed(1)
    text = f"""
        data(x) = evidence()
        let K = 2
        var x: {space}
        var k: {{0..K-1}}
        {params}
        param w: simplex[K]
        p(k | x) = Free
        q(k) = Categorical(w)
        q(x | k) = {law}
        minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
    """
    p = jointkl.compile(jointkl.parse(text)).double()
    with torch.no_grad():
        for weight in p.emitted.parameters():
            weight.add_(torch.randn_like(weight) * 0.5)
    x = data_of(space)
    player = next(q for q in p.players if q != "p(k|x)")
    r = p.solve("p(k|x)", {"x": x})
    before = p.loss(player, {"x": x}).item()
    values = p.solve(player, {"x": x})
    assert set(values) == set(p.model.params)
    for param, value in values.items():
        torch.testing.assert_close(p.params[param].detach(), value)
    log_k = p.params["w"].log()
    per_k = []
    for k in range(2):
        q = p.emitted.q_x_given_k(torch.full((len(x),), k))
        per_k.append(-(q.log_prob(x) + log_k[k]))
    loss = (r * torch.stack(per_k, 1)).sum(1).mean()
    weights = list(p.emitted.parameters())
    for g in torch.autograd.grad(loss, weights):
        assert g.abs().max() < 1e-9
    assert loss.item() <= before + 1e-12


@pytest.mark.parametrize(
    ("params", "law"),
    [
        ("param m: real[K]\nparam s: positive[K,2]", "Normal(m[k], s[k])"),
        ("param m: real[K]", "Normal(m[k], [0.5, 2])"),
        ("param m: real[K]\nparam L: cholesky[K,2]", "MultivariateNormal(m[k], scale_tril=L[k])"),
    ],
)
def test_one_location_of_numbers_that_spread_differently_is_trained(params: str, law: str) -> None:
    """Its maximum is weighted by the spreads: no moment."""
    p = jointkl.compile(f"""
        data(x) = evidence()
        let K = 2
        var x: real[2]
        var k: {{0..K-1}}
        {params}
        p(k | x) = Free
        q(k) = Categorical()
        q(x | k) = {law}
        minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
    """)
    assert list(p.emitted.solutions) == ["p(k|x)"]


def test_a_step_that_fails_leaves_the_params_as_they_were() -> None:
    p = jointkl.compile((MODELS / "em.jkl").read_text().replace("iris()", "evidence()")).double()
    before = {name: value.clone() for name, value in p.emitted.named_parameters()}
    with pytest.raises(torch.linalg.LinAlgError):
        p.solve("mu+L+w", {"x": torch.ones(5, 4).double()})
    for name, value in p.emitted.named_parameters():
        torch.testing.assert_close(value, before[name])


def test_a_gradient_may_be_asked_for() -> None:
    p = jointkl.compile(jointkl.parse((MODELS / "em.jkl").read_text() + " with estimate=gradient"))
    with pytest.raises(ValueError, match="no closed-form step"):
        p.solve("mu+L+w", {"x": torch.randn(3, 4)})


def test_a_free_law_that_no_goal_mentions_has_no_solution() -> None:
    p = jointkl.compile(
        jointkl.parse("var x: real\nvar k: {0, 1}\nparam a: real\np(k|x) = Free\nq(x) = Normal(a, 1)\n"
                      "minimize KL(data(x) || q(x))")
    )  # fmt: skip
    assert p.players == ("a",)
