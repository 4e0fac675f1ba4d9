"""What a program is judged against, and whether it has seen it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.diagnostics import DataError
from jointkl.evaluation.held_out import held_out, training_rows
from jointkl.semantics.model import Model
from jointkl.sources import bind, load


def model(source: str, variable: str = "unit[1,8,8]") -> Model:
    return jointkl.parse(f"""
        data(x) = {source}
        var x: {variable}
        var z: real[2]
        net E = mlp(4)
        p(z | x) = Normal(E(x))
        q(z) = Normal(0, 1)
        minimize KL(data(x) * p(z|x) || data(x) * q(z))
        """)


def column(found: object) -> Tensor:
    return found.bound[0].columns[0]


def test_the_split_for_tests() -> None:
    m = model("digits(invert=true)")
    found = held_out(m, {})
    assert torch.equal(column(found), load("digits", {"split": "test", "invert": True})[0])
    origin = found.origins["data(x)"]
    assert (origin.text, origin.unseen) == ("digits(split=test)", True)
    found = held_out(m, {}, split="train")
    assert torch.equal(column(found), bind(m)[0].columns[0])
    assert found.origins["data(x)"].text == "digits(split=train), which it was trained on"
    assert not found.origins["data(x)"].unseen
    with pytest.raises(DataError, match="split"):
        held_out(m, {}, split="held")


@pytest.mark.parametrize("trained", ["test", "all"])
def test_a_split_that_it_was_trained_on_is_seen(trained: str) -> None:
    origin = held_out(model(f'digits(split="{trained}")'), {}).origins["data(x)"]
    assert not origin.unseen
    assert "which it was trained on" in origin.text


def test_fresh_points_by_another_seed() -> None:
    m = model("ring8(n=500, seed=3)", "real[2]")
    found = held_out(m, {})
    assert torch.equal(column(found), load("ring8", {"n": 500, "seed": 4})[0])
    assert found.origins["data(x)"].text == "ring8(seed=4), fresh points"
    assert found.origins["data(x)"].unseen


def test_a_split_is_of_sources_that_have_splits() -> None:
    """Points that are drawn stay fresh beside it; alone it would say nothing, and is refused."""
    with pytest.raises(DataError, match=r"there is no split `test`: no source of data\(x\) has splits"):
        held_out(model("ring8(n=500)", "real[2]"), {}, split="test")
    two = jointkl.parse("""
        data(x) = digits()
        points(y) = ring8(n=50)
        var x: unit[1,8,8]
        var y: real[2]
        net E = mlp(4)
        q(y | x) = Normal(E(x))
        minimize KL(data(x) * points(y) || data(x) * q(y|x))
        """)
    found = held_out(two, {}, split="train")
    assert [origin.text for origin in found.origins.values()] == [
        "digits(split=train), which it was trained on", "ring8(seed=1), fresh points",
    ]  # fmt: skip
    with pytest.raises(DataError, match="there is no split"):
        held_out(two, {}, {"data": np.zeros((3, 64))}, split="test")


def test_where_there_is_nothing_else_the_rows_of_training() -> None:
    found = held_out(model("iris()", "real[4]"), {})
    assert found.origins["data(x)"].text == "iris, which it was trained on"
    assert not found.origins["data(x)"].unseen
    assert not training_rows(bind(model("iris()", "real[4]"))).origins["data(x)"].unseen


def test_what_is_given() -> None:
    m = model("evidence()", "real[4]")
    rows = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
    found = held_out(m, {"data": rows})
    assert not found.origins["data(x)"].unseen
    assert np.array_equal(column(found).numpy(), rows)
    found = held_out(m, {"data": rows}, {"data(x)": rows[:7] + 1})
    assert found.origins["data(x)"].unseen
    assert len(found.bound[0]) == 7
    found = held_out(model("digits()"), {"data": np.zeros((3, 64))})
    assert len(found.bound[0]) == 3, "given rows stand in the place of the source, its split too"
    with pytest.raises(DataError, match="has no data"):
        held_out(m, {})
    with pytest.raises(DataError, match="no evidence of the spec"):
        held_out(m, {"data": rows}, {"dat": rows})
