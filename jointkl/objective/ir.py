"""What a player computes: a straight line of nodes and a weighted sum of terms.

A node's number is its place in the tuple; nodes refer to earlier ones by number. All values are batch first. The one
reduction is the term's: summed over the event, averaged over the batch.

Where the losses of a round are one line, `turn` tells equal nodes apart that have other values in other turns: a draw
is of its turn, a network or param of the turn from which on it stands still.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Literal

from jointkl.diagnostics import NOWHERE, Span
from jointkl.objective.sites import Program
from jointkl.semantics.model import Law, Numbers, Param
from jointkl.semantics.model import Net as SizedNet
from jointkl.semantics.spaces import Space

Id = Annotated[int, "a reference"]
"""The place of an earlier node: where a field of a node has this type, the node refers to it."""


@dataclass(frozen=True, slots=True)
class Density:
    """A family with its parameters, over one variable of `space`."""

    family: str
    parameters: tuple[tuple[str, Id], ...]
    space: Space
    ndim: tuple[int, ...] = ()
    """Each parameter's event dimensions; a number has none."""


@dataclass(frozen=True, slots=True)
class Given:
    """Evidence: the batch's value under `key`. Of a draw beside others of its source, where a batch holds none of its
    `keys`, it is the `column` moved by `shift` rows."""

    key: str
    variable: str
    space: Space
    shift: int = 0
    keys: tuple[str, ...] = ()
    """Of a shifted draw the keys of all its variables, which are of one row."""

    @property
    def column(self) -> str:
        """The key of the minibatch's own values: that of the draw has a prime more for each row."""
        return self.key[: len(self.key) - self.shift]


@dataclass(frozen=True, slots=True)
class Root:
    """A draw without parameters or givens: the batch's value under `key`, else a new one.

    `once`: a global, one draw for the whole batch; `copies`: so many importance-weighted ones, in a leading dimension.
    """

    key: str
    variable: str
    density: Density
    once: bool = False
    copies: int = 0
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard noise of a draw: the batch's value under `key`, else new from the family at location 0, scale 1."""

    key: str
    variable: str
    family: str
    space: Space
    once: bool = False
    copies: int = 0
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """A draw with parameters that has no standard noise of its own: discrete, or reparameterised implicitly."""

    key: str
    variable: str
    density: Density
    once: bool = False
    copies: int = 0
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Argument:
    """A variable that the caller passes: a law as a function of its givens."""

    variable: str
    space: Space


@dataclass(frozen=True, slots=True)
class Drawn:
    """The value of a variable that was computed: it bears the variable's name, and its law's label beside evidence."""

    variable: str
    node: Id
    label: str


@dataclass(frozen=True, slots=True)
class Net:
    """A network applied; `old` is its copy at the snapshot."""

    net: str
    inputs: tuple[Id, ...]
    old: bool = False
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Pick:
    """One of the heads of a network."""

    node: Id
    head: str


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    old: bool = False
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Constant:
    value: Numbers

    @property
    def number(self) -> float | None:
        """The value if it is one number."""
        return None if isinstance(self.value, tuple) else self.value


@dataclass(frozen=True, slots=True)
class Apply:
    """Arithmetic or a function, by the operator's name in the language.

    `ndim` counts each operand's event dimensions: one with fewer is aligned on its last, behind the batch's.
    """

    operator: str
    operands: tuple[Id, ...]
    ndim: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Index:
    """The first event dimensions of a value, each at a constant or at a value of a finite variable."""

    node: Id
    indices: tuple[Id, ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """A number for an event of `shape`: it is each of the event's."""

    node: Id
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Detach:
    """The value without its gradient: sg."""

    node: Id


@dataclass(frozen=True, slots=True)
class Shifted:
    """`given` where the batch holds the values of the draw `source`; else `node`, moved on as the draw's are."""

    node: Id
    given: Id
    source: Given


@dataclass(frozen=True, slots=True)
class Played:
    """The value as a classifier sees it, number `place`: the gradient that arrives here is rescaled (`Rescale`)."""

    node: Id
    place: int


@dataclass(frozen=True, slots=True)
class Concat:
    """Values of several branches, one batch after the other."""

    nodes: tuple[Id, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The `index`-th batch of a concatenation of `count`."""

    node: Id
    index: int
    count: int


@dataclass(frozen=True, slots=True)
class LogProb:
    """log density at a value: a node, or the index of one value of a finite space.

    `lasting`: its gradient in the logit never vanishes, so that it can be rescaled (`Rescale`).
    """

    density: Density
    value: Id | None
    fixed: int | None = None
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """A number for each datum, as it is: the logit of a critic."""

    node: Id


@dataclass(frozen=True, slots=True)
class KL:
    """KL[left || right] in closed form; `cross`: the cross-entropy, with the entropy of the left one."""

    left: Density
    right: Density
    cross: bool = False


@dataclass(frozen=True, slots=True)
class Distance:
    """||a - b||^2"""

    left: Id
    right: Id
    space: Space


@dataclass(frozen=True, slots=True)
class Enumerate:
    """Every value of a discrete variable, in a leading dimension; `after` counts the leading dimensions behind it."""

    variable: str
    space: Space
    after: int = 0


@dataclass(frozen=True, slots=True)
class Responsibility:
    """softmax over the leading dimension of -(sum of coefficient * node), without gradient: a Free law's solution;
    or its logarithm."""

    scores: tuple[tuple[Fraction, Id], ...]
    log: bool = False


@dataclass(frozen=True, slots=True)
class Weighted:
    """A node times probabilities, summed over `sums` leading dimensions: an exact mean, or a classifier's weight.

    Each probability is a LogProb whose exponential is meant, or a Responsibility.
    """

    node: Id
    probabilities: tuple[Id, ...]
    sums: int = 0
    detached: bool = False
    """The samples carry no gradient, and so neither do their probabilities."""


@dataclass(frozen=True, slots=True)
class Bound:
    """-log mean over the leading dimension of exp(-(sum of coefficient * node))."""

    terms: tuple[tuple[Fraction, Id], ...]
    copies: int


@dataclass(frozen=True, slots=True)
class Softmaxed:
    """A node weighted over the leading dimension by the softmax of log odds, detached; `up`: those of label 1."""

    node: Id
    logit: Id
    up: bool


@dataclass(frozen=True, slots=True)
class ScoreFunction:
    """Costs whose gradient through discrete draws is taken by the score function, with the batch's mean as baseline.

    `over_n` are costs of globals alone, 1/N for each datum, N the size of `sources`; `once` the log-densities of
    globals: every datum's cost hangs on their one draw, so that no other datum's cost is a baseline for it.
    """

    terms: tuple[tuple[Fraction, Id], ...]
    log_probs: tuple[Id, ...]
    over_n: tuple[tuple[Fraction, Id], ...] = ()
    once: tuple[Id, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogSumExp:
    """log of a finite marginal: the sum of log-densities, summed as exponentials over `dims` leading dimensions."""

    terms: tuple[Id, ...]
    dims: int


@dataclass(frozen=True, slots=True)
class LogMixture:
    """log of a mixture: the sum of share * exp(node)."""

    branches: tuple[tuple[Fraction, Id], ...]


@dataclass(frozen=True, slots=True)
class MomentKL:
    """KL of N(mean, var) of the batch, each number by itself, from N(0, 1)."""

    node: Id
    space: Space


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value that a gradient is asked for: detached, and requiring one."""

    node: Id


@dataclass(frozen=True, slots=True)
class GradientNorm:
    """||gradient of a score in the leaves||^2 for each datum."""

    score: Id
    leaves: tuple[tuple[Id, int], ...]


Node = (
    Given | Root | Noise | Sample | Argument | Drawn | Net | Pick | Parameter | Constant | Apply | Index | Filled
    | Detach | Shifted | Played | Concat | Part | LogProb | KL | Distance | Score | Enumerate | Responsibility
    | Weighted | Bound | LogSumExp | LogMixture | Softmaxed | ScoreFunction | MomentKL | Leaf | GradientNorm
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Term:
    """coefficient * the batch mean of a node; `text` is the formula that it came from.

    `over_n`: a term of globals alone, which counts 1/N for each of N data, N the size of `sources`.
    """

    coefficient: Fraction
    node: Id
    text: str
    over_n: bool = False
    sources: tuple[str, ...] = ()
    hinge: int | None = None
    player: str = ""
    """Whose loss it stands in, where several are one."""
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Rescale:
    """The gradient at a `Played` node times factor * exp(power l), or factor * (1 + exp(power l)), datum by datum."""

    node: Id
    logit: Id
    factor: Fraction
    power: int
    plus: bool


@dataclass(frozen=True, slots=True)
class Loss:
    """One player's loss, or all of them (`player` empty). `frozen` are the nodes that no gradient goes through."""

    player: str
    formula: str
    nodes: tuple[Node, ...]
    terms: tuple[Term, ...]
    frozen: frozenset[Id] = frozenset()
    copied: bool = False
    """A batch may give this loss importance-weighted copies, in a leading dimension: branches are not joined."""
    hinges: tuple[tuple[int, Fraction, Fraction], ...] = ()
    """Index, margin and weight of each hinge that terms stand in: weight * max(0, margin + terms)."""
    rescales: tuple[Rescale, ...] = ()


@dataclass(frozen=True, slots=True)
class Solution:
    """A Free law's closed step: `node` is its Responsibility."""

    player: str
    formula: str
    nodes: tuple[Node, ...]
    node: Id


@dataclass(frozen=True, slots=True)
class Update:
    """Weighted maximum likelihood of one family: `value` the data (None: the index variable itself), `params` the
    param that each of the family's parameters is."""

    family: str
    params: tuple[tuple[str, str], ...]
    value: Id | None
    space: Space


@dataclass(frozen=True, slots=True)
class Step:
    """A player's closed step: `weights` are the probabilities r, (K, N), that every update is weighted with."""

    player: str
    formula: str
    nodes: tuple[Node, ...]
    weights: Id
    updates: tuple[Update, ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """When a player steps: in the order of the tuple; `snapshot` says that the old copies are renewed before it."""

    player: str
    kind: str
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Player:
    """Who is optimised: nets, params and Free laws, together."""

    name: str
    kind: Literal["free", "classifier", "critic", "other"]
    members: tuple[str, ...]


# --- laws


@dataclass(frozen=True, slots=True)
class Function:
    """The distribution of a law given its givens; `way` is how it is read: as it is, at the snapshot (`old`), or by the
    `density` of a Dirac.

    `made` is that distribution; of a Dirac the point where it stands; of a Free law its solution, over `every` value.
    """

    law: Law
    way: str
    nodes: tuple[Node, ...]
    made: Density | Id
    every: Id | None = None

    @property
    def key(self) -> str:
        return function_key(self.law.key, self.way)


def function_key(law: str, way: str = "") -> str:
    """How a law's function is known: `q(x|z)`, `old q(x|z)`, `density q(x|z)`."""
    return f"{way} {law}" if way else law


@dataclass(frozen=True, slots=True)
class Objective:
    """Everything that is emitted: the spec's nets, params, laws and programs, who is trained on what, in which order,
    and whose old copies are kept.

    `sources` are the evidence laws, with the keys of a batch that each gives; `has_globals`: the size of each is asked
    for.
    """

    spec: str
    """The name of the spec's file."""
    nets: Mapping[str, SizedNet]
    params: Mapping[str, Param]
    sources: Mapping[str, tuple[str, ...]]
    has_globals: bool
    players: tuple[Player, ...]
    losses: tuple[Loss, ...]
    phases: tuple[Phase, ...]
    laws: tuple[Function, ...] = ()
    programs: tuple[Program, ...] = ()
    solutions: tuple[Solution, ...] = ()
    steps: tuple[Step, ...] = ()
    old_nets: tuple[str, ...] = ()
    old_params: tuple[str, ...] = ()
    together: Loss | None = None
    """All losses as one, for a simultaneous step."""
    in_turn: Loss | None = None
    """All losses as one line, for steps one after the other: what several players make of the data stands once."""
