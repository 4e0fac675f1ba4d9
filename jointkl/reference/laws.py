"""Laws and joints of a finite model as tables of probabilities, by sums alone.

Every variable has few values. A product is the product of its factors' tables, a hidden variable is summed out, a
mixture is the weighted sum of its branches: two evidence factors are two tables, and so two independent draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from jointkl.reference.tables import Table, product, total
from jointkl.reference.values import Weights, value
from jointkl.semantics.model import (
    Branch,
    Dirac,
    Distribution,
    Evidence,
    Factor,
    Free,
    Joint,
    Law,
    Model,
    Side,
)
from jointkl.semantics.spaces import Space


class NotFinite(Exception):
    """A variable has more values than can be counted, or a law is of no finite family."""


def points(space: Space) -> tuple[Tensor, ...]:
    """Every value of a space: the places of a finite one; rows of bits, the first the slowest. Raises `NotFinite`."""
    if space.kind == "finite":
        return tuple(torch.arange(len(space.values)))
    if space.kind == "binary" and space.size <= 10:
        bits = itertools.product((0.0, 1.0), repeat=space.size)
        return tuple(torch.tensor(b, dtype=torch.float64).reshape(space.shape) for b in bits)
    raise NotFinite(f"{space} has no list of values")


@dataclass(slots=True)
class FiniteModel:
    """A finite model at some weights.

    `before` are those of the snapshot. `evidence` has for each law bound to a source the probabilities of its rows;
    `solved` the Free laws at their solutions, over the law's own names.
    """

    model: Model
    now: Weights
    before: Weights
    evidence: Mapping[str, Table]
    solved: dict[str, Table] = field(default_factory=dict[str, Table])
    _known: dict[tuple[str, bool], Table] = field(default_factory=dict[tuple[str, bool], Table])

    def size(self, name: str) -> int:
        return len(points(self.model.space(name)))

    def place(self, name: str, number: int) -> int:
        """Which of a finite variable's values a number is."""
        return self.model.space(name).values.index(number)

    # --- laws

    def factor(self, f: Factor) -> Table:
        """P(outputs | givens) of a law applied. `old` reads it at the snapshot: a constant."""
        law = self.model.laws[f.law]
        table = self.law(law, old=f.old)
        for i, number in f.at:
            table = table.at(law.givens[i], self.place(law.givens[i], number))
        free = [g for i, g in enumerate(law.givens) if i not in dict(f.at)]
        names = dict(zip((*law.outputs, *free), (*f.outputs, *f.givens), strict=True))
        return table.renamed(names)

    def law(self, law: Law, old: bool = False) -> Table:
        """P(outputs | givens) over the law's own names."""
        if (law.key, old) not in self._known:
            made = self._law(law, old)
            self._known[law.key, old] = made.detached() if old else made
        return self._known[law.key, old]

    def _law(self, law: Law, old: bool) -> Table:
        if law.key in self.solved:
            return self.solved[law.key]
        match law.body:
            case Evidence(rows=rows):
                return self._evidence(law, rows)
            case Distribution():
                return self._conditional(law, law.body, self.before if old else self.now)
            case Joint():
                return self.joint(law.body, law.outputs, law.givens, old=old)
            case Dirac():
                raise NotFinite(f"{law.text} is a Dirac")
            case Free():
                raise NotFinite(f"{law.text} has no solution yet")

    def _evidence(self, law: Law, rows: str) -> Table:
        """A marginal of evidence is that of the law bound to the source."""
        return self.evidence[rows].summed(law.outputs)

    def _conditional(self, law: Law, body: Distribution, weights: Weights) -> Table:
        """A family at every value of its givens."""
        (v,) = law.outputs
        space = self.model.space(v)
        rows = [masses(body.family, self._parameters(body, weights, at), space) for at in self.assignments(law.givens)]
        shape = [self.size(g) for g in law.givens]
        return Table((*law.givens, v), torch.stack(rows).reshape(*shape, len(points(space))))

    def _parameters(self, body: Distribution, weights: Weights, at: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value(self.model, weights, v, at) for name, v in body.parameters}

    def assignments(self, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """Every joint value of variables, the last the fastest."""
        for values in itertools.product(*(points(self.model.space(n)) for n in names)):
            yield dict(zip(names, values, strict=True))

    # --- joints

    def joint(self, body: Joint, outputs: Sequence[str], givens: Sequence[str] = (), *, old: bool = False) -> Table:
        """What a joint generates beyond its outputs is summed out; a label among them has a dimension."""
        label = body.label if body.label in outputs else None
        keep = [v for v in (*outputs, *givens) if v != label]
        tables = [self.branch(b, keep, old=old).times(float(b.weight)) for b in body.branches]
        if label is None:
            return total(tables)
        order = sorted(range(len(tables)), key=lambda i: self.place(label, body.branches[i].value or 0))
        return Table((label, *keep), torch.stack([self._spread(tables[i], keep) for i in order]))

    def _spread(self, table: Table, names: Sequence[str]) -> Tensor:
        return table.over(names).expand([self.size(n) for n in names])

    def branch(self, branch: Branch, keep: Iterable[str], *, old: bool = False) -> Table:
        """A product, without its share."""
        return product(self.factor(replace(f, old=f.old or old)) for f in branch.factors).summed(keep)

    def side(self, side: Side) -> Table:
        """P or Q over its head, and over what it is given if it is open."""
        head = (*side.head, *(v for v in givens_of(side) if v not in side.head))
        return self.joint(side.joint, side.head, [v for v in head if v not in side.head])


def givens_of(side: Side) -> tuple[str, ...]:
    """What the factors of a side are given and none of them generates."""
    factors = [f for b in side.joint.branches for f in b.factors]
    made = {v for f in factors for v in f.outputs} | {side.joint.label}
    return tuple(dict.fromkeys(v for f in factors for v in f.givens if v not in made))


def masses(family: str, parameters: Mapping[str, Tensor], space: Space) -> Tensor:
    """The probability of every value of a space, its parameters those of one datum. Raises `NotFinite`."""
    match family:
        case "Categorical":
            return _categorical(parameters, space)
        case "Bernoulli":
            return torch.stack([_bernoulli(parameters, space, x) for x in points(space)])
        case _:
            raise NotFinite(f"{family} is no family of a finite space")


def _categorical(parameters: Mapping[str, Tensor], space: Space) -> Tensor:
    """`Categorical()` is uniform."""
    match dict(parameters):
        case {"logits": logits}:
            return logits.softmax(-1)
        case {"probs": probs}:
            return probs / probs.sum()
        case _:
            n = len(space.values)
            return torch.full((n,), 1 / n, dtype=torch.float64)


def _bernoulli(parameters: Mapping[str, Tensor], space: Space, x: Tensor) -> Tensor:
    """Scalars fill the event; the event's numbers are independent."""
    match dict(parameters):
        case {"logits": logits}:
            one, zero = logsigmoid(logits).exp(), logsigmoid(-logits).exp()
        case {"probs": probs}:
            one, zero = probs, 1 - probs
        case _:
            raise NotFinite("a Bernoulli without a parameter")
    one, zero = one.expand(space.shape), zero.expand(space.shape)
    return torch.where(x == 1, one, zero).prod()
