"""What losses written by hand share: densities as formulas, given noise, a compiled model, the comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

import jointkl
from jointkl.program import Program
from tests.worlds import MODELS

N = 6

NOT_YET: set[str] = set()
"""Models that the compiler does not derive yet, and says so. One that it derives must not stand here."""

Test = Callable[[Program], None]


def compiled(name: str, *edit: str) -> Program | None:
    """The model in double precision, no parameter at a special value; None if it is known as not derived yet.

    `edit`: a text of the spec and what stands in its place.
    """
    text = (MODELS / f"{name}.jkl").read_text(encoding="utf-8")
    assert not edit or text.count(edit[0]) == 1
    torch.manual_seed(1)
    try:
        p = jointkl.compile(jointkl.parse(text.replace(*edit) if edit else text)).double()
    except jointkl.JklError as error:
        if "not derived yet" in str(error) and name in NOT_YET:
            return None
        raise
    assert name not in NOT_YET
    perturb(p, *p.players)
    return p


def model(name: str, *players: str) -> Callable[[Test], Callable[[], None]]:
    """A test of models/`name`.jkl, whose players are exactly these."""

    def decorate(test: Test) -> Callable[[], None]:
        def wrapper() -> None:
            if (p := compiled(name)) is not None:
                assert sorted(p.players) == sorted(players)
                owned = [id(w) for player in players for w in p.parameters_of(player)]
                known = [id(w) for net in p.nets.values() for w in net.parameters()]
                assert len(owned) == len(set(owned))
                assert set(known) <= set(owned)
                test(p)

        wrapper.__doc__ = test.__doc__
        return wrapper

    return decorate


def perturb(p: Program, *players: str) -> None:
    """Move all that the players train, so that current and old values differ."""
    with torch.no_grad():
        for player in players:
            for w in p.parameters_of(player):
                w += 0.1 * torch.randn_like(w)


def agree(p: Program, player: str, batch: Mapping[str, Tensor], hand: Callable[[], Tensor]) -> None:
    """Value and gradient with respect to everything the player trains; each parameter has a gradient."""
    own = p.parameters_of(player)
    emitted, written = p.loss(player, batch), hand()
    assert emitted.dtype == torch.float64
    assert emitted.shape == ()
    torch.testing.assert_close(emitted, written, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(emitted, own, allow_unused=True)
    theirs = torch.autograd.grad(written, own, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        assert a is not None
        assert b is not None
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11 * max(1.0, b.abs().max().item()))


# --- given noise


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grey(seed: int = 0, size: int = N) -> Tensor:
    """Images in `unit[1,8,8]`."""
    return torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def black_and_white(seed: int = 0, size: int = N) -> Tensor:
    """Images in `binary[1,8,8]`."""
    return (grey(seed, size) < 0.4).double()


# --- minus log densities, summed over the event; divergences

LOG_2PI = math.log(2 * math.pi)
LOG_2 = math.log(2)


def total(t: Tensor) -> Tensor:
    """The sum over all but the batch."""
    return t.flatten(1).sum(1)


def gaussian(x: Tensor, loc: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """-log Normal(x; loc, scale)."""
    s = torch.as_tensor(scale, dtype=torch.float64)
    return total((x - loc) ** 2 / (2 * s**2) + s.log() + 0.5 * LOG_2PI)


def laplace(x: Tensor, loc: Tensor) -> Tensor:
    """-log Laplace(x; loc, 1)."""
    return total((x - loc).abs() + LOG_2)


def bernoulli(x: Tensor, logits: Tensor) -> Tensor:
    """-log Bernoulli(x): softplus(l) - x l."""
    return total(softplus(logits) - x * logits)


def categorical(k: Tensor, logits: Tensor) -> Tensor:
    """-log Categorical(k)."""
    return logits.logsumexp(-1) - logits.gather(-1, k.unsqueeze(-1)).squeeze(-1)


def divergence(loc: Tensor, scale: Tensor, loc2: Tensor | float = 0.0, scale2: Tensor | float = 1.0) -> Tensor:
    """KL[Normal(loc, scale) || Normal(loc2, scale2)] (Wu 11)."""
    s2 = torch.as_tensor(scale2, dtype=torch.float64)
    return total((scale**2 + (loc - loc2) ** 2) / (2 * s2**2) - 0.5 + s2.log() - scale.log())


def one(logit: Tensor) -> Tensor:
    """-log p(1|.): y=1 is the reference."""
    return -logsigmoid(logit)


def zero(logit: Tensor) -> Tensor:
    """-log p(0|.)."""
    return -logsigmoid(-logit)
