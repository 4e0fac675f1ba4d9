"""Divergences of discrete families where probabilities are 0 or 1 to rounding, and densities outside a support."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.program import Program

DISCRETE = """
data(x) = evidence()
var x: real
var b: {space}
param l, m: {of}
p(b | x) = {family}({role}=l)
q(b) = {family}({role}=m)
minimize KL(data(x) * p(b|x) || data(x) * q(b))
"""


def compiled(text: str, **params: object) -> Program:
    program = jointkl.compile(text).double()
    with torch.no_grad():
        for name, value in params.items():
            own = dict(program.emitted.named_parameters())
            (own.get(name, own.get(f"{name}_raw"))).copy_(torch.as_tensor(value, dtype=torch.float64))  # pyright: ignore[reportOptionalMemberAccess]
    return program


def divergence(program: Program) -> tuple[float, Mapping[str, Tensor]]:
    """The value for three data, and its gradient in l and m."""
    (player,) = program.players
    loss = program.loss(player, {"x": torch.zeros(3).double()})
    program.zero_grad()
    loss.backward()
    own = program.emitted.named_parameters()
    return float(loss.detach()), {n.removesuffix("_raw"): p.grad for n, p in own if p.grad is not None}


FAR = 1e4


@pytest.mark.parametrize(
    ("family", "space", "of", "left", "right", "value", "slope"),
    [
        ("Bernoulli", "{0, 1}", "real", FAR, -FAR, FAR, -1.0),
        ("Bernoulli", "{0, 1}", "real", -FAR, FAR, FAR, 1.0),
        ("Bernoulli", "{0, 1}", "real", FAR, FAR, 0.0, 0.0),
        ("Bernoulli", "binary[3]", "real[3]", [FAR, FAR, -FAR], [-FAR, FAR, FAR], 2 * FAR, [-1.0, 0.0, 1.0]),
        ("Categorical", "{0..2}", "real[3]", [FAR, 0, 0], [0, 0, FAR], FAR, [-1.0, 0.0, 1.0]),
        ("Geometric", "natural", "real", FAR, -FAR, FAR, -1.0),
        ("Geometric", "natural", "real", 0.0, -FAR, FAR - 2 * math.log(2), -1.0),
    ],
)  # fmt: skip
def test_a_divergence_of_far_logits(
    family: str, space: str, of: str, left: object, right: object, value: float, slope: object
) -> None:
    """By hand: all of p at one value, whose log q is what remains."""
    text = DISCRETE.format(family=family, space=space, of=of, role="logits")
    found, grads = divergence(compiled(text, l=left, m=right))

    assert found == pytest.approx(value, abs=1e-9)
    torch.testing.assert_close(grads["m"], torch.as_tensor(slope, dtype=torch.float64))
    assert grads["l"].isfinite().all()


@pytest.mark.parametrize(("p", "q"), [(0.3, 0.9), (0.5, 0.01)])
@pytest.mark.parametrize(("left", "right"), [("logits", "probs"), ("probs", "logits"), ("probs", "probs")])
def test_probabilities_and_logits_mix(left: str, right: str, p: float, q: float) -> None:
    raw = {"l": math.log(p / (1 - p)), "m": math.log(q / (1 - q))}
    spaces = {"logits": "real", "probs": "unit"}
    text = DISCRETE.format(family="Bernoulli", space="{0, 1}", of="real", role="logits")
    text = text.replace("logits=l", f"{left}=l").replace("logits=m", f"{right}=m")
    text = text.replace("param l, m: real", f"param l: {spaces[left]}\nparam m: {spaces[right]}")
    found, grads = divergence(compiled(text, **raw))

    assert found == pytest.approx(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)), abs=1e-12)
    assert float(grads["m"]) == pytest.approx(q - p, abs=1e-12)
    assert float(grads["l"]) == pytest.approx(p * (1 - p) * (raw["l"] - raw["m"]), abs=1e-12)


def test_a_value_that_is_never_drawn_counts_nothing() -> None:
    """0 log 0 = 0: p = (0, 1/4, 3/4), of shares that sum to 1/2, against q = (1/2, 1/4, 1/4)."""
    text = DISCRETE.format(family="Categorical", space="{0..2}", of="simplex[3]", role="probs")
    program = compiled(text.replace("probs=l", "probs=l*[0, 1, 1]"))
    inverse = torch.distributions.transform_to(torch.distributions.constraints.simplex).inv
    with torch.no_grad():
        program.emitted.l_raw.copy_(inverse(torch.tensor([0.5, 0.125, 0.375]).double()))
        program.emitted.m_raw.copy_(inverse(torch.tensor([0.5, 0.25, 0.25]).double()))
    found, grads = divergence(program)

    assert found == pytest.approx(0.75 * math.log(3), abs=1e-12)
    assert grads["m"].isfinite().all()
    assert grads["l"].isfinite().all()


def test_a_rate_of_zero() -> None:
    """KL of Poisson laws of rates 0 and r is r."""
    text = DISCRETE.format(family="Poisson", space="natural", of="real", role="rate")
    text = text.replace("rate=l", "exp(l)").replace("rate=m", "exp(m)")
    found, grads = divergence(compiled(text, l=-1000.0, m=math.log(2.5)))

    assert found == pytest.approx(2.5)
    assert float(grads["m"]) == pytest.approx(2.5)
    assert grads["l"].isfinite().all()


# --- outside a support

OUTSIDE = """
data(x) = evidence()
var x: {space}
param a: {of}
u(x) = {wide}
v(x) = {bounded}
m(x) = {{ s=0: 0.25 * u(x); s=1: 0.75 * v(x) }}
minimize CE(data(x) || m(x))
"""
BETWEEN = {
    "Uniform": ("real", "real", "Normal(a, 1)", "Uniform(-1, 1)", [0.3, 2.5, -4.0],
                lambda x: Tensor([0.5, 0, 0]).double()),
    "Pareto": ("positive", "positive", "Exponential(a)", "Pareto(2, 3)", [2.5, 1.5, 7.0],
               lambda x: torch.where(x < 2, 0.0, 3 * 2**3 / x**4)),
    "AffineBeta": ("real", "real", "Normal(a, 1)", "AffineBeta(2, 1, 1, 2)", [1.5, 0.0, 3.5],
                   lambda x: torch.where((x > 1) & (x < 3), (x - 1) / 2, 0.0)),
    "Binomial": ("natural", "positive", "Poisson(a)", "Binomial(2, 0.25)", [0.0, 2.0, 5.0],
                 lambda x: Tensor([9 / 16, 1 / 16, 0]).double()),
}  # fmt: skip
WIDE = {
    "Normal": lambda x, a: (-0.5 * (x - a).square()).exp() / math.sqrt(2 * math.pi),
    "Exponential": lambda x, a: a * (-a * x).exp(),
    "Poisson": lambda x, a: (-a).exp() * a**x / (x + 1).lgamma().exp(),
}


@pytest.mark.parametrize("family", BETWEEN)
def test_a_component_counts_nothing_outside_its_support(family: str) -> None:
    space, of, wide, bounded, data, density = BETWEEN[family]
    p = compiled(OUTSIDE.format(space=space, of=of, wide=wide, bounded=bounded), a=0.3)
    x = torch.tensor(data).double()
    a = p.params["a"]
    wanted = -(0.25 * WIDE[wide.split("(")[0]](x, a) + 0.75 * density(x)).log().mean()
    (raw,) = p.emitted.parameters()
    found = p.loss("a", {"x": x})

    torch.testing.assert_close(found, wanted)
    slopes = [torch.autograd.grad(loss, [raw])[0] for loss in (found, wanted)]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(p.log_prob("v(x)", {"x": x}).exp(), density(x))
    torch.testing.assert_close(p.distribution("v(x)", {}).expand((3,)).log_prob(x).exp(), density(x))


def test_a_datum_that_nothing_covers_costs_infinitely_and_moves_nothing() -> None:
    p = compiled(OUTSIDE.format(space="real", of="real", wide="Uniform(a, 3)", bounded="Uniform(-1, 1)"), a=2.0)
    x = torch.tensor([2.5, 7.0]).double()
    loss = p.loss("a", {"x": x})
    assert loss == math.inf
    (slope,) = torch.autograd.grad(loss, [p.emitted.a])
    assert float(slope) == pytest.approx(-0.5)  # -log of 1/(3 - a), half of the data


def test_classes_that_cannot_be_count_nothing() -> None:
    """Free and enumerated classes: 0 log 0 = 0, whatever the density is there."""
    p = compiled("""
        data(x) = evidence()
        var x: real
        var k: {0, 1}
        param a: real
        param w: simplex[2]
        p(k | x) = Free
        q(k) = Categorical(w)
        q(x | k) = Uniform([-1, 0][k] + a, [1, 3][k] + a)
        minimize KL(data(x) * p(k|x) || q(k) * q(x|k)) with estimate=gradient
    """, a=0.1)  # fmt: skip
    x = torch.tensor([-0.5, 0.5, 2.0]).double()
    r = p.solve("p(k|x)", {"x": x})
    torch.testing.assert_close(r, torch.tensor([[1, 0], [0.6, 0.4], [0, 1]]).double())
    loss = p.loss("a+w", {"x": x})
    wanted = (2 * math.log(2) + (0.6 * math.log(4) + 0.4 * math.log(6)) + math.log(2) + math.log(3)) / 3
    torch.testing.assert_close(loss, torch.tensor(wanted).double())
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(p.emitted.parameters())))
