"""The families of a spec for one datum: no value here has a batch dimension.

Scalars fill the parameter's shape, and the numbers of an event are independent but for what the family itself ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro.distributions
import torch
from torch import Tensor
from torch.distributions import constraints, transform_to
from torch.nn.functional import logsigmoid

from jointkl.semantics.families import FAMILIES, parameter_space
from jointkl.semantics.spaces import CONSTRAINT, Space

Parameters = Mapping[str, Tensor]


def log_density(family: str, parameters: Parameters, space: Space, x: Tensor) -> Tensor:
    """log density of one value of the space; -inf where the law never draws it."""
    full = filled(family, parameters, space)
    match family:
        case "Categorical":
            return _log_classes(full)[x.long()]
        case "Bernoulli":
            return _bernoulli(full, x.to(torch.float64))
        case _:
            d = _distribution(family, full)
            inside = bool(d.support.check(x).all())
            return d.log_prob(x).sum() if inside else torch.tensor(-torch.inf, dtype=torch.float64)


def draw(family: str, parameters: Parameters, space: Space) -> Tensor:
    """A value of the law: of a finite space its place."""
    with torch.no_grad():
        found = _distribution(family, filled(family, parameters, space)).sample()
    return found.long() if space.kind == "finite" else found


def filled(family: str, parameters: Parameters, space: Space) -> dict[str, Tensor]:
    """Each parameter at its own full shape."""
    row = FAMILIES[family]
    found: dict[str, Tensor] = {}
    for name, given in parameters.items():
        parameter = row.parameter(name)
        assert parameter is not None
        shape = parameter_space(row, parameter, space).shape
        found[name] = given.to(torch.float64).expand(shape) if given.ndim == 0 else given
    return found


def _log_classes(full: Parameters) -> Tensor:
    """`Categorical()` comes with its equal probabilities."""
    return full["logits"].log_softmax(-1) if "logits" in full else (full["probs"] / full["probs"].sum()).log()


def _bernoulli(full: Parameters, x: Tensor) -> Tensor:
    if "logits" in full:
        one, zero = logsigmoid(full["logits"]), logsigmoid(-full["logits"])
    else:
        one, zero = full["probs"].log(), (1 - full["probs"]).log()
    return torch.where(x == 1, one, zero).sum()


def _distribution(family: str, full: Parameters) -> Any:
    whole = {p.name for p in FAMILIES[family].parameters if p.extent == "count"}
    arguments = {name: int(v) if name in whole else v for name, v in full.items()}
    return getattr(pyro.distributions, family)(**arguments, validate_args=False)


def somewhere(space: Space) -> Tensor:
    """A value of no special kind: of a finite space its place."""
    shape = space.shape
    match space.kind:
        case "finite":
            return torch.randint(len(space.values), ())
        case "binary":
            return torch.randint(2, shape).to(torch.float64)
        case "natural":
            return torch.randint(5, shape).to(torch.float64)
        case "unit":
            return 0.05 + 0.9 * torch.rand(shape, dtype=torch.float64)
        case "simplex":
            return (0.7 * torch.randn(shape, dtype=torch.float64)).softmax(-1)
        case kind:
            into = transform_to(getattr(constraints, CONSTRAINT[kind]))
            return into(0.8 * torch.randn(shape, dtype=torch.float64))
