"""The oracle on finite spaces: divergences as sums over all values, from the params and networks alone.

A joint is a table of logarithms over all values of its variables, so a product is a sum, a hidden variable a
logsumexp. Nothing here uses what the compiler derived: a program's params and networks are read by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from jointkl.program import Program
from tests.properties.specs import (
    Distribution,
    Divergence,
    Evidence,
    Factor,
    Free,
    Goal,
    Joint,
    Law,
    Marginal,
    Spec,
    Var,
)

Names = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Logarithms over all values of `names`, one dimension each."""

    names: Names
    logs: Tensor

    def renamed(self, names: Mapping[str, str]) -> Table:
        return Table(tuple(names[n] for n in self.names), self.logs)

    def over(self, names: Names) -> Tensor:
        """The logs with dimensions in the order of `names`, which may be more."""
        order = [self.names.index(n) for n in names if n in self.names]
        assert len(order) == len(self.names), f"{self.names} not in {names}"
        return self.logs.permute(order)[tuple(slice(None) if n in self.names else None for n in names)]

    def without(self, hidden: Iterable[str]) -> Table:
        """Hidden variables summed out."""
        gone = [n for n in self.names if n in set(hidden)]
        if not gone:
            return self
        kept = tuple(n for n in self.names if n not in gone)
        return Table(kept, self.logs.logsumexp([self.names.index(n) for n in gone]))

    def expected(self, other: Table) -> Tensor:
        """E of `other` under this, whose probabilities sum to 1."""
        return (self.logs.exp() * other.over(self.names)).sum()


def times(tables: Iterable[Table]) -> Table:
    found = list(tables)
    names = tuple(dict.fromkeys(n for t in found for n in t.names))
    total: Tensor | int = 0
    for t in found:
        total = total + t.over(names)
    assert isinstance(total, Tensor)
    return Table(names, total)


def values(var: Var) -> Tensor:
    """Every value of a variable: places for a finite space, bits (the first slowest) for a binary one."""
    match var.kind:
        case "finite":
            return torch.arange(var.size)
        case _:
            shape = () if var.space == "binary" else (int(math.log2(var.size)),)
            bits = torch.tensor(list(product((0.0, 1.0), repeat=max(1, *shape, 1))), dtype=torch.float64)
            return bits.reshape(-1, *shape)


def grid(spec: Spec, names: Names) -> tuple[Tensor, ...]:
    """All joint values of variables, in rows: the last variable runs fastest."""
    sizes = [spec.var(n).size for n in names]
    places = torch.cartesian_prod(*(torch.arange(s) for s in sizes)).reshape(-1, len(names))
    return tuple(values(spec.var(n))[places[:, i]] for i, n in enumerate(names))


@dataclass
class Exact:
    """A spec's divergences at a program's present parameters, differentiable in them.

    `fixed` are laws held at a table: a classifier at its optimum, a Free law at its solution. `before` is the spec at
    the snapshot, for what it reads as `old`; by itself the present is.
    """

    spec: Spec
    program: Program
    fixed: dict[str, Table] = field(default_factory=dict)
    before: Exact | None = None

    def law(self, key: str) -> Table:
        """log of the law, over its outputs and givens by their own names."""
        if key in self.fixed:
            return self.fixed[key]
        law = self.spec.law(key)
        match law.body:
            case Evidence(counts=counts):
                sizes = [self.spec.var(v).size for v in law.outputs]
                weights = torch.tensor(counts, dtype=torch.float64).reshape(sizes)
                return Table(law.outputs, (weights / weights.sum()).log())
            case Marginal(of=of):
                whole = self.law(of)
                return whole.without(set(whole.names) - set(law.outputs))
            case Distribution():
                return Table((*law.givens, *law.outputs), self._distribution(law, law.body))
            case Joint():
                return self._joint(law, law.body)
            case Free():
                raise AssertionError(f"{key} must be fixed")

    def _joint(self, law: Law, body: Joint) -> Table:
        visible = {*law.outputs, *law.givens}
        parts = []
        for share, branch in zip(body.shares(), body.branches, strict=True):
            whole = self.product(branch.factors)
            made = whole.without(set(whole.names) - visible)
            parts.append(Table(made.names, made.logs + math.log(share)))
        if body.label is None:
            return parts[0]
        names = parts[0].names
        stacked = torch.stack([p.over(names) for p in parts])
        if body.label not in law.outputs:
            return Table(names, stacked.logsumexp(0))
        order = sorted(range(len(parts)), key=lambda i: body.branches[i].value or 0)
        return Table((body.label, *names), stacked[order])

    def product(self, factors: tuple[Factor, ...]) -> Table:
        return times(self.factor(f) for f in factors)

    def factor(self, f: Factor) -> Table:
        law = self.spec.law(f.law)
        table = (self.before or self).law(f.law) if f.old else self.law(f.law)
        actual = dict(zip((*law.outputs, *law.givens), (*f.outputs, *f.givens), strict=True))
        made = table.renamed(actual)
        return Table(made.names, made.logs.detach()) if f.old else made

    def _distribution(self, law: Law, body: Distribution) -> Tensor:
        var = self.spec.var(law.outputs[0])
        sizes = [self.spec.var(v).size for v in law.givens]
        if body.how == "net":
            raw = self.program.nets[body.source](*grid(self.spec, law.givens))
            raw = raw.reshape(*sizes, *raw.shape[1:])
        elif body.how == "constant":
            raw = torch.tensor(body.numbers, dtype=torch.float64)
            if body.family == "Bernoulli" and len(body.numbers) == 1:
                raw = raw.squeeze(0).expand(torch.Size(values(var).shape[1:]))
            raw = raw.expand(torch.Size((*sizes, *raw.shape)))
        else:
            raw = self.program.params[body.source]
        return log_table(body, var, raw)

    # --- divergences

    def divergence(self, d: Divergence) -> Tensor:
        """KL or CE, exactly; its weight is left out."""
        left = self.product(d.left)
        right = self.product(d.right)
        if d.name == "CE":
            return -left.expected(right)
        return left.expected(Table(left.names, left.logs - right.over(left.names)))

    def labels(self, goal: Goal) -> int:
        """SCALE, of a whole goal: the number of labels of the labelled mixtures on the left of its KLs."""
        counts: set[int] = set()
        for d in goal.terms:
            body = self.spec.law(d.left[0].law).body
            if d.name == "KL" and len(d.left) == 1 and isinstance(body, Joint) and body.label in d.left[0].outputs:
                counts.add(len(body.branches))
        return counts.pop() if len(counts) == 1 else 1

    def objective(self, goal: Goal) -> Tensor:
        """What a goal's players minimise, up to constants."""
        total = self.labels(goal) * sum(float(d.weight) * self.divergence(d) for d in goal.terms)
        assert isinstance(total, Tensor)
        return -total if goal.maximize else total

    def optimum(self, key: str, mixture: str) -> Table:
        """The best classifier c(y|v) of a labelled mixture: w_k branch_k(v) over their sum, held."""
        c = self.spec.law(key)
        joint = self.law(mixture)
        joint = joint.without(set(joint.names) - {*c.outputs, *c.givens})
        logs = joint.over((*c.givens, *c.outputs))
        return Table((*c.givens, *c.outputs), logs.log_softmax(-1).detach())


def log_table(body: Distribution, var: Var, raw: Tensor) -> Tensor:
    """Logits or probabilities as logs of the probability of every value, in the last dimension."""
    if body.family == "Categorical":
        return raw.log() if body.form == "probs" or body.how == "constant" else raw.log_softmax(-1)
    if body.form == "probs" or body.how == "constant":
        one, zero = raw.log(), (-raw).log1p()
    else:
        one, zero = logsigmoid(raw), logsigmoid(-raw)
    if raw.dim() and var.kind != "finite" and var.space != "binary":
        bits = values(var)
        return (bits * one.unsqueeze(-2) + (1 - bits) * zero.unsqueeze(-2)).sum(-1)
    return torch.stack([zero, one], -1)


class Lookup(nn.Module):
    """A network that gives, for finite inputs, what a table says: an exact classifier or critic."""

    def __init__(self, spec: Spec, names: Names, table: Tensor) -> None:
        super().__init__()
        self.variables = [spec.var(n) for n in names]
        self.table = nn.Parameter(table.detach().clone())

    def forward(self, *inputs: Tensor) -> Tensor:
        places = [place(var, v) for var, v in zip(self.variables, inputs, strict=True)]
        return self.table[tuple(torch.broadcast_tensors(*places))]


def place(var: Var, value: Tensor) -> Tensor:
    """Which of a variable's values it is."""
    if var.kind == "finite" or var.space == "binary":
        return value.long()
    powers = 2 ** torch.arange(value.shape[-1] - 1, -1, -1)
    return (value.long() * powers).sum(-1)


def logits(spec: Spec, key: str, table: Table) -> Tensor:
    """What a classifier's network must give for the law to be `table`, whose last dimension is the label."""
    body = spec.law(key).body
    assert isinstance(body, Distribution)
    return table.logs[..., 1] - table.logs[..., 0] if body.family == "Bernoulli" else table.logs


def grads(value: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Gradients, zero where nothing depends."""
    if not value.requires_grad:
        return [torch.zeros_like(w) for w in parameters]
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, parameters, strict=True)]
