"""Small specs as fixtures, and what an autoencoder of digits must be better than."""

from __future__ import annotations

import pytest
import torch

from jointkl.sources import load
from tests.training.specs import GAN, PROXIMAL, VAE


@pytest.fixture(scope="session")
def halfway() -> float:
    """Between the loss of pixels of probability 1/2 and that of the best decoder of digits that ignores its code, the
    entropy of each pixel by itself: 64 log 2 = 44.4 and 25.7. An autoencoder that has learnt anything is below."""
    p = load("digits", {"threshold": 0.5})[0].double().mean(0)
    entropy = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum()
    return float(entropy + 64 * torch.tensor(2.0).log()) / 2


@pytest.fixture
def gan() -> str:
    return GAN


@pytest.fixture
def vae() -> str:
    return VAE


@pytest.fixture
def proximal() -> str:
    return PROXIMAL
