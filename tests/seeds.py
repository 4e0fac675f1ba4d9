"""Other seeds than those that are written: `pytest --seed-shift K`."""

from __future__ import annotations

import numpy as np
import torch


def shift(by: int) -> None:
    """From now on every seed that this process gives torch or numpy is greater by `by`, in the tests as in jointkl."""
    seed, plain, rng = torch.manual_seed, torch.Generator, np.random.default_rng

    class Shifted(plain):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(seed + by)

    def default_rng(seed: object = None) -> np.random.Generator:
        match seed:
            case int():
                return rng(seed + by)
            case list():
                return rng([*seed, by])
        return rng(seed)

    torch.manual_seed = lambda number: seed(number + by)
    torch.Generator = Shifted
    np.random.default_rng = default_rng
