"""What a player computes: a straight line of nodes and a weighted sum of terms.

A node's number is its place in the tuple; nodes refer to earlier ones by number. A value has its event's dimensions,
and beside them named ones, in no order: the data, copies, a discrete variable all of whose values are taken. What acts
along a dimension names it; values with different ones are spread over those of all. A term of a loss is summed over
what is left of the event and averaged over the data.

Where the losses of a round are one line, `version` tells equal nodes apart that have other values in other turns: a
draw is of its turn, a network or param of the turn from which on it stands still.
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


# --- dimensions


@dataclass(frozen=True, slots=True)
class Dim:
    """A dimension by its name; `size` is None for the data, of which a batch has as many as it has."""

    name: str
    size: int | None = None


DATA = Dim("data")


def copies(count: int) -> Dim:
    """The dimension of importance-weighted copies."""
    return Dim("copies", count)


# --- densities


@dataclass(frozen=True, slots=True)
class Density:
    """A family with its parameters, over one variable of `space`."""

    family: str
    parameters: tuple[tuple[str, Id], ...]
    space: Space
    ndim: tuple[int, ...] = ()
    """Each parameter's event dimensions; a number has none."""


# --- values: what the variables and the parameters of laws are


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
class Argument:
    """A variable that the caller passes: a law as a function of its givens."""

    variable: str
    space: Space


@dataclass(frozen=True, slots=True)
class Every:
    """Every value of a discrete variable, along a dimension of its own."""

    variable: str
    space: Space
    dim: Dim


@dataclass(frozen=True, slots=True)
class Draw:
    """An independent draw along each of `dims`, given what its parameters are along. A global is along none.

    `given`: the batch's value under `key` takes its place, if there is one. `noise`: the standard noise of the
    variable, of the density's family at location 0 and scale 1; it has no parameters.
    """

    key: str
    variable: str
    density: Density
    dims: tuple[Dim, ...] = (DATA,)
    given: bool = True
    noise: bool = False
    version: int = 0


@dataclass(frozen=True, slots=True)
class Value:
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
    version: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """One of the heads of a network."""

    node: Id
    head: str


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    old: bool = False
    version: int = 0


@dataclass(frozen=True, slots=True)
class Constant:
    value: Numbers

    @property
    def number(self) -> float | None:
        """The value if it is one number."""
        return None if isinstance(self.value, tuple) else self.value


@dataclass(frozen=True, slots=True)
class Apply:
    """Arithmetic or a function, by the operator's name in the language, or `square` or `logaddexp`.

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
class GradientTap:
    """The value, and what becomes of the gradient that arrives here: it is stopped (sg), asked for (a leaf), or
    rescaled (`Rescale`) on its way from the classifier number `place`."""

    node: Id
    gradient: Literal["stopped", "asked", "rescaled"] = "stopped"
    place: int = 0


@dataclass(frozen=True, slots=True)
class Shifted:
    """`given` where the batch holds the values of the draw `source`; else `node`, moved on as the draw's are."""

    node: Id
    given: Id
    source: Given


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


# --- terms: numbers without event dimensions, made of densities


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
class KL:
    """KL[left || right] in closed form; `cross`: the cross-entropy, with the entropy of the left one."""

    left: Density
    right: Density
    cross: bool = False


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of coefficient * node; a `name` is what it is called on a line of its own."""

    parts: tuple[tuple[Fraction, Id], ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    """Probabilities times a cost, the last of the factors; where the probability is 0 the cost may be infinite."""

    factors: tuple[Id, ...]


Operation = Literal["sum", "logsumexp", "softmax", "log_softmax", "mean", "variance", "advantage"]


@dataclass(frozen=True, slots=True)
class Over:
    """An operation along dimensions: of what a sum, mean, variance or logsumexp gives they are no more, a softmax or an
    advantage, which is each one less the mean of the others, keeps them."""

    operation: Operation
    node: Id
    dims: tuple[Dim, ...]

    @property
    def reduces(self) -> bool:
        return self.operation in ("sum", "logsumexp", "mean", "variance")


@dataclass(frozen=True, slots=True)
class DataSize:
    """N, how many data there are: the size of `sources`, or of the batch where that is all of them."""

    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GradientNorm:
    """||gradient of a score in the leaves||^2 for each datum, each leaf with its event dimensions."""

    score: Id
    leaves: tuple[tuple[Id, int], ...]


Node = (
    Given | Argument | Every | Draw | Value | Net | Head | Parameter | Constant | Apply | Index | Filled | GradientTap
    | Shifted | Concat | Part | LogProb | KL | Total | Product | Over | DataSize | GradientNorm
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
    """The gradient at a `GradientTap` times factor * exp(power l), or factor * (1 + exp(power l)), datum by datum."""

    node: Id
    logit: Id
    factor: Fraction
    power: int
    plus: bool


@dataclass(frozen=True, slots=True)
class Loss:
    """One player's loss, or all of them (`player` empty). `formula` are the summands that it came from, each behind its
    sign; `frozen` the nodes that no gradient goes through."""

    player: str
    formula: tuple[str, ...]
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
    """A Free law's closed step: `node` are its probabilities."""

    player: str
    formula: tuple[str, ...]
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
    formula: tuple[str, ...]
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

    `made` is that distribution; of a Dirac the point where it stands; of a Free law its logits, along `every` value.
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
