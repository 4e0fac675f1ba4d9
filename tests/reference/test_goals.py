"""The reference by numbers worked out by hand: what docs/language.md says of small specs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.reference.goals import objective, scale
from jointkl.reference.laws import FiniteModel
from jointkl.reference.players import players
from jointkl.reference.tables import Table
from jointkl.reference.values import Weights


def number(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def world(spec: str, evidence: Mapping[str, Table] | None = None, old: Mapping[str, Tensor] | None = None, **params):
    model = jointkl.parse(spec)
    now = Weights({n: torch.as_tensor(p, dtype=torch.float64) for n, p in params.items()}, {})
    before = Weights(old, {}) if old is not None else now
    return FiniteModel(model, now, before, evidence or {})


def value(w: FiniteModel, who: str, size: int = 1) -> float:
    (player,) = [p for p in players(w.model) if who in p.members]
    return float(objective(w, player, size))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


BITS = "var x: {0, 1}\nparam a, b: real\np(x) = Bernoulli(logits=a)\nq(x) = Bernoulli(logits=b)\n"


def test_a_divergence_and_its_weight() -> None:
    w = world(BITS + "minimize 3 * KL(p(x) || q(x)) - KL(q(x) || p(x))", a=logit(0.2), b=logit(0.7))
    assert value(w, "a") == pytest.approx(3 * kl(0.2, 0.7) - kl(0.7, 0.2))


def test_a_hinge_is_on_the_exact_value() -> None:
    for margin in (0.2, 1.0):
        w = world(BITS + f"minimize 2 * max(0, {margin} - KL(p(x) || q(x)))", a=logit(0.2), b=logit(0.7))
        assert value(w, "a") == pytest.approx(2 * max(0.0, margin - kl(0.2, 0.7)))


def test_old_is_the_snapshot() -> None:
    before = {"a": number(0.0), "b": number(logit(0.9))}
    w = world(
        BITS + "minimize KL(p(x) || old q(x)) over a\nminimize KL(q(x) || p(x)) over b", old=before, a=logit(0.2), b=0.0
    )
    assert value(w, "a") == pytest.approx(kl(0.2, 0.9))
    assert value(w, "b") == pytest.approx(kl(0.5, 0.2))


def test_two_evidence_factors_are_independent() -> None:
    """E log q(v | x, x') over two draws, though their columns are equal in every row."""
    spec = """
        data(x, t) = evidence()
        var x, t, v: {0, 1}
        param a: real[2,2]
        q(v | x, t) = Bernoulli(logits=a[x,t])
        r(v) = Bernoulli(0.5)
        minimize CE(data(x) * data(t) * r(v) || q(v|x,t))
    """
    rows = Table(("x", "t"), torch.tensor([[0.25, 0.0], [0.0, 0.75]], dtype=torch.float64))
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.6]], dtype=torch.float64)
    w = world(spec, {"data(x,t)": rows}, a=logits)
    shares = {0: 0.25, 1: 0.75}
    exact = -sum(
        shares[x] * shares[t] * 0.5 * (math.log(p) + math.log(1 - p))
        for x in (0, 1)
        for t in (0, 1)
        for p in [float(torch.sigmoid(logits[x, t]))]
    )
    assert value(w, "a") == pytest.approx(exact)


def test_scalars_fill_a_vector() -> None:
    w = world(
        "data(x) = evidence() var x: binary[3] param a: real q(x) = Bernoulli(logits=a) minimize CE(data(x) || q(x))",
        {"data(x)": Table(("x",), torch.full((8,), 0.125, dtype=torch.float64))},
        a=logit(0.3),
    )
    assert value(w, "a") == pytest.approx(-1.5 * (math.log(0.3) + math.log(0.7)))


def test_a_labelled_mixture_and_the_scale_of_its_goal() -> None:
    """KL(m || n c) = sum_k w_k E_k[log w_k b_k - log n c(k)], the goal taken twice for two labels."""
    spec = (
        BITS
        + """
        var y: {0, 1}
        param c: real[2]
        d(y | x) = Bernoulli(logits=c[x])
        m(x, y) = { y=1: 0.25 * p(x); y=0: 0.75 * q(x) }
        minimize KL(m(x,y) || p(x) * d(y|x)) + 0.5 * KL(q(x) || p(x))
    """
    )
    logits = torch.tensor([0.4, -0.9], dtype=torch.float64)
    w = world(spec, a=logit(0.2), b=logit(0.7), c=logits)
    assert scale(w.model, w.model.goals[0]) == 2
    total = logistic = 0.0
    for k, share, branch in ((1, 0.25, 0.2), (0, 0.75, 0.7)):
        for x in (0, 1):
            mass = share * (branch if x else 1 - branch)
            c = float(torch.sigmoid(logits[x]))
            logistic -= mass * math.log(c if k else 1 - c)
            total += mass * (math.log(mass) - math.log(0.2 if x else 0.8) - math.log(c if k else 1 - c))
    assert value(w, "a") == pytest.approx(2 * (total + 0.5 * kl(0.7, 0.2)))
    assert value(w, "c") == pytest.approx(2 * logistic)  # a classifier by the KL that it labels alone, and in c alone


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_the_importance_weighted_bound(copies: int) -> None:
    spec = f"""
        data(x) = evidence()
        var x, z: {{0, 1}}
        param e, g: real[2]
        p(z | x) = Bernoulli(logits=e[x])
        q(z) = Bernoulli(0.5)
        q(x | z) = Bernoulli(logits=g[z])
        minimize KL(data(x) * p(z|x) || q(z) * q(x|z)) with importance={copies}
    """
    e, g = torch.tensor([0.7, -0.4]), torch.tensor([1.1, -0.2])
    w = world(spec, {"data(x)": Table(("x",), torch.tensor([0.4, 0.6], dtype=torch.float64))}, e=e, g=g)
    total = 0.0
    for x, share in ((0, 0.4), (1, 0.6)):
        p = float(torch.sigmoid(e[x].double()))
        for place in range(2**copies):
            zs = [place >> i & 1 for i in range(copies)]
            mass, ratios = share, []
            for z in zs:
                own = p if z else 1 - p
                x_given = float(torch.sigmoid(g[z].double()))
                mass *= own
                ratios.append(0.5 * (x_given if x else 1 - x_given) / (share * own))
            total -= mass * math.log(sum(ratios) / copies)
    assert value(w, "e") == pytest.approx(total)


def test_globals_alone_count_one_nth() -> None:
    spec = """
        data(x) = evidence()
        var x: {0, 1}
        var w: {0, 1} global
        param a: real
        param g: real[2]
        p(w) = Bernoulli(logits=a)
        q(w) = Bernoulli(0.5)
        q(x | w) = Bernoulli(logits=g[w])
        minimize KL(data(x) * p(w) || q(w) * q(x|w))
    """
    g = torch.tensor([0.5, -1.5], dtype=torch.float64)
    shares = Table(("x",), torch.tensor([0.3, 0.7], dtype=torch.float64))
    w = world(spec, {"data(x)": shares}, a=logit(0.2), g=g)
    fit = 0.0
    for v, mass in ((0, 0.8), (1, 0.2)):
        p = float(torch.sigmoid(g[v]))
        fit -= mass * (0.7 * math.log(p) + 0.3 * math.log(1 - p))
    entropy = 0.3 * math.log(0.3) + 0.7 * math.log(0.7)
    assert value(w, "a", size=10) == pytest.approx(fit + kl(0.2, 0.5) / 10 + entropy)
