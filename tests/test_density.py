"""Densities of laws: summed where little is hidden, else sampled from proposals, one after another."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

import jointkl
from jointkl import density
from jointkl.diagnostics import DataError
from jointkl.program import Program

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


def test_two_layers_are_proposed_one_after_another() -> None:
    torch.manual_seed(0)
    program = jointkl.compile(TWO_LAYERS).double()
    assert program.proposals("q(x)") == ("p(h|x)", "p(z|h)")
    assert program.proposals("q(x,h,z)") == ()
    assert program.proposals("q(x,h)") == ("p(z|h)",)
    x = 0.5 * torch.randn(6, 3, dtype=torch.float64)
    with torch.no_grad():
        found = program.log_prob("q(x)", {"x": x}, 100_000)
    torch.testing.assert_close(found, exact(program, x), atol=0.05, rtol=0)


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
        found = program.log_prob("q(x)", {"x": x}, 200_000)
    torch.testing.assert_close(found, exact(program, x), atol=0.05, rtol=0)


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
    torch.testing.assert_close(program.log_prob("q(x)", {"x": x}, 200_000).detach(), known, atol=0.05, rtol=0)


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
