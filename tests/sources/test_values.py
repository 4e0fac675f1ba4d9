"""Values against spaces: what is taken, how it is stored, and the first value that is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jointkl.semantics.spaces import CONSTRAINT, KINDS, Space
from jointkl.sources import bind
from jointkl.sources.checks import CHECKS

NAN, INF = float("nan"), float("inf")
L = [[1.0, 0.0], [0.5, 2.0]]

GOOD = [
    (Space("real"), [-1e30, 0.0, 3.5]),
    (Space("positive"), [1e-30, 3.0]),
    (Space("unit"), [0.0, 0.5, 1.0]),
    (Space("binary"), [0, 1, 1]),
    (Space("binary", (2,)), [[True, False]]),
    (Space("natural"), [0, 5, 2**24]),
    (Space("simplex", (3,)), [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.333333, 0.333333, 0.333333]]),
    (Space("cholesky", (2,)), [L]),
]

BAD = [
    (Space("real"), [0.0, NAN], ["nan in row 1 (counted from 0)", "finite", "not finite"]),
    (Space("real", (2,)), [[0.0, 1.0], [2.0, -INF]], ["-inf at [1] in row 1"]),
    (Space("real"), [0.0, 1e300], ["1e+300 in row 1", "float32"]),
    (Space("positive"), [1.0, 2.0, 0.0, -1.0], ["0.0 in row 2", "above 0", "var x: real`"]),
    (Space("positive"), [1e-300], ["1e-300 in row 0", "float32"]),
    (Space("positive"), [INF], ["inf in row 0"]),
    (Space("unit", (2,)), [[0.0, 255.0]], ["255.0 at [1] in row 0", "from 0 to 1", "divide by 255", "real[2]"]),
    (Space("unit"), [-0.1], ["-0.1 in row 0"]),
    (Space("unit"), [0.5, NAN], ["nan in row 1"]),
    (Space("binary", (1, 2, 2)), [[[[0, 1], [1, 0.5]]]], ["0.5 at [0, 1, 1] in row 0", "0 or 1", "unit[1,2,2]"]),
    (Space("binary"), [0, 1, 2], ["2 in row 2"]),
    (Space("binary"), [NAN], ["nan in row 0"]),
    (Space("natural"), [3.0, 2.5], ["2.5 in row 1", "whole numbers"]),
    (Space("natural"), [-1], ["-1 in row 0"]),
    (Space("natural"), [2**24 + 1], ["16777217 in row 0", "to 16777216"]),
    (Space("simplex", (2,)), [[0.5, 0.5], [0.5, 0.6]], ["[0.5, 0.6] (sum 1.1) in row 1", "sum is 1"]),
    (Space("simplex", (2,)), [[0.5, 0.499]], ["(sum 0.999) in row 0"]),
    (Space("simplex", (2,)), [[1.5, -0.5]], ["[1.5, -0.5] (sum 1) in row 0"]),
    (Space("simplex", (2, 2)), [[[0.5, 0.5], [1.0, 1.0]]], ["[1.0, 1.0] (sum 2) at [1] in row 0"]),
    (Space("simplex", (2,)), [[NAN, 1.0]], ["nan", "in row 0"]),
    (Space("cholesky", (2,)), [L, [[1.0, 0.5], [0.5, 1.0]]], ["in row 1", "lower triangular"]),
    (Space("cholesky", (2,)), [[[1.0, 0.0], [0.0, 0.0]]], ["in row 0", "diagonal"]),
    (Space("cholesky", (2,)), [[[1.0, 0.0], [NAN, 1.0]]], ["nan", "in row 0"]),
    (Space("finite", (), (0, 1)), [0, 1, 2], ["2 in row 2", "a value of {0, 1}"]),
    (Space("finite", (), (1, 2, 3)), [1, 0], ["0 in row 1", "{1..3}"]),
    (Space("finite", (), (-1, 1)), np.array([1, 255], dtype=np.uint8), ["255 in row 1"]),
    (Space("finite", (), (0, 1)), [0.0, 0.5], ["0.5 in row 1"]),
    (Space("finite", (), (0, 1)), [1.0, 1.0000001], ["1.0000001 in row 1"]),
    (Space("finite", (), (0, 1)), [NAN], ["nan in row 0"]),
]


def test_there_is_a_check_for_every_kind_that_is_not_finite():
    assert set(CHECKS) == set(KINDS)


@pytest.mark.parametrize(("space", "rows"), GOOD, ids=[f"{s}-{i}" for i, (s, _) in enumerate(GOOD)])
def test_values_of_a_space_are_stored_as_float32(spec, space, rows):
    (data,) = bind(spec({"x": space}, ("data", ("x",))), {"data": np.array(rows)})
    assert data.columns[0].dtype == torch.float32
    assert torch.equal(data.columns[0], torch.tensor(rows, dtype=torch.float32))
    constraint = getattr(torch.distributions.constraints, CONSTRAINT[space.kind])
    tolerant = data.columns[0] / data.columns[0].sum(-1, keepdim=True) if space.kind == "simplex" else data.columns[0]
    assert bool(constraint.check(tolerant).all())


@pytest.mark.parametrize(("space", "rows", "words"), BAD, ids=[f"{s}-{i}" for i, (s, _, _) in enumerate(BAD)])
def test_the_first_value_outside_its_space_is_named(spec, refused, space, rows, words):
    model = spec({"x": space}, ("data", ("x",)))
    refused(model, {"data": np.array(rows)}, "`x` of `data(x)`", "the ndarray given", str(space), *words)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.float16, np.longdouble])
def test_any_type_of_number_is_compared_by_value(spec, refused, dtype):
    model = spec({"c": Space("finite", (), (-1, 1)), "x": Space("binary")}, ("data", ("c", "x")))
    assert bind(model, {"data": [np.ones(2, dtype), np.ones(2, dtype)]})[0].columns[1].tolist() == [1, 1]
    refused(model, {"data": [np.full(2, 127, dtype), np.ones(2, dtype)]}, "`c`", "127", "row 0", "{-1, 1}")
    refused(model, {"data": [np.ones(2, dtype), np.full(2, 127, dtype)]}, "`x`", "127", "row 0", "binary")


@pytest.mark.parametrize("values", [(0, 1, 2), (3, 5, 9), (-1, 1), (9, 2, 4)], ids=str)
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.float32, np.float64])
def test_finite_values_are_stored_as_their_index(spec, values, dtype):
    given = np.random.default_rng(0).choice(values, 50).astype(dtype)
    (data,) = bind(spec({"c": Space("finite", (), values)}, ("data", ("c",))), {"data": given})
    assert data.columns[0].dtype == torch.int64
    assert data.columns[0].tolist() == [values.index(int(v)) for v in given]


def test_half_precision_is_read_and_shown(spec, refused):
    model = spec({"x": Space("unit")}, ("data", ("x",)))
    refused(model, {"data": torch.tensor([0.5, 1.5], dtype=torch.bfloat16)}, "found 1.5 in row 1")
    refused(model, {"data": torch.tensor([0.5, 1.5]).to(torch.float8_e4m3fn)}, "found 1.5 in row 1")


def test_read_only_arrays_are_taken_without_a_warning(spec, recwarn):
    rows = np.array([0.25, 1.0], dtype=np.float32)
    rows.flags.writeable = False
    (data,) = bind(spec({"x": Space("unit")}, ("data", ("x",))), {"data": rows})
    assert data.columns[0].tolist() == [0.25, 1.0]
    assert not recwarn.list


def test_booleans_are_values_of_a_label(spec):
    (data,) = bind(spec({"y": Space("finite", (), (0, 1))}, ("data", ("y",))), {"data": np.array([True, False])})
    assert data.columns[0].tolist() == [1, 0]


def test_a_source_outside_the_space_is_refused_by_the_law(spec, refused):
    model = spec({"x": Space("binary", (1, 8, 8))}, ("data", ("x",), "digits", {}, (0,)))
    refused(model, None, "`x` of `data(x)`", "source `digits`", "binary[1,8,8]", "threshold=0.5")
