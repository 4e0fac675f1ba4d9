"""The emitted Pyro programs, judged by Pyro."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Importance, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine import trace

import jointkl
from jointkl.program import Program
from tests.bounds import SIGMAS
from tests.worlds import GAN, VAE

N = 6


@pytest.fixture
def vae() -> Program:
    torch.manual_seed(0)
    return jointkl.compile(jointkl.parse(VAE)).double()


@pytest.fixture
def gan() -> Program:
    torch.manual_seed(0)
    return jointkl.compile(jointkl.parse(GAN)).double()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.bernoulli(torch.full((N, 1, 8, 8), 0.4, dtype=torch.float64))


@pytest.fixture
def points() -> torch.Tensor:
    return torch.randn(N, 2, dtype=torch.float64)


def test_trace_mean_field_elbo_is_the_loss(vae: Program, x: torch.Tensor) -> None:
    """Pyro sums over the plate, the loss is its mean; the same seed draws the same noise."""
    torch.manual_seed(1)
    elbo = TraceMeanField_ELBO().loss(vae.pyro("q(x, z)"), vae.pyro("p(x, z)"), x)
    torch.manual_seed(1)
    assert elbo == pytest.approx(N * vae.loss("enc+dec", {"x": x}).item(), rel=1e-12)


def test_trace_elbo_is_the_loss_by_monte_carlo(x: torch.Tensor) -> None:
    torch.manual_seed(0)
    p = jointkl.compile(jointkl.parse(VAE + " with estimate=monte_carlo")).double()
    torch.manual_seed(1)
    elbo = Trace_ELBO().loss(p.pyro("q(x, z)"), p.pyro("p(x, z)"), x)
    torch.manual_seed(1)
    assert elbo == pytest.approx(N * p.loss("enc+dec", {"x": x}).item(), rel=1e-12)


@pytest.mark.slow
@pytest.mark.statistical
def test_trace_elbo_agrees_with_the_closed_loss_in_expectation(vae: Program, x: torch.Tensor) -> None:
    torch.manual_seed(2)
    draws = torch.tensor([Trace_ELBO().loss(vae.pyro("q(x,z)"), vae.pyro("p(x,z)"), x) / N for _ in range(400)])
    losses = torch.stack([vae.loss("enc+dec", {"x": x}) for _ in range(400)]).detach()
    error = (draws.var() / 400 + losses.var() / 400).sqrt()
    assert abs(draws.mean() - losses.mean()) < SIGMAS * error
    assert error < 0.01 * losses.mean()


def test_the_gradient_of_the_elbo_is_that_of_the_loss(vae: Program, x: torch.Tensor) -> None:
    weights = vae.parameters_of("enc+dec")
    torch.manual_seed(3)
    elbo = TraceMeanField_ELBO().differentiable_loss(vae.pyro("q(x,z)"), vae.pyro("p(x,z)"), x) / N
    torch.manual_seed(3)
    for a, b in zip(
        torch.autograd.grad(elbo, weights), torch.autograd.grad(vae.loss("enc+dec", {"x": x}), weights), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_sites_are_named_as_the_variables(vae: Program, x: torch.Tensor) -> None:
    model, guide = trace(vae.pyro("q(x,z)")).get_trace(x), trace(vae.pyro("p(x,z)")).get_trace(x)
    assert model.observation_nodes == ["x"]
    assert model.stochastic_nodes == ["data", "z"]
    assert guide.observation_nodes == []
    assert guide.stochastic_nodes == ["data", "z"]
    assert model.nodes["z"]["fn"].event_shape == (8,)
    assert model.nodes["x"]["fn"].event_shape == (1, 8, 8)


@pytest.mark.statistical
def test_predictive_and_importance(vae: Program, x: torch.Tensor) -> None:
    drawn = Predictive(vae.pyro("q(x,z)"), num_samples=3)(size=5)
    assert drawn["x"].shape == (3, 5, 1, 8, 8)
    torch.manual_seed(4)
    posterior = Importance(vae.pyro("q(x,z)"), vae.pyro("p(x,z)"), num_samples=300).run(x[:1])
    torch.manual_seed(5)
    own = vae.log_prob("q(x)", {"x": x[:1]}, particles=30_000)
    error = posterior.get_ESS().item() ** -0.5  # as a share; that of the other, of 100 times as many, is a tenth
    assert error < 0.3
    assert posterior.get_log_normalizer().item() == pytest.approx(own.item(), abs=1.1 * SIGMAS * error)


def test_a_law_is_a_program_of_its_own(vae: Program, x: torch.Tensor) -> None:
    z = torch.randn(N, 8, dtype=torch.float64)
    t = trace(vae.pyro("q(x | z)")).get_trace(z, x)
    expected = dist.Bernoulli(logits=vae.nets["dec"](z)).log_prob(x).flatten(1).sum()
    torch.testing.assert_close(t.log_prob_sum(), expected)


# --- mixtures


def test_a_mixture_has_a_program_per_branch(gan: Program, points: torch.Tensor) -> None:
    assert trace(gan.pyro("q(x, y=1)")).get_trace(points).stochastic_nodes == ["data"]
    generated = trace(gan.pyro("q(x, y=0)")).get_trace(size=N)
    assert generated.stochastic_nodes == ["data", "z", "x"]
    torch.testing.assert_close(generated.nodes["x"]["value"], gan.nets["G"](generated.nodes["z"]["value"]))


def test_a_mixture_draws_its_label_and_takes_that_branch(gan: Program, points: torch.Tensor) -> None:
    t = trace(gan.pyro("q(x, y)")).get_trace(points)
    y, x = t.nodes["y"]["value"], t.nodes["x"]["value"]
    generated = gan.nets["G"](t.nodes["z"]["value"])
    torch.testing.assert_close(x, torch.where((y == 1)[:, None], points, generated))


def test_a_label_can_be_enumerated_and_conditioned(gan: Program, points: torch.Tensor) -> None:
    conditioned = pyro.condition(gan.pyro("q(x, y)"), {"y": torch.ones(N, dtype=torch.float64)})
    torch.testing.assert_close(trace(conditioned).get_trace(points).nodes["x"]["value"], points)
    enumerated = pyro.poutine.enum(pyro.infer.config_enumerate(gan.pyro("q(x, y)")), first_available_dim=-2)
    t = trace(enumerated).get_trace(points)
    assert t.nodes["y"]["value"].shape[0] == 2
    assert t.nodes["x"]["value"].shape == (2, N, 2)
    t.compute_log_prob()
    total = t.nodes["y"]["log_prob"].exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_the_classifier_s_joint_scores_its_label(gan: Program, points: torch.Tensor) -> None:
    conditioned = pyro.condition(gan.pyro("p(x, y)"), {"y": torch.ones(N, dtype=torch.float64)})
    expected = gan.nets["D"](points).sigmoid().log().sum()
    torch.testing.assert_close(trace(conditioned).get_trace(points).log_prob_sum(), expected)


def test_an_unknown_program_is_refused(gan: Program) -> None:
    with pytest.raises(jointkl.DataError, match=r"no Pyro program `q\(x, w\)`\nhelp: did you mean `q\(x,y\)`\?"):
        gan.pyro("q(x, w)")


def test_of_three_branches_the_label_chooses() -> None:
    text = """
        var x: real
        var y: {0..2}
        net D = mlp(4)
        param m: real[3]
        r(x) = Normal(0, 1)
        f(x) = Normal(m[0], 0.01)
        g(x) = Normal(m[1], 0.01)
        h(x) = Normal(m[2], 0.01)
        c(y | x) = Categorical(D(x))
        q(x, y) = { y=0: f(x); y=2: h(x); y=1: g(x) }
        minimize KL(q(x,y) || r(x) * c(y|x))
    """
    program = jointkl.compile(jointkl.parse(text))
    with torch.no_grad():
        program.params["m"].copy_(torch.tensor([0.0, 10.0, 20.0]))
    nodes = pyro.poutine.trace(program.pyro("q(x, y)")).get_trace(size=64).nodes
    x, y = nodes["x"]["value"], nodes["y"]["value"]
    assert set(y.tolist()) == {0, 1, 2}
    torch.testing.assert_close(x, 10.0 * y, atol=0.1, rtol=0)
