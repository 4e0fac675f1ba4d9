"""Beneath `vmap`: each replica draws, and has the gradients, that it has alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from jointkl.training.seeds.vmap_overrides import Overriding, Streams

SEEDS = (3, 5, 8)

Compute = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture
def x() -> Tensor:
    return torch.rand(len(SEEDS), 4, 6, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def w() -> Tensor:
    w = torch.rand(len(SEEDS), 5, 6, generator=torch.Generator().manual_seed(1)).double() + 0.5
    return w.requires_grad_()


def streams() -> Streams:
    found = Streams(torch.device("cpu"))
    for seed in SEEDS:
        torch.manual_seed(seed)
        found.append()
    return found


def agree(compute: Compute, x: Tensor, w: Tensor) -> None:
    """Values and gradients of all at once, and of each with the default generator seeded."""
    own = streams()

    def one(place: Tensor, x: Tensor, w: Tensor) -> Tensor:
        with Overriding(own, place):
            return compute(x, w)

    together = vmap(one)(torch.arange(len(SEEDS)), x, w)
    (slope,) = torch.autograd.grad(together.sum(), w, allow_unused=True)
    for i, seed in enumerate(SEEDS):
        torch.manual_seed(seed)
        alone = w[i].detach().clone().requires_grad_()
        value = compute(x[i], alone)
        torch.testing.assert_close(together[i], value)
        if slope is not None:
            torch.testing.assert_close(slope[i], torch.autograd.grad(value.sum(), alone)[0])
        assert torch.equal(own.states[i][0], torch.get_rng_state()), "and it has drawn as many numbers"


def penalty(x: Tensor, w: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    score = F.linear(leaf, w).tanh().square().sum(-1)
    (slope,) = torch.autograd.grad(score.sum(), [leaf], create_graph=True)
    return slope.square().sum(-1).mean()


def rescaled(x: Tensor, w: Tensor) -> Tensor:
    """A hook that holds a tensor of the replica's own, a number and a function."""
    hidden = F.linear(x, w)
    scale, by, f = hidden.detach().exp().mean(-1), 2.0, torch.movedim
    if hidden.requires_grad:
        hidden.register_hook(lambda g: f(f(g, 0, -1) * scale * by, -1, 0))
    return hidden.square().mean()


def normalised_in_place(x: Tensor, w: Tensor) -> Tensor:
    """A step of the power iteration, as spectral norm takes it."""
    v = x[0].clone()
    with torch.no_grad():
        found = F.normalize(w.mT.mv(torch.ones(5, dtype=torch.float64)), dim=0, out=v)
    return F.linear(found, w).sum() + F.linear(v, w).sum()


CASES: dict[str, Compute] = {
    "noise": lambda x, w: F.linear(x + torch.randn((4, 6), dtype=torch.float64), w).mean(),
    "two draws in order": lambda x, w: torch.rand(3) * 10 + torch.randn(3) + w.sum(),
    "with parameters": lambda x, w: torch.normal(w.detach(), 0.5).sum() + w.mean(),
    "a gradient through the draw": lambda x, w: torch._standard_gamma(w).sum(),
    "discrete": lambda x, w: (
        torch.bernoulli(x).sum() + torch.multinomial(x, 2).sum() + w.sum() + torch.poisson(x).sum()
    ),
    "of a tensor": lambda x, w: (x.bernoulli() * F.linear(x, w).sum(-1, keepdim=True)).sum(),
    "like another": lambda x, w: (torch.randn_like(w) * w).sum(),
    "into a new tensor": lambda x, w: (torch.empty(4, 6, dtype=torch.float64).exponential_(2.0) * x).sum() + w.sum(),
    "into one of its own": lambda x, w: (x.new_empty(4, 6).uniform_(-1, 1) + x.clone().normal_() + w.mean()).sum(),
    "dropout": lambda x, w: F.dropout(F.linear(x, w), 0.4).sum(),
    "no dropout": lambda x, w: F.dropout(F.linear(x, w), 0.4, training=False).sum(),
    "the same for all": lambda x, w: F.dropout(torch.ones(7, dtype=torch.float64), 0.4).sum() + w.sum(),
    "clamped": lambda x, w: (F.linear(x, w).clone().clamp_(min=2.0)).sum(),
    "a gradient of a gradient": penalty,
    "a hook": rescaled,
    "normalised in place": normalised_in_place,
}


@pytest.mark.parametrize("name", CASES)
def test_as_alone(name: str, x: Tensor, w: Tensor) -> None:
    agree(CASES[name], x, w)


def test_replicas_draw_apart(x: Tensor) -> None:
    own = streams()

    def one(place: Tensor) -> Tensor:
        with Overriding(own, place):
            return torch.randn(4)

    first, second = (vmap(one)(torch.arange(len(SEEDS))) for _ in range(2))
    drawn = torch.cat([first, second])
    assert len({tuple(row.tolist()) for row in drawn}) == 2 * len(SEEDS)


def test_a_tensor_that_cannot_hold_what_is_drawn_holds_no_numbers() -> None:
    own = streams()

    def one(place: Tensor) -> Tensor:
        with Overriding(own, place):
            shared = torch.zeros(3)
            shared.normal_()
            return shared + 0 * place

    assert vmap(one)(torch.arange(len(SEEDS))).isnan().all()


def test_what_is_in_no_row_draws_nothing() -> None:
    own = streams()

    def one(x: Tensor) -> Tensor:
        with Overriding(own, x):
            return x.geometric_(0.5)

    with pytest.raises(RuntimeError, match="random"):
        vmap(one)(torch.rand(len(SEEDS), 2))
