"""A Free law of a latent variable: the variational deep embedding of Jiang et al. (2017)."""

from __future__ import annotations

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import jointkl

SPEC = """
data(x) = evidence()
var x: real[4]
var z: real[2]
var k: {0..2}
net E = mlp(8)
net G = mlp(8)
param m: real[3,2]
param s: positive[3,2]
param w: simplex[3]
p(z | x) = Normal(E(x))
p(k | z) = Free
q(k)     = Categorical(w)
q(z | k) = Normal(m[k], s[k])
q(x | z) = Normal(G(z), 1)
minimize KL(data(x) * p(z|x) * p(k|z) || q(k) * q(z|k) * q(x|z))
"""


def test_at_its_optimum_the_label_is_summed_out_of_the_prior() -> None:
    """E{log p(z|x) - log sum_k q(k) q(z|k) - log q(x|z)}: the bound is tight in k, value and gradient."""
    torch.manual_seed(0)
    program = jointkl.compile(SPEC).double()
    with torch.no_grad():
        for w in program.parameters():
            w.add_(0.3 * torch.randn(w.shape))
    x, e = torch.randn(5, 4).double(), torch.randn(5, 2).double()
    m, s, w = (program.params[n] for n in "msw")
    loc, scale = program.nets["E"](x)
    z = loc + scale * e
    prior = MixtureSameFamily(Categorical(w), Independent(Normal(m, s), 1))
    written = Normal(loc, scale).log_prob(z).sum(-1) - prior.log_prob(z)
    written = (written - Normal(program.nets["G"](z), 1.0).log_prob(x).sum(-1)).mean()
    player = "E+G+m+s+w"
    own = program.parameters_of(player)
    found = program.loss(player, {"x": x, "z.noise": e})
    torch.testing.assert_close(found, written)
    for a, b in zip(torch.autograd.grad(found, own), torch.autograd.grad(written, own), strict=True):
        torch.testing.assert_close(a, b)


def test_its_step_is_the_posterior() -> None:
    torch.manual_seed(0)
    program = jointkl.compile(SPEC).double()
    x, e = torch.randn(5, 4).double(), torch.randn(5, 2).double()
    m, s, w = (program.params[n] for n in "msw")
    loc, scale = program.nets["E"](x)
    z = (loc + scale * e)[:, None]
    odds = w.log() + Normal(m, s).log_prob(z).sum(-1)
    torch.testing.assert_close(program.solve("p(k|z)", {"x": x, "z.noise": e}), odds.softmax(-1).detach())
