"""A law over two copies of a variable is matched in order, whatever primes its other variables bear."""

from __future__ import annotations

import pytest
import torch

import jointkl
from jointkl.diagnostics import JklError

CHAIN = """
data(x, x', x'') = evidence()
var x, z: real
param a: real
param b: real
param c: real
i(z | x)      = Normal(x, 1)
p(z' | z, x') = Normal(a*z + b*x', 1)
t(z' | z)     = Normal(c*z, 1)
g(x | z)      = Normal(z, 1)
minimize KL(data(x,x',x'') * i(z|x) * p(z'|z,x') * p(z''|z',x'')
  || data(x,x',x'') * i(z|x) * t(z'|z) * t(z''|z'))
"""


def test_a_chain_is_that_of_its_equations() -> None:
    """KL of unit normals: half the squared distance of the means; a step's state is that of the step before."""
    program = jointkl.compile(CHAIN.replace("g(x | z)      = Normal(z, 1)\n", "")).double()
    torch.manual_seed(0)
    a, b, c = (program.params[name] for name in "abc")
    with torch.no_grad():
        for p in (a, b, c):
            p.normal_()
    x, x1, x2, e, e1 = torch.randn(5, 6).double()
    z = x + e
    mean = a * z + b * x1
    z1 = mean + e1
    hand = ((mean - c * z).square() + (a * z1 + b * x2 - c * z1).square()).mean() / 2
    batch = {"x": x, "x'": x1, "x''": x2, "z.noise": e, "z'.noise": e1}
    loss = program.loss("a+b+c", batch)
    torch.testing.assert_close(loss, hand)
    torch.testing.assert_close(torch.autograd.grad(loss, (a, b, c)), torch.autograd.grad(hand, (a, b, c)))


def test_its_own_distribution_and_sample() -> None:
    program = jointkl.compile(CHAIN.replace("g(x | z)      = Normal(z, 1)\n", "")).double()
    with torch.no_grad():
        program.params["a"].fill_(2.0)
        program.params["b"].fill_(3.0)
    batch = {"z": torch.ones(4).double(), "x'": torch.arange(4.0).double()}
    torch.testing.assert_close(program.distribution("p(z'|z,x')", batch).mean, 2 + 3 * batch["x'"])
    torch.manual_seed(0)
    assert program.sample("p(z'|z,x')", batch=batch)["z'"].shape == (4,)


@pytest.mark.parametrize("law", ["q(x' | z)", "q(z | x')", "q(x')"])
def test_a_prime_without_two_copies_is_refused(law: str) -> None:
    with pytest.raises(JklError, match="a law is defined for its variables"):
        jointkl.parse(f"var x, z: real\n{law} = Normal(0, 1)")
