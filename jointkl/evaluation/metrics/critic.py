"""An independent Wasserstein critic: trained afresh, judged on what it has not seen."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from jointkl.evaluation import errors
from jointkl.evaluation.metrics.distances import points
from jointkl.evaluation.metrics.intervals import around
from jointkl.evaluation.metrics.value import Value

STEPS, BATCH = 500, 256

LOOK = 50
"""So many steps apart the critic is tried on the rows kept for choosing it."""


class Sorted(nn.Module):
    """Sorts each four numbers: an activation that keeps the norm of gradients (GroupSort, Anil et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, 4)).sort(-1).values.flatten(-2)


def wasserstein(
    samples: Tensor,
    data: Tensor,
    train_samples: Tensor,
    train_data: Tensor,
    *,
    penalty: float | None = None,
    steps: int = STEPS,
    generator: torch.Generator | None = None,
) -> Value:
    """What an independent critic f tells samples from data by: mean f(data) - mean f(samples), in the data's units.

    As Rosca et al. 2017, after Danihelka et al. 2017, f is trained afresh, when the generator is done, on other rows
    of data and other samples, `train_data` and `train_samples`, and judged on rows it has not seen: a generator that
    copies its training data, or leaves out modes, gains nothing. Where they hold f's slope by a gradient penalty
    (`penalty=10`: Gulrajani et al. 2017, eq. 3), the default f is 1-Lipschitz by its making (Anil et al. 2019), so that
    the value is in mean no more than the 1-Wasserstein distance, by Kantorovich's duality, whatever f has learnt, and
    usually a tenth or so less; with the penalty it may exceed it. About 0 where both come from one distribution.

    Three hidden layers, Adam, batches of 256, `steps` steps (orthogonal matrices of width 64 and sorting by fours, lr
    1e-2 falling to 0; with the penalty width 128, lr 1e-4, betas 0.5, 0.9). Of the critics on the way the one is judged
    that did best on a quarter of the rows for training, which it was not trained on. The interval is normal, of a
    difference of two means: it accounts for finite samples and data judged, not for what the critic has not found.
    Detail `training`: the same difference on what f was trained on. `generator` fixes the critic. Raises `DataError`
    for fewer than 2 of any.
    """
    sets = [points(v).to(samples.device) for v in (samples, data, train_samples, train_data)]
    if (fewest := min(map(len, sets))) < 2:
        raise errors.too_few(fewest, 2, "the interval")
    middle, scale = sets[3].mean(0), _scale(sets[2], sets[3])
    x, y, known_x, known_y = (((v - middle) / scale).float() for v in sets)
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.enable_grad(), torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(seed)
        critic = _trained(known_x, known_y, penalty, steps)
    with torch.no_grad():
        f_x, f_y, g_x, g_y = (critic(v).double()[:, 0] * scale for v in (x, y, known_x, known_y))
    value = float(f_y.mean() - f_x.mean())
    variance = float(f_x.var()) / len(f_x) + float(f_y.var()) / len(f_y)
    return Value(
        value,
        around(value, variance),
        "normal: finite samples and data judged, the critic as it is",
        len(x),
        len(y),
        {"training": float(g_y.mean() - g_x.mean()), "trained_on": len(known_y)},
    )


def _scale(*sets: Tensor) -> float:
    """One number that brings the points to about unit size: a Lipschitz constant is told in it and told back."""
    return float(torch.cat(sets).var(0).sum().sqrt()) or 1.0


def _trained(x: Tensor, y: Tensor, penalty: float | None, steps: int) -> nn.Sequential:
    """The critic that does best on a quarter of the rows, trained on the others."""
    plain = penalty is None
    critic = (_sorting if plain else _leaky)(x.shape[1]).to(x.device)
    (x, kept_x), (y, kept_y) = _parted(x), _parted(y)
    lr, betas = (1e-2, (0.5, 0.99)) if plain else (1e-4, (0.5, 0.9))
    optimizer = torch.optim.Adam(critic.parameters(), lr=lr, betas=betas)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01 if plain else 1.0, steps)
    best, chosen = -torch.inf, deepcopy(critic)
    for step in range(1, steps + 1):
        a, b = (v[torch.randint(len(v), (BATCH,), device=v.device)] for v in (x, y))
        f = critic(torch.cat([a, b]))
        loss = f[:BATCH].mean() - f[BATCH:].mean()
        if penalty is not None:
            loss = loss + penalty * _excess(critic, a, b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            look = step % LOOK == 0 or step == steps
            if plain:
                _straighten(critic, exactly=look)
            if look and (found := float(critic(kept_y).mean() - critic(kept_x).mean())) > best:
                best, chosen = found, deepcopy(critic)
    return chosen


def _sorting(d: int, width: int = 64) -> nn.Sequential:
    """A critic on R^d with Lipschitz constant 1: matrices with singular values 1, and sorting."""
    sizes = ((d, width), (width, width), (width, width))
    critic = nn.Sequential(*(part for n, m in sizes for part in (nn.Linear(n, m), Sorted())), nn.Linear(width, 1))
    with torch.no_grad():
        _straighten(critic, exactly=True)
    return critic


def _leaky(d: int, width: int = 128) -> nn.Sequential:
    """A plain critic on R^d, to be held by a penalty."""
    sizes = ((d, width), (width, width), (width, width))
    hidden = (part for n, m in sizes for part in (nn.Linear(n, m), nn.LeakyReLU(0.2)))
    return nn.Sequential(*hidden, nn.Linear(width, 1))


def _straighten(critic: nn.Sequential, *, exactly: bool) -> None:
    """Every weight to the nearest matrix with singular values 1, by their decomposition, or by one step towards it
    (Bjorck and Bowie 1971), which is enough after a small change."""
    for layer in critic:
        if not isinstance(layer, nn.Linear):
            continue
        w = layer.weight
        if exactly:
            u, _, v = torch.linalg.svd(w.double(), full_matrices=False)
            w.copy_(u @ v)
        else:
            gram = w @ (w.T @ w) if w.shape[0] >= w.shape[1] else (w @ w.T) @ w
            w.copy_(1.5 * w - 0.5 * gram)


def _parted(values: Tensor) -> tuple[Tensor, Tensor]:
    """Three quarters of the rows and the rest, at random."""
    order = torch.randperm(len(values)).to(values.device)
    kept = max(1, len(values) // 4)
    return values[order[kept:]], values[order[:kept]]


def _excess(critic: nn.Sequential, a: Tensor, b: Tensor) -> Tensor:
    """The mean squared difference of the gradient's norm from 1, at points between the two sets."""
    share = torch.rand(len(a), 1, device=a.device)
    between = (share * a + (1 - share) * b).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.norm(dim=1) - 1).square().mean()
