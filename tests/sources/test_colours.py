"""Digits in colour, against the colours of Python's own library and the shares that are asked for."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from jointkl.semantics.spaces import Space
from jointkl.sources import bind, load, streams
from jointkl.sources.colours import rgb
from tests import layouts

OF = {"of": "digits"}


def test_hues_are_python_s():
    hues = torch.linspace(-1, 2, 301)
    expected = [colorsys.hsv_to_rgb(hue % 1, 1, 1) for hue in hues.tolist()]
    assert torch.allclose(rgb(hues), torch.tensor(expected), atol=1e-5)
    assert rgb(torch.tensor([0, 1 / 3, 2 / 3])).round().tolist() == torch.eye(3).tolist()


@pytest.mark.parametrize("paint", ["ink", "paper"])
def test_an_image_is_its_digit_in_its_colour(paint):
    grey, classes = load("digits", {})
    images, same, colour, shade = load("colour_mnist", {**OF, "colours": 6, "paint": paint})
    amount = grey if paint == "ink" else 1 - grey
    assert torch.equal(same, classes)
    assert torch.allclose(images, amount * shade[:, :, None, None], atol=0.5 / 255 + 1e-6)
    assert torch.allclose(shade, rgb(colour / 6))


def test_digits_are_scaled_before_they_are_coloured():
    images, *_, shade = load("colour_mnist", {**OF, "size": (28, 12)})
    grey = torch.nn.functional.interpolate(load("digits", {})[0], (28, 12), mode="bilinear", antialias=True)
    assert torch.allclose(images, grey * shade[:, :, None, None], atol=0.5 / 255 + 1e-6)


def test_mnist_is_coloured_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path))
    made = layouts.mnist(tmp_path)
    for large in (2**30, 0):
        monkeypatch.setattr(streams, "LARGE", large)
        columns = load("colour_mnist", {"split": "test", "size": 14})
        images, digit, _, shade = (column[torch.arange(20)] for column in columns)
        grey = load("mnist", {"split": "test", "size": 14})[0][:]
        assert digit.tolist() == made.targets["test"].tolist()
        assert torch.allclose(images, grey * shade[:, :, None, None], atol=0.5 / 255 + 1e-6)


@pytest.mark.statistical
@pytest.mark.parametrize("colours", [1, 2, 10, 20])
@pytest.mark.parametrize("match", [0.0, 0.3, 1.0])
def test_the_share_that_matches_its_class(colours, match):
    """P(colour = class K // 10) = match + (1 - match) / K, and the others are uniform."""
    _, digit, colour, _ = load("colour_mnist", {**OF, "split": "all", "colours": colours, "match": match})
    count = len(digit)
    share = match + (1 - match) / colours
    found = (colour == digit * colours // 10).double().mean().item()
    assert abs(found - share) <= 5 * math.sqrt(share * (1 - share) / count)
    assert set(colour.tolist()) <= set(range(colours))
    if match < 1 and colours == 10:
        away = (colour - digit).remainder(10)
        counts = away[away != 0].bincount(minlength=10)[1:].double()
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 8 + 5 * math.sqrt(2 * 8), (
            "chi-squared, 8 degrees"
        )


def test_two_colours_part_small_digits_from_large_ones():
    _, digit, colour, shade = load("colour_mnist", {**OF, "colours": 2, "match": 1})
    assert torch.equal(colour, (digit >= 5).long())
    assert torch.allclose(shade[digit < 5], torch.tensor([1.0, 0, 0]))
    assert torch.allclose(shade[digit >= 5], torch.tensor([0.0, 1, 1]), atol=1e-6)


@pytest.mark.statistical
def test_colour_and_digit_are_independent_unless_asked():
    _, digit, colour, _ = load("colour_mnist", {**OF, "split": "all"})
    table = np.histogram2d(digit, colour, bins=(10, 10))[0]
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    statistic = ((table - expected) ** 2 / expected).sum()
    assert statistic < 81 + 5 * math.sqrt(2 * 81), "chi-squared with 81 degrees of freedom"


@pytest.mark.statistical
def test_hues_spread_about_their_colour():
    *_, colour, shade = load("colour_mnist", {**OF, "colours": 3, "spread": 0.5})
    hue = torch.tensor([colorsys.rgb_to_hsv(*row)[0] for row in shade.tolist()])
    turn = (3 * hue - colour + 1.5).remainder(3) - 1.5
    assert 0.24 < turn.abs().max() <= 0.25 + 1e-5
    assert abs(turn.mean()) < 5 * 0.5 / math.sqrt(12 * len(turn)), "uniform, 0.5 wide"
    even = load("colour_mnist", {**OF, "colours": 3})[3]
    assert len(even.unique(dim=0)) == 3


def test_colours_depend_on_their_seed_alone():
    first = load("colour_mnist", OF)
    torch.rand(3)
    again, other = load("colour_mnist", OF), load("colour_mnist", {**OF, "seed": 1})
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(first[1], other[1])
    assert not torch.equal(first[2], other[2])


def test_two_domains_in_one_spec(spec):
    """What colour means in one domain it does not mean in the other."""
    classes = Space("finite", (), tuple(range(10)))
    model = spec(
        {"x": Space("unit", (3, 8, 8)), "c": classes, "k": classes, "r": Space("unit", (3,))},
        ("source", ("x", "c", "k", "r"), "colour_mnist", {**OF, "match": 1.0}),
        ("target", ("x",), "colour_mnist", {**OF, "seed": 1}, (0,)),
    )
    source, target = bind(model)
    batch = source.take(torch.arange(50))
    assert torch.equal(batch["c"], batch["k"])
    assert not torch.equal(batch["source.x"], target.take(torch.arange(50))["target.x"])
