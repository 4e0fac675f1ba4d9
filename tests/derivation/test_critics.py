"""A critic with inputs of its own: `critic=T(H(x), z)`."""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

import jointkl
from tests.worlds import losses

SPEC = """
data(x) = evidence()
var x: real[3]
var z, e: real[2]
net E = mlp(8)
net G = mlp(8)
net H: real[4] = mlp(5)
net T = mlp(8)
p(e)        = Normal(0, 1)
p(z | x, e) = Delta(E(x, e))
p(z | x)    = p(e) * p(z|x,e)
q(z)        = Normal(0, 1)
q(x | z)    = Normal(G(z), 1)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z)) with critic=T(H(x), 2 * z)
"""


def test_its_networks_are_one_player_and_its_inputs_are_shown() -> None:
    assert losses(SPEC) == {
        "E+G": "E data(x) p(e) {-log q(x|E(x,e)) - l_T(H(x),2 * E(x,e))}",
        "H+T": "E data(x) q(z) {-log sigma(l_T(H(x),2 * z))} + E data(x) p(e) p(z|x,e) {-log sigma(-l_T(H(x),2 * z))}",
    }


def test_its_loss_is_logistic_and_the_players_see_it_frozen() -> None:
    """Mescheder et al. (2017), eq. 3.3 and 3.5, with T(H(x), 2 z) for T(x, z)."""
    torch.manual_seed(0)
    program = jointkl.compile(SPEC).double()
    encode, decode, features, critic = (program.nets[n] for n in "EGHT")
    x, z, e = torch.randn(7, 3).double(), torch.randn(7, 2).double(), torch.randn(7, 2).double()
    batch = {"x": x, "z": z, "e": e}
    code = encode(x, e)

    def logit(z: torch.Tensor) -> torch.Tensor:
        return critic(features(x), 2 * z)

    nll = 0.5 * ((x - decode(code)) ** 2).sum(-1) + 1.5 * torch.tensor(2 * torch.pi).log()
    written = {
        "E+G": (nll - logit(code)).mean(),
        "H+T": (softplus(-logit(z)) + softplus(logit(code.detach()))).mean(),
    }
    assert program.players == tuple(written)
    for player, wanted in written.items():
        own = program.parameters_of(player)
        found = program.loss(player, batch)
        torch.testing.assert_close(found, wanted)
        for a, b in zip(torch.autograd.grad(found, own), torch.autograd.grad(wanted, own), strict=True):
            torch.testing.assert_close(a, b)
