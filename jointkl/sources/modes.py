"""The modes of the mixtures whose modes are known: what mode coverage is measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from jointkl.semantics.catalogue import SOURCES, OptionValue
from jointkl.sources import synthetic

MODES: dict[str, Callable[[], Tensor]] = {"ring8": synthetic.ring8_modes, "grid25": synthetic.grid25_modes}
"""Mixtures of equal weights, all their modes of the standard deviation that the option `std` says."""


def modes(source: str, options: Mapping[str, OptionValue]) -> tuple[Tensor, float] | None:
    """The modes (M, *shape) of a source's first column and their standard deviation; None where they are not known."""
    if source not in MODES:
        return None
    defaults = {option.name: option.default for option in SOURCES[source].options}
    std = options.get("std", defaults["std"])
    assert isinstance(std, int | float)
    return MODES[source](), float(std)
