"""Densities of laws: summed where little is hidden, else sampled from proposals, one after another."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Laplace, MultivariateNormal, Normal

import jointkl
from jointkl import density
from jointkl.diagnostics import DataError
from jointkl.program import PoorEstimate, Program
from tests.bounds import SIGMAS, verify_log_mean

MODELS = Path(__file__).resolve().parent.parent / "models"

TWO_LAYERS = """
data(x) = evidence()
var x: real[3]
var h: real[2]
var z: real
net E1 = linear()
net E2 = linear()
net G2 = linear()
net G1 = linear()
p(h | x) = Normal(E1(x), 1.5)
p(z | h) = Normal(E2(h), 1)
q(z)     = Normal(0, 1)
q(h | z) = Normal(G2(z), 0.7)
q(x | h) = Normal(G1(h), 0.5)
minimize KL(data(x) * p(h|x) * p(z|h) || q(z) * q(h|z) * q(x|h))
"""


def exact(program: Program, x: Tensor) -> Tensor:
    """log q(x) of the linear-Gaussian model by its covariance."""
    w1, b1 = (getattr(program.nets["G1"].layers, n).detach() for n in ("weight", "bias"))
    w2, b2 = (getattr(program.nets["G2"].layers, n).detach() for n in ("weight", "bias"))
    of_h = w2 @ w2.T + 0.49 * torch.eye(2, dtype=x.dtype)
    return MultivariateNormal(w1 @ b2 + b1, w1 @ of_h @ w1.T + 0.25 * torch.eye(3, dtype=x.dtype)).log_prob(x)


@pytest.mark.statistical
def test_two_layers_are_proposed_one_after_another() -> None:
    torch.manual_seed(0)
    program = jointkl.compile(TWO_LAYERS).double()
    assert program.proposals("q(x)") == ("p(h|x)", "p(z|h)")
    assert program.proposals("q(x,h,z)") == ()
    assert program.proposals("q(x,h)") == ("p(z|h)",)
    x = 0.5 * torch.randn(6, 3, dtype=torch.float64)
    with torch.no_grad():
        verify_log_mean(lambda: program.log_prob("q(x)", {"x": x}, 5000), exact(program, x))


@pytest.mark.statistical
def test_what_no_law_proposes_comes_from_its_prior() -> None:
    torch.manual_seed(0)
    goal = "KL(data(x) * p(h|x) * p(z|h) || q(z) * q(h|z) * q(x|h))"
    others = "KL(data(x) * p(h|x) * q(z) || q(z) * q(h|z) * q(x|h))"
    others += "\nminimize CE(data(x) * p(h|x) * p(z|h) || q(h|z)) over E2"
    text = TWO_LAYERS.replace("p(z | h) = Normal(E2(h), 1)", "p(z | h) = Delta(E2(h))").replace(goal, others)
    program = jointkl.compile(text).double()
    assert program.proposals("q(x)") == ("p(h|x)", "q(z)")
    x = 0.5 * torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        verify_log_mean(lambda: program.log_prob("q(x)", {"x": x}, 5000), exact(program, x))


def test_a_mixture_is_summed() -> None:
    """EM's q(x) with k hidden: exact, the same at any number of particles."""
    torch.manual_seed(0)
    program = jointkl.compile(MODELS / "em.jkl").double()
    assert program.proposals("q(x)") == ()
    x = torch.randn(5, 4, dtype=torch.float64)
    p = {name: value.detach() for name, value in program.params.items()}
    known = torch.stack(
        [p["w"][k].log() + MultivariateNormal(p["mu"][k], scale_tril=p["L"][k]).log_prob(x) for k in range(3)]
    ).logsumexp(0)
    torch.testing.assert_close(program.log_prob("q(x)", {"x": x}, particles=1), known)


BITS = """
data(x) = evidence()
var x: real[2]
var z: binary[3]
var k: {1, 5}
net G = linear()
net E = linear()
net F = linear()
param a: real[2]
p(z | x) = Bernoulli(E(x))
p(k | x) = Categorical(F(x))
q(z) = Bernoulli(0.3)
q(k) = Categorical(logits=a)
q(x | z, k) = Normal(G(z, k), 0.4)
minimize KL(data(x) * p(z|x) * p(k|x) || q(z) * q(k) * q(x|z,k))
"""


@pytest.mark.statistical
def test_bits_and_classes_are_summed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    program = jointkl.compile(BITS).double()
    x = torch.randn(4, 2, dtype=torch.float64)
    w, b = program.nets["G"].layers.weight.detach(), program.nets["G"].layers.bias.detach()
    shares = program.params["a"].detach().log_softmax(0)
    terms = []
    for i in range(8):
        bits = torch.tensor([float(i >> j & 1) for j in range(3)], dtype=torch.float64)
        log_z = float(bits.sum()) * math.log(0.3) + float((1 - bits).sum()) * math.log(0.7)
        for k in range(2):
            one_hot = torch.eye(2, dtype=torch.float64)[k]
            loc = w @ torch.cat([bits, one_hot]) + b
            terms.append(log_z + shares[k] + Normal(loc, 0.4).log_prob(x).sum(1))
    known = torch.stack(terms).logsumexp(0)
    torch.testing.assert_close(program.log_prob("q(x)", {"x": x}).detach(), known)
    monkeypatch.setattr(density, "MOST_SUMMED", 15)
    assert program.proposals("q(x)") == ("p(z|x)", "p(k|x)")
    verify_log_mean(lambda: program.log_prob("q(x)", {"x": x}, 5000), known)


def test_how_many_values_are_held_at_once() -> None:
    bits, layers = jointkl.compile(BITS), jointkl.compile(TWO_LAYERS)
    assert [bits.copies(law, 50) for law in ("q(x)", "q(x|z,k)", "p(z|x)")] == [16, 1, 1]
    assert [layers.copies(law, 50) for law in ("q(x)", "q(x,h,z)")] == [50, 1]


@pytest.mark.parametrize(
    ("model", "law", "why"),
    [
        ("gan", "q(x)", r"q\(x\|z\) is a Dirac"),
        ("alpha_gan", "q(x)", r"q\(x\|z\) is a Dirac"),
        ("gan", "data(x)", "is evidence"),
        ("vi", "q(x|t)", "global"),
    ],
)
def test_no_density(model: str, law: str, why: str) -> None:
    program = jointkl.compile(MODELS / f"{model}.jkl")
    with pytest.raises(DataError, match=why):
        program.proposals(law)


def test_a_law_as_a_distribution() -> None:
    program = jointkl.compile(MODELS / "vae.jkl")
    z = torch.randn(3, 8)
    found = program.distribution("q(x | z)", {"z": z})
    assert found.mean.shape == (3, 1, 8, 8)
    torch.testing.assert_close(found.mean, torch.sigmoid(program.nets["dec"](z)).reshape(3, 1, 8, 8))
    with pytest.raises(DataError, match="is given z: pass it"):
        program.distribution("q(x|z)", {})
    with pytest.raises(DataError, match="no law `q\\(x\\)`"):
        program.distribution("q(x)", {})
    with pytest.raises(DataError, match="no distribution of its own"):
        program.distribution("data(x)", {})


def test_the_branch_of_a_hidden_mixture() -> None:
    """alpha-GAN's q(x) is samples and reconstructions, s hidden: q(x,s=0) are the samples, without any data."""
    program = jointkl.compile(MODELS / "alpha_gan.jkl")
    torch.manual_seed(0)
    found = program.sample("q(x, s=0)", 4)["x"]
    torch.manual_seed(0)
    with torch.no_grad():
        known = program.nets["G"](torch.randn(4, 8))
    torch.testing.assert_close(found, known.reshape(4, 1, 8, 8))
    x = torch.rand(5, 1, 8, 8)
    rebuilt = program.sample("q(x,s=1)", batch={"x": x})["x"]
    with torch.no_grad():
        known = program.nets["G"](program.nets["E"](x.roll(1, 0)))
    torch.testing.assert_close(rebuilt, known.reshape(5, 1, 8, 8))
    for wrong in ("q(x,s=2)", "q(x,t=0)"):
        with pytest.raises(DataError):
            program.sample(wrong, 2)


# --- whose proposals, and how many of their draws count

FAR = """
data(x) = evidence()
var x, z: real
param a: real
f(z | x) = Normal(x + 8, 0.1)
p(z | x) = Normal(x / 2, 0.8)
q(z) = Normal(0, 1)
q(x | z) = Normal(z, 1)
t(z) = Normal(a, 1)
minimize GOALS
minimize CE(data(x) * f(z|x) || t(z))
"""
GOAL = "KL(data(x) * p(z|x) || q(z) * q(x|z))"
REVERSE = "KL(q(z) * q(x|z) || data(x) * p(z|x)) with critic=C"


def far(goal: str, more: str = "") -> Program:
    """q(x) = N(0, 2); f is a law of another goal, declared first, that covers nothing of its posterior N(x/2, 1/2)."""
    text = FAR.replace("q(x | z) = Normal(z, 1)", "q(x | z) = Normal(z + b, 1)\nparam b: real")
    return jointkl.compile(text.replace("GOALS", goal) + more).double()


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("goal", "more", "proposal"),
    [
        (GOAL, "", "p(z|x)"),
        ("-KL(data(x) * f(z|x) || q(z) * q(x|z)) + " + GOAL, "", "p(z|x)"),
        (REVERSE, "net C = mlp(2)\n", "p(z|x)"),
        ("CE(data(x) * p(z|x) || q(x|z)) over b", "", "q(z)"),
    ],
)
def test_the_posterior_of_the_joint_is_the_proposal(goal: str, more: str, proposal: str) -> None:
    torch.manual_seed(0)
    program = far(goal, more)
    assert program.proposals("q(x)") == (proposal,)
    x = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    found = program.estimate("q(x)", {"x": x}, 40_000)
    assert found.effective is not None
    off = found.log_prob.detach() - Normal(0.0, math.sqrt(2)).log_prob(x)
    assert bool((off.abs() <= SIGMAS * found.effective.rsqrt()).all())
    assert not found.poor


def test_how_many_draws_count() -> None:
    """Of draws from r for p the effective share is 1 / E_r (p/r)^2: of Normals a Gaussian integral."""
    torch.manual_seed(0)
    program = far(GOAL)
    x = torch.tensor([0.3, -1.0], dtype=torch.float64)
    found = program.estimate("q(x)", {"x": x}, 100_000).effective
    z = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    p, r = (Normal(x[:, None] / 2, s).log_prob(z) for s in (math.sqrt(0.5), 0.8))
    share = 1 / ((2 * p - r).exp().sum(1) * 0.001)
    assert found is not None
    torch.testing.assert_close(found / 100_000, share, rtol=0.02, atol=0)
    assert program.estimate("q(x,z)", {"x": x, "z": x}).effective is None


def test_a_poor_estimate_is_warned_of() -> None:
    program = far("KL(data(x) * f(z|x) || q(z) * q(x|z))")
    x = torch.tensor([0.3, -1.0], dtype=torch.float64)
    with pytest.warns(PoorEstimate, match=r"of 1,000 draws from f\(z\|x\), \d(\.\d)? count in the median"):
        program.log_prob("q(x)", {"x": x})


# --- mixtures

PARTS = """
data(x) = evidence()
var x: real
var y: {0, 1, 2}
param m: real
q(x) = Normal(m, 1)
u(x) = Uniform(0, 1)
v(x) = Laplace(0, 2)
j(x, y) = { y=2: 0.5 * v(x); y=0: 0.3 * q(x); y=1: 0.2 * u(x) }
h(x) = { s=0: 0.3 * q(x); s=1: 0.2 * u(x); s=2: 0.5 * v(x) }
n(x) = { s=0: h(x); s=1: q(x) }
d(x) = { s=0: data(x); s=1: q(x) }
minimize CE(data(x) || q(x))
"""


def parts(program: Program, x: Tensor) -> Tensor:
    """log share + log density of the values 0, 1, 2 of the label; outside its support a law has none."""
    uniform = torch.where((x >= 0) & (x < 1), 0.0, -math.inf)
    own = Normal(program.params["m"].detach(), 1.0).log_prob(x), uniform, Laplace(0.0, 2.0).log_prob(x)
    return torch.stack([math.log(w) + log for w, log in zip((0.3, 0.2, 0.5), own, strict=True)])


def test_the_density_of_a_mixture() -> None:
    program = jointkl.compile(PARTS).double()
    x = torch.tensor([-1.0, 0.5, 0.2, 3.0, 0.7], dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 1, 0])
    known = parts(program, x)
    with torch.no_grad():
        torch.testing.assert_close(program.log_prob("j(x,y)", {"x": x, "y": y}), known[y, torch.arange(5)])
        torch.testing.assert_close(program.log_prob("h(x)", {"x": x}), known.logsumexp(0))
        nested = torch.logaddexp(known.logsumexp(0), known[0] - math.log(0.3)) - math.log(2)
        torch.testing.assert_close(program.log_prob("n(x)", {"x": x}), nested)
        torch.testing.assert_close(program.log_prob("j(x,y=1)", {"x": x}), known[1] - math.log(0.2))
    assert program.proposals("h(x)") == ()
    with pytest.raises(DataError, match=r"data\(x\) is evidence"):
        program.log_prob("d(x)", {"x": x})


def test_a_value_outside_its_space_is_refused() -> None:
    text = PARTS.replace("var x: real", "var x: positive").replace("Normal(m", "LogNormal(m")
    program = jointkl.compile(text.replace("Laplace(0, 2)", "Exponential(2)")).double()
    with pytest.raises(ValueError, match="support"):
        program.log_prob("h(x)", {"x": torch.tensor([-1.0], dtype=torch.float64)})


@pytest.mark.statistical
def test_a_mixture_with_something_hidden_in_a_branch() -> None:
    """One branch is drawn from, the other exact: the estimate has the noise of its share."""
    torch.manual_seed(0)
    more = "l(x) = Laplace(0, 1)\nq(x) = q(z) * q(x|z)\nm(x) = { s=0: 0.3 * q(x); s=1: 0.7 * l(x) }\nparam b: real\n"
    text = more + FAR.replace("GOALS", GOAL).replace("Normal(z, 1)", "Normal(z + b, 1)")
    program = jointkl.compile(text).double()
    x = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    logs = Normal(0.0, math.sqrt(2)).log_prob(x) + math.log(0.3), Laplace(0.0, 1.0).log_prob(x) + math.log(0.7)
    known = torch.logaddexp(*logs)
    found = program.estimate("m(x)", {"x": x}, 40_000)
    alone = program.estimate("q(x)", {"x": x}, 40_000).effective
    assert alone is not None
    assert bool(((found.log_prob.detach() - known).abs() <= SIGMAS * alone.rsqrt()).all())
    assert found.effective is not None
    assert alone is not None
    share = (logs[0] - known).exp()
    torch.testing.assert_close(40_000 / found.effective - 1, share**2 * (40_000 / alone - 1), rtol=0.1, atol=0.001)
