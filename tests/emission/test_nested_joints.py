"""Joints in joints: opened in time that grows with what is written, and left out where they cannot be drawn."""

from __future__ import annotations

import time

import pyro
import pytest
import torch

import jointkl
from tests.bounds import SIGMAS, reach

BASE = "var x, z: real\nvar y: {0, 1}\nparam a: real\nq(x) = Normal(a, 1)\ns(z) = Normal(0, 1)\n"
GOAL = "minimize KL(data(x) || q(x))\n"


@pytest.mark.slow
def test_three_thousand_joints_in_each_other() -> None:
    n = 3000
    nested = "q1(x) = q(x)\n" + "".join(f"q{i}(x) = q{i - 1}(x)\n" for i in range(2, n + 1))
    model = jointkl.parse(f"{BASE}{nested}minimize KL(data(x) || q{n}(x))")
    start = time.process_time()
    text = jointkl.python(model)
    assert time.process_time() - start < 10
    assert text.count("def q") >= n


UNDRAWN = {
    "a labelled mixture as a factor": "m(x, y) = { y=0: q(x); y=1: data(x) }\nr(x, y, z) = m(x, y) * s(z)\n",
    "more paths than may be": "m(x) = { k=0: q(x); k=1: data(x) }\n"
    + f"r({', '.join('x' + chr(39) * i for i in range(9))}) = {' * '.join(f'm(x{chr(39) * i})' for i in range(9))}\n",
}


@pytest.mark.parametrize("name", UNDRAWN)
def test_a_joint_that_no_goal_uses_needs_no_program(name: str) -> None:
    program = jointkl.compile(jointkl.parse(BASE + UNDRAWN[name] + GOAL))
    assert program.players == ("a",)
    law = next(law.text for law in program.model.laws.values() if law.label == "r")
    with pytest.raises(jointkl.DataError, match="cannot be drawn"):
        program.sample(law, 3)


@pytest.mark.statistical
def test_hidden_variables_of_inner_joints_stay_apart() -> None:
    """x = z1 + z2 + z3, each z of its own: the variance is 3."""
    program = jointkl.compile(
        jointkl.parse(
            "var x, z, u, v: real\nparam a: real\ns(z) = Normal(0, 1)\nf(u|z) = Delta(z)\ng(v|z,u) = Delta(z + u)\n"
            "h(x|z,v) = Delta(z + v)\nq(u) = s(z) * f(u|z)\nq(v) = q(u) * s(z) * g(v|z,u)\n"
            "q(x) = q(v) * s(z) * h(x|z,v)\nt(x) = Normal(a, 1)\nminimize KL(data(x) || t(x))"
        )
    )
    torch.manual_seed(0)
    drawn = program.emitted.q_x(size=20_000)["x"]
    assert drawn.var().item() == pytest.approx(3, rel=SIGMAS * (2 / 20_000) ** 0.5)


MIXED = "h(x|z) = Normal(z, 1)\nm(x) = { k=0: s(z) * h(x|z); k=1: q(x) }\n"


@pytest.mark.statistical
def test_mixtures_beside_each_other_and_in_each_other() -> None:
    """Each draws its own label and hidden variables: a product's two values do not covary, and shares multiply."""
    text = BASE + MIXED + "r(x, x') = m(x) * m(x')\nw(x) = { k=0: m(x); k=1: q(x) }\n" + GOAL
    program = jointkl.compile(jointkl.parse(text))
    with torch.no_grad():
        program.params["a"].fill_(10.0)
    torch.manual_seed(0)
    trace = pyro.poutine.trace(program.pyro("r(x,x)")).get_trace(size=20_000)
    assert {"k", "k'", "z", "z'"} <= set(trace.nodes)
    drawn = torch.stack(list(trace.nodes["_RETURN"]["value"].values()))
    assert drawn.mean(1).tolist() == pytest.approx([5, 5], abs=reach(drawn[0]))
    assert drawn.corrcoef()[0, 1].item() == pytest.approx(0, abs=SIGMAS / 20_000**0.5)
    deep = program.pyro("w(x)")(size=20_000)["x"]
    assert deep.mean().item() == pytest.approx(7.5, abs=reach(deep))


@pytest.mark.parametrize("other", ["q(x)", "w{}(x)"])
def test_mixtures_too_deep_in_each_other_have_no_program(other: str) -> None:
    """Of a deep one there are samples; one that doubles with each step is written as long as it is short."""
    chain = [f"w{i}(x) = {{ k=0: w{i - 1}(x); k=1: {other.format(i - 1)} }}\n" for i in range(1, 40)]
    program = jointkl.compile(jointkl.parse(BASE + MIXED + "w0(x) = m(x)\n" + "".join(chain) + GOAL))
    assert program.pyro("w3(x)")(size=3)["x"].shape == (3,)
    assert len(program.source) < 1_000_000
    with pytest.raises(jointkl.DataError, match="no Pyro program") as found:
        program.pyro("w30(x)")
    assert "too deep" in str(found.value)
    if other == "q(x)":
        assert program.sample("w30(x)", 3)["x"].shape == (3,)


@pytest.mark.slow
def test_a_mixture_of_five_hundred_labels_is_drawn() -> None:
    branches = "; ".join(f"y={i}: r{i}(x)" for i in range(500))
    laws = "".join(f"r{i}(x) = Normal({i}, 0.01)\n" for i in range(500))
    text = (
        f"var x: real\nvar y: {{0..499}}\nparam a: real\nq(x) = Normal(a, 1)\n{laws}m(x, y) = {{ {branches} }}\n{GOAL}"
    )
    drawn = jointkl.compile(jointkl.parse(text)).pyro("m(x,y)")(size=50)
    torch.testing.assert_close(drawn["x"], drawn["y"].float(), rtol=0, atol=0.1)


@pytest.mark.slow
def test_a_long_chain_of_draws() -> None:
    """Six hundred variables, each drawn from the one before: no recursion as deep as the chain."""
    n = 600
    steps = "".join(
        f"p(v{i + 1}|v{i}) = Normal(a * v{i}, 1)\nq(v{i}|v{i + 1}) = Normal(v{i + 1}, 1)\n" for i in range(n)
    )
    path = " * ".join(f"p(v{i + 1}|v{i})" for i in range(n))
    back = " * ".join(f"q(v{i}|v{i + 1})" for i in range(n))
    text = jointkl.python(
        jointkl.parse(
            f"var {', '.join(f'v{i}' for i in range(n + 1))}: real\nparam a: real\n{steps}q(v{n}) = Normal(0, 1)\n"
            f"minimize KL(data(v0) * {path} || q(v{n}) * {back})"
        )
    )
    compile(text, "emitted", "exec")
