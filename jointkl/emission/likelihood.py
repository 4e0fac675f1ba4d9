"""Closed steps as methods: the weighted moments of the data, set as the params' values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from jointkl.emission.forms import writer
from jointkl.emission.losses import RESERVED, counted
from jointkl.emission.places import Rows
from jointkl.emission.statements import Do, Function, Let, Put, Statement
from jointkl.emission.text import docstring
from jointkl.emission.tree import ALL, BLANK, Attribute, Expression, Literal, Name, call, member, string
from jointkl.emission.writer import Attributes, N, Writer
from jointkl.objective import ir
from jointkl.semantics.spaces import CONSTRAINT, Space

R, TOTAL, VALUES, RAW, ONE = Name("r"), Name("total"), Name("values"), Name("raw"), Literal("1")


def step(objective: ir.Objective, attributes: Attributes, found: ir.Step, name: str) -> Function:
    """A player's closed step: it sets the params and returns their values by name."""
    w = writer(objective, found.nodes, attributes, (*RESERVED, "r", "total", "values", "raw", "d"))
    w.count((found.weights, *(u.value for u in found.updates if u.value is not None)))
    weights = w.text(found.weights)
    fits: list[Statement] = []
    for u in found.updates:
        x = None if u.value is None else w.text(u.value)
        fits += FITS[u.family](Fitted(dict(u.params), x, u.space, _pooled(objective, u)))
    if w.place(found.weights).rows is not Rows.EACH:
        weights = weights.do("expand", -ONE, N)
    params = [param for u in found.updates for _, param in u.params]
    body = (
        *_weighted(w, weights),
        Let(("total",), R.do("sum", 1)),
        _empty("values"),
        *fits,
        *_assigned(objective, attributes, params),
        Do(VALUES, "return"),
    )
    return Function(
        f"def {name}(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:",
        docstring("argmin " + found.formula[0], *found.formula[1:]),
        counted(found.nodes, body),
        "@torch.no_grad()",
    )


def _weighted(w: Writer, weights: Expression) -> Iterator[Statement]:
    """What was written, its last value called r if that is what the weights are."""
    last = w.statements[-1] if w.statements else None
    if isinstance(last, Let) and last.names == (weights.text,):
        yield from w.statements[:-1]
        yield Let(("r",), last.value)
    else:
        yield from w.statements
        yield Let(("r",), weights)


def _empty(name: str) -> Statement:
    return Put(Name(f"{name}: dict[str, Tensor]"), Literal("{}"))


def _assigned(objective: ir.Objective, attributes: Attributes, params: list[str]) -> list[Statement]:
    """A param is kept as what `transform_to` maps to it; all are known before the first is overwritten."""
    before: list[Statement] = []
    copied: list[Statement] = []
    for name in params:
        kept, kind = attributes.params[name], objective.params[name].space.kind
        if kind == "real":
            copied.append(Do(member(kept).do("copy_", VALUES[string(name)])))
            continue
        inverse = call("transform_to", Name(f"constraints.{CONSTRAINT[kind]}")).do("inv", VALUES[string(name)])
        before.append(Put(RAW[string(name)], inverse))
        copied.append(Do(member(f"{kept}_raw").do("copy_", RAW[string(name)])))
    return [*([_empty("raw"), *before] if before else []), *copied]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a family is fitted to: its params by role, the data (None: the index variable's own values), their space,
    and the roles of which one number fills the whole event."""

    params: Mapping[str, str]
    x: Expression | None
    space: Space
    pooled: frozenset[str]

    @property
    def data(self) -> Expression:
        assert self.x is not None
        return self.x

    def value(self, role: str) -> Expression:
        return VALUES[string(self.params[role])]

    def over(self, moment: Expression) -> Expression:
        """A moment over `total`, in front of the event's dimensions."""
        return moment / TOTAL[(ALL, *[BLANK] * len(self.space.shape))]

    def mean(self, role: str, x: Expression | None = None) -> Expression:
        """sum_n r_k(n) x_n / sum_n r_k(n), shape (K, *event), or (K,) where one number fills the event."""
        of_all = call("torch.einsum", string("kn,n...->k..."), R, self.data if x is None else x)
        return self.all_alike(role, self.over(of_all))

    def all_alike(self, role: str, moment: Expression) -> Expression:
        return moment.do("flatten", 1).do("mean", 1) if role in self.pooled else moment

    def numbers(self) -> Expression:
        """The data as numbers."""
        return self.data.do("to", Attribute(R, "dtype"))


def _pooled(objective: ir.Objective, u: ir.Update) -> frozenset[str]:
    inner = {role: objective.params[param].space.shape[1:] for role, param in u.params}
    return frozenset(role for role, shape in inner.items() if u.value is not None and u.space.shape and not shape)


def _categorical(f: Fitted) -> list[Statement]:
    role = next(iter(f.params))
    if f.x is None:
        shares = R.do("mean", 1)
    else:
        hot = call("F.one_hot", f.x, len(f.space.values)).do("to", Attribute(R, "dtype"))
        shares = call("torch.einsum", string("kn,nc->kc"), R, hot) / TOTAL[ALL, BLANK]
    return [Put(f.value(role), shares if role == "probs" else shares.do("log"))]


def _bernoulli(f: Fitted) -> list[Statement]:
    role = next(iter(f.params))
    mean = f.mean(role, f.numbers()) if f.x is not None else R[1].do("mean")
    return [Put(f.value(role), mean if role == "probs" else call("torch.logit", mean))]


def _poisson(f: Fitted) -> list[Statement]:
    return [Put(f.value("rate"), f.mean("rate", f.numbers()))]


def _exponential(f: Fitted) -> list[Statement]:
    return [Put(f.value("rate"), ONE / f.mean("rate"))]


def _normal(f: Fitted) -> list[Statement]:
    loc = f.value("loc")
    fitted: list[Statement] = [Put(loc, f.mean("loc"))]
    if "scale" in f.params:
        event = [BLANK] * len(f.space.shape) if "loc" in f.pooled else []
        apart = (f.data - loc[(ALL, BLANK, *event)]).do("square")
        spread = f.over(call("torch.einsum", string("kn,kn...->k..."), R, apart))
        fitted.append(Put(f.value("scale"), f.all_alike("scale", spread).do("sqrt")))
    return fitted


def _multivariate_normal(f: Fitted) -> list[Statement]:
    loc, d = f.value("loc"), Name("d")
    covariance = call("torch.einsum", string("kn,kni,knj->kij"), R, d, d) / TOTAL[ALL, BLANK, BLANK]
    return [
        Put(loc, f.mean("loc")),
        Let(("d",), f.data - loc[ALL, BLANK]),
        Let(("covariance",), covariance),
        Put(f.value("scale_tril"), call("torch.linalg.cholesky", Name("covariance"))),
    ]


FITS: Mapping[str, Callable[[Fitted], list[Statement]]] = {
    "Categorical": _categorical,
    "Bernoulli": _bernoulli,
    "Poisson": _poisson,
    "Exponential": _exponential,
    "Normal": _normal,
    "MultivariateNormal": _multivariate_normal,
}
"""For each family the statements that fit its params to the data x under the weights r, (K, N), of sums total, (K,)."""
