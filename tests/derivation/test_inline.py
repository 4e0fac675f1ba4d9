"""Mixtures inside products: a labelled one as a factor, labels that laws are given, densities of hidden ones."""

from __future__ import annotations

import pyro
import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import softplus

import jointkl
from jointkl.audit.judge import audit
from tests.bounds import SIGMAS
from tests.worlds import GAN, losses

MORE = "var t: real\nnet R = mlp(4)\nr(t | x) = Normal(R(x))\n"


def test_a_factor_beside_a_labelled_mixture_is_one_in_each_branch() -> None:
    """Property 6 at a GAN: r(t|x) stands on both sides and changes no loss."""
    beside = GAN.replace("q(x,y) || p(x,y)", "q(x,y) * r(t|x) || p(x,y) * r(t|x)")
    found = losses(f"{beside}\n{MORE}\nminimize CE(data(x) * r(t|x) || r(t|x)) over R")
    assert {player: loss for player, loss in found.items() if player != "R"} == losses(GAN)


def test_a_joint_made_of_a_labelled_mixture_is_that_mixture() -> None:
    last = "s(t | x) = Normal(0, 1)\n" + MORE
    inside = GAN.replace("q(x,y) || p(x,y)", "b(t,x,y) || p(x,y) * s(t|x)") + last
    inside += "a(x, t, y) = q(x,y) * r(t|x)\nb(t, x, y) = a(x,t,y)\n"
    apart = GAN.replace("q(x, y) =", "q(x, t, y) =").replace("q(x,y) || p(x,y)", "q(x,t,y) || p(x,y) * s(t|x)") + last
    apart = apart.replace("data(x); y=0: q(z) * q(x|z)", "data(x) * r(t|x); y=0: q(z) * q(x|z) * r(t|x)")
    assert losses(inside) == losses(apart)


CONDITIONAL = """
data(x) = evidence()
var x, t: real
var y: {0, 1}
param m: real[2]
net D = mlp(4)
net G = mlp(4)
q(x | y) = Normal(m[y], 1)
g(t | x, y) = Normal(m[y] + x, 1)
p(y | x, t) = Bernoulli(D(x, t))
r(t | x) = Normal(G(x))
mix(x, y) = { y=1: data(x); y=0: q(x|y) }
minimize KL(mix(x,y) * g(t|x,y) || data(x) * r(t|x) * p(y|x,t))
"""


def test_a_label_is_known_in_its_branch() -> None:
    """At y=0 D's optimum is data(x) g(t|x,1) / (q(x|0) g(t|x,0)), so g(t|x,1) is the reference that moves."""
    assert losses(CONDITIONAL)["D"] == "E data(x) g(t|x,1) {-log p(1|x,t)} + E q(x|0) g(t|x,0) {-log p(0|x,t)}"
    assert "- log g(t|x,1) at sg(t,x)" in losses(CONDITIONAL)["m+G"]


def test_the_loss_of_a_classifier_of_conditional_samples() -> None:
    torch.manual_seed(0)
    program = jointkl.compile(CONDITIONAL).double()
    m, net = program.params["m"], program.nets["D"]
    with torch.no_grad():
        m.copy_(torch.tensor([0.7, -0.4]))
    x, e, f = (torch.randn(9).double() for _ in range(3))
    fake = m[0] + e
    written = softplus(-net(x, m[1] + x + f)) + softplus(net(fake, m[0] + fake + f))
    found = program.loss("D", {"x": x, "x.noise": e, "t.noise": f})
    torch.testing.assert_close(found, written.mean())


GIVEN = """
data(x) = evidence()
var x, h: real
var y: {0, 1}
param m: real[2]
p(y | x) = Bernoulli(0.3)
r(h | y) = Normal(m[y], 1)
q(h)     = Normal(0, 1)
q(x, h, y) = { y=1: data(x) * q(h); y=0: data(x) * q(h) }
minimize KL(data(x) * p(y|x) * r(h|y) || q(x,h,y))
"""


def test_a_label_drawn_on_the_left_is_known_to_what_is_given_it() -> None:
    """0.3 KL[N(m1,1) || N(0,1)] + 0.7 KL[N(m0,1) || N(0,1)] = 0.3 m1^2/2 + 0.7 m0^2/2"""
    program = jointkl.compile(GIVEN).double()
    with torch.no_grad():
        program.params["m"].copy_(torch.tensor([0.7, -0.4]))
    found = program.loss("m", {"x": torch.zeros(5).double()})
    (slope,) = torch.autograd.grad(found, program.parameters_of("m"))
    torch.testing.assert_close(slope, torch.tensor([0.7 * 0.7, 0.3 * -0.4]).double())


NETS = (
    CONDITIONAL.replace("param m: real[2]", "net H = mlp(4)")
    .replace("m[y], 1", "H(y), 1")
    .replace("m[y] + x", "H(y) + x")
)


@pytest.mark.statistical
@pytest.mark.parametrize("text", [CONDITIONAL, NETS])
def test_the_pyro_program_of_a_conditional_mixture_draws_and_scores(text: str) -> None:
    torch.manual_seed(0)
    program = jointkl.compile(text)
    branch = pyro.poutine.trace(program.pyro("mix(x, y=0)")).get_trace(size=4)
    mean = program.params["m"][0] if "m" in program.params else program.nets["H"](torch.zeros(4)).squeeze(-1)
    branch.compute_log_prob()
    torch.testing.assert_close(branch.nodes["x"]["log_prob"], Normal(mean, 1.0).log_prob(branch.nodes["x"]["value"]))
    whole = program.pyro("mix(x, y)")(torch.full((500,), 9.0))
    drawn, label = whole["x"], whole["y"]
    assert (drawn[label == 1] == 9).all()
    n = int((label == 0).sum())
    assert abs(n - 250) < SIGMAS * (500 / 4) ** 0.5
    assert abs((drawn[label == 0].mean() - mean.mean()).item()) < SIGMAS / n**0.5


WEIGHED = """
data(x) = evidence()
var x, z: real[2]
var y: {0..2}
net C = mlp(8)
net E = mlp(8)
net G = mlp(8)
param m: real[3,2]
c(y | x) = Categorical(C(x))
p(z | x) = Normal(E(x))
q(x | z) = Normal(G(z), 1)
a(z) = Normal(m[0], 1)
b(z) = Normal(m[1], 1)
d(z) = Normal(m[2], 1)
q(x, z, y) = { y=0: 0.2 * a(z) * q(x|z); y=1: 0.3 * b(z) * q(x|z); y=2: 0.5 * d(z) * q(x|z) }
minimize KL(data(x) * p(z|x) * c(y|x) || q(x,z,y))
"""


def test_a_label_drawn_on_the_left_is_trained_by_its_weights() -> None:
    """sum_k c_k { log c_k - log w_k + KL[p(z|x) || N(m_k, 1)] } - log q(x|z)"""
    torch.manual_seed(0)
    program = jointkl.compile(WEIGHED).double()
    x, e = torch.randn(6, 2).double(), torch.randn(6, 2).double()
    log_c = program.nets["C"](x).log_softmax(-1)
    loc, scale = program.nets["E"](x)
    m, share = program.params["m"], torch.tensor([0.2, 0.3, 0.5]).double().log()
    kl = 0.5 * ((loc[:, None] - m).square() + (scale.square() - 1 - 2 * scale.log())[:, None]).sum(-1)
    nll = -Normal(program.nets["G"](loc + scale * e), 1.0).log_prob(x).sum(-1)
    wanted = ((log_c.exp() * (log_c - share + kl)).sum(-1) + nll).mean()
    (player,) = program.players
    own = program.parameters_of(player)
    found = program.loss(player, {"x": x, "z.noise": e})
    torch.testing.assert_close(found, wanted)
    for one, other in zip(torch.autograd.grad(found, own), torch.autograd.grad(wanted, own), strict=True):
        torch.testing.assert_close(one, other)


HIDDEN = """
var x: real
var k: {0..2}
param m: real[3]
param s: positive
param a: simplex[3]
q(k) = Categorical(a)
q(x | k) = Normal(m[k], s)
r(x) = Normal(0, 2)
o(x) = Normal(0.5, 1)
mix(x) = { y=1: 0.3 * q(k) * q(x|k); y=0: 0.7 * o(x) }
minimize KL(r(x) || mix(x))
"""


def test_a_hidden_mixture_is_evaluated_where_its_parts_are() -> None:
    """-log(0.3 sum_k a_k N(x; m_k, s) + 0.7 N(x; 0.5, 1))"""
    torch.manual_seed(0)
    program = jointkl.compile(HIDDEN).double()
    for w in program.parameters():
        with torch.no_grad():
            w.copy_(torch.randn(w.shape))
    x = torch.randn(6).double()
    (player,) = program.players
    own = program.parameters_of(player)
    m, s, a = (program.params[n] for n in "msa")
    parts = (a * Normal(m, s).log_prob(x[:, None]).exp()).sum(-1)
    wanted = -(0.3 * parts + 0.7 * Normal(0.5, 1.0).log_prob(x).exp()).log().mean()
    found = program.loss(player, {"x": x})
    torch.testing.assert_close(found, wanted)
    for one, other in zip(torch.autograd.grad(found, own), torch.autograd.grad(wanted, own), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "spec", [CONDITIONAL, GIVEN, WEIGHED, HIDDEN, HIDDEN.replace("r(x) || mix(x)", "mix(x) || r(x)")]
)
def test_the_audit_agrees(spec: str) -> None:
    findings = audit(jointkl.parse(spec))
    assert any(f.met for f in findings)
    assert not [f for f in findings if f.failed]


@pytest.mark.statistical
def test_a_conditional_mixture_is_sampled() -> None:
    torch.manual_seed(0)
    program = jointkl.compile(CONDITIONAL)
    with torch.no_grad():
        program.params["m"].copy_(torch.tensor([5.0, -5.0]))
    drawn = program.sample("mix(x,y)", batch={"x": torch.full((200,), 9.0)})
    assert (drawn["x"][drawn["y"] == 1] == 9).all()
    fake = drawn["x"][drawn["y"] == 0]
    torch.testing.assert_close(fake.mean(), torch.tensor(5.0), atol=SIGMAS / len(fake) ** 0.5, rtol=0)
