"""What an exported sampler takes: variables that are given, rows of evidence, noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from jointkl.emission.names import Names
from jointkl.exports.noise import Noise, Shape
from jointkl.semantics.spaces import Kind, Space

Role = Literal["given", "evidence", "noise", "rows"]


@dataclass(frozen=True, slots=True)
class Need:
    """One tensor that a draw is a function of, (N, *shape): a variable's values, whose `space` is known, or noise.

    `key` is what the language calls it: `x`, `x'`, `x.noise`.
    """

    key: str
    role: Role
    shape: Shape
    space: Space | None = None
    noise: Noise | None = None
    once: bool = False
    """A global's: one for all rows, of `shape` alone."""


ROWS = Need("rows", "rows", ())
"""What a sampler takes that needs nothing else: as many numbers as rows are wanted, whatever they are."""


@dataclass(frozen=True, slots=True)
class Input:
    """A need as an argument, under a name of Python."""

    name: str
    need: Need
    dtype: torch.dtype

    @property
    def told(self) -> dict[str, Any]:
        """As JSON, for who loads the sampler."""
        need = self.need
        space = {"space": str(need.space)} if need.space else {}
        noise = {"distribution": TOLD[need.noise]} if need.noise else {}
        return {
            "name": self.name,
            "key": need.key,
            "role": need.role,
            **space,
            **noise,
            **form(need.shape, self.dtype, need.once),
        }

    def example(self, rows: int) -> Tensor:
        """Random values that it may have, (rows, *shape), or of a global one."""
        shape = self.need.shape if self.need.once else (rows, *self.need.shape)
        match self.need.space:
            case None:
                return DRAWN[self.need.noise or "uniform"](shape, dtype=self.dtype)
            case Space(kind="finite", values=values):
                return torch.randint(len(values), shape)
            case space:
                return EXAMPLES[space.kind](torch.randn(shape, dtype=self.dtype))


TOLD: Mapping[Noise, str] = {"normal": "standard normal", "uniform": "uniform on [0, 1)"}
DRAWN: Mapping[Noise, Callable[..., Tensor]] = {"normal": torch.randn, "uniform": torch.rand}

EXAMPLES: Mapping[Kind, Callable[[Tensor], Tensor]] = {
    "real": lambda e: e,
    "positive": torch.exp,
    "unit": torch.sigmoid,
    "binary": lambda e: (e > 0).to(e.dtype),
    "natural": lambda e: e.abs().round(),
    "simplex": lambda e: e.softmax(-1),
    "cholesky": lambda e: e.tril(-1) + torch.diag_embed(e.diagonal(dim1=-2, dim2=-1).exp()),
}
"""Values of a space made of normal ones."""


def form(shape: Shape, dtype: torch.dtype, once: bool = False) -> dict[str, Any]:
    return {"shape": [*(() if once else ("batch",)), *shape], "dtype": str(dtype).removeprefix("torch.")}


def named(needs: Iterable[Need], dtype: torch.dtype) -> tuple[Input, ...]:
    """The needs as arguments, each with a name of its own. Finite values are whole numbers, their places; all else has
    the type of the parameters."""
    names = Names.without(("self",))
    return tuple(
        Input(names.of(n, n.key), n, torch.int64 if n.space and n.space.kind == "finite" else dtype) for n in needs
    )
