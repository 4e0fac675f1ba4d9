"""Draws as functions of noise, against the families' own distribution functions, probabilities and samples."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from jointkl.exports import inside, noise
from jointkl.exports.sampler import tracing
from jointkl.semantics.families import FAMILIES, Family, Parameter
from jointkl.semantics.spaces import Space
from tests.semantics.test_families import drawn, space_of

N = 8_000

FROM_NOISE = [f for f in FAMILIES.values() if f.name not in inside.UNTRACEABLE]


def made(family: Family, space: Space, parameters: tuple[Parameter, ...] | None = None) -> Any:
    torch.manual_seed(3)
    given = {p.name: drawn(family, p, space) for p in (parameters or family.parameters)}
    return getattr(dist, family.name)(**given)


def law(family: Family, parameters: tuple[Parameter, ...] | None = None) -> tuple[Any, tuple[int, ...]]:
    """A distribution of the family over one value, as the emitted laws make it, and the value's shape."""
    space = space_of(family)
    d = made(family, space, parameters)
    if space.kind == "finite":
        return d, ()
    return d.to_event(len(space.shape) - family.event), space.shape


def values(d: Any, shape: tuple[int, ...]) -> Tensor:
    """N draws, as the exported graph makes them."""
    found = noise.needed(d, shape)
    if found is None:
        return inside.drawn(d.expand((N,)))
    kind, of = found
    draw = {"normal": torch.randn, "uniform": torch.rand}[kind]
    return noise.drawn(d, draw((N, *of), dtype=torch.float64))


def versions(family: Family) -> list[tuple[Parameter, ...]]:
    """The parameters, and the same with each alternative in place."""
    swapped = [tuple(p if q.name == p.instead else q for q in family.parameters) for p in family.alternatives]
    return [family.parameters, *swapped]


def distance(a: Tensor, b: Tensor) -> float:
    """Kolmogorov and Smirnov's: the largest difference of two samples' distribution functions."""
    points = torch.cat([a, b]).sort().values
    below = [torch.searchsorted(s.sort().values, points, right=True) / len(s) for s in (a, b)]
    return float((below[0] - below[1]).abs().max())


CASES = [
    pytest.param(family, parameters, id="-".join([family.name, *(p.name for p in parameters)]))
    for family in FROM_NOISE
    for parameters in versions(family)
]


@pytest.mark.statistical
@pytest.mark.parametrize(("family", "parameters"), CASES)
def test_a_draw_is_distributed_as_the_familys_own(family: Family, parameters: tuple[Parameter, ...]) -> None:
    """Each number of a value, and the product of each two, which depends on both, by the two-sample test at 1e-6."""
    d, shape = law(family, parameters)
    with dist.validation_enabled(False):
        found, own = values(d, shape), d.sample((N,))
    assert found.shape == own.shape == (N, *shape)
    a, b = found.double().reshape(N, -1), own.double().reshape(N, -1)
    bound = (-(torch.tensor(1e-6 / 2).log()) / 2 * (2 / N)).sqrt()
    width = a.shape[1]
    for i in range(width):
        for j in range(i, width):
            left, right = (a[:, i], b[:, i]) if i == j else (a[:, i] * a[:, j], b[:, i] * b[:, j])
            assert distance(left, right) < bound


WITHOUT_CDF = ("AsymmetricLaplace", "RelaxedBernoulli")
"""Families of one number drawn from noise that have no distribution function in Pyro."""

ONE_NUMBER = [f for f in FAMILIES.values() if f.event == 0 and noise.needed(*law(f)) and f.name not in WITHOUT_CDF]


@pytest.mark.parametrize("family", ONE_NUMBER, ids=lambda f: f.name)
def test_evenly_spread_noise_makes_evenly_spread_shares(family: Family) -> None:
    """F(value) is spread as the noise is, where F is continuous; where it is not, values have their probabilities."""
    d, shape = law(family)
    found = noise.needed(d, shape)
    assert found is not None
    kind, of = found
    base = d.base_dist if isinstance(d, dist.Independent) else d
    u = ((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000).reshape(1000, *[1] * len(of)).expand(1000, *of)
    with dist.validation_enabled(False):
        value = noise.drawn(d, u if kind == "uniform" else dist.Normal(0.0, 1.0).icdf(u))
        match family.name:
            case "Bernoulli" | "Categorical" | "Geometric":
                for k in range(6 if family.name == "Geometric" else 2):
                    p = base.log_prob(torch.full_like(value[0], k)).exp()
                    assert torch.allclose((value == k).double().mean(0), p, atol=1.1e-3)
            case _:
                assert torch.allclose(base.cdf(value).sort(0).values, u, atol=1.1e-3)


class Drawn(torch.nn.Module):
    """A draw of one distribution, its parameters and its noise as the graph's own."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family, space = family, space_of(family)
        given = {p.name: drawn(family, p, space) for p in family.parameters}
        self.fixed = {name: value for name, value in given.items() if not isinstance(value, Tensor)}
        self.tensors = [name for name in given if name not in self.fixed]
        for name in self.tensors:
            self.register_buffer(f"own_{name}", given[name].float())
        self.shape = () if space.kind == "finite" else space.shape

    def forward(self, rows: Tensor) -> Tensor:
        d = getattr(dist, self.family.name)(**self.fixed, **{n: getattr(self, f"own_{n}") for n in self.tensors})
        d = d.to_event(len(self.shape) - self.family.event) if self.shape else d
        found = noise.needed(d, self.shape)
        if found is None:
            return inside.drawn(d.expand((rows.shape[0],)))
        return noise.drawn(d, {"normal": torch.randn, "uniform": torch.rand}[found[0]](rows.shape[0], *found[1]))


@pytest.mark.parametrize("family", FROM_NOISE, ids=lambda f: f.name)
def test_a_graph_draws_it_in_any_number_of_rows(family: Family) -> None:
    torch.manual_seed(0)
    module = Drawn(family)
    with tracing():
        graph = torch.export.export(module, (torch.empty(3),), dynamic_shapes={"rows": {0: torch.export.Dim("n")}})
    for rows in (1, 8):
        torch.manual_seed(4)
        found = graph.module()(torch.empty(rows))
        torch.manual_seed(4)
        with tracing():
            assert torch.equal(found, module(torch.empty(rows)))
        assert found.shape == (rows, *module.shape)


@pytest.mark.parametrize("event", [(), (2,)])
@pytest.mark.parametrize("family", ["Gumbel", "Weibull", "Pareto", "Kumaraswamy", "LogNormal", "InverseGamma"])
def test_the_noise_of_one_value_knows_no_batch(family: str, event: tuple[int, ...]) -> None:
    """What a network supplies has a row for each datum, and so have the transforms that such a family is made by."""
    law = getattr(dist, family)
    found = noise.needed(law(torch.ones(3, *event), torch.ones(3, *event)).to_event(len(event)), event)
    if family == "InverseGamma":  # drawn inside
        assert found is None
    else:
        assert found is not None
        assert found[1] == event


def test_every_family_is_known() -> None:
    """Drawn from noise, drawn inside, or not exported with a reason; none twice."""
    for family in FAMILIES.values():
        d, shape = law(family)
        base = d.base_dist if isinstance(d, dist.Independent) else d
        while isinstance(base, torch.distributions.TransformedDistribution):
            base = base.base_dist
        while isinstance(base, torch.distributions.Independent):
            base = base.base_dist
        rows = [type(base).__name__ in noise.DRAWS, type(base).__name__ in inside.INSIDE]
        assert sum([*rows, family.name in inside.UNTRACEABLE]) == 1, family.name
        assert (noise.needed(d, shape) is not None) == rows[0]


def test_noise_at_the_ends_of_its_range_is_finite() -> None:
    ends = torch.tensor([0.0, 1 - 2**-24])
    for family in FAMILIES.values():
        d, shape = law(family)
        if (found := noise.needed(d, shape)) is None or found[0] == "normal":
            continue
        u = ends.reshape(2, *[1] * len(found[1])).expand(2, *found[1])
        assert bool(noise.drawn(d, u.double()).isfinite().all()), family.name
