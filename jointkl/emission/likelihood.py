"""Closed steps as methods: the weighted moments of the data, set as the params' values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jointkl.emission import formulas
from jointkl.emission.lines import Attributes, Lines
from jointkl.emission.losses import counted
from jointkl.emission.names import MODULE, Names
from jointkl.emission.text import docstring
from jointkl.objective import ir
from jointkl.semantics.model import Model
from jointkl.semantics.spaces import CONSTRAINT, Space


def step(model: Model, attributes: Attributes, found: ir.Step, name: str) -> list[str]:
    """The lines of a player's closed step: it sets the params and returns their values by name."""
    w = Lines(model, found.nodes, attributes, Names.without(MODULE, ("batch", "n", "r", "total", "values", "d")))
    w.count((found.weights, *(u.value for u in found.updates if u.value is not None)))
    weights = formulas.probability(w, found.weights)
    fits: list[str] = []
    for u in found.updates:
        x = "" if u.value is None else w.text(u.value).text
        fits += FITS[u.family](dict(u.params), x, u.space)
    if w.lines and w.lines[-1].startswith(f"{weights} = "):
        w.lines[-1] = "r" + w.lines[-1].removeprefix(weights)
    else:
        w.lines.append(f"r = {weights}")
    body = [*w.lines, "total = r.sum(1)", "values: dict[str, Tensor] = {}", *fits]
    for u in found.updates:
        for _, param in u.params:
            body.append(_assign(attributes.params[param], model.params[param].space, param))
    body.append("return values")
    body = counted(found.nodes, body)
    return [
        "    @torch.no_grad()",
        f"    def {name}(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:",
        *(f"        {line}" for line in docstring(f"argmin {found.formula}")),
        *(f"        {line}" for line in body),
    ]


def _assign(member: str, space: Space, param: str) -> str:
    """A param is kept as what `transform_to` maps to it."""
    if space.kind == "real":
        return f'self.{member}.copy_(values["{param}"])'
    return f'self.{member}_raw.copy_(transform_to(constraints.{CONSTRAINT[space.kind]}).inv(values["{param}"]))'


Fit = Callable[[Mapping[str, str], str, Space], list[str]]


def _mean(x: str, space: Space) -> str:
    """sum_n r_k(n) x_n / sum_n r_k(n), shape (K, *event)."""
    over = ", None" * len(space.shape)
    return f'torch.einsum("kn,n...->k...", r, {x}) / total[:{over}]'


def _categorical(params: Mapping[str, str], x: str, space: Space) -> list[str]:
    role, param = next(iter(params.items()))
    if not x:
        shares = "r.mean(1)"
    else:
        shares = f'torch.einsum("kn,nc->kc", r, F.one_hot({x}, {len(space.values)}).to(r.dtype)) / total[:, None]'
    return [f'values["{param}"] = {shares if role == "probs" else f"({shares}).log()"}']


def _bernoulli(params: Mapping[str, str], x: str, space: Space) -> list[str]:
    role, param = next(iter(params.items()))
    mean = _mean(f"{x}.to(r.dtype)", space) if x else "r[1].mean()"
    return [f'values["{param}"] = {mean if role == "probs" else f"torch.logit({mean})"}']


def _poisson(params: Mapping[str, str], x: str, space: Space) -> list[str]:
    return [f'values["{params["rate"]}"] = {_mean(x, space)}']


def _exponential(params: Mapping[str, str], x: str, space: Space) -> list[str]:
    return [f'values["{params["rate"]}"] = 1 / ({_mean(x, space)})']


def _normal(params: Mapping[str, str], x: str, space: Space) -> list[str]:
    loc = f'values["{params["loc"]}"]'
    lines = [f"{loc} = {_mean(x, space)}"]
    if "scale" in params:
        over = ", None" * len(space.shape)
        spread = f'torch.einsum("kn,kn...->k...", r, ({x} - {loc}[:, None]).square()) / total[:{over}]'
        lines.append(f'values["{params["scale"]}"] = ({spread}).sqrt()')
    return lines


def _multivariate_normal(params: Mapping[str, str], x: str, space: Space) -> list[str]:
    loc = f'values["{params["loc"]}"]'
    return [
        f"{loc} = {_mean(x, space)}",
        f"d = {x} - {loc}[:, None]",
        'covariance = torch.einsum("kn,kni,knj->kij", r, d, d) / total[:, None, None]',
        f'values["{params["scale_tril"]}"] = torch.linalg.cholesky(covariance)',
    ]


FITS: Mapping[str, Fit] = {
    "Categorical": _categorical,
    "Bernoulli": _bernoulli,
    "Poisson": _poisson,
    "Exponential": _exponential,
    "Normal": _normal,
    "MultivariateNormal": _multivariate_normal,
}
"""For each family the lines that fit its params to the data x under the weights r, (K, N), of sums total, (K,)."""
