"""Functions of constants are constants: numbers as `math` has them, checked like those that are written."""

from __future__ import annotations

import math

import pytest
import torch

import jointkl
from jointkl.diagnostics import JklError

HALF_LOG = 0.5 * math.log(2 * math.pi)
X = torch.tensor([0.4, -1.1, 0.7]).double()
SPEC = "data(x) = evidence() let K = 4 var x: real param m: real q(x) = Normal(m, {}) minimize CE(data(x) || q(x))"


@pytest.mark.parametrize(
    ("written", "scale"),
    [
        ("sqrt(0.1)", math.sqrt(0.1)),
        ("exp(-1)", math.exp(-1)),
        ("log(K)", math.log(4)),
        ("2 * sqrt(K) / 3", 4 / 3),
        ("softplus(1)", math.log1p(math.e)),
        ("softplus(-800) + 1", 1.0),
        ("sigmoid(0.3)", 1 / (1 + math.exp(-0.3))),
        ("sigmoid(-800) + 2", 2.0),
        ("tanh(0.3)", math.tanh(0.3)),
        ("sum([0.25, 0.5])", 0.75),
        ("sum(softmax([1, 2, 3])) / 2", 0.5),
        ("softmax([0, 0, log(2)])[2]", 0.5),
        ("sqrt(exp(log(2)))", math.sqrt(2)),
        ("[1, sqrt(2)][1]", math.sqrt(2)),
        ("sqrt([4, 9])[1] - 1", 2.0),
        ("-log(0.5)", math.log(2)),
        ("exp(m) + sqrt(4)", 3.0),
    ],
)
def test_its_value(written: str, scale: float) -> None:
    p = jointkl.compile(SPEC.format(written)).double()
    wanted = -torch.distributions.Normal(0.0, torch.tensor(scale, dtype=torch.float64)).log_prob(X).mean()
    torch.testing.assert_close(p.loss("m", {"x": X}).detach(), wanted, rtol=1e-12, atol=0)
    assert p.sample("q(x)", 2)["x"].shape == (2,)


def test_vectors() -> None:
    p = jointkl.compile("""
        data(x) = evidence()
        var x: real[2]
        var k: {0..2}
        param m: real[3,2]
        q(k) = Categorical(softmax([0, log(2), 1]))
        q(x | k) = Normal(m[k], sqrt([1, 4]))
        p(k | x) = Free
        minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
    """).double()
    x = torch.randn(4, 2).double()
    shares = torch.tensor([1.0, 2.0, math.e]).double()
    logs = shares.log() + torch.distributions.Normal(p.emitted.m, torch.tensor([1.0, 2.0])).log_prob(x[:, None]).sum(-1)
    torch.testing.assert_close(p.solve("p(k|x)", {"x": x}), logs.softmax(1).detach())


@pytest.mark.parametrize(
    "written", ["exp(y)", "1 + 2*y", "sqrt(1 + y)", "softplus(y) + y*y", "[0.5, 2][y]", "1 + y*[1, 1][y]"]
)
def test_of_a_label(written: str) -> None:
    """A label is a number in its branch, and as a value that is passed."""
    p = jointkl.compile(f"""
        data(x) = evidence()
        var x: real
        var y: {{0, 1}}
        param m: real
        param a: real
        n(x | y) = Normal(m, {written})
        f(x) = Normal(a, 1)
        q(x, y) = {{ y=1: data(x); y=0: f(x) }}
        r(y) = Bernoulli(0.5)
        minimize CE(q(x,y) || r(y) * n(x|y))
    """).double()
    known = {"exp": torch.exp, "sqrt": torch.sqrt, "softplus": torch.nn.functional.softplus}
    wanted = torch.tensor(0.0).double()
    for y, square in ((1.0, X.square().mean()), (0.0, torch.tensor(1.0).double())):  # f is a standard normal
        at = torch.tensor(y).double()
        items = {"[0.5, 2][y]": torch.tensor([0.5, 2.0])[int(y)], "1 + y*[1, 1][y]": 1 + at}
        scale = items[written] if written in items else eval(written, {**known, "y": at})
        wanted = wanted + (square / scale.double().square() / 2 + scale.double().log() + HALF_LOG) / 2
        law = p.distribution("n(x|y)", {"y": torch.tensor([int(y)])})
        torch.testing.assert_close(law.stddev, scale.double().reshape(1))
    (player,) = [q for q in p.players if q.startswith("m")]
    found = p.loss(player, {"x": X})
    torch.testing.assert_close(found.detach(), wanted)


@pytest.mark.parametrize("written", ["sqrt(-1)", "log(0)", "exp(1000)", "log(0.5)", "sqrt(0)", "log([1, 0])[1]"])
def test_what_has_no_value_or_is_no_scale_is_refused(written: str) -> None:
    with pytest.raises(JklError):
        jointkl.parse(SPEC.format(written))
