"""Closed steps as methods: the weighted moments of the data, set as the params' values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jointkl.emission.lines import Attributes, Lines
from jointkl.emission.losses import counted
from jointkl.emission.names import MODULE, Names
from jointkl.emission.places import Rows
from jointkl.emission.text import docstring, quoted
from jointkl.objective import ir
from jointkl.semantics.spaces import CONSTRAINT, Space


def step(objective: ir.Objective, attributes: Attributes, found: ir.Step, name: str) -> list[str]:
    """The lines of a player's closed step: it sets the params and returns their values by name."""
    w = Lines(
        objective, found.nodes, attributes, Names.without(MODULE, ("batch", "n", "r", "total", "values", "raw", "d"))
    )
    w.count((found.weights, *(u.value for u in found.updates if u.value is not None)))
    weights = w.text(found.weights).text
    fits: list[str] = []
    for u in found.updates:
        x = "" if u.value is None else w.text(u.value).text
        fits += FITS[u.family](Fitted(dict(u.params), x, u.space, _pooled(objective, u)))
    if w.layout(found.weights).rows is not Rows.EACH:
        weights = f"{weights}.expand(-1, n)"
    if w.lines and w.lines[-1].startswith(f"{weights} = "):
        w.lines[-1] = "r" + w.lines[-1].removeprefix(weights)
    else:
        w.lines.append(f"r = {weights}")
    body = [*w.lines, "total = r.sum(1)", "values: dict[str, Tensor] = {}", *fits]
    body += _assigned(objective, attributes, [param for u in found.updates for _, param in u.params])
    body.append("return values")
    body = counted(found.nodes, body)
    return [
        "    @torch.no_grad()",
        f"    def {name}(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:",
        *(f"        {line}" for line in docstring(f"argmin {found.formula}")),
        *(f"        {line}" for line in body),
    ]


def _assigned(objective: ir.Objective, attributes: Attributes, params: list[str]) -> list[str]:
    """A param is kept as what `transform_to` maps to it; all are known before the first is overwritten."""
    before: list[str] = []
    copied: list[str] = []
    for name in params:
        member, kind = attributes.params[name], objective.params[name].space.kind
        if kind == "real":
            copied.append(f"self.{member}.copy_(values[{quoted(name)}])")
            continue
        inverse = f"transform_to(constraints.{CONSTRAINT[kind]}).inv(values[{quoted(name)}])"
        before.append(f"raw[{quoted(name)}] = {inverse}")
        copied.append(f"self.{member}_raw.copy_(raw[{quoted(name)}])")
    return [*(["raw: dict[str, Tensor] = {}", *before] if before else []), *copied]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a family is fitted to: its params by role, the data's text (empty: the index variable's own values), their
    space, and the roles of which one number fills the whole event."""

    params: Mapping[str, str]
    x: str
    space: Space
    pooled: frozenset[str]

    def value(self, role: str) -> str:
        return f"values[{quoted(self.params[role])}]"

    def over(self) -> str:
        """`total` or a moment in front of the event's dimensions."""
        return ", None" * len(self.space.shape)

    def mean(self, role: str, x: str = "") -> str:
        """sum_n r_k(n) x_n / sum_n r_k(n), shape (K, *event), or (K,) where one number fills the event."""
        of_all = f'torch.einsum("kn,n...->k...", r, {x or self.x}) / total[:{self.over()}]'
        return self.all_alike(role, of_all)

    def all_alike(self, role: str, moment: str) -> str:
        return f"({moment}).flatten(1).mean(1)" if role in self.pooled else moment


def _pooled(objective: ir.Objective, u: ir.Update) -> frozenset[str]:
    inner = {role: objective.params[param].space.shape[1:] for role, param in u.params}
    return frozenset(role for role, shape in inner.items() if u.value is not None and u.space.shape and not shape)


def _categorical(f: Fitted) -> list[str]:
    role = next(iter(f.params))
    if not f.x:
        shares = "r.mean(1)"
    else:
        shares = f'torch.einsum("kn,nc->kc", r, F.one_hot({f.x}, {len(f.space.values)}).to(r.dtype)) / total[:, None]'
    return [f"{f.value(role)} = {shares if role == 'probs' else f'({shares}).log()'}"]


def _bernoulli(f: Fitted) -> list[str]:
    role = next(iter(f.params))
    mean = f.mean(role, f"{f.x}.to(r.dtype)") if f.x else "r[1].mean()"
    return [f"{f.value(role)} = {mean if role == 'probs' else f'torch.logit({mean})'}"]


def _poisson(f: Fitted) -> list[str]:
    return [f"{f.value('rate')} = {f.mean('rate', f'{f.x}.to(r.dtype)')}"]


def _exponential(f: Fitted) -> list[str]:
    return [f"{f.value('rate')} = 1 / ({f.mean('rate')})"]


def _normal(f: Fitted) -> list[str]:
    loc = f.value("loc")
    lines = [f"{loc} = {f.mean('loc')}"]
    if "scale" in f.params:
        at = f"{loc}[:, None{f.over() if 'loc' in f.pooled else ''}]"
        spread = f'torch.einsum("kn,kn...->k...", r, ({f.x} - {at}).square()) / total[:{f.over()}]'
        alike = f.all_alike("scale", spread)
        lines.append(f"{f.value('scale')} = {alike if 'scale' in f.pooled else f'({alike})'}.sqrt()")
    return lines


def _multivariate_normal(f: Fitted) -> list[str]:
    loc = f.value("loc")
    return [
        f"{loc} = {f.mean('loc')}",
        f"d = {f.x} - {loc}[:, None]",
        'covariance = torch.einsum("kn,kni,knj->kij", r, d, d) / total[:, None, None]',
        f"{f.value('scale_tril')} = torch.linalg.cholesky(covariance)",
    ]


FITS: Mapping[str, Callable[[Fitted], list[str]]] = {
    "Categorical": _categorical,
    "Bernoulli": _bernoulli,
    "Poisson": _poisson,
    "Exponential": _exponential,
    "Normal": _normal,
    "MultivariateNormal": _multivariate_normal,
}
"""For each family the lines that fit its params to the data x under the weights r, (K, N), of sums total, (K,)."""
