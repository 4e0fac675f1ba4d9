"""Evidence factors on one path are independent draws: in losses, samples, Pyro programs and exports."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

import jointkl
from jointkl.diagnostics import DataError
from jointkl.exports.sampler import Sampler
from jointkl.objective.share import Passes
from jointkl.program import Program

MARGINALS = """
data(x, t) = evidence()
var x, t: real
var y: {0,1}
net D = mlp(8)
d(y|x,t) = Bernoulli(D(x,t))
q(x,t,y) = {y=1: data(x,t); y=0: data(x)*data(t)}
j(x,t) = data(x) * data(t)
minimize KL(q(x,t,y) || data(x,t)*d(y|x,t))
"""
"""Of a joint against the product of its marginals."""

THREE = """
data(a, b, c) = evidence()
var a, b, c, v: real
param s: real
q(v | a, b, c) = Normal(s * (a + 2*b + 4*c), 1)
r(v) = Normal(0, 1)
minimize KL(LEFT * q(v|a,b,c) || LEFT * r(v))
"""
"""KL = (s (a + 2b + 4c))^2 / 2, a, b and c drawn as LEFT says."""

COPIES = """
data(x) = evidence()
var x, v: real
param s: real
q(v | x, x', x'') = Normal(s * (x + 2*x' + 4*x''), 1)
r(v) = Normal(0, 1)
minimize KL(data(x) * data(x') * data(x'') * q(v|x,x',x'') || data(x) * data(x') * data(x'') * r(v))
"""

COLUMNS = """
data(x, x') = evidence()
var x, v: real
param s: real
q(v | x, x') = Normal(s * (x + 2*x'), 1)
r(v) = Normal(0, 1)
minimize KL(data(x,x') * q(v|x,x') || data(x,x') * r(v))
"""

TWICE = """
data(x, x') = evidence()
var x, v: real
param s: real
q(v | x, x', x'', x''') = Normal(s * (x + 2*x' + 4*x'' + 8*x'''), 1)
r(v) = Normal(0, 1)
minimize KL(data(x,x') * data(x'',x''') * q(v|x,x',x'',x''') || data(x,x') * data(x'',x''') * r(v))
"""

UNEQUAL = """
data(x, t) = evidence()
var x, t, v: real
param s: real
q(v | x, x', t) = Normal(s * (x + 2*x' + 4*t), 1)
r(v) = Normal(0, 1)
minimize KL(data(x) * data(x',t') * q(v|x,x',t') || data(x) * data(x',t') * r(v))
"""

TOTAL_CORRELATION = """
data(x) = evidence()
var x, a, b: real
net A = linear()
net B = linear()
net T = mlp(8)
p(a | x) = Normal(A(x), 0.5)
p(b | x) = Normal(B(x), 2)
both(a, b) = data(x) * p(a|x) * p(b|x)
first(a) = data(x) * p(a|x)
second(b) = data(x) * p(b|x)
minimize KL(both(a,b) || first(a) * second(b)) with critic=T
"""


def compiled(text: str, passes: Passes | None = None) -> Program:
    torch.manual_seed(0)
    program = jointkl.compile(text, passes) if passes else jointkl.compile(text)
    with torch.no_grad():
        for p in program.parameters():
            p.normal_()
    return program.double()


def scale(program: Program) -> Tensor:
    return program.params["s"]


def test_marginals_of_one_source_are_rows_apart() -> None:
    program = compiled(MARGINALS)
    x, t, other = torch.randn(3, 5).double()
    D = program.nets["D"]
    for batch, t2 in (({"x": x, "t": t}, t.roll(1)), ({"x": x, "t": t, "t'": other}, other)):
        expected = softplus(-D(x, t)).mean() + softplus(D(x, t2)).mean()
        torch.testing.assert_close(program.loss("D", batch), expected)


@pytest.mark.parametrize(
    ("left", "shifts"),
    [
        ("data(a,b,c)", (0, 0, 0)),
        ("data(a) * data(b) * data(c)", (0, 1, 2)),
        ("data(b,c) * data(a)", (1, 0, 0)),
        ("data(a,c) * data(b)", (0, 1, 0)),
        ("data(c) * data(a,b)", (1, 1, 0)),
    ],
)
def test_columns_of_one_factor_stay_together_and_factors_apart(left: str, shifts: tuple[int, ...]) -> None:
    program = compiled(THREE.replace("LEFT", left))
    batch = dict(zip("abc", torch.randn(3, 7).double(), strict=True))
    a, b, c = (batch[v].roll(shift) for v, shift in zip("abc", shifts, strict=True))
    expected = (scale(program) * (a + 2 * b + 4 * c)).square().mean() / 2
    torch.testing.assert_close(program.loss("s", batch), expected)


@pytest.mark.parametrize("copies", [True, False])
def test_three_copies_are_three_rows(copies: bool) -> None:
    program = compiled(COPIES, Passes(copies=copies))
    x, one, two = torch.randn(3, 6).double()
    for given, x1, x2 in (
        ({}, x.roll(1), x.roll(2)),
        ({"x'": one}, one, x.roll(2)),
        ({"x'": one, "x''": two}, one, two),
    ):
        expected = (scale(program) * (x + 2 * x1 + 4 * x2)).square().mean() / 2
        torch.testing.assert_close(program.loss("s", {"x": x, **given}), expected)


def test_networks_at_three_copies_are_those_of_three_forwards() -> None:
    text = COPIES.replace("param s: real", "net E = mlp(8)").replace("s * (x + 2*x' + 4*x'')", "E(x)+2*E(x')+4*E(x'')")
    program, apart = compiled(text), compiled(text, Passes(copies=False))
    x, two = torch.randn(2, 6).double()
    E = program.nets["E"]
    for given, x2 in (({}, x.roll(2)), ({"x''": two}, two)):
        loss = program.loss("E", {"x": x, **given})
        expected = (E(x) + 2 * E(x.roll(1)) + 4 * E(x2)).square().mean() / 2
        torch.testing.assert_close(loss, expected)
        found = torch.autograd.grad(loss, program.parameters_of("E"))
        wanted = torch.autograd.grad(apart.loss("E", {"x": x, **given}), apart.parameters_of("E"))
        torch.testing.assert_close(found, wanted)


def test_what_is_drawn_from_a_network_at_a_copy_keeps_its_noise() -> None:
    program = compiled(TOTAL_CORRELATION)
    x, x1, a_noise, b_noise = torch.randn(4, 5).double()
    A, B, T = (program.nets[n] for n in "ABT")
    a, b = A(x) + 0.5 * a_noise, B(x) + 2 * b_noise
    for given, other in (({}, x.roll(1)), ({"x'": x1}, x1)):
        expected = softplus(-T(a, B(other) + 2 * b_noise)).mean() + softplus(T(a, b)).mean()
        batch = {"x": x, "a.noise": a_noise, "b.noise": b_noise, **given}
        torch.testing.assert_close(program.loss("T", batch), expected)


def test_columns_of_one_law_are_never_moved() -> None:
    program = compiled(COLUMNS)
    x, x1 = torch.randn(2, 5).double()
    expected = (scale(program) * (x + 2 * x1)).square().mean() / 2
    torch.testing.assert_close(program.loss("s", {"x": x, "x'": x1}), expected)
    with pytest.raises(KeyError, match="the loss of s needs"):
        program.loss("s", {"x": x})


def test_two_draws_of_a_law_with_two_copies() -> None:
    program = compiled(TWICE)
    x, x1 = torch.randn(2, 5).double()
    expected = (scale(program) * (x + 2 * x1 + 4 * x.roll(2) + 8 * x1.roll(2))).square().mean() / 2
    torch.testing.assert_close(program.loss("s", {"x": x, "x'": x1}), expected)


def test_of_a_draw_that_is_given_every_column_must_be() -> None:
    program = compiled(UNEQUAL)
    x, t, x1, t1 = torch.randn(4, 5).double()
    for given, a, b in (({}, x.roll(1), t.roll(1)), ({"x'": x1, "t'": t1}, x1, t1)):
        expected = (scale(program) * (x + 2 * a + 4 * b)).square().mean() / 2
        torch.testing.assert_close(program.loss("s", {"x": x, "t": t, **given}), expected)
    for key, value in (("x'", x1), ("t'", t1)):
        with pytest.raises(KeyError):
            program.loss("s", {"x": x, "t": t, key: value})


def test_what_a_loss_reads_of_two_marginals_is_uncorrelated() -> None:
    """Of x = t standard normal E (x t)^2 is 1 for independent draws, 3 for the same rows."""
    text = MARGINALS.split("var y")[0] + "var v: real\nparam s: real\nq(v|x,t) = Normal(s*x*t, 1)\nr(v) = Normal(0,1)\n"
    program = compiled(text + "minimize KL(data(x) * data(t) * q(v|x,t) || data(x) * data(t) * r(v))")
    x = torch.randn(100_000).double()
    found = (2 * program.loss("s", {"x": x, "t": x}) / scale(program).square()).item()
    assert abs(found - 1) < 5 * (8 / len(x)) ** 0.5  # Var (x t)^2 = 9 - 1


@pytest.mark.parametrize(("text", "wanted"), [(MARGINALS, 2), (COPIES, 3), (TWICE, 3)])
def test_a_batch_of_too_few_rows_is_refused(text: str, wanted: int) -> None:
    program = compiled(text)
    (player,) = program.players
    keys = {v: torch.randn(wanted).double() for v in ("x", "t", *(("x'",) if text is TWICE else ()))}
    assert program.loss(player, keys).isfinite()
    with pytest.raises(ValueError, match=f"no {wanted} independent draws"):
        program.loss(player, {key: value[1:] for key, value in keys.items()})


# --- samples, programs, exports


def test_samples_of_two_marginals_are_independent() -> None:
    program = compiled(MARGINALS)
    x = torch.arange(4.0).double()
    found = program.sample("j(x,t)", batch={"x": x, "t": x})
    assert torch.equal(found["x"], x)
    assert torch.equal(found["t"], x.roll(1))
    given = program.sample("j(x,t)", batch={"x": x, "t": x, "t'": -x})
    assert torch.equal(given["t"], -x)
    with pytest.raises(DataError, match="no 2 independent draws"):
        program.sample("j(x,t)", batch={"x": x[:1], "t": x[:1]})
    with pytest.raises(DataError, match=r"takes t from evidence: pass batch=\{'t': ...\}"):
        program.sample("j(x,t)", batch={"x": x})


def test_a_branch_of_marginals_is_sampled_from_rows_apart() -> None:
    program = compiled(MARGINALS)
    x = torch.arange(1000.0).double()
    found = program.sample("q(x,t,y)", batch={"x": x, "t": x})
    assert torch.equal(found["x"] == found["t"], found["y"] == 1)


def test_samples_of_a_law_with_copies_need_every_column() -> None:
    program = compiled(COLUMNS.replace("minimize", "j(x,x') = data(x,x')\nminimize"))
    with pytest.raises(DataError, match=r'pass batch=\{"x\'"'):
        program.sample("j(x,x')", batch={"x": torch.zeros(3).double()})


def test_a_pyro_program_takes_an_argument_for_each_draw() -> None:
    program = compiled(MARGINALS)
    joint, mixture = program.pyro("j(x,t)"), program.pyro("q(x,t,y)")
    assert list(inspect.signature(joint).parameters) == ["x", "t_prime"]
    assert list(inspect.signature(mixture).parameters) == ["x", "t", "t_prime"]
    x, t, other = torch.arange(900.0).double(), torch.arange(900.0).double(), -torch.arange(900.0).double()
    drawn = mixture(x, t, other)
    assert torch.equal(drawn["t"], torch.where(drawn["y"] == 1, t, other))
    assert 0 < int(drawn["y"].sum()) < 900


def test_a_pyro_program_tells_draws_beside_a_mixture_apart() -> None:
    """t stands beside a mixture one of whose branches reads the source already."""
    program = compiled(
        """
        data(x, t) = evidence()
        var x, t: real
        param m: real
        g(x) = Normal(m, 1)
        mix(x) = { s=0: g(x); s=1: data(x) }
        j(x,t) = mix(x) * data(t)
        r(x,t) = mix(x) * g2(t)
        g2(t) = Normal(m, 1)
        minimize CE(data(t) || g2(t))
        """
    )
    assert list(inspect.signature(program.pyro("j(x,t)")).parameters) == ["x", "t_prime"]
    x = torch.arange(400.0).double()
    drawn = program.sample("j(x,t)", batch={"x": x, "t": x})
    from_data = (drawn["x"] % 1 == 0) & (drawn["x"] >= 0)
    assert 0 < int(from_data.sum()) < 400
    assert not bool((drawn["x"] == drawn["t"])[from_data].any())


def test_an_exported_sampler_takes_an_input_for_each_draw() -> None:
    program = compiled(MARGINALS.replace("j(x,t) = data(x) * data(t)", "j(x,t,y) = data(x) * data(t) * d(y|x,t)"))
    assert [i.need.key for i in Sampler(program, "j(x,t,y)").inputs][:2] == ["x", "t'"]
