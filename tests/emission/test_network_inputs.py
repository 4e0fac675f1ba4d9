"""Networks of labels, params, globals and constants beside data: the loss written by hand, joined forwards or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

import jointkl
from jointkl.objective.share import Passes
from jointkl.program import Program

JOINED = pytest.mark.parametrize("passes", [Passes(), Passes(branches=False, in_turn=False), Passes(frozen=False)])
X, Z = torch.randn(4, 2).double(), torch.randn(4, 2).double()


def compiled(text: str, passes: Passes | None = None) -> Program:
    torch.manual_seed(0)
    program = jointkl.compile(text, passes).double()
    with torch.no_grad():
        for w in program.parameters():
            w.add_(0.3 * torch.randn_like(w))
    return program


def agree(p: Program, player: str, found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted)
    own = p.parameters_of(player)
    for pair in zip(*(torch.autograd.grad(loss, own, retain_graph=True) for loss in (found, wanted)), strict=True):
        torch.testing.assert_close(*pair)


def normal(x: Tensor, loc: Tensor | float, scale: Tensor | float = 1.0) -> Tensor:
    return torch.distributions.Normal(loc, scale).log_prob(x).sum(-1)


@JOINED
def test_an_encoder_that_is_given_the_label(passes: Passes) -> None:
    p = compiled("""
        data(x) = evidence()
        var x, z: real[2]
        var y: {0, 1}
        net E = mlp(8)
        net C = mlp(8)
        net G = mlp(8)
        net H = mlp(8)
        c(y|x) = Bernoulli(C(x))
        p(z|x,y) = Normal(E(x,y))
        q(z) = Normal(0,1)
        g(x|z) = Normal(G(z),1)
        h(x|z) = Normal(H(z),1)
        m(x,z,y) = {y=1: q(z)*g(x|z); y=0: q(z)*h(x|z)}
        minimize KL(data(x)*c(y|x)*p(z|x,y) || m(x,z,y))
    """, passes)  # fmt: skip
    e, wanted = p.emitted, torch.zeros(4).double()
    (player,) = p.players
    for y, decoder in ((0, e.H), (1, e.G)):
        loc, scale = e.E(X, torch.full((4,), y))
        z = loc + scale * Z
        log_c = -softplus(-e.C(X) if y else e.C(X))
        closed = (0.5 * (loc.square() + scale.square() - 1) - scale.log()).sum(1)
        wanted = wanted + log_c.exp() * (log_c + closed - normal(X, decoder(z)))
    agree(p, player, p.loss(player, {"x": X, "z.noise": Z}), wanted.mean())
    assert p.sample("p(z|x,y)", batch={"x": X, "y": torch.tensor([0, 1, 1, 0])})["z"].shape == (4, 2)


GAN_OF = """
data(x) = evidence()
var x, z: real[2]
var y: {{0, 1}}
{}
net D = mlp(8)
net G = mlp(8)
d(y|x) = Bernoulli(D({}))
q(z) = Normal(0,1)
q(x|z) = Delta(G({}))
m(x,y) = {{y=1: data(x); y=0: q(z)*q(x|z)}}
minimize KL(m(x,y) || data(x)*d(y|x))
"""


@JOINED
@pytest.mark.parametrize(
    ("declared", "seen", "made", "of"),
    [
        ("param e: real[3]", "x, e", "z", lambda e: (e.e,)),
        ("param e: real[2]", "x * e", "z", None),
        ("param e: positive", "e, x", "z", lambda e: (e.e,)),
        ("", "x, [0.5, 2]", "z, 3", lambda e: (torch.tensor([0.5, 2]).double(),)),
        ("param e: real[1,4,4]", "x, sigmoid(e)", "z", lambda e: (e.e.sigmoid(),)),
    ],
)
def test_a_classifier_that_is_given_a_param(
    passes: Passes, declared: str, seen: str, made: str, of: Callable[[torch.nn.Module], tuple[Tensor, ...]] | None
) -> None:
    """Each player by itself, one after the other, and all at once."""
    spec = GAN_OF.format(declared, seen, made)
    p = compiled(spec, passes)
    e = p.emitted

    def judged(x: Tensor) -> Tensor:
        if of is None:
            return e.D(x * e.e)
        return e.D(*((*of(e), x) if seen.startswith("e") else (x, *of(e))))

    fake = e.G(Z, torch.tensor(3.0).double()) if made == "z, 3" else e.G(Z)
    batch = {"x": X, "z": Z}
    critic = next(q for q in p.players if "D" in q.split("+"))
    agree(p, critic, p.loss(critic, batch), (softplus(-judged(X)) + softplus(judged(fake.detach()))).mean())
    if "G" in p.players:
        agree(p, "G", p.loss("G", batch), softplus(-judged(fake)).mean())
    if p.objective.in_turn is not None:
        for loss, player in zip(p.in_turn(batch), dict.fromkeys((critic, *p.players)), strict=True):
            torch.testing.assert_close(loss, p.loss(player, batch))


def test_a_classifier_that_is_given_a_param_all_at_once() -> None:
    p = compiled(GAN_OF.format("param e: real[3]", "x, e", "z") + " train(updates=simultaneous)")
    batch = {"x": X, "z": Z}
    whole = p.losses(batch)
    assert whole is not None
    apart = {player: p.loss(player, batch) for player in whole}
    sum(whole.values()).backward()
    for player, loss in apart.items():
        torch.testing.assert_close(whole[player], loss)
        for w, g in zip(p.parameters_of(player), torch.autograd.grad(loss, p.parameters_of(player)), strict=True):
            torch.testing.assert_close(w.grad, g)


@JOINED
def test_a_decoder_that_is_given_a_global(passes: Passes) -> None:
    p = compiled("""
        data(x) = evidence()
        var x, z: real[2]
        var w: real[2] global
        param m: real[2]
        param sd: positive[2]
        net F = mlp(8)
        net E = mlp(8)
        p(w) = Normal(m, sd)
        q(w) = Normal(0,1)
        q(z|w) = Normal(F(w),1)
        q(x|z,w) = Normal(F(z) + F(w)*w[0],1)
        p(z|x) = Normal(E(x))
        minimize KL(data(x)*p(w)*p(z|x) || q(w)*q(z|w)*q(x|z,w))
    """.replace("net F = ", "net F: real[2] = "), passes)  # fmt: skip
    e = p.emitted
    noise = torch.tensor([0.3, -1.1]).double()
    w = e.m + p.params["sd"] * noise
    loc, scale = e.E(X)
    z = loc + scale * Z
    local = (0.5 * (scale.square() + (loc - e.F(w)).square() - 1) - scale.log()).sum(1)
    prior = (0.5 * (p.params["sd"].square() + e.m.square() - 1) - p.params["sd"].log()).sum()
    wanted = (local - normal(X, e.F(z) + e.F(w) * w[0])).mean() + prior / 4
    (player,) = p.players
    agree(p, player, p.loss(player, {"x": X, "z.noise": Z, "w.noise": noise}), wanted)
