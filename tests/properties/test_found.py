"""What random specs have found, shrunk: each must compile, have a scalar loss, and the right gradient."""

from __future__ import annotations

import copy

import pyro
import pytest
import torch

import jointkl
from jointkl import density
from tests.bounds import verify_log_mean

LONG = torch.tensor([0, 1, 1, 0])
REAL = torch.tensor([0.3, -1.1, 0.4, 2.0])

FOUND: dict[str, tuple[str, dict[str, torch.Tensor]]] = {
    "a finite marginal": (
        """
data(x) = evidence()
var x: {0..2}
var z: {0, 1}
param a: real
param b: real[2,3]
q(z) = Bernoulli(logits=a)
q(x|z) = Categorical(logits=b[z])
m(x) = q(z) * q(x|z)
minimize KL(data(x) || m(x))
""",
        {"x": LONG},
    ),
    "a term of one of two variables summed over": (
        """
var x: {0..2}
var z: {0, 1}
param a: real
param b: real[2,3]
q(z) = Bernoulli(logits=a)
q(x|z) = Categorical(logits=b[z])
r(x) = Categorical([0.2, 0.3, 0.5])
minimize CE(q(z) * q(x|z) || r(x))
""",
        {},
    ),
    "a Bernoulli's draw as an index": (
        """
var x: {0..2}
var z: {0, 1}
param b: real[2,3]
q(z) = Bernoulli(0.4)
q(x|z) = Categorical(logits=b[z])
r(x) = Categorical([0.2, 0.3, 0.5])
minimize CE(q(z) * q(x|z) || r(x))
""",
        {},
    ),
    "finite data under a Bernoulli": (
        """
data(x) = evidence()
var x: {0, 1}
param w: unit
p(x) = Bernoulli(w)
minimize KL(data(x) || p(x))
""",
        {"x": LONG},
    ),
    "a Bernoulli's draw under a Categorical": (
        """
data(x) = evidence()
var x: real
var z: {0, 1}
net E = linear()
q(z) = Bernoulli(0.3)
r(z|x) = Categorical(E(x))
minimize CE(data(x) * q(z) || r(z|x))
""",
        {"x": REAL},
    ),
    "a Categorical's draw under a Bernoulli": (
        """
var z: {0, 1}
param w: real
q(z) = Categorical([0.3, 0.7])
r(z) = Bernoulli(logits=w)
minimize CE(q(z) || r(z))
""",
        {},
    ),
    "a number fills a vector's location": (
        """
data(x) = evidence()
var x: real[2]
param m: real
q(x) = Normal(m, 1)
minimize KL(data(x) || q(x))
""",
        {"x": torch.randn(4, 2)},
    ),
    "a number fills a vector's probabilities": (
        """
data(x) = evidence()
var x: binary[2]
param w: unit
q(x) = Bernoulli(w)
minimize KL(data(x) || q(x))
""",
        {"x": torch.ones(4, 2)},
    ),
    "a closed form without a batch against one with": (
        """
data(x) = evidence()
var x: {0..2}
var z: binary[2]
param w: real[2]
net E = linear()
p(z) = Bernoulli(logits=w)
q(z|x) = Bernoulli(E(x))
q(x) = Categorical()
minimize KL(data(x) * p(z) || q(x) * q(z|x))
""",
        {"x": LONG},
    ),
    "a closed form over enumerated values": (
        """
var x: {0..2}
var z: binary[2]
param w: real[3]
net E = linear()
r(x) = Categorical(softmax(w))
r(z|x) = Bernoulli(E(x))
q(x) = Categorical()
q(z) = Bernoulli(0.3)
minimize KL(r(x) * r(z|x) || q(x) * q(z))
""",
        {},
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_every_loss_is_a_number_with_a_gradient(name: str) -> None:
    text, batch = FOUND[name]
    program = jointkl.compile(text)
    for player in program.emitted.losses:
        loss = program.loss(player, batch or {"nothing": torch.zeros(4)})
        assert loss.shape == ()
        found = torch.autograd.grad(loss, program.parameters_of(player), allow_unused=True)
        assert all(g is not None for g in found)


def test_logits_of_a_finite_variable_are_a_vector() -> None:
    """A number fills the logits, or is refused: it never reaches torch as one."""
    text = "data(x) = evidence() var x: {0..2} param m: real q(x) = Categorical(logits=m) minimize KL(data(x) || q(x))"
    try:
        program = jointkl.compile(text + "\n")
    except jointkl.JklError:
        return
    assert program.loss("m", {"x": LONG}).shape == ()


def test_a_player_that_moves_a_path_but_no_density() -> None:
    """t moves with w, and q(x|t) does not move with t: nothing is left to train, and that is said."""
    text = """
var x: {0, 1}
var t: {0, 1}
param w: real
p(t) = Bernoulli(logits=w)
r(x) = Bernoulli(0.3)
q(x|t) = Bernoulli(0.5)
minimize KL(p(t) * r(x) || p(t) * q(x|t))
"""
    program = jointkl.compile(text)
    for player in program.emitted.losses:
        (g,) = torch.autograd.grad(program.loss(player, {"nothing": torch.zeros(2)}), program.parameters_of(player))
        assert g.abs() < 1e-6


@pytest.mark.parametrize("law", ["Bernoulli(0.3)", "Normal(-1, 1)", "Normal(0, 1e-5)", "Normal(-2, 0.5)"])
def test_constants_are_of_the_parameters_type_and_place(law: str) -> None:
    """What is drawn from constants alone follows the parameters: `.double()`, `.to("cuda")`."""
    space = "binary" if law.startswith("B") else "real"
    text = f"""
var z: {space}
param m: real
q(z) = {law}
r(z) = {"Bernoulli(logits=m)" if space == "binary" else "Normal(m, 2)"}
minimize CE(q(z) || r(z))
"""
    program = jointkl.compile(text).to(torch.float64)
    assert program.loss("m", {"nothing": torch.zeros(2)}).dtype == torch.float64
    assert program.sample("q(z)", 3)["z"].dtype == torch.float64


def test_detached_samples_carry_no_gradient_through_their_probabilities() -> None:
    """RESIDUAL: with a classifier that tells nothing, w3 has no gradient; -log p(z) at sg(z) trains w1 alone."""
    text = """
data(x) = evidence()
var x: {0, 1}
var z: {0, 1}
var y: {0, 1}
param w1: real
param w2: real[2]
param w3: real
net D = linear()
p(z) = Bernoulli(logits=w1)
q(x) = Categorical(logits=w2)
q(z) = Bernoulli(logits=w3)
m(x,z,y) = { y=1: data(x) * p(z); y=0: q(x) * q(z) }
d(y|x,z) = Bernoulli(D(x,z))
minimize KL(m(x,z,y) || data(x) * p(z) * d(y|x,z))
"""
    program = jointkl.compile(text).double()
    with torch.no_grad():
        for w in program.nets["D"].parameters():
            w.zero_()
        program.params["w1"].fill_(1.0)
    (player,) = (p for p in program.emitted.losses if p != "D")
    (g,) = torch.autograd.grad(program.loss(player, {"x": LONG}), [program.emitted.w3])
    assert g.abs() < 1e-12


def test_the_critic_of_mutual_information_tells_two_joints_apart() -> None:
    """Its samples are data(x) p(z|x) on one side, data(x) and a z of another x on the other."""
    text = """
data(x) = evidence()
var x: {0, 1}
var z: {0..2}
param w: real[2,3]
net C = mlp(3)
p(z|x) = Categorical(logits=w[x])
agg(z) = data(x) * p(z|x)
minimize KL(data(x) * p(z|x) || data(x) * agg(z)) with critic=C
"""
    up, down = jointkl.derive(jointkl.parse(text)).losses["C"]
    assert up.path != down.path


def test_importance_without_a_draw_is_plain() -> None:
    """Copies of nothing: the batch is no set of copies."""
    text = """
data(x) = evidence()
var x: real
param w: real
q(x) = Normal(w, 1)
minimize KL(data(x) || q(x))"""
    plain, weighed = jointkl.compile(text + "\n"), jointkl.compile(text + " with importance=8\n")
    torch.testing.assert_close(weighed.loss("w", {"x": REAL}), plain.loss("w", {"x": REAL}))


def test_two_sources_of_one_label_have_two_keys() -> None:
    """data(x) and data(x,z) bound to two sources: each has a key of its own in a batch, or it is refused."""
    text = """
var x: {0, 1}
var z: {0, 1}
data(x) = evidence()
data(x, z) = evidence()
param a: real
param b: real
q(x) = Bernoulli(logits=a)
r(z | x) = Bernoulli(logits=b)
minimize KL(data(x) || q(x)) + CE(data(x,z) || r(z|x))
"""
    try:
        model = jointkl.parse(text)
    except jointkl.JklError:
        return
    assert model.batch_key("data(x)", "x") != model.batch_key("data(x,z)", "x")


def test_a_program_can_be_copied() -> None:
    """As any module can: `copy.deepcopy`."""
    text = "var x: real param m: real q(x) = Normal(0, 1) r(x) = Normal(m, 2) minimize CE(q(x) || r(x))\n"
    copy.deepcopy(jointkl.compile(text))


def test_samples_of_a_law_that_makes_no_use_of_its_givens() -> None:
    """One row for each datum, and one log-density; a finite variable that a Bernoulli gives can be observed."""
    text = """
data(x, z) = evidence()
var x: {0, 1}
var z: {0, 1}
param w: real
r(x) = Bernoulli(logits=w)
r(z|x) = Categorical([0.2, 0.8])
n(x,z) = { k=0: 0.3 * data(x,z); k=1: 0.7 * r(x) * r(z|x) }
q(x,z) = r(x) * r(z|x)
minimize CE(n(x,z) || r(x) * r(z|x))
"""
    program = jointkl.compile(text)
    batch = {"x": LONG, "z": LONG}
    assert program.sample("n(x,z)", batch=batch)["z"].shape == LONG.shape
    assert program.sample("q(x,z)", 5)["z"].shape == (5,)
    trace = pyro.poutine.trace(program.pyro("q(x,z)")).get_trace(x=LONG, z=LONG)
    torch.testing.assert_close(trace.log_prob_sum(), program.log_prob("q(x,z)", batch).sum())
    trace = pyro.poutine.trace(program.pyro("r(x)")).get_trace(x=LONG)
    torch.testing.assert_close(trace.log_prob_sum(), program.log_prob("r(x)", batch).sum())


@pytest.mark.statistical
def test_a_hidden_variable_is_drawn_anew_for_each_particle(monkeypatch: pytest.MonkeyPatch) -> None:
    """log_prob by importance sampling: hidden variables drawn from laws given visible ones alone, one per particle."""
    text = """
data(x, t) = evidence()
var x, t: {0, 1}
var z, u: {0..2}
param a: real[2,3]
param b: real[3,3]
param c: real[3]
q(z|t) = Categorical(logits=a[t])
q(u|z) = Categorical(logits=b[z])
q(x|u) = Bernoulli(logits=c[u])
q(t) = Bernoulli(0.4)
q(x,t) = q(t) * q(z|t) * q(u|z) * q(x|u)
minimize KL(data(x,t) || q(x,t))
"""
    monkeypatch.setattr(density, "MOST_SUMMED", 1)
    torch.manual_seed(0)
    program = jointkl.compile(text).double()
    a, b, c = (program.params[n].detach() for n in "abc")
    x, t = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1])
    one = (a.softmax(-1)[t] @ b.softmax(-1) * c.sigmoid()).sum(-1)
    exact = torch.where(x == 1, one, 1 - one).log() + torch.where(t == 1, 0.4, 0.6).log()
    verify_log_mean(lambda: program.log_prob("q(x,t)", {"x": x, "t": t}, particles=500), exact)
