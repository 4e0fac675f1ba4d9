"""Distances in blocks against scikit-learn's neighbours."""

from __future__ import annotations

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import distances

A = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
B = torch.randn(45, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(params=[1, 100, 10**6])
def numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one row, of two, of all."""
    monkeypatch.setattr(distances, "NUMBERS", request.param)


@pytest.mark.usefixtures("numbers")
def test_neighbours_in_any_blocks() -> None:
    found, places = distances.nearest(A, B, 4)
    known, where = NearestNeighbors(n_neighbors=4, algorithm="kd_tree").fit(B).kneighbors(A)
    torch.testing.assert_close(found, torch.from_numpy(known))
    assert torch.equal(places, torch.from_numpy(where))
    own, _ = NearestNeighbors(n_neighbors=6, algorithm="kd_tree").fit(A).kneighbors(A)
    torch.testing.assert_close(distances.radii(A, 5), torch.from_numpy(own[:, 5]))


def test_a_repeated_point_is_at_distance_zero_exactly() -> None:
    far = torch.full((3, 2), 1e6 + 0.1, dtype=torch.float64)
    assert distances.radii(far, 2).tolist() == [0.0, 0.0, 0.0]


def test_the_median_distance() -> None:
    assert distances.median(torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)) == 2.0
    repeated = torch.tensor([[0.0]] * 20 + [[7.0]], dtype=torch.float64)
    assert distances.median(repeated) == 7.0
    for points in (repeated[:20], repeated[:1]):
        with pytest.raises(DataError, match="all data are one point"):
            distances.median(points)


def test_points_that_are_not_finite_are_counted() -> None:
    with pytest.raises(DataError, match="2 of 3 points"):
        distances.points(torch.tensor([[0.0, 1.0], [torch.nan, 0.0], [0.0, torch.inf]]))
    assert distances.points(torch.ones(4)).shape == (4, 1)
    assert distances.points(torch.ones(4, 1, 2, 3)).shape == (4, 6)
