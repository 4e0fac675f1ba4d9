"""What is rewritten: expectations over paths of sums of log-densities.

    entry = weight * E over path { coefficient * atom + ... }

An atom is `log f` of a factor, `log M` of a marginal, or `log w` of a branch; late rules put in a closed form
KL[f || g], and the distance between a Dirac and its old copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from jointkl.diagnostics import NOWHERE, Span
from jointkl.semantics.model import Factor, Value

Label = tuple[str, int]
"""A label and its value: `("y", 1)`."""

Weighted = tuple[Fraction, tuple[Factor, ...]]
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
    branches: tuple[Weighted, ...] = field(compare=False)
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
class Entry:
    """weight * E over path { sum of terms }, under a label's value where a labelled mixture was expanded.

    `weights` are classifiers c(k|v) that the sum is multiplied with; with `importance` K copies of what is drawn make
    -log mean_K exp(-sum), or with `softmax` the sum weighted by softmax_K of that classifier's log odds; `enumerated`
    variables are summed over exactly, `scored` ones give their gradient by the score function; `free` is the Free law
    that the sum determines. `sources` are the evidence laws whose size is N where a term counts 1/N.
    """

    weight: Fraction
    path: tuple[Factor, ...]
    terms: tuple[Term, ...]
    label: Label | None = None
    goal: int = 0
    weights: tuple[LogFactor, ...] = ()
    importance: int = 0
    softmax: LogFactor | None = None
    enumerated: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()
    free: Factor | None = None
    hinge: Inside | None = None
    sources: tuple[str, ...] = ()
    span: Span = field(default=NOWHERE, compare=False, repr=False)


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
