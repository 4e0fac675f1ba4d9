"""What is rewritten: expectations over paths of sums of log-densities.

    weight * E over draws { body }, in a body one sum of terms, coefficient * atom + ...

An atom is `log f` of a factor, `log M` of a marginal, or `log w` of a branch; late rules put in a closed form
KL[f || g], and the distance between a Dirac and its old copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Literal

from jointkl.diagnostics import NOWHERE, Span
from jointkl.semantics.model import Factor, Value

Label = tuple[str, int]
"""A label and its value: `("y", 1)`."""

Share = tuple[Fraction, tuple[Factor, ...]]
"""One branch of a hidden mixture: its share and its factors."""


@dataclass(frozen=True, slots=True)
class LogFactor:
    """log f(outputs | givens); `value` fixes the one finite output, as in log c(1|v)."""

    factor: Factor
    value: int | None = None

    @property
    def variables(self) -> tuple[str, ...]:
        return self.factor.givens if self.value is not None else self.factor.variables


@dataclass(frozen=True, slots=True)
class LogMarginal:
    """log of the integral of a product over its hidden variables, or of a mixture of such products.

    `canonical` is equal for marginals that are equal up to the names of hidden variables and the order of factors; it
    alone counts in comparisons. `old`: it is a law or product at the snapshot, and shown as such.
    """

    outputs: tuple[str, ...] = field(compare=False)
    givens: tuple[str, ...] = field(compare=False)
    branches: tuple[Share, ...] = field(compare=False)
    hidden: frozenset[str] = field(compare=False)
    canonical: tuple[object, ...]
    name: str = field(compare=False)
    old: bool = field(default=False, compare=False)

    @property
    def variables(self) -> tuple[str, ...]:
        return (*self.outputs, *self.givens)

    @property
    def factors(self) -> tuple[Factor, ...]:
        return tuple(f for _, factors in self.branches for f in factors)


@dataclass(frozen=True, slots=True)
class LogWeight:
    """log of a branch's share: a constant."""

    share: Fraction

    @property
    def variables(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class ClosedKL:
    """KL[f || g] in closed form, at the parents of both."""

    left: Factor
    right: Factor

    @property
    def variables(self) -> tuple[str, ...]:
        return (*self.left.givens, *self.right.givens)


@dataclass(frozen=True, slots=True)
class ClosedCE:
    """CE[f || g] = E_f{-log g} in closed form, at the parents of both."""

    left: Factor
    right: Factor

    @property
    def variables(self) -> tuple[str, ...]:
        return (*self.left.givens, *self.right.givens)


@dataclass(frozen=True, slots=True)
class OldDistance:
    """||e - e_old||^2 between the value of a Dirac and that of its old copy (Su 26)."""

    factor: Factor

    @property
    def variables(self) -> tuple[str, ...]:
        return self.factor.givens


@dataclass(frozen=True, slots=True)
class Logit:
    """l_T(v): the logit of a critic, log reference/moving at its optimum.

    `inputs` are the variables that it sees; `values`, if any, what the network is applied to in their place.
    """

    critic: str
    inputs: tuple[str, ...]
    values: tuple[Value, ...] = ()

    @property
    def variables(self) -> tuple[str, ...]:
        return self.inputs


@dataclass(frozen=True, slots=True)
class LogSigmoid:
    """log sigma(l), or log sigma(-l): what a critic is trained by."""

    logit: Logit
    up: bool

    @property
    def variables(self) -> tuple[str, ...]:
        return self.logit.inputs


@dataclass(frozen=True, slots=True)
class Moments:
    """KL of the Gaussian with the batch's moments from N(0, I), for one variable (Ulyanov et al. 2018)."""

    variable: str

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable,)


@dataclass(frozen=True, slots=True)
class Penalty:
    """||gradient of the classifier's logit in its inputs||^2 (R1, Mescheder et al. 2018)."""

    factor: Factor

    @property
    def variables(self) -> tuple[str, ...]:
        return self.factor.givens


Atom = LogFactor | LogMarginal | LogWeight | ClosedKL | ClosedCE | OldDistance | Logit | LogSigmoid | Moments | Penalty

Estimator = Literal["average", "closed form", "pathwise", "enumeration", "score function"]


@dataclass(frozen=True, slots=True)
class Term:
    """coefficient * atom. `detached` atoms are taken at samples that carry no gradient (sg); `estimator` says which
    gradient is used, once that is known; `over_n` counts an atom of globals alone 1/N for each of N data.

    `copy_of` marks what a substitution brought in: its atom is that one at the snapshot. An `old` law that the spec
    itself writes has no such mark, and is no part of a substitution.
    """

    coefficient: Fraction
    atom: Atom
    detached: bool = False
    estimator: Estimator | None = None
    over_n: bool = False
    copy_of: Atom | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Inside:
    """The hinge that an entry stands in: weight * max(0, margin + its entries)."""

    index: int
    margin: Fraction
    weight: Fraction


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum of terms."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """by * body"""

    by: Fraction
    body: Body


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of a number, by its name in the language: exp(body)."""

    function: str
    body: Body


@dataclass(frozen=True, slots=True)
class Weighted:
    """by * body, `by` any value for each datum: a classifier's probability, a weight among copies."""

    by: Body
    body: Body


@dataclass(frozen=True, slots=True)
class LogMeanExp:
    """log mean exp(body) over so many copies of what is drawn. Of a term of globals there are none: it stands outside
    or inside alike."""

    body: Body
    copies: int


@dataclass(frozen=True, slots=True)
class Softmax:
    """exp(body) over its sum, among so many copies of what is drawn."""

    body: Body
    copies: int


@dataclass(frozen=True, slots=True)
class Detach:
    """The value of the body, without a gradient."""

    body: Body


@dataclass(frozen=True, slots=True)
class Optimum:
    """The Free law that makes E_law{log law + body} least: the softmax of -body over its variable."""

    law: Factor
    body: Body


Body = Sum | Scale | Apply | Weighted | LogMeanExp | Softmax | Detach | Optimum
"""What is averaged: one sum of terms, under functions of it."""


def probability(c: LogFactor) -> Body:
    """c(k|v), of which the atom is the logarithm."""
    return Apply("exp", Sum((Term(Fraction(1), c, span=c.factor.span),)))


def layers(body: Body) -> Iterator[Body]:
    """A body and what stands in it, down to its sum. What weighs it stands beside."""
    while not isinstance(body, Sum):
        yield body
        body = body.body
    yield body


def core(body: Body) -> Sum:
    """The sum that a body is made of."""
    return next(part for part in layers(body) if isinstance(part, Sum))


def with_core(body: Body, inner: Body) -> Body:
    """The body with `inner` in place of its sum."""
    return inner if isinstance(body, Sum) else replace(body, body=with_core(body.body, inner))


Way = Literal["drawn", "pathwise", "enumerated", "scored"]
"""How a variable of a path is taken, and what carries its gradient: drawn without one, drawn as a function of what
moves it, summed over exactly, or drawn with the score function of its law."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A factor on a path, and the way its variables are taken, once that is known."""

    factor: Factor
    way: Way = "drawn"


def drawn(path: Iterable[Factor]) -> tuple[Draw, ...]:
    return tuple(map(Draw, path))


@dataclass(frozen=True)
class Expectation:
    """weight * E over draws { body }, under a label's value where a labelled mixture was expanded.

    `sources` are the evidence laws whose size is N where a term counts 1/N. Without slots, so that the views of it
    below are made once.
    """

    weight: Fraction
    draws: tuple[Draw, ...]
    body: Body
    label: Label | None = None
    goal: int = 0
    hinge: Inside | None = None
    sources: tuple[str, ...] = ()
    span: Span = field(default=NOWHERE, compare=False, repr=False)

    @cached_property
    def path(self) -> tuple[Factor, ...]:
        """The factors in sampling order."""
        return tuple(d.factor for d in self.draws)

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the body's sum."""
        return core(self.body).terms

    @cached_property
    def linear(self) -> bool:
        """Does each term of the sum count by itself? Of a function of them they count together."""
        return not any(isinstance(part, Apply) for part in layers(self.body))

    @cached_property
    def weighing(self) -> tuple[Body, ...]:
        """What the sum is multiplied by."""
        return tuple(part.by for part in layers(self.body) if isinstance(part, Weighted))

    @cached_property
    def weights(self) -> tuple[LogFactor, ...]:
        """The classifiers whose probabilities weigh the sum."""
        values = (core(by).terms[0].atom for by in self.weighing if isinstance(by, Apply))
        return tuple(c for c in values if isinstance(c, LogFactor))

    @cached_property
    def copies(self) -> int:
        """How many copies of what is drawn it takes; 0 where it takes none."""
        parts = (part for body in (self.body, *self.weighing) for part in layers(body))
        return next((part.copies for part in parts if isinstance(part, LogMeanExp | Softmax)), 0)

    @cached_property
    def odds(self) -> LogFactor | None:
        """The label's probability by whose log odds copies are weighed."""
        among = (part for by in self.weighing for part in layers(by) if isinstance(part, Softmax))
        weighed = next((core(part).terms[0].atom for part in among), None)
        return weighed if isinstance(weighed, LogFactor) else None

    @cached_property
    def solved(self) -> Factor | None:
        """The Free law that the sum determines."""
        return self.body.law if isinstance(self.body, Optimum) else None

    @cached_property
    def enumerated(self) -> tuple[str, ...]:
        return self._taken("enumerated")

    @cached_property
    def scored(self) -> tuple[str, ...]:
        return self._taken("scored")

    def _taken(self, way: Way) -> tuple[str, ...]:
        return tuple(v for d in self.draws if d.way == way for v in d.factor.outputs)

    def of(self, terms: Iterable[Term]) -> Expectation:
        """The same of another sum of terms."""
        return replace(self, body=with_core(self.body, Sum(tuple(terms))))


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a labelled mixture against a classifier c(y|v) tells at the classifier's optimum.

    `branches` holds, per value of the label, the share and the atoms of log branch.
    """

    classifier: Factor
    branches: tuple[tuple[int, Fraction, tuple[Term, ...]], ...]


def collect(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Coefficients of identical atoms added, zeros dropped, in order of first appearance.

    What a substitution brought in is not added to what the spec says.
    """
    sums: dict[tuple[Atom, bool, Atom | None], Term] = {}
    for term in terms:
        key = (term.atom, term.detached, term.copy_of)
        known = sums.get(key)
        if known is None:
            sums[key] = term
        else:
            sums[key] = replace(known, coefficient=known.coefficient + term.coefficient)
    return tuple(t for t in sums.values() if t.coefficient != 0)
