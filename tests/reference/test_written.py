"""Laws as they are written, and goals over some data, by numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.reference import families
from jointkl.reference.goals import Undefined
from jointkl.reference.players import players
from jointkl.reference.values import Assignment, Weights
from jointkl.reference.written import Written, objective
from jointkl.semantics.model import Law
from jointkl.semantics.spaces import Space


def number(x: object) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def unsolved(law: Law, at: Assignment) -> Tensor:
    return number([0.25, 0.75]).log()


def read(spec: str, rows: dict[str, list[dict[str, Tensor]]], **params: object) -> Written:
    now = Weights({n: number(p).requires_grad_() for n, p in params.items()}, {})
    return Written(jointkl.parse(spec), now, now, rows, unsolved)


def exact(w: Written, who: str) -> Tensor:
    (player,) = [p for p in players(w.model) if who in p.members]
    return objective(w, player)


def value(w: Written, who: str) -> float:
    return float(exact(w, who).detach())


def normal(x: float, loc: float, scale: float = 1.0) -> float:
    return -0.5 * ((x - loc) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)


def test_scalars_fill_an_event_and_its_numbers_add() -> None:
    bits = families.log_density("Bernoulli", {"logits": number(0.7)}, Space("binary", (3,)), number([1, 0, 1]))
    assert float(bits) == pytest.approx(2 * math.log(1 / (1 + math.exp(-0.7))) + math.log(1 / (1 + math.exp(0.7))))
    spread = {"loc": number([1.0, 2.0]), "scale": number(0.5)}
    both = families.log_density("Normal", spread, Space("real", (2,)), number([0.0, 3.0]))
    assert float(both) == pytest.approx(normal(0, 1, 0.5) + normal(3, 2, 0.5))


def test_a_value_that_a_law_never_draws_has_no_density() -> None:
    bounds = {"low": number(-1.0), "high": number(3.0)}
    assert float(families.log_density("Uniform", bounds, Space("real"), number(2.0))) == pytest.approx(-math.log(4))
    assert float(families.log_density("Uniform", bounds, Space("real"), number(3.5))) == -math.inf


def test_a_cross_entropy_is_a_mean_over_the_rows() -> None:
    w = read(
        "data(x, t) = evidence()\nvar x, t: real\nparam a: real\nq(x|t) = Normal(a*t, 1)\n"
        "minimize CE(data(x,t) || q(x|t))",
        {"data(x,t)": [{"x": number(1.0), "t": number(2.0)}, {"x": number(-1.0), "t": number(0.5)}]},
        a=0.3,
    )
    found = exact(w, "a")
    assert float(found.detach()) == pytest.approx(-(normal(1, 0.6) + normal(-1, 0.15)) / 2)
    found.backward()
    grad = w.now.params["a"].grad
    assert grad is not None
    assert float(grad) == pytest.approx(-((1 - 0.6) * 2 + (-1 - 0.15) * 0.5) / 2)


def test_a_hidden_mixture_is_summed_and_its_copies_are_not_data() -> None:
    spec = (
        "data(x) = evidence()\nvar x: real\nvar k: {0, 1}\nparam a: real\nu(x) = Normal(a, 1)\nv(x) = Uniform(-1, 1)\n"
        "m(x) = { s=0: 0.25 * u(x); s=1: 0.75 * v(x) }\nminimize CE(data(x) || m(x))"
    )
    w = read(spec, {"data(x)": [{"x": number(0.5)}, {"x": number(2.0)}]}, a=1.0)
    inside = math.log(0.25 * math.exp(normal(0.5, 1)) + 0.75 / 2)
    outside = math.log(0.25) + normal(2, 1)
    assert value(w, "a") == pytest.approx(-(inside + outside) / 2)


def test_a_free_law_is_as_it_was_solved() -> None:
    w = read(
        "data(x) = evidence()\nvar x: real\nvar k: {0, 1}\nparam mu: real[2]\np(k|x) = Free\nq(k) = Categorical()\n"
        "q(x|k) = Normal(mu[k], 1)\nminimize KL(data(x) * p(k|x) || q(k) * q(x|k))",
        {"data(x)": [{"x": number(0.5)}]},
        mu=[1.0, -1.0],
    )
    zero = 0.25 * (math.log(0.25) - math.log(0.5) - normal(0.5, 1))
    one = 0.75 * (math.log(0.75) - math.log(0.5) - normal(0.5, -1))
    assert value(w, "mu") == pytest.approx(zero + one)


def test_a_slope_is_that_of_the_logit() -> None:
    spec = (
        "data(x) = evidence()\nvar x: real[2]\nvar y: {0, 1}\nparam w: real[2]\nc(y|x) = Bernoulli(logits=sum(w*x))\n"
        "n(x) = evidence()\nm(x,y) = { y=1: data(x); y=0: n(x) }\n"
        "minimize KL(m(x,y) || data(x) * c(y|x)) over w\nminimize 3 * R1(data(x) || c(y|x))"
    )
    rows = {"data(x)": [{"x": number([1.0, 2.0])}], "n(x)": [{"x": number([0.0, 0.0])}]}
    found = value(read(spec, rows, w=[0.5, -1.0]), "w")
    wins = math.log(1 + math.exp(-(0.5 - 2.0))) + math.log(2)
    assert found == pytest.approx(wins + 2 * math.log(0.5) + 3 * (0.25 + 1.0))


def test_pairs_of_data_and_continuous_draws_have_no_value() -> None:
    spec = (
        "data(x) = evidence()\nvar x: real\nparam a: real\nq(x|x') = Normal(a*x', 1)\nn(x) = Normal(a, 1)\n"
        "minimize CE({} || q(x|x'))"
    )
    for path, why in (("data(x) * data(x')", "several draws"), ("n(x) * data(x')", "more than can be summed")):
        w = read(spec.format(path), {"data(x)": [{"x": number(0.5)}]}, a=1.0)
        with pytest.raises(Undefined, match=why):
            value(w, "a")
