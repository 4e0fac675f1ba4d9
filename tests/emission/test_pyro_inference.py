"""Pyro's own inference on the emitted programs: variational, by importance, by Hamiltonian Monte Carlo, exact sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro.infer import (
    MCMC,
    NUTS,
    SVI,
    Importance,
    Predictive,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from pyro.ops.stats import effective_sample_size
from pyro.optim import SGD
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

import jointkl
from jointkl.program import Program
from tests.bounds import SIGMAS, sigmas
from tests.worlds import MODELS

N = 8
RUNS = 600


def model(name: str, options: str = "") -> Program:
    torch.manual_seed(0)
    text = (MODELS / f"{name}.jkl").read_text(encoding="utf-8")
    p = jointkl.compile(jointkl.parse(text.partition("\ntrain")[0] + options)).double()
    with torch.no_grad():
        for w in p.parameters():
            w.add_(0.1 * torch.randn_like(w))
    return p


def gradients(p: Program, player: str, loss: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, p.parameters_of(player))])


def registered(p: Program, program: Callable[..., object]) -> Callable[..., object]:
    """What `SVI.step` trains it finds in Pyro's store, where the emitted programs leave nothing."""

    def with_parameters(*args: object) -> object:
        pyro.module("program", p.emitted)
        return program(*args)

    return with_parameters


@pytest.fixture(autouse=True)
def _empty_store() -> None:
    pyro.clear_param_store()


# --- variational inference


def line() -> tuple[Tensor, Tensor]:
    """Data of a line: t centred, so that the posterior of its slope and height is diagonal."""
    torch.manual_seed(5)
    t = torch.linspace(-1, 1, N, dtype=torch.float64)
    return 0.8 * t - 0.3 + 0.5 * torch.randn(N, dtype=torch.float64), t


@pytest.mark.parametrize(
    ("elbo", "options"),
    [(TraceMeanField_ELBO, ""), (Trace_ELBO, " with estimate=monte_carlo")],
    ids=["closed form", "monte carlo"],
)
@pytest.mark.parametrize("size", [None, 50], ids=["whole data", "a batch of 50"])
def test_the_elbo_over_globals_is_the_loss(elbo: type, options: str, size: int | None) -> None:
    """The plate is scaled to all N data, the loss is 1/N of it."""
    p = model("vi", options)
    p.data_size = size
    x, t = line()
    torch.manual_seed(1)
    found = elbo().differentiable_loss(p.pyro("q(x,t,w,b)"), p.pyro("p(x,t,w,b)"), x, t) / (size or N)
    torch.manual_seed(1)
    (player,) = p.players
    loss = p.loss(player, {"x": x, "t": t})
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(gradients(p, player, found), gradients(p, player, loss))


def test_the_enumerated_elbo_of_em_is_the_loss_and_the_evidence() -> None:
    """At the Free law's optimum the bound is tight: -log q(x), which is the loss less the entropy of p(k|x)."""
    p = model("em")
    x = torch.randn(N, 4, dtype=torch.float64)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    found = elbo.differentiable_loss(p.pyro("q(x,k)"), p.pyro("p(x,k)"), x) / N
    mu, L, w = (p.params[n] for n in ("mu", "L", "w"))
    mixture = MixtureSameFamily(Categorical(w), MultivariateNormal(mu, scale_tril=L))
    torch.testing.assert_close(found, -mixture.log_prob(x).mean())
    r = (w.log() + MultivariateNormal(mu, scale_tril=L).log_prob(x[:, None])).softmax(-1).detach()
    loss = p.loss("mu+L+w", {"x": x})
    torch.testing.assert_close(found, loss + (r * r.log()).sum(-1).mean())
    torch.testing.assert_close(gradients(p, "mu+L+w", found), gradients(p, "mu+L+w", loss))


def test_em_by_monte_carlo_is_the_enumerated_elbo_in_expectation() -> None:
    """The bound is tight at every k: log q(x,k) - log p(k|x) = log q(x), so that even one draw is exact."""
    p = model("em")
    x = torch.randn(N, 4, dtype=torch.float64)
    guide = pyro.poutine.infer_config(p.pyro("p(x,k)"), lambda site: {"enumerate": None})
    exact = TraceEnum_ELBO(max_plate_nesting=1).loss(p.pyro("q(x,k)"), p.pyro("p(x,k)"), x)
    assert Trace_ELBO().loss(p.pyro("q(x,k)"), guide, x) == pytest.approx(exact)


def test_the_enumerated_elbo_of_a_finite_code_is_the_loss() -> None:
    torch.manual_seed(0)
    p = jointkl.compile("""
        data(x) = evidence()
        var x: real[3]
        var j: {0, 1}
        var k: {0..2}
        net A = mlp(4)
        net B = mlp(4)
        net G = mlp(4)
        p(j | x) = Bernoulli(A(x))
        p(k | x, j) = Categorical(B(x, j))
        q(j) = Bernoulli(0.3)
        q(k) = Categorical()
        q(x | j, k) = Normal(G(j, k), 1)
        p(x, j, k) = data(x) * p(j|x) * p(k|x,j)
        q(x, j, k) = q(j) * q(k) * q(x|j,k)
        minimize KL(p(x,j,k) || q(x,j,k))
    """).double()
    x = torch.randn(N, 3, dtype=torch.float64)
    found = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(p.pyro("q(x,j,k)"), p.pyro("p(x,j,k)"), x) / N
    loss = p.loss("A+B+G", {"x": x})
    torch.testing.assert_close(found, loss)
    torch.testing.assert_close(gradients(p, "A+B+G", found), gradients(p, "A+B+G", loss))


@pytest.mark.parametrize(
    ("name", "pair", "player", "elbo"),
    [
        ("vae", ("q(x,z)", "p(x,z)"), "enc+dec", TraceMeanField_ELBO()),
        ("em", ("q(x,k)", "p(x,k)"), "mu+L+w", TraceEnum_ELBO(max_plate_nesting=1)),
    ],
)
def test_a_step_of_svi_is_a_step_down_the_loss(name: str, pair: tuple[str, str], player: str, elbo: object) -> None:
    p = model(name)
    x = torch.rand(N, *p.model.space("x").shape, dtype=torch.float64).round()
    if name == "em":
        x = x + torch.randn_like(x)
    before = [w.detach().clone() for w in p.parameters_of(player)]
    torch.manual_seed(1)
    expected = torch.autograd.grad(p.loss(player, {"x": x}), p.parameters_of(player))
    q, g = (p.pyro(k) for k in pair)
    svi = SVI(registered(p, q), registered(p, g), SGD({"lr": 0.01}), elbo)
    torch.manual_seed(1)
    svi.step(x)
    for old, new, slope in zip(before, p.parameters_of(player), expected, strict=True):
        torch.testing.assert_close(new.detach(), old - 0.01 * N * slope)


# --- posteriors


def posterior(x: Tensor, t: Tensor) -> dict[str, tuple[float, float]]:
    """Of x = w t + b + N(0, 0.5^2), w and b standard normal, t centred: mean and standard deviation."""
    found: dict[str, tuple[float, float]] = {}
    for name, design in (("w", t), ("b", torch.ones_like(t))):
        precision = 1 + (design**2).sum().item() / 0.25
        found[name] = ((design * x).sum().item() / 0.25 / precision, precision**-0.5)
    return found


@pytest.mark.slow
@pytest.mark.statistical
def test_nuts_and_the_fitted_laws_agree_on_the_posterior() -> None:
    """Centred t: the posterior is a product of two normals, which the variational family contains."""
    p = model("vi")
    x, t = line()
    exact = posterior(x, t)
    (player,) = p.players
    optimizer = torch.optim.LBFGS(p.parameters_of(player), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        """The loss is quadratic in the noise: its mean over +-1 is its expectation."""
        optimizer.zero_grad()
        one = torch.tensor(1.0, dtype=torch.float64)
        noise = [(a * one, b * one) for a in (1, -1) for b in (1, -1)]
        loss = sum(p.loss(player, {"x": x, "t": t, "w.noise": a, "b.noise": b}) for a, b in noise) / 4
        loss.backward()
        return loss

    optimizer.step(closure)
    for v, (mean, sd) in exact.items():
        assert p.params[f"m{v}"].item() == pytest.approx(mean, abs=1e-4)
        assert p.params[f"s{v}"].item() == pytest.approx(sd, abs=1e-4)
    torch.manual_seed(7)
    chain = MCMC(NUTS(p.pyro("q(x,t,w,b)"), max_tree_depth=4), 250, 50, disable_progbar=True)
    chain.run(x, t)
    for v, (mean, sd) in exact.items():
        drawn = chain.get_samples()[v]
        independent = min(len(drawn), effective_sample_size(drawn[None]).item())
        assert drawn.mean().item() == pytest.approx(mean, abs=sigmas(100) * sd / independent**0.5)
        assert drawn.std().item() == pytest.approx(sd, rel=sigmas(100) / (independent / 2) ** 0.5)
        assert independent > 50


GAUSSIAN = """
data(x) = evidence()
var x: real
var z: real
param a, c: real
param s: positive
p(z | x) = Normal(c*x, s)
q(z)     = Normal(0, 1)
q(x | z) = Normal(a*z, 0.7)
p(x, z) = data(x) * p(z|x)
q(x, z) = q(z) * q(x|z)
minimize KL(p(x,z) || q(x,z))
"""


@pytest.mark.slow
@pytest.mark.statistical
def test_importance_estimates_the_evidence() -> None:
    """log q(x) = log N(x; 0, a^2 + 0.7^2), by the guide and by the prior."""
    p = jointkl.compile(GAUSSIAN).double()
    with torch.no_grad():
        p.params["a"].fill_(0.8)
        p.params["c"].fill_(0.6)
    x = torch.tensor([1.3], dtype=torch.float64)
    exact = Normal(0.0, math.hypot(0.8, 0.7)).log_prob(x).item()
    torch.manual_seed(2)
    for guide in (p.pyro("p(x,z)"), None):
        found = Importance(p.pyro("q(x,z)"), guide, num_samples=200).run(x)
        error = found.get_ESS().item() ** -0.5
        assert error < 0.2
        assert found.get_log_normalizer().item() == pytest.approx(exact, abs=SIGMAS * error)


def test_importance_from_the_free_law_is_exact_with_one_draw() -> None:
    p = model("em")
    x = torch.randn(N, 4, dtype=torch.float64)
    mu, L, w = (p.params[n] for n in ("mu", "L", "w"))
    exact = MixtureSameFamily(Categorical(w), MultivariateNormal(mu, scale_tril=L)).log_prob(x).sum()
    found = Importance(p.pyro("q(x,k)"), p.pyro("p(x,k)"), num_samples=1).run(x)
    assert found.get_log_normalizer().item() == pytest.approx(exact.item())


@pytest.mark.statistical
def test_predictive_draws_what_the_posterior_says() -> None:
    """x at new t, of lines drawn from p(w), p(b): mean mw t + mb, variance sw^2 t^2 + sb^2 + 0.25."""
    p = model("vi")
    t = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64)
    torch.manual_seed(3)
    lines = Predictive(p.pyro("p(x,t,w,b)"), num_samples=RUNS)(x=torch.zeros_like(t), t=t)
    drawn = Predictive(p.pyro("q(x,t,w,b)"), {v: lines[v].reshape(-1) for v in "wb"})(None, t)["x"]
    assert drawn.shape == (RUNS, 3)
    mw, mb, sw, sb = (p.params[n].detach() for n in ("mw", "mb", "sw", "sb"))
    sd = (sw**2 * t**2 + sb**2 + 0.25).sqrt()
    assert ((drawn.mean(0) - (mw * t + mb)).abs() < SIGMAS * sd / RUNS**0.5).all()
    torch.testing.assert_close(drawn.std(0), sd, rtol=SIGMAS / (2 * RUNS) ** 0.5, atol=0)


def test_labels_are_summed_out_of_the_model_by_itself() -> None:
    """Without a guide's k the model's own enumerated site is summed out."""
    p = model("em")
    x = torch.randn(N, 4, dtype=torch.float64)
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    mu, L, w = (p.params[n] for n in ("mu", "L", "w"))
    exact = -MixtureSameFamily(Categorical(w), MultivariateNormal(mu, scale_tril=L)).log_prob(x).sum().item()
    assert elbo.loss(p.pyro("q(x,k)"), lambda x: None, x) == pytest.approx(exact)
    assert elbo.loss(config_enumerate(p.pyro("q(x,k)")), lambda x: None, x) == pytest.approx(exact)
