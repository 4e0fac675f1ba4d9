"""Pictures, read back from their bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from jointkl.evaluation import pictures
from jointkl.evaluation.pictures import kind_of
from jointkl.semantics.spaces import Space


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (Space("real", (2,)), "points"),
        (Space("positive", (2,)), "points"),
        (Space("binary", (2,)), None),
        (Space("unit", (1, 8, 8)), "images"),
        (Space("binary", (3, 4, 5)), "images"),
        (Space("unit", (8, 8)), "images"),
        (Space("unit", (2, 8, 8)), None),
        (Space("unit", (64,)), None),
        (Space("unit", (1, 1, 8)), None),
        (Space("real", (1, 8, 8)), None),
        (Space("real", ()), None),
        (Space("finite", (), (0, 1)), None),
        (Space("cholesky", (2,)), None),
    ],
)
def test_what_is_shown_how(space: Space, kind: str | None) -> None:
    assert kind_of(space) == kind


def test_real_images_are_images_where_their_data_are() -> None:
    space = Space("real", (1, 8, 8))
    assert kind_of(space, torch.rand(4, 1, 8, 8)) == "images"
    assert kind_of(space, torch.rand(4, 1, 8, 8) * 2 - 1) is None


def test_images_stand_row_by_row_enlarged_without_blur() -> None:
    values = torch.zeros(4, 1, 8, 8)
    values[1] = 1.0
    values[2, 0, 0, 0] = 0.25
    found = pixels(pictures.images(values))
    scale = found.shape[0] // 19  # two images of 8, three lines of 1
    assert scale > 10
    assert found.shape == (19 * scale, 19 * scale, 3)
    small = found[::scale, ::scale, 0]
    assert np.array_equal(np.repeat(np.repeat(small, scale, 0), scale, 1), found[..., 0]), "every pixel is a square"
    assert (small[1:9, 1:9] == 0).all()
    assert (small[1:9, 10:18] == 255).all()
    assert small[10, 1] == 64
    assert (small[10:18, 1:9].ravel()[1:] == 0).all()
    assert set(small[0]) == {128}, "the lines between are grey"


def test_images_in_colour_and_without_channel() -> None:
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1.0
    assert (255, 0, 0) in {tuple(p) for p in pixels(pictures.images(red)).reshape(-1, 3)}
    assert pixels(pictures.images(torch.ones(3, 5, 5))).max() == 255


def test_values_beyond_the_range_are_cut() -> None:
    found = pixels(pictures.images(torch.tensor([-3.0, 7.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)))
    assert {0, 255} <= set(found.ravel())


def test_points_are_drawn_over_the_data_in_a_square() -> None:
    data = torch.tensor([[0.0, 0.0], [10.0, 1.0]]).repeat(50, 1)
    with_data = pixels(pictures.points({"samples": torch.tensor([[5.0, 0.5]]).repeat(40, 1)}, data, "q(x)"))
    without = pixels(pictures.points({"samples": torch.tensor([[5.0, 0.5]]).repeat(40, 1)}, None, "q(x)"))
    assert with_data.shape == (600, 600, 3)

    def count(image: np.ndarray, colour: tuple[int, int, int]) -> int:
        return int((abs(image - np.array(colour)).sum(-1) < 9).sum())

    grey, blue = (191, 191, 191), (31, 119, 180)
    assert count(with_data, grey) > count(without, grey) + 80, "two places and a line of the legend"
    assert count(with_data, blue) > 0 < count(without, blue)
