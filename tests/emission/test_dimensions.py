"""Copies, enumerated values, batch and event: losses are exact sums at any batch size, entries those of each datum."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

import jointkl
from jointkl.program import Program

SIZES = pytest.mark.parametrize("n", [1, 2, 20])


def compiled(text: str) -> Program:
    torch.manual_seed(0)
    program = jointkl.compile(text).double()
    with torch.no_grad():
        for w in program.parameters():
            w.add_(0.5 * torch.randn_like(w))
    return program


def agree(p: Program, found: Tensor, wanted: Tensor) -> None:
    """Values, and gradients in everything that is trained."""
    torch.testing.assert_close(found, wanted)
    own = list(p.emitted.parameters())
    for pair in zip(*(torch.autograd.grad(loss, own, allow_unused=True) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(*(torch.zeros(()).double() if g is None else g for g in pair))


def bernoulli(logit: Tensor, value: float) -> Tensor:
    return logsigmoid(logit if value else -logit)


# --- the batch's mean

CLASSES = """
data(a) = evidence()
var a, b, c: {0, 1}
param t, u: real[2]
param p, k: real
f(b|a) = Bernoulli(logits=u[a])
v(b|a) = Bernoulli(logits=t[a])
w(b) = Bernoulli(logits=p)
w(c) = Bernoulli(logits=k)
r(c) = Bernoulli(0.3)
m(b|a) = { s=0: 0.25 * f(b|a); s=1: 0.75 * v(b|a) }
"""


@SIZES
@pytest.mark.parametrize("left", list(itertools.permutations(("data(a)", "w(b)", "w(c)"))))
def test_a_mixture_beside_a_class_that_it_does_not_see(n: int, left: tuple[str, ...]) -> None:
    p = compiled(CLASSES + f"minimize CE({' * '.join(left)} || m(b|a) * r(c))")
    a = torch.arange(n) % 2
    e = p.emitted
    wanted = -sum(bernoulli(e.k, c).exp() * math.log(0.3 if c else 0.7) for c in (0, 1)) * torch.ones(n).double()
    for b in (0, 1):
        mixed = 0.25 * bernoulli(e.u[a], b).exp() + 0.75 * bernoulli(e.t[a], b).exp()
        wanted = wanted - bernoulli(e.p, b).exp() * mixed.log()
    (player,) = p.players
    agree(p, p.loss(player, {"a": a}), wanted.mean())


@SIZES
@pytest.mark.parametrize("order", [("w(b)", "w(c)"), ("w(c)", "w(b)")])
def test_terms_without_batch_count_once(n: int, order: tuple[str, str]) -> None:
    """Laws of classes, of bits and of numbers against each other, beside a term that has a batch."""
    p = compiled(f"""
        data(a) = evidence()
        var a, b, c: {{0, 1}}
        var d: binary[2]
        var x: real[2]
        param t, p, k: real
        param l: real[2]
        w(b) = Bernoulli(logits=p)
        w(c) = Bernoulli(logits=k)
        w(d) = Bernoulli(logits=l)
        g(x) = Normal(l, 1)
        h(x) = Normal(t, 2)
        q(a | b) = Bernoulli(logits=t*b)
        r(c) = Bernoulli(0.4)
        r(b | c) = Bernoulli(logits=c - 0.5)
        s(d | c) = Bernoulli(logits=c + l)
        minimize CE(data(a) * {" * ".join(order)} || q(a|b) * r(c) * r(b|c))
            + CE(w(c) * w(d) || s(d|c)) + KL(g(x) || h(x))
    """)
    a = torch.arange(n) % 2
    e = p.emitted
    wanted = torch.zeros(n).double()
    for b, c in itertools.product((0, 1), (0, 1)):
        sign = 2 * a - 1
        log_q = logsigmoid(sign * e.t * b) + math.log(0.4 if c else 0.6) + bernoulli(torch.tensor(c - 0.5), b)
        wanted = wanted - (bernoulli(e.p, b) + bernoulli(e.k, c)).exp() * log_q
    for d0, d1, c in itertools.product((0, 1), (0, 1), (0, 1)):
        share = (bernoulli(e.l[0], d0) + bernoulli(e.l[1], d1) + bernoulli(e.k, c)).exp()
        wanted = wanted - share * (bernoulli(c + e.l[0], d0) + bernoulli(c + e.l[1], d1))
    wanted = wanted + (math.log(2) + (1 + (e.l - e.t).square()) / 8 - 0.5).sum()
    (player,) = p.players
    agree(p, p.loss(player, {"a": a}), wanted.mean())


@pytest.mark.parametrize("n", [1, 2, 500])
def test_a_draw_from_an_enumerated_class_is_each_datum_s_own(n: int) -> None:
    """E log x of a Gamma law is digamma(concentration) - log rate; the draws of n data differ."""
    p = compiled("""
        data(x) = evidence()
        var x: real
        var k: {0, 1}
        var z: positive[3]
        param a: positive[2]
        param l: real
        p(k | x) = Bernoulli(logits=l*x)
        p(z | k) = Gamma(a[k], 2)
        q(x | z) = Normal(sum(log(z)), 1)
        minimize CE(data(x) * p(k|x) * p(z|k) || q(x|z))
    """)
    torch.manual_seed(1)
    x = torch.linspace(-1, 1, n).double()
    (player,) = p.players
    runs = torch.stack([p.loss(player, {"x": x}).detach() for _ in range(200 if n < 3 else 10)])
    a, wanted = p.params["a"].detach(), 0.0
    for k in (0, 1):
        mean, var = 3 * (torch.digamma(a[k]) - math.log(2)), 3 * torch.polygamma(1, a[k])
        wanted = wanted + bernoulli(p.emitted.l * x, k).exp() * 0.5 * ((x - mean).square() + var)
    wanted = wanted.mean() + 0.5 * math.log(2 * math.pi)
    assert (runs.mean() - wanted).abs() < 5 * runs.std() / len(runs) ** 0.5


# --- one number for a whole event

FILLING = """
data(x) = evidence()
var x: binary[4]
var k: {0..2}
param l: real[3]
%s
p(k|x) = Free
q(k) = Categorical()
q(x|k) = Bernoulli(logits=%s)
minimize KL(data(x)*p(k|x) || q(k)*q(x|k)) with estimate=gradient
"""
LOGITS = {
    "l[k]": ("", lambda e, k: e.l[k]),
    "o + l[k]/2": ("param o: real", lambda e, k: e.o + e.l[k] / 2),
    "l[k] + F(k)": ("net F: real = mlp(3)", lambda e, k: e.l[k] + e.F(torch.tensor(k))),
}


@SIZES
@pytest.mark.parametrize("way", LOGITS)
def test_one_logit_for_all_bits(n: int, way: str) -> None:
    declared, logit = LOGITS[way]
    x = torch.randint(0, 2, (n, 4), generator=torch.Generator().manual_seed(n)).double()
    p = compiled(FILLING % (declared, way))
    logits = torch.stack([logit(p.emitted, k) for k in range(3)])
    logs = x.sum(1)[:, None] * logsigmoid(logits) + (1 - x).sum(1)[:, None] * logsigmoid(-logits)
    r = logs.softmax(1)

    torch.testing.assert_close(p.solve("p(k|x)", {"x": x}), r)
    player = next(q for q in p.players if q != "p(k|x)")
    agree(p, p.loss(player, {"x": x}), -(r.detach() * logs).sum(1).mean())
    every = torch.arange(n) % 3
    torch.testing.assert_close(p.log_prob("q(x|k)", {"x": x, "k": every}), logs[torch.arange(n), every])
    assert p.sample("q(x|k)", batch={"k": every})["x"].shape == (n, 4)


FILLED = {
    "one of each": ("param m: real param s: positive", "m", "s", lambda e: (e.m, e.s)),
    "its own of one": ("param m: real[3] param s: positive", "m", "s", lambda e: (e.m, e.s)),
    "one of its own": ("param m: real param s: positive[3]", "m", "s", lambda e: (e.m, e.s)),
    "a number": ("param s: positive", "0.5", "s", lambda e: (torch.tensor(0.5).double(), e.s)),
    "a function": ("param m: real param s: positive", "tanh(m)", "0.1 + s", lambda e: (e.m.tanh(), 0.1 + e.s)),
}


@SIZES
@pytest.mark.parametrize("way", FILLED)
@pytest.mark.parametrize("family", ["Normal", "Laplace", "Gumbel"])
def test_one_location_and_scale_for_all_numbers(n: int, way: str, family: str) -> None:
    """As a density, in a closed divergence, and as a draw: of three data, and of copies of them."""
    declared, loc, scale, values = FILLED[way]
    p = compiled(f"""
        data(x) = evidence()
        var x, z: real[3]
        {declared}
        net E = mlp(3)
        p(z|x) = {family}(E(x))
        q(z) = {family}({loc}, {scale})
        q(x|z) = {family}(z, {scale})
        minimize KL(data(x)*p(z|x) || q(z)*q(x|z))
    """)
    made = getattr(torch.distributions, family)
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(1)).double()
    noise = torch.randn(n, 3, generator=torch.Generator().manual_seed(2)).double()
    at, spread = p.emitted.E(x)
    m, s = values(p.emitted)
    left, right = made(at, spread), made(m.expand(3), s.expand(3))
    z = at + spread * noise
    wanted = torch.distributions.kl_divergence(left, right).sum(1) - made(z, s.expand(3)).log_prob(x).sum(1)
    (player,) = p.players
    agree(p, p.loss(player, {"x": x, "z.noise": noise}), wanted.mean())
    assert p.sample("q(z)", n)["z"].shape == (n, 3)
    torch.testing.assert_close(p.log_prob("q(z)", {"z": z.detach()}), right.log_prob(z.detach()).sum(1))


def test_a_dirac_s_number_fills_its_variable() -> None:
    p = compiled("""
        data(x) = evidence()
        var x, z: real[3]
        var k: {0, 1}
        param m: real[2]
        param w: real
        p(k) = Bernoulli(logits=w)
        q(z | k) = Delta(m[k])
        q(x | z) = Normal(z, 1)
        minimize CE(data(x) * p(k) * q(z|k) || q(x|z))
    """)
    x = torch.randn(5, 3).double()
    e = p.emitted
    wanted = sum(bernoulli(e.w, k).exp() * (0.5 * (x - e.m[k]).square()).sum(1).mean() for k in (0, 1))
    assert isinstance(wanted, Tensor)
    (player,) = p.players
    agree(p, p.loss(player, {"x": x}), wanted + 1.5 * math.log(2 * math.pi))
    assert p.sample("q(z|k)", batch={"k": torch.tensor([0, 1])})["z"].tolist() == [[m] * 3 for m in e.m.tolist()]


# --- entries

ENTRIES = {
    "a - x[0]": lambda e, x, k: e.a - x[:, 0],
    "x[1] * a": lambda e, x, k: x[:, 1] * e.a,
    "x[k]": lambda e, x, k: x[torch.arange(len(x)), k],
    "W[k, 1]": lambda e, x, k: e.W[k, 1],
    "W[0, k]": lambda e, x, k: e.W[0, k],
    "W[1][k]": lambda e, x, k: e.W[1, k],
    "sum(W[0] * x)": lambda e, x, k: x @ e.W[0],
    "F(x)[k]": lambda e, x, k: e.F(x)[torch.arange(len(x)), k],
    "F(x)[1]": lambda e, x, k: e.F(x)[:, 1],
    "H(x)[k, 0]": lambda e, x, k: e.H(x)[torch.arange(len(x)), k, 0],
    "H(x)[1, k]": lambda e, x, k: e.H(x)[torch.arange(len(x)), 1, k],
    "H(x)[k, k]": lambda e, x, k: e.H(x)[torch.arange(len(x)), k, k],
    "H(x)[k][1]": lambda e, x, k: e.H(x)[torch.arange(len(x)), k, 1],
    "sum(H(x)[k] * x)": lambda e, x, k: (e.H(x)[torch.arange(len(x)), k] * x).sum(1),
    "(x * W[1])[k]": lambda e, x, k: (x * e.W[1])[torch.arange(len(x)), k],
    "[0.5, 2][k] * x[0]": lambda e, x, k: torch.tensor([0.5, 2]).double()[k] * x[:, 0],
    "F(a)[k] + x[k]": lambda e, x, k: e.F(e.a.expand(2))[k] + x[torch.arange(len(x)), k],
}  # fmt: skip
DECLARED = {
    "a": "param a: real",
    "W": "param W: real[2,2]",
    "F": "net F: real[2] = mlp(3)",
    "H": "net H: real[2,2] = mlp(3)",
}


def entry_spec(entry: str, laws: str) -> str:
    own = [text for name, text in DECLARED.items() if name in entry]
    return f"""
        data(x, y) = evidence()
        var x: real[2]
        var y: real
        var k: {{0, 1}}
        param l: real
        {" ".join(own)}
        p(k | x) = Bernoulli(logits=l*x[1])
        q(y | x, k) = Normal({entry.replace("F(a)", "F([1, 1]*a)")}, 1)
        {laws}
    """


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_that_of_each_datum(entry: str) -> None:
    """With k given, summed over, and in the law itself: as many data as there are entries tell axes apart."""
    p = compiled(entry_spec(entry, "minimize CE(data(x,y) * p(k|x) || q(y|x,k))"))
    for n in (1, 2, 5):
        x, y = torch.randn(n, 2).double(), torch.randn(n).double()
        k = torch.randint(0, 2, (n,))
        logs = [-0.5 * (y - ENTRIES[entry](p.emitted, x, torch.full((n,), j))).square() - 0.5 * math.log(2 * math.pi)
                for j in (0, 1)]  # fmt: skip
        shares = [bernoulli(p.emitted.l * x[:, 1], j).exp() for j in (0, 1)]
        wanted = -sum(s * log for s, log in zip(shares, logs, strict=True)).mean()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        (player,) = p.players
        agree(p, p.loss(player, {"x": x, "y": y}), wanted)
        own = torch.stack(logs)[k, torch.arange(n)]
        torch.testing.assert_close(p.log_prob("q(y|x,k)", {"x": x, "y": y, "k": k}), own)
        law = p.distribution("q(y|x,k)", {"x": x, "k": k})
        torch.testing.assert_close(law.mean.expand(n), ENTRIES[entry](p.emitted, x, k).detach().expand(n))
        assert p.sample("q(y|x,k)", batch={"x": x, "k": k})["y"].shape == (n,)
        assert p.pyro("q(y|x,k)")(x, k)["y"].shape == (n,)


@pytest.mark.parametrize("entry", ["z[0]", "z[k]", "F(z)[k]", "H(z)[k, 1]"])
def test_an_entry_of_copies(entry: str) -> None:
    """Under importance weights: -log mean_K of the densities' ratio, by hand."""
    declared = next((text for name, text in DECLARED.items() if name == entry[0]), "")
    p = compiled(f"""
        data(x, k) = evidence()
        var z: real[2]
        var x: real
        var k: {{0, 1}}
        param s: positive
        {declared}
        p(z | x) = Normal(x, s)
        q(z) = Normal(0, 1)
        q(x | z, k) = Normal({entry}, 1)
        minimize KL(data(x,k) * p(z|x) || q(z) * data(k) * q(x|z,k)) with importance=3
    """)
    n = 2
    x, k, noise = torch.randn(n).double(), torch.tensor([1, 0]), torch.randn(3, n, 2).double()
    s, e = p.emitted.s, p.emitted
    z = x[:, None] + s * noise
    rows = torch.arange(n)
    loc = {"z[0]": lambda: z[:, :, 0], "z[k]": lambda: z[:, rows, k], "F(z)[k]": lambda: e.F(z)[:, rows, k],
           "H(z)[k, 1]": lambda: e.H(z)[:, rows, k, 1]}[entry]()  # fmt: skip
    normal = torch.distributions.Normal
    log_w = normal(loc, 1).log_prob(x) + (normal(0, 1).log_prob(z) - normal(x[:, None], s).log_prob(z)).sum(-1)
    (player,) = p.players
    agree(p, p.loss(player, {"x": x, "k": k, "z.noise": noise}), (math.log(3) - log_w.logsumexp(0)).mean())
