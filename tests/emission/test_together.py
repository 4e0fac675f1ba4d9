"""All losses as one: the gradient of their sum is each player's own, for every system of classifiers and critics."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

import jointkl
from jointkl.program import Program
from tests.worlds import MODELS

SIMULTANEOUS = "\ntrain(updates=simultaneous)\n"
SYSTEMS = ("gan", "gan_ratio", "aae", "ali", "ali_dropped", "ali_minimax", "ali_nonsaturating", "bigan", "alpha_gan",
           "avb", "cyclegan", "gan_regularized", "ali_proximal")  # fmt: skip
APART = ("infogan", "vae", "em", "vi", "iwae", "iwgan", "wake_sleep", "vae_gan", "age", "introvae")


def compiled(name: str) -> Program:
    torch.manual_seed(0)
    program = jointkl.compile((MODELS / f"{name}.jkl").read_text() + SIMULTANEOUS).double()
    with torch.no_grad():
        for w in program.parameters():
            w.add_(0.05 * torch.randn(w.shape))
    program.snapshot()
    return program


def batch_of(program: Program, size: int) -> dict[str, Tensor]:
    """The evidence and all noise, so that nothing is drawn."""
    found: dict[str, Tensor] = {}
    model = program.model
    for law in model.evidence:
        for v in law.outputs:
            space = model.space(v)
            value = torch.rand(size, *space.shape).double()
            if space.kind == "finite":
                value = (value * len(space.values)).long()
            elif space.kind == "binary":
                value = value.round()
            found[model.batch_key(law.key, v)] = value
    for v in model.variables:
        for key in (v, f"{v}.noise"):
            if f'"{key}" in batch' in program.source and key not in found:
                drawn = torch.randn(size, *model.space(v).shape).double()
                found[key] = (drawn > 0).long() if model.space(v).kind == "finite" else drawn
    return found


def gradients(program: Program, losses: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    found: dict[str, list[Tensor]] = {}
    for player, loss in losses.items():
        own = program.parameters_of(player)
        grads = torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True)
        found[player] = [torch.zeros_like(w) if g is None else g for g, w in zip(grads, own, strict=True)]
    return found


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_backward_gives_every_player_its_own_gradient(name: str) -> None:
    program = compiled(name)
    batch = batch_of(program, 6)

    whole = program.losses(batch)
    assert whole is not None
    separate = {player: program.loss(player, batch) for player in whole}
    for player, loss in separate.items():
        torch.testing.assert_close(whole[player], loss)
    wanted = gradients(program, separate)
    program.zero_grad()
    sum(whole.values()).backward()
    for player, grads in wanted.items():
        for w, g in zip(program.parameters_of(player), grads, strict=True):
            torch.testing.assert_close(torch.zeros_like(w) if w.grad is None else w.grad, g)


@pytest.mark.parametrize("name", APART)
def test_systems_that_play_otherwise_stay_apart(name: str) -> None:
    assert compiled(name).losses({}) is None


SATURATED = """
data(x) = evidence()
var x, z: real[2]
net G = mlp(8, activation=tanh)
net D = mlp(8, activation=tanh)
q(z)     = Normal(0, 1)
q(x | z) = Delta(G(z))
"""
LABELLED = "var y: {0, 1}\np(y | x) = Bernoulli(D(x))\nq(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }\n"
PLAYED = {
    "derived": LABELLED + "minimize KL(q(x,y) || data(x) * p(y|x))",
    "minimax": LABELLED + "minimize KL(q(x,y) || data(x) * p(y|x)) with game=minimax",
    "ratio": "q(x) = q(z) * q(x|z)\nminimize KL(q(x) || data(x)) with critic=D",
}


@pytest.mark.parametrize("game", PLAYED)
@pytest.mark.parametrize("logit", [1, -1, 65, -65, 110, -110, 1000, -1000])
def test_who_plays_against_a_classifier_learns_at_any_logit(game: str, logit: float) -> None:
    """By hand, in float32: D's loss, and what G plays for, from one function of the logits each."""
    torch.manual_seed(0)
    spec = SATURATED + PLAYED[game]
    p = jointkl.compile(spec + SIMULTANEOUS)
    with torch.no_grad():
        p.nets["D"].get_parameter("layers.2.bias").fill_(logit)
    batch = {"x": torch.randn(16, 2), "z": torch.randn(16, 2)}
    whole = p.losses(batch)
    assert whole is not None
    sum(whole.values()).backward()

    real, fake = p.nets["D"](batch["x"]), p.nets["D"](p.nets["G"](batch["z"]))
    wanted = {"derived": -logsigmoid(fake).mean(), "minimax": logsigmoid(-fake).mean(), "ratio": -fake.mean()}[game]
    judged = -(logsigmoid(real).mean() + logsigmoid(-fake).mean())
    for net, loss in (("G", wanted), ("D", judged)):
        own = list(p.nets[net].parameters())
        for w, g in zip(own, torch.autograd.grad(loss, own, retain_graph=True), strict=True):
            assert w.grad is not None
            torch.testing.assert_close(w.grad, g, rtol=1e-4, atol=1e-7)
    (slope,) = torch.autograd.grad(wanted, [p.nets["G"].get_parameter("layers.2.bias")])
    assert slope.abs().max() > 0.01 or (game == "derived" and logit > 1) or (game == "minimax" and logit < -1)
