"""Batches hold enough rows for the independent draws that stand side by side, before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import jointkl
from jointkl.compiler import compile, parse
from jointkl.diagnostics import DataError
from jointkl.training.distributed import data_parallel
from jointkl.training.distributed.processes import ProcessGroup
from jointkl.training.minibatches import Minibatches
from tests.training.runs import planned

COPIES = """
data(x) = evidence()
var x, v: real
param a: real
q(v | x, x', x'') = Normal(a * (x + x' - x''), 1)
r(v) = Normal(0, 1)
minimize KL(data(x) * data(x') * data(x'') * q(v|x,x',x'') || data(x) * data(x') * data(x'') * r(v))
"""

MIXTURE = """
data(x, u) = evidence()
let K = 2
var x, u: real
var k: {0..K-1}
param m: real[K]
p(k | u, x) = Free
q(k) = Categorical()
q(x | k) = Normal(m[k], 1)
minimize KL(data(u) * data(x) * p(k|u,x) || data(u) * q(k) * q(x|k))
"""
"""A closed step on the whole evidence, of x beside another draw."""

TWO = "a batch is {}, and a loss takes 3 independent draws of `x` for each datum"


@pytest.mark.parametrize(("rows", "batch", "told"), [(9, 1, "one datum"), (9, 2, "2 rows"), (2, 64, "2 rows")])
def test_too_few_rows_are_refused_before_the_first_step(rows: int, batch: int, told: str, tmp_path: Path) -> None:
    data = {"data": torch.randn(rows)}
    with pytest.raises(DataError, match=TWO.format(told)):
        jointkl.train(COPIES, data, out=tmp_path / "run", settings={"batch": str(batch), "steps": "2"})
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match=TWO.format(told)):
        jointkl.dry_run(COPIES, data, settings={"batch": str(batch), "steps": "2"})


@pytest.mark.parametrize(("rows", "batch"), [(9, 1), (1, 64)])
def test_a_closed_step_is_refused_alike(rows: int, batch: int, tmp_path: Path) -> None:
    data = {"data": torch.randn(rows, 2)}
    with pytest.raises(DataError, match="takes 2 independent draws of `x`"):
        jointkl.train(MIXTURE, data, out=tmp_path / "run", settings={"batch": str(batch), "steps": "1"})


def test_a_closed_step_takes_the_rows_apart() -> None:
    """The M step's mean is that of x weighted by its own responsibilities, whichever row stands beside it."""
    torch.manual_seed(0)
    program = compile(MIXTURE).double()
    x, u = torch.randn(2, 9).double()
    with torch.no_grad():
        program.params["m"].copy_(torch.tensor([-0.5, 1.0]))
    r = torch.softmax(-((x[:, None] - program.params["m"].detach()) ** 2) / 2, -1)
    torch.testing.assert_close(program.solve("p(k|u,x)", {"x": x, "u": u}), r.roll(1, 0))
    program.solve("m", {"x": x, "u": u})
    torch.testing.assert_close(program.params["m"].detach(), (r * x[:, None]).sum(0) / r.sum(0))
    with pytest.raises(ValueError, match="no 2 independent draws"):
        program.solve("m", {"x": x[:1], "u": u[:1]})


def test_as_many_rows_as_draws_are_enough(tmp_path: Path) -> None:
    run = jointkl.train(
        COPIES, {"data": torch.randn(3)}, out=tmp_path / "run", settings={"batch": "3", "steps": "2"}, pictures=0
    )
    assert run.rounds == 2


def test_parts_of_a_batch_have_the_rows_beside_them_at_every_shift() -> None:
    model = parse(COPIES)
    program = compile(model)
    data = {"data": torch.arange(40.0)}

    def batches(rank: int, size: int) -> Minibatches:
        group = ProcessGroup()
        group.rank, group.size = rank, size
        return data_parallel.minibatches_for(
            planned(model, data, group, settings={"batch": "12"}, device="cpu"), program
        )

    whole, parts = batches(0, 1), [batches(rank, 3) for rank in range(3)]
    for _ in range(5):
        one, three = whole.draw(), [part.draw() for part in parts]
        for shift, key in enumerate(("x", "x'", "x''")):
            assert torch.equal(torch.cat([part[key] for part in three]), one["x"].roll(shift, 0))
