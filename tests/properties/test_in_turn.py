"""On random systems of networks a round from one line of losses is the round of the losses apart."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import event, given, note
from hypothesis import strategies as st
from torch import Tensor

import jointkl
from jointkl.objective.share import Passes
from jointkl.program import Program
from tests.properties.compiled import compiled, examples, scatter
from tests.properties.drawn import mixtures, ratios, several, weighted
from tests.properties.expectation import data
from tests.properties.specs import Spec

HEAD = """
data(x) = iris()
var x: real[4]
var z: real[2]
net E = mlp(5)
net G = mlp(6)
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z), density=Laplace(1))
p(z) = data(x) * p(z|x)
g(x) = q(z) * q(x|z)
r(x) = data(x') * p(z|x') * q(x|z)
"""

CODES = ("p(z | x) = Delta(E(x))", "p(z | x) = Normal(E(x), 1)", "p(z | x) = Normal(E(x))")

GOALS = (
    "minimize KL(p(z) || q(z)) with critic=C",
    "minimize KL(g(x) || data(x)) with critic=D",
    "minimize 2 * KL(r(x) || data(x)) with critic=H",
    "minimize 1/2 * KL(data(x) * p(z|x) || q(z) * q(x|z)) with critic=J",
    "minimize 3 * CE(data(x) * p(z|x) || q(x|z))",
    "minimize CE(data(x) * p(z|x) || q(x|z)) over G",
    "minimize CE(data(x) * p(z|x) || q(x|z)) over E",
)


@st.composite
def systems(draw: st.DrawFn) -> str:
    """Codes of the data, drawn or not, and what is made of them, judged by critics and compared with the data."""
    goals = draw(st.lists(st.sampled_from(GOALS), min_size=2, max_size=4, unique=True))
    nets = [f"net {c} = mlp(4)" for c in "CDHJ" if any(goal.endswith(f"critic={c}") for goal in goals)]
    return "\n".join([*nets, HEAD, draw(st.sampled_from(CODES)), *goals])


def rounds(program: Program, batch: dict[str, Tensor]) -> tuple[list[float], list[Tensor]]:
    """The losses of two rounds of plain descent, and the parameters that they end with."""
    found: list[float] = []
    torch.manual_seed(3)
    for _ in range(2):
        line = program.in_turn(batch) if program.objective.in_turn is not None else None
        for phase in program.objective.phases:
            if phase.player not in program.emitted.losses:
                continue  # a Free law
            loss = program.loss(phase.player, batch) if line is None else next(line)
            found.append(loss.item())
            own = program.parameters_of(phase.player)
            for w, slope in zip(own, torch.autograd.grad(loss, own, allow_unused=True), strict=True):
                w.data -= 0 if slope is None else 1e-3 * slope
    return found, [w.detach() for w in program.parameters()]


@pytest.mark.slow
@examples(60)
@given(systems())
def test_a_round_in_turn_is_that_of_the_losses_apart(text: str) -> None:
    note(text)
    try:
        one = jointkl.compile(text).double()
    except jointkl.JklError as error:
        event(f"refused: {error.reports[0].code}")
        return
    verify(one, text, {"x": DATA})


@pytest.mark.slow
@examples(100)
@given(st.one_of(several(old=False), mixtures(), ratios(), weighted()))
def test_so_it_is_for_finite_spaces(spec: Spec) -> None:
    """Exact sums and score functions, params and networks, nested and hidden joints."""
    one = compiled(spec, size=0.3)
    verify(one, spec.text, dict(data(spec, one)[0]))


def verify(one: Program, text: str, batch: dict[str, Tensor]) -> None:
    event("in turn" if one.objective.in_turn is not None else "apart")
    apart = jointkl.compile(text, Passes(in_turn=False)).double()
    scatter(one, size=0.3)
    apart.load_state_dict(one.state_dict())
    (losses, ends), (wanted, there) = (rounds(program, batch) for program in (one, apart))
    assert all(map(math.isfinite, wanted))
    assert losses == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    for mine, theirs in zip(ends, there, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


DATA = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
