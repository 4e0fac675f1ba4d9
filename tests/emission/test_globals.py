"""Globals, one value for all data: N of each source, and Pyro programs of both joints scaled alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro.infer import Predictive, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import jointkl
from jointkl.diagnostics import DataError
from jointkl.program import Program

LAWS = """
var x: real
var w: real global
param m: real
param s: positive
p(w) = Normal(m, s)
q(w) = Normal(0, 1)
q(x | w) = Normal(w, 1)
"""

TWO = f"""
few(x) = evidence()
many(x) = evidence()
{LAWS}
minimize KL(few(x) * p(w) || q(w) * q(x|w))
minimize KL(many(x) * p(w) || q(w) * q(x|w))
"""

E = torch.tensor(0.4, dtype=torch.float64)
"""The noise of the global."""


def compiled(text: str) -> Program:
    torch.manual_seed(0)
    program = jointkl.compile(text).double()
    with torch.no_grad():
        for w in program.parameters():
            w.normal_(std=0.5)
    return program


def own(program: Program) -> tuple[Tensor, Tensor, Tensor]:
    """The variational law's params, and its divergence from the prior."""
    m, s = program.params["m"], program.params["s"]
    return m, s, 0.5 * (m**2 + s**2 - 1) - s.log()


def nll(x: Tensor, w: Tensor) -> Tensor:
    return -Normal(w, 1.0).log_prob(x).mean()


def agree(program: Program, found: Tensor, known: Tensor) -> None:
    torch.testing.assert_close(found, known)
    parameters = program.parameters_of(program.players[0])
    for a, b in zip(torch.autograd.grad(found, parameters), torch.autograd.grad(known, parameters), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("options", ["", " with estimate=monte_carlo"])
def test_each_goal_counts_its_own_data(options: str) -> None:
    """-log q(x|w) per datum, and the divergence of the global once in 50 data and once in 950."""
    program = compiled(TWO.rstrip() + options)
    assert program.data_sizes == {"few(x)": None, "many(x)": None}
    program.data_sizes = {"few(x)": 50, "many(x)": 950}
    few, many = torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    found = program.loss("m+s", {"few.x": few, "many.x": many, "w.noise": E})
    m, s, kl = own(program)
    w = m + s * E
    second = Normal(m, s).log_prob(w) - Normal(0.0, 1.0).log_prob(w) if options else kl
    agree(program, found, nll(few, w) + kl / 50 + nll(many, w) + second / 950)


def test_a_batch_of_each_source_is_all_of_it() -> None:
    program = compiled(TWO)
    few, many = torch.randn(2, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    found = program.loss("m+s", {"few.x": few, "many.x": many, "w.noise": E})
    m, s, kl = own(program)
    agree(program, found, nll(few, m + s * E) + kl / 2 + nll(many, m + s * E) + kl / 5)


def test_one_size_for_all_sources_and_none() -> None:
    program = compiled(TWO)
    program.data_size = 7
    assert program.data_sizes == {"few(x)": 7, "many(x)": 7}
    assert program.data_size == 7
    program.data_sizes = {"many(x)": 3}
    assert program.data_sizes == {"few(x)": None, "many(x)": 3}
    with pytest.raises(DataError, match="different sizes: few"):
        _ = program.data_size
    with pytest.raises(KeyError, match="no source 'manny"):
        program.data_sizes = {"manny(x)": 3}
    plain = jointkl.compile(
        "data(x) = evidence()\nvar x: real\nparam m: real\nq(x) = Normal(m, 1)\nminimize CE(data(x) || q(x))"
    )
    plain.data_size = 7
    assert (plain.data_size, plain.data_sizes) == (None, {})


def test_a_joint_of_two_sources_has_one_size() -> None:
    """N is the joint's: where its sources differ there is none."""
    program = compiled(f"""
        one(x) = evidence()
        other(t) = evidence()
        var t: real
        {LAWS}
        q(t | w) = Normal(2 * w, 1)
        minimize KL(one(x) * other(t) * p(w) || q(w) * q(x|w) * q(t|w))
    """)
    x, t = torch.randn(2, 4, dtype=torch.float64)
    batch = {"x": x, "t": t, "w.noise": E}
    program.data_size = 20
    m, s, kl = own(program)
    w = m + s * E
    agree(program, program.loss("m+s", batch), nll(x, w) + nll(t, 2 * w) + kl / 20)
    program.data_sizes = {"one(x)": 20, "other(t)": 21}
    with pytest.raises(ValueError, match="its sources differ"):
        program.loss("m+s", batch)


def test_what_a_batch_gives_for_a_global_has_no_rows() -> None:
    program = compiled(f"data(x) = evidence()\n{LAWS}\nminimize KL(data(x) * p(w) || q(w) * q(x|w))")
    x = torch.randn(3, dtype=torch.float64)
    m, s, kl = own(program)
    agree(program, program.loss("m+s", {"w.noise": E, "x": x}), nll(x, m + s * E) + kl / 3)


def test_a_global_has_no_copies() -> None:
    """-log mean_2 of what is local; the global's divergence counts 1/N beside it."""
    program = compiled(f"""
        data(x) = evidence()
        var z: real
        {LAWS.replace("Normal(w, 1)", "Normal(w + z, 1)").replace("x | w", "x | w, z")}
        q(z) = Normal(0, 1)
        p(z | x) = Normal(x / 2, 0.8)
        minimize KL(data(x) * p(w) * p(z|x) || q(w) * q(z) * q(x|w,z)) with importance=2
    """)
    program.data_size = 30
    x, e = torch.randn(4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    found = program.loss("m+s", {"x": x, "w.noise": E, "z.noise": e})
    m, s, _ = own(program)
    w, z = m + s * E, x / 2 + 0.8 * e
    inside = Normal(0.0, 1.0).log_prob(z) + Normal(w + z, 1.0).log_prob(x) - Normal(x / 2, 0.8).log_prob(z)
    once = Normal(m, s).log_prob(w) - Normal(0.0, 1.0).log_prob(w)
    agree(program, found, -(inside.logsumexp(0) - math.log(2)).mean() + once / 30)


def test_a_classifier_that_draws_the_label_leaves_a_global_once() -> None:
    program = compiled("""
        data(x) = evidence()
        var x: real
        var y: {0, 1}
        var w: real global
        param m, a: real
        param s: positive
        p(w) = Normal(m, s)
        q(w) = Normal(0, 1)
        c(y | x) = Bernoulli(logits=a*x)
        q(x | w) = Normal(w, 1)
        r(x) = Normal(0, 2)
        p(x, y, w) = data(x) * c(y|x) * p(w)
        q(x, y, w) = { y=1: q(w) * q(x|w); y=0: q(w) * r(x) }
        minimize KL(p(x,y,w) || q(x,y,w)) over m, s
    """)
    program.data_size = 40
    x = torch.randn(3, dtype=torch.float64)
    found = program.loss("m+s", {"x": x, "w.noise": E})
    m, s, kl = own(program)
    shares = (program.params["a"] * x).sigmoid().detach()
    agree(program, found, (shares * -Normal(m + s * E, 1.0).log_prob(x)).mean() + kl / 40)


# --- Pyro programs

WITHOUT = f"""
data(x) = evidence()
{LAWS}
p(x, w) = data(x) * p(w)
q(x, w) = q(w) * q(x|w)
minimize KL(p(x,w) || q(x,w))
"""


@pytest.mark.parametrize(
    ("elbo", "options"),
    [(TraceMeanField_ELBO, ""), (Trace_ELBO, " with estimate=monte_carlo")],
    ids=["closed", "draws"],
)
@pytest.mark.parametrize("size", [None, 100])
def test_a_joint_without_evidence_is_scaled_like_the_other(elbo: type, options: str, size: int | None) -> None:
    program = compiled(WITHOUT.rstrip() + options)
    program.data_size = size
    x = torch.randn(6, dtype=torch.float64)
    torch.manual_seed(1)
    found = elbo().differentiable_loss(program.pyro("q(x,w)"), program.pyro("p(x,w)"), x) / (size or 6)
    torch.manual_seed(1)
    noise = torch.randn((), dtype=torch.float64)
    m, s, kl = own(program)
    w = m + s * noise
    once = Normal(m, s).log_prob(w) - Normal(0.0, 1.0).log_prob(w) if options else kl
    agree(program, found, nll(x, w) + once / (size or 6))
    torch.manual_seed(1)
    torch.testing.assert_close(program.loss("m+s", {"x": x}), found)
    assert Predictive(program.pyro("q(x,w)"), num_samples=3)(size=5)["x"].shape == (3, 5)


def test_the_programs_of_goals_with_sources_of_their_own() -> None:
    program = compiled(f"""
        few(x) = evidence()
        many(t) = evidence()
        var t: real
        {LAWS}
        q(t | w) = Normal(w, 1)
        f(x, w) = few(x) * p(w)
        g(t, w) = many(t) * p(w)
        q(x, w) = q(w) * q(x|w)
        q(t, w) = q(w) * q(t|w)
        minimize KL(f(x,w) || q(x,w))
        minimize KL(g(t,w) || q(t,w))
    """)
    program.data_sizes = {"few(x)": 50, "many(t)": 950}
    x = torch.randn(4, dtype=torch.float64)
    for model, guide, size in (("q(x,w)", "f(x,w)", 50), ("q(t,w)", "g(t,w)", 950)):
        m, s, kl = own(program)
        torch.manual_seed(1)
        found = TraceMeanField_ELBO().differentiable_loss(program.pyro(model), program.pyro(guide), x)
        torch.manual_seed(1)
        w = m + s * torch.randn((), dtype=torch.float64)
        agree(program, found, size * nll(x, w) + kl)


def scale(program: Callable[..., object], *arguments: Tensor) -> float:
    trace = pyro.poutine.trace(program).get_trace(*arguments)
    return float(trace.nodes["x"]["scale"])


def test_a_joint_that_both_goals_share_takes_a_size_that_they_agree_on() -> None:
    program = compiled(TWO.replace("minimize", "q(x, w) = q(w) * q(x|w)\nminimize", 1))
    x = torch.randn(5, dtype=torch.float64)
    program.data_size = 20
    assert scale(program.pyro("q(x,w)"), x) == 4
    program.data_sizes = {"few(x)": 20, "many(x)": 30}
    with pytest.raises(ValueError, match="its sources differ"):
        scale(program.pyro("q(x,w)"), x)


# --- one value in each call

MIXED = """
data(x) = evidence()
var x: real
var k: {0..2}
var w: real[3] global
param m: real[3]
p(w) = Normal(m, 0.1)
q(w) = Normal(0, 1)
q(k) = Categorical([0.2, 0.3, 0.5])
q(x | k, w) = Normal(w[k], 0.01)
p(k | x) = Categorical()
q(x, k, w) = q(w) * q(k) * q(x|k,w)
p(x, k, w) = data(x) * p(w) * p(k|x)
minimize KL(p(x,k,w) || q(x,k,w))
"""


def test_a_sample_has_one_value_of_a_global() -> None:
    program = compiled(MIXED)
    made = program.sample("q(x,k,w)", 50)
    assert {v: tuple(value.shape) for v, value in made.items()} == {"x": (50,), "k": (50,), "w": (3,)}
    assert (made["x"] - made["w"][made["k"]]).abs().max() < 0.06
    w = torch.tensor([-5.0, 0.0, 5.0], dtype=torch.float64)
    given = program.sample("q(x|k,w)", batch={"w": w, "k": torch.tensor([2, 0])})["x"]
    torch.testing.assert_close(given, torch.tensor([5.0, -5.0], dtype=torch.float64), atol=0.06, rtol=0)
    assert program.sample("q(w)", 4)["w"].shape == (3,)
    assert program.sample("p(x,k,w)", batch={"x": torch.zeros(2, dtype=torch.float64)})["w"].shape == (3,)
    with pytest.raises(DataError, match=r"w is one value for all data: it has the shape \(3,\), not \(2, 3\)"):
        program.sample("q(x|k,w)", batch={"k": torch.tensor([2, 0]), "w": torch.zeros(2, 3)})


def test_the_branches_of_a_mixture_have_one_value_of_a_global() -> None:
    program = compiled(f"""
        data(x) = evidence()
        {LAWS}
        l(x | w) = Normal(w - 10, 0.1)
        r(x | w) = Normal(w + 10, 0.1)
        q(x, w) = {{ s=0: 0.25 * q(w) * l(x|w); s=1: 0.75 * q(w) * r(x|w) }}
        f(x, w) = {{ s=0: q(w) * l(x|w); s=1: p(w) * r(x|w) }}
        minimize KL(data(x) * p(w) || q(w) * q(x|w))
    """)
    made = program.sample("q(x,w)", 200)
    assert made["w"].shape == ()
    assert ((made["x"] - made["w"]).abs() - 10).abs().max() < 1
    for refused in (lambda: program.sample("f(x,w)", 5), lambda: program.proposals("f(x,w)")):
        with pytest.raises(DataError, match="the branches of f"):
            refused()
    x, w = torch.randn(4, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    parts = torch.stack(
        [Normal(w - 10, 0.1).log_prob(x) + math.log(0.25), Normal(w + 10, 0.1).log_prob(x) + math.log(0.75)]
    )
    prior = Normal(0.0, 1.0).log_prob(w)
    torch.testing.assert_close(program.log_prob("q(x,w)", {"x": x, "w": w}), parts.logsumexp(0) + prior / 4)


def test_the_prior_of_a_global_counts_once() -> None:
    """The sum over the batch is the joint's log density."""
    program = compiled(MIXED)
    x, k = torch.randn(5, dtype=torch.float64), torch.tensor([0, 2, 1, 2, 2])
    w = torch.randn(3, dtype=torch.float64)
    prior = Normal(0.0, 1.0).log_prob(w).sum()
    shares = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
    each = Normal(w[k], 0.01).log_prob(x) + shares[k]
    found = program.log_prob("q(x,k,w)", {"w": w, "x": x, "k": k})
    torch.testing.assert_close(found.sum(), prior + each.sum())
    torch.testing.assert_close(program.log_prob("q(x|k,w)", {"w": w, "x": x, "k": k}), Normal(w[k], 0.01).log_prob(x))
    torch.testing.assert_close(program.log_prob("q(w)", {"w": w}), prior)
    summed = (shares + Normal(w, 0.01).log_prob(x[:, None])).logsumexp(1)
    torch.testing.assert_close(program.log_prob("q(x|w)", {"w": w, "x": x}), summed)
    trace = pyro.poutine.trace(pyro.poutine.condition(program.pyro("q(x,k,w)"), {"w": w, "k": k})).get_trace(x)
    torch.testing.assert_close(trace.log_prob_sum(), found.sum())
    with pytest.raises(DataError, match="w is one value for all data"):
        program.log_prob("q(x,k,w)", {"w": w.expand(5, 3), "x": x, "k": k})
    with pytest.raises(DataError, match="global"):
        program.log_prob("q(x)", {"x": x})


def test_a_divergence_known_to_torch() -> None:
    """What `own` says of the params' divergence."""
    program = compiled(WITHOUT)
    m, s, kl = own(program)
    torch.testing.assert_close(kl, kl_divergence(Normal(m, s), Normal(torch.zeros_like(m), torch.ones_like(s))))
