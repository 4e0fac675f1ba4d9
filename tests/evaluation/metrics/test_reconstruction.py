from __future__ import annotations

import pytest
import torch

from jointkl.diagnostics import DataError
from jointkl.evaluation.metrics import reconstruction
from tests.bounds import SIGMAS


def test_squared_error_per_number() -> None:
    x = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]], [[0.0, 1.0]]])
    y = torch.tensor([[[0.0, 2.0]], [[1.0, 1.0]], [[1.0, 1.0]]])
    found = reconstruction(x, y)
    assert found.value == pytest.approx((2.0 + 0.0 + 0.5) / 3)
    assert found.details["of_mean"] == pytest.approx(2 / 9), "the variance of each number: 1/3 and 2/3 of ones"
    assert found.data == 3
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]
    assert reconstruction(x, x).value == 0.0


def test_classes_are_right_or_wrong() -> None:
    found = reconstruction(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 1]))
    assert found.value == 0.25
    assert found.interval is not None


@pytest.mark.statistical
def test_noise_of_known_size() -> None:
    """The variance of n squares of normals is 2 / n of their mean squared."""
    unit = SIGMAS * (2 / 20_000) ** 0.5
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5000, 4, generator=generator)
    found = reconstruction(x, x + 0.3 * torch.randn(5000, 4, generator=generator))
    assert found.value == pytest.approx(0.09, rel=unit)
    assert found.details["of_mean"] == pytest.approx(1.0, rel=unit)
    assert found.interval is not None
    assert (found.interval[1] - found.interval[0]) / 2 == pytest.approx(1.96 * 0.09 * unit / SIGMAS, rel=0.1)


def test_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match=r"\(2, 3\) cannot be compared with \(2, 4\)"):
        reconstruction(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match="cannot be judged"):
        reconstruction(torch.zeros(2, 3), torch.full((2, 3), torch.nan))
