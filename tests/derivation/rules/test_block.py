"""A classifier that shares a network with those who generate is trained by the samples as they are."""

from __future__ import annotations

import torch

import jointkl

SPEC = """
    var x: real[2]
    var z: real[2]
    var y: {0, 1}
    net T: real[4] = mlp(4)
    net G = mlp(4)
    net D = mlp(4)
    q(z) = Normal(0, 1)
    q(x | z) = Normal(G(T(z)), 0.5)
    c(y | x, z) = Bernoulli(D(T(z), x))
    p(z | x) = Normal(x, 1)
    m(x, z, y) = { y=1: data(x) * p(z|x); y=0: q(z) * q(x|z) }
    minimize KL(m(x,z,y) || data(x) * p(z|x) * c(y|x,z))
"""


def test_the_samples_stand_still() -> None:
    """-E log c(1|x,z) at data - E log c(0|x,z) at generated samples, whose own dependence on T is cut."""
    program = jointkl.compile(jointkl.parse(SPEC)).double()
    torch.manual_seed(0)
    batch = {k: torch.randn(5, 2, dtype=torch.float64) for k in ("x", "z", "z.noise", "x.noise")}
    trunk, head, generator = (program.nets[n] for n in ("T", "D", "G"))
    real_z = batch["x"] + batch["z.noise"]
    with torch.no_grad():
        made = generator(trunk(batch["z"])) + 0.5 * batch["x.noise"]
    one = torch.nn.functional.softplus(-head(trunk(real_z), batch["x"])).mean()
    zero = torch.nn.functional.softplus(head(trunk(batch["z"]), made)).mean()
    own = program.parameters_of("T+D")
    wanted = torch.autograd.grad(one + zero, own)
    loss = program.loss("T+D", batch)
    torch.testing.assert_close(loss, one + zero)
    for a, b in zip(torch.autograd.grad(loss, own), wanted, strict=True):
        torch.testing.assert_close(a, b)
