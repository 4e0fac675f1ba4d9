"""Which data go to which law and variable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jointkl.diagnostics import DataError
from jointkl.semantics.spaces import Space
from jointkl.sources import Bound, bind, load

REAL2, REAL = Space("real", (2,)), Space("real")
EIGHT = Space("finite", (), tuple(range(8)))
POINTS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
CLASSES = np.array([0, 7, 3])


def test_a_source_built_in_binds_by_position(spec):
    model = spec(
        {"x": Space("unit", (64,)), "c": Space("finite", (), tuple(range(10)))},
        ("data", ("x",), "digits", {"split": "test"}, (0,)),
        ("label", ("c",), "digits", {}, (1,)),
    )
    data, label = bind(model)
    images, _ = load("digits", {"split": "test"})
    assert (data.law, data.keys, len(data)) == ("data(x)", ("x",), 359)
    assert torch.equal(data.columns[0], images.reshape(-1, 64))
    assert torch.equal(label.columns[0], load("digits", {})[1])


def test_split_replaces_that_of_the_sources_that_have_one(spec):
    model = spec(
        {"x": Space("unit", (1, 8, 8)), "z": REAL2}, ("data", ("x",), "digits"), ("ring", ("z",), "ring8", {"n": 7})
    )
    assert [len(bound) for bound in bind(model)] == [1438, 7]
    assert [len(bound) for bound in bind(model, split="test")] == [359, 7]


def test_a_wrong_split_names_the_law(spec):
    with pytest.raises(DataError, match=r"`data\(x\)`.*`digits`.*option `split`.*'valid'"):
        bind(spec({"x": Space("unit", (1, 8, 8))}, ("data", ("x",), "digits")), split="valid")


def test_keys_carry_the_label_where_two_laws_give_a_variable(spec):
    model = spec({"x": REAL2, "t": REAL}, ("data", ("x", "t")), ("target", ("x",)))
    data, target = bind(model, {"data": (POINTS, CLASSES), "target": POINTS})
    assert data.keys == ("data.x", "t")
    assert target.keys == ("target.x",)


def test_take_gives_rows_by_key(spec):
    (data,) = bind(spec({"x": REAL2, "t": EIGHT}, ("data", ("x", "t"))), {"data": (POINTS, CLASSES)})
    batch = data.take(torch.tensor([2, 0]))
    assert isinstance(data, Bound)
    assert set(batch) == {"x", "t"}
    assert batch["x"].tolist() == [[5.0, 6.0], [1.0, 2.0]]
    assert batch["x"].dtype == torch.float32
    assert batch["t"].tolist() == [3, 0]
    assert batch["t"].dtype == torch.int64


@pytest.mark.parametrize("key", ["data(x,t)", " data( x , t )", "data"])
@pytest.mark.parametrize(
    "rows",
    [
        (POINTS, CLASSES),
        [torch.tensor(POINTS), torch.tensor(CLASSES)],
        {"t": CLASSES, "x": POINTS, "name": np.array(["a", "b", "c"])},
        np.column_stack([POINTS, CLASSES]),
        torch.tensor(np.column_stack([POINTS, CLASSES])).bfloat16(),
        np.column_stack([POINTS, CLASSES]).tolist(),
        (POINTS.astype(">f4"), CLASSES.astype(np.uint16)),
    ],
    ids=["tuple", "tensors", "dict", "array", "bfloat16", "lists", "big endian"],
)
def test_every_form_of_rows_gives_the_same_columns(spec, key, rows):
    (data,) = bind(spec({"x": REAL2, "t": EIGHT}, ("data", ("x", "t"))), {key: rows})
    assert data.columns[0].tolist() == POINTS.tolist()
    assert data.columns[1].tolist() == CLASSES.tolist()


@pytest.mark.parametrize("space", [REAL, Space("real", (1,)), Space("real", (1, 1))], ids=str)
@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1)], ids=str)
def test_equal_sizes_are_reshaped(spec, space, shape):
    (data,) = bind(spec({"x": space}, ("data", ("x",))), {"data": np.arange(3.0).reshape(shape)})
    assert data.columns[0].shape == (3, *space.shape)
    assert data.columns[0].flatten().tolist() == [0, 1, 2]


def test_rows_given_replace_a_source(spec):
    model = spec({"x": REAL2}, ("data", ("x",), "ring8"))
    assert bind(model, {"data(x)": POINTS})[0].columns[0].tolist() == POINTS.tolist()


def test_two_copies_of_one_variable_have_a_column_each(spec):
    (pairs,) = bind(spec({"x": REAL2}, ("pairs", ("x", "x'"))), {"pairs": {"x": POINTS, "x'": -POINTS}})
    assert pairs.keys == ("x", "x'")
    assert pairs.columns[1].tolist() == (-POINTS).tolist()


def test_a_single_array_under_another_name_is_taken(spec):
    (data,) = bind(spec({"x": REAL2}, ("data", ("x",))), {"data": {"points": POINTS}})
    assert data.columns[0].tolist() == POINTS.tolist()


def test_the_callers_array_stays_apart_and_the_graph_is_left_behind(spec):
    rows = torch.ones(3, 2, requires_grad=True)
    array = POINTS.astype(np.float32)
    model = spec({"x": REAL2, "z": REAL2}, ("data", ("x",)), ("noise", ("z",)))
    data, noise = bind(model, {"data": rows, "noise": array})
    array[:] = 0
    assert not data.columns[0].requires_grad
    assert noise.columns[0].tolist() == POINTS.tolist()


def test_a_marginal_has_no_rows_of_its_own(spec, refused):
    model = spec({"x": REAL2, "t": REAL}, ("data", ("x", "t")), ("data", ("t",), "evidence", {}, (1,), "data(x,t)"))
    assert [bound.law for bound in bind(model, {"data": (POINTS, CLASSES)})] == ["data(x,t)"]
    refused(model, {"data(t)": CLASSES}, "`data(t)`", "marginal", "give data for `data(x,t)`")


def test_no_data_names_the_law_and_the_way(spec, refused):
    refused(
        spec({"x": REAL2}, ("target", ("x",))), None, "`target(x)`", "x: real[2]", "--data target=FILE", '{"target(x)"'
    )
    two = spec({"x": REAL2, "t": REAL}, ("data", ("x",)), ("data", ("t",)))
    refused(two, {"data(x)": POINTS}, "`data(t)`", "--data 'data(t)=FILE'")


def test_keys_that_match_no_law(spec, refused):
    model = spec({"x": REAL2, "t": REAL}, ("data", ("x",)), ("target", ("t",)))
    refused(model, {"dta": POINTS}, "`dta`", "did you mean `data`?", "`data(x)`, `target(t)`")
    refused(model, {"targt(t)": POINTS}, "did you mean `target(t)`?")
    refused(model, {3: POINTS}, "`3`", "`data(x)`")
    refused(spec({}), {"data": POINTS}, "`data`", "no evidence")
    refused(model, {"data": POINTS, "data(x)": POINTS}, "twice", "`data`", "`data(x)`")
    refused(model, POINTS, "a dict from law to rows", "ndarray", '{"data(x)": rows}')
    both = spec({"x": REAL2, "t": REAL}, ("data", ("x",)), ("data", ("t",)))
    refused(both, {"data": POINTS}, "several laws", "`data(x)`, `data(t)`")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.ones((4, 4)), ["`data(x,t)`", "rows of 3 numbers", "(4, 4)", "x: real[2]", "t: {0..7}"]),
        (np.ones(4), ["rows of 3 numbers", "(4,)"]),
        ((POINTS, CLASSES, CLASSES), ["2 arrays", "found 3 arrays"]),
        ((POINTS, CLASSES[:2]), ["3 of `x`, 2 of `t`"]),
        ((np.ones((3, 3)), CLASSES), ["`x` of `data(x,t)`", "2 numbers a row", "3 numbers a row", "var x: real[3]"]),
        ((np.ones(3), CLASSES), ["2 numbers a row", "1 number a row", "var x: real`"]),
        ((POINTS, np.eye(8)[:3]), ["`t` of `data(x,t)`", "{0..7}, 1 number a row", "argmax"]),
        ((POINTS, CLASSES[:0]), ["`t` of `data(x,t)`", "none (shape (0,))", "at least one row"]),
        (np.ones((0, 3)), ["none (shape (0, 3))"]),
        (3.0, ["a single number"]),
        ({"x": POINTS, "T": CLASSES}, ["`x`, `T`", "did you mean `T`?", "numpy.savez(file, x=..., t=...)"]),
        ({}, ["no array"]),
        ((POINTS, np.array(["a", "b", "c"])), ["real numbers", "<U1"]),
        (np.array([{}, 1, 2]), ["real numbers", "object"]),
        ([[1.0, 2.0, 3.0], [1.0]], ["real numbers", "`list`"]),
        (None, ["real numbers", "NoneType"]),
        (torch.ones(3, 3, dtype=torch.complex64), ["real numbers", "complex64"]),
        (torch.eye(3).to_sparse(), ["real numbers", "sparse"]),
        (torch.empty(3, 3, device="meta"), ["real numbers", "meta"]),
        (np.ma.masked_equal([[1.0, 2.0, 3.0]], 2.0), ["real numbers", "masked"]),
        ((object(), CLASSES), ["real numbers"]),
    ],
)
def test_rows_that_do_not_fit_are_refused(spec, refused, rows, words):
    refused(spec({"x": REAL2, "t": EIGHT}, ("data", ("x", "t"))), {"data": rows}, "data(x,t)", "given", *words)


def test_channels_last_is_refused_and_not_scrambled(spec, refused):
    model = spec({"x": Space("unit", (3, 4, 4))}, ("data", ("x",)))
    refused(model, {"data": np.zeros((5, 4, 4, 3))}, "`x`", "(3, 4, 4)", "(4, 4, 3)", "transpose(0, 3, 1, 2)")
    assert bind(model, {"data": np.zeros((5, 48))})[0].columns[0].shape == (5, 3, 4, 4)
    grey = spec({"x": Space("unit", (1, 4, 4))}, ("data", ("x",)))
    assert bind(grey, {"data": np.zeros((5, 4, 4, 1))})[0].columns[0].shape == (5, 1, 4, 4)
