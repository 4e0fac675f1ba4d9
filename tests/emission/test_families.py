"""Every family as it is emitted against Pyro's own class: densities and draws, values and gradients.

Each parameter is given in every way the language has: a number, a param, one number of it for all, a net of its own,
the heads of one net, an indexed param, arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.program import Program
from jointkl.semantics.families import FAMILIES, FILLED, Family, Parameter, covers, parameter_space
from jointkl.semantics.spaces import Space

N = 4
K = 3

SPACES = (
    *(Space(kind, (2,)) for kind in ("real", "positive", "unit", "binary", "natural")),
    Space("simplex", (3,)),
    Space("cholesky", (3,)),
    Space("finite", (), (0, 1, 2)),
)
SHAPED = (*(Space(kind) for kind in ("real", "positive", "unit", "natural")), Space("finite", (), (0, 1)))
DEEP = (*(Space(kind, (2, 3)) for kind in ("real", "positive", "unit", "binary", "natural")), Space("simplex", (2, 3)))

Read = Callable[[Program, Mapping[str, Tensor]], object]


@dataclass(frozen=True)
class Way:
    """How one parameter is written: declarations, the expression, and what it comes to."""

    declared: str
    written: str
    read: Read


def numbers(p: Parameter, need: Space) -> Way:
    """Of the parameter's space and within what Pyro asks beyond it; equal numbers fill, others are a list."""
    if p.extent in ("matrix", "factor"):
        n = need.shape[-2]
        rows = [[1.5 if i == j else 0.2 if j < i or need.kind == "real" else 0.0 for j in range(n)] for i in range(n)]
        return Way("", str(rows), lambda *_: torch.tensor(rows, dtype=torch.float64))
    if need.kind == "simplex":
        row = [0.2, 0.3, 0.5][: need.shape[-1]] if need.shape[-1] == 3 else [0.4, 0.6]
        return Way("", str(row), lambda *_: torch.tensor(row, dtype=torch.float64).expand(need.shape))
    if p.extent == "classes":
        row = [0.3 * i for i in range(need.shape[0])]
        return Way("", str(row), lambda *_: torch.tensor(row, dtype=torch.float64))
    value = {"dim": 3, "total_count": 7, "low": 0.1, "high": 0.9}.get(p.name, 0.4)
    whole = p.extent == "count"
    return Way("", str(value), lambda *_: int(value) if whole else torch.full(need.shape, value, dtype=torch.float64))


def counted(p: Parameter) -> bool:
    """Can it not be trained: a whole number, or a bound that must stay in order, or a matrix beyond its space?"""
    return p.space == "natural" or p.name in ("low", "high", "covariance_matrix", "precision_matrix")


def param(p: Parameter, need: Space) -> Way:
    return Way(f"param v_{p.name}: {need}", f"v_{p.name}", lambda q, _: q.params[f"v_{p.name}"])


def filled(p: Parameter, need: Space) -> Way:
    if p.extent not in FILLED or need.kind == "simplex":
        return param(p, need)
    return Way(f"param v_{p.name}: {need.kind}", f"v_{p.name}", lambda q, _: q.params[f"v_{p.name}"].expand(need.shape))


def net(p: Parameter, need: Space) -> Way:
    if p.extent == "whole":
        return param(p, need)
    return Way(f"net N_{p.name} = mlp(3)", f"N_{p.name}(z)", lambda q, b: q.nets[f"N_{p.name}"](b["z"]))


def indexed(p: Parameter, need: Space) -> Way:
    if p.extent == "whole":
        return param(p, need)
    table = Space(need.kind, (K, *need.dims))
    return Way(f"param v_{p.name}: {table}", f"v_{p.name}[k]", lambda q, b: q.params[f"v_{p.name}"][b["k"]])


def arithmetic(p: Parameter, need: Space) -> Way:
    if need.kind == "cholesky" or p.extent == "whole":
        return param(p, need)
    inner = {"real": "{}*2 - 1", "positive": "exp({})", "unit": "sigmoid({})", "simplex": "softmax({})"}[need.kind]
    made: dict[str, Callable[[Tensor], Tensor]] = {
        "real": lambda v: v * 2 - 1,
        "positive": torch.exp,
        "unit": torch.sigmoid,
        "simplex": lambda v: v.softmax(-1),
    }
    dims = f"[{','.join(map(str, need.shape))}]" if need.shape else ""
    return Way(
        f"param v_{p.name}: real{dims}",
        inner.format(f"v_{p.name}"),
        lambda q, _: made[need.kind](q.params[f"v_{p.name}"]),
    )


WAYS: dict[str, Callable[[Parameter, Space], Way]] = {
    "numbers": numbers,
    "params": param,
    "one number": filled,
    "nets": net,
    "indexed": indexed,
    "arithmetic": arithmetic,
}


def versions(family: Family) -> Iterator[tuple[Parameter, ...]]:
    """The parameters, and the same with each alternative in place."""
    yield family.parameters
    for p in family.alternatives:
        yield tuple(p if q.name == p.instead else q for q in family.parameters)


CASES = [
    pytest.param(family, parameters, way, id=f"{family.name}-{'-'.join(p.name for p in parameters)}-{way}")
    for family in FAMILIES.values()
    for parameters in versions(family)
    for way in WAYS
    if way == "numbers" or not all(map(counted, parameters))
]


def program(space: Space, declared: str, call: str) -> Program:
    torch.manual_seed(0)
    p = jointkl.compile(f"""
        data(x, k) = evidence()
        var x: {space}
        var z: real[2]
        var k: {{0..{K - 1}}}
        net unused = mlp(2)
        {declared}
        q(z) = Normal(0, 1)
        q(x | z, k) = {call}
        p(k | z) = Categorical(unused(z))
        minimize CE(data(x, k) * q(z) || q(x|z,k)) + CE(data(x, k) * q(z) || p(k|z))
    """).double()
    with torch.no_grad():
        for w in p.parameters():
            w.add_(0.3 * torch.randn_like(w))
    return p


def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"z": torch.randn(N, 2, dtype=torch.float64), "k": torch.tensor([0, 2, 1, 2])}


def gradients(loss: Tensor, weights: list[torch.nn.Parameter]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)


def verify(p: Program, family: Family, space: Space, values: Mapping[str, object], b: dict[str, Tensor]) -> None:
    """Loss, gradient, draws and their gradients are those of Pyro's class at these parameters."""
    event = len(space.shape) - family.event
    plain = getattr(dist, family.name)(**values)
    missing = torch.Size((N, *space.shape[: len(space.shape) - family.event]))
    own = plain.expand(missing) if plain.batch_shape != missing else plain
    own = own.to_event(event) if event > 0 else own
    torch.manual_seed(2)
    x = own.sample()
    classes = p.nets["unused"](b["z"]).log_softmax(-1)[range(N), b["k"]]
    moving = any(isinstance(v, Tensor) and v.requires_grad for v in values.values())
    expected = -classes.mean() - (own.log_prob(x).mean() if moving else 0)  # a constant trains nobody
    given = x.long() if space.kind == "finite" else x
    (player,) = p.players
    loss = p.loss(player, {**b, "x": given})
    torch.testing.assert_close(loss, expected)
    weights = p.parameters_of(player)
    for a, e in zip(gradients(loss, weights), gradients(expected, weights), strict=True):
        torch.testing.assert_close(a, e)
    law = p.emitted.q_x_given_z_k(b["z"], b["k"])
    law = law.expand((N,)) if law.batch_shape == () else law
    assert law.batch_shape == (N,)
    assert law.event_shape == space.shape
    torch.testing.assert_close(law.log_prob(x), own.log_prob(x))
    assert law.has_rsample == family.reparameterised
    torch.manual_seed(3)
    drawn = law.sample()
    torch.manual_seed(3)
    torch.testing.assert_close(drawn, own.sample())
    if family.reparameterised and moving:
        found, wanted = [], []
        for made, into in ((law, found), (own, wanted)):
            torch.manual_seed(4)
            into += gradients(made.rsample().square().sum(), weights)
        assert any(g is not None for g in found)
        for a, e in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, e)


@pytest.mark.parametrize(("family", "parameters", "way"), CASES)
def test_it_is_pyros(family: Family, parameters: tuple[Parameter, ...], way: str) -> None:
    space = next(s for s in SPACES if covers(family, s))
    written = {p.name: (numbers if counted(p) else WAYS[way])(p, parameter_space(family, p, space)) for p in parameters}
    declared = "\n".join(w.declared for w in written.values())
    call = f"{family.name}({', '.join(f'{n}={w.written}' for n, w in written.items())})"
    p, b = program(space, declared, call), batch()
    verify(p, family, space, {n: w.read(p, b) for n, w in written.items()}, b)


BOUNDED = {"Uniform", "AffineBeta", "Pareto", "LKJCholesky"}
"""Families whose density is none in a part of their space."""


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        pytest.param(f, ps, id=f"{f.name}-{'-'.join(p.name for p in ps)}")
        for f in FAMILIES.values()
        if f.name not in BOUNDED and f.support in ("real", "positive", "unit", "simplex")
        for ps in versions(f)
    ],
)
def test_numbers_at_a_value_that_moves(family: Family, parameters: tuple[Parameter, ...]) -> None:
    """A prior of numbers, at samples that a net makes: it is the value that has the gradient."""
    space = next(s for s in SPACES if covers(family, s))
    written = {p.name: numbers(p, parameter_space(family, p, space)) for p in parameters}
    call = f"{family.name}({', '.join(f'{n}={w.written}' for n, w in written.items())})"
    torch.manual_seed(0)
    p = jointkl.compile(f"""
        var x: {space}
        var z: real[2]
        net G = mlp(3)
        q(z) = Normal(0, 1)
        q(x | z) = Delta(G(z))
        r(x) = {call}
        minimize CE(q(z) * q(x|z) || r(x))
    """).double()
    b = batch()
    own = getattr(dist, family.name)(**{n: w.read(p, b) for n, w in written.items()})
    each = own.log_prob(p.nets["G"](b["z"]))
    expected = -each.reshape(N, -1).sum(-1).mean()
    loss = p.loss("G", {"z": b["z"]})
    torch.testing.assert_close(loss, expected)
    for a, e in zip(gradients(loss, p.parameters_of("G")), gradients(expected, p.parameters_of("G")), strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize(
    ("family", "space"),
    [
        pytest.param(family, space, id=f"{family.name} over {space}")
        for family in FAMILIES.values()
        for space in (*SPACES, *SHAPED, *DEEP)
        if family.heads and covers(family, space)
    ],
)
def test_one_net_supplies_every_parameter(family: Family, space: Space) -> None:
    """By a head for each, mapped into its space, over numbers, vectors and matrices."""
    p, b = program(space, "net H = mlp(3)", f"{family.name}(H(z))"), batch()
    made = p.nets["H"](b["z"])
    assert family.heads is not None
    heads = made if isinstance(made, tuple) else (made,)
    verify(p, family, space, dict(zip(family.heads, heads, strict=True)), b)


def test_a_number_that_fills_a_shape_keeps_its_gradient() -> None:
    """A scalar param as the location of a vector: its gradient is the sum of all its places'."""
    p = jointkl.compile("""
        data(x) = evidence()
        var x: real[3]
        param m: real
        q(x) = Normal(m, 2)
        minimize CE(data(x) || q(x))
    """).double()
    x = torch.randn(N, 3, dtype=torch.float64)
    loss = p.loss("m", {"x": x})
    expected = (0.5 * ((x - p.params["m"]) / 2) ** 2 + math.log(2 * math.sqrt(2 * math.pi))).sum(-1).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, p.parameters_of("m"))[0], -(x / 4).sum(-1).mean())
