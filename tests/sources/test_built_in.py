"""The sources built in, against what is known of them from elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from jointkl.diagnostics import DataError
from jointkl.semantics.catalogue import SOURCES
from jointkl.semantics.spaces import Space
from jointkl.sources import load
from jointkl.sources.checks import stored
from jointkl.sources.errors import Place
from jointkl.sources.loaders import LOADERS


def test_every_source_of_the_catalogue_has_a_loader_and_no_other():
    assert set(LOADERS) == {name for name, row in SOURCES.items() if row.columns is not None}


SHIPPED = sorted(name for name in LOADERS if not {"root", "folder"} & {o.name for o in SOURCES[name].options})
"""Sources that need no files. `tests/semantics/test_catalogue.py` holds all of them against the catalogue."""


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("options", [{}, {"threshold": 0.5}], ids=["default", "threshold"])
def test_columns_lie_in_the_spaces_of_the_catalogue(name, options):
    row = SOURCES[name]
    options = {key: value for key, value in options.items() if key in {o.name for o in row.options}}
    assert row.columns is not None
    spaces = row.columns(options)
    columns = load(name, options)
    assert len(columns) == len(spaces)
    for i, (column, space) in enumerate(zip(columns, spaces, strict=True)):
        assert column.shape == (len(columns[0]), *space.shape)
        assert column.dtype == (torch.int64 if space.kind == "finite" else torch.float32)
        stored(column, space, Place(name, name, ((f"v{i}", space),), f"v{i}"))
        if space.kind == "finite":
            assert set(column.tolist()) == set(space.values)


@pytest.mark.statistical
def test_ring8_has_its_modes_at_equal_weight_and_the_std_asked_for():
    points, mode = load("ring8", {"std": 0.03, "n": 80_000, "seed": 1})
    assert len(points) == 80_000
    for k in range(8):
        own = points[mode == k].double()
        centre = torch.tensor([math.cos(math.pi * k / 4), math.sin(math.pi * k / 4)], dtype=torch.float64)
        assert abs(len(own) - 10_000) < 5 * math.sqrt(80_000 / 8 * 7 / 8)
        assert torch.allclose(own.mean(0), centre, atol=5 * 0.03 / math.sqrt(len(own)), rtol=0)
        spread = torch.full((2,), 0.03, dtype=torch.float64)
        assert torch.allclose(own.std(0), spread, rtol=5 / math.sqrt(2 * len(own)))


@pytest.mark.slow
@pytest.mark.statistical
def test_grid25_has_a_mode_at_each_even_point():
    points, mode = load("grid25", {"std": 0.0, "n": 5_000})
    pairs = {(int(k), x, y) for k, (x, y) in zip(mode, points.tolist(), strict=True)}
    axis = (-4, -2, 0, 2, 4)
    assert pairs == {(5 * i + j, axis[i], axis[j]) for i in range(5) for j in range(5)}
    spread, mode = load("grid25", {"std": 0.5, "n": 50_000})
    centres = torch.tensor([[axis[k // 5], axis[k % 5]] for k in mode.tolist()])
    assert torch.allclose((spread - centres).std(0), torch.full((2,), 0.5), rtol=5 / math.sqrt(2 * 50_000), atol=0)


@pytest.mark.parametrize("name", ["ring8", "grid25"])
def test_points_depend_on_their_seed_alone(name):
    first = load(name, {"n": 50})
    state = torch.random.get_rng_state()
    torch.rand(3)
    again, other = load(name, {"n": 50}), load(name, {"n": 50, "seed": 1})
    torch.random.set_rng_state(state)
    load(name, {"n": 50})
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_digits_are_scikit_learns():
    images, classes = load("digits", {"split": "all"})
    table = load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert np.array_equal(images[:, 0].numpy() * 16, table.images)
    assert np.array_equal(classes.numpy(), table.target)


def test_split_of_digits_is_disjoint_complete_and_stratified():
    parts = {split: load("digits", {"split": split}) for split in ("train", "test", "all")}
    rows = {
        split: sorted((int(c), *x.flatten().tolist()) for x, c in zip(*part, strict=True))
        for split, part in parts.items()
    }
    assert sorted(rows["train"] + rows["test"]) == rows["all"]
    assert len(set(rows["all"])) == 1797  # no two digits are alike, so that the next line says something
    assert not set(rows["train"]) & set(rows["test"])
    total, test = (parts[split][1].bincount() for split in ("all", "test"))
    assert torch.equal(test, (total * 0.2).round().long())
    default = load("digits", {})
    assert torch.equal(default[0], parts["train"][0])


def test_digits_threshold_and_invert():
    grey, classes = load("digits", {})
    black, same = load("digits", {"threshold": 0.5})
    assert torch.equal(black, torch.where(grey > 0.5, 1.0, 0.0))
    assert torch.equal(same, classes)
    assert (grey == 0.5).any()  # a pixel at the threshold is 0
    assert torch.equal(load("digits", {"invert": True})[0], 1 - grey)
    both = load("digits", {"invert": True, "threshold": 0.25})[0]
    assert torch.equal(both, torch.where(1 - grey > 0.25, 1.0, 0.0))


@pytest.mark.parametrize(("degrees", "quarters"), [(90.0, 1), (-90.0, 3), (180, 2), (720, 0)])
def test_digits_turn_exactly_by_quarters_counterclockwise(degrees, quarters):
    grey = load("digits", {})[0].numpy()
    assert np.array_equal(load("digits", {"rotate": degrees})[0].numpy(), np.rot90(grey, quarters, axes=(2, 3)))


@pytest.mark.parametrize("degrees", [30.0, -45.0, 100.0])
def test_digits_turn_as_torchvision_turns(degrees):
    grey = load("digits", {})[0]
    expected = rotate(grey, degrees, InterpolationMode.BILINEAR)
    assert torch.allclose(load("digits", {"rotate": degrees})[0], expected, atol=1e-5)


def test_iris_and_wine_are_the_known_tables():
    flowers, species = load("iris", {})
    assert flowers.shape == (150, 4)
    assert species.bincount().tolist() == [50, 50, 50]
    assert flowers[0].tolist() == pytest.approx([5.1, 3.5, 1.4, 0.2])
    wines, growers = load("wine", {})
    assert wines.shape == (178, 13)
    assert growers.bincount().tolist() == [59, 71, 48]
    assert wines[0, 0].item() == pytest.approx(14.23)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("rign8", {}, ["`rign8`", "did you mean `ring8`?"]),
        ("mnsit", {}, ["`mnsit`", "did you mean `mnist`?"]),
        ("images", {}, ["`images`", "option `folder` is missing", "folder=..."]),
        ("images", {"folder": "faces", "size": 0}, ["option `size`", "found 0", "from 1 to 4096"]),
        ("images", {"folder": "faces", "size": (8, 8, 8)}, ["option `size`", "height and width", "(8, 8, 8)"]),
        ("images", {"folder": "faces", "crop": 2.5}, ["option `crop`", "whole number", "2.5"]),
        ("colour_mnist", {"match": 1.5}, ["option `match`", "from 0 to 1", "1.5"]),
        ("ring8", {"sdt": 0.1}, ["`ring8`", "`sdt`", "did you mean `std`?"]),
        ("iris", {"n": 3}, ["`iris`", "no options"]),
        ("ring8", {"n": 0}, ["option `n`", "found 0", "from 1"]),
        ("ring8", {"n": 2.5}, ["option `n`", "whole number", "2.5"]),
        ("ring8", {"n": True}, ["option `n`", "whole number", "True"]),
        ("ring8", {"std": -0.1}, ["option `std`", "at least 0", "-0.1"]),
        ("ring8", {"std": math.nan}, ["option `std`", "finite", "nan"]),
        ("ring8", {"seed": 2**64}, ["option `seed`", str(2**64)]),
        ("digits", {"split": "tset"}, ["option `split`", "train, test, all", "did you mean `test`?"]),
        ("digits", {"invert": 1}, ["option `invert`", "true or false"]),
        ("digits", {"rotate": "left"}, ["option `rotate`", "finite number", "'left'"]),
    ],
)
def test_wrong_sources_and_options_are_refused(source, options, words):
    with pytest.raises(DataError) as caught:
        load(source, options)
    assert caught.value.help
    for word in words:
        assert word in str(caught.value)


def test_a_stored_column_is_a_copy_and_never_an_alias():
    given = torch.zeros(3, 2)
    space = Space("real", (2,))
    column = stored(given, space, Place("data(x)", "here", (("x", space),), "x"))
    given += 1
    assert torch.equal(column, torch.zeros(3, 2))
