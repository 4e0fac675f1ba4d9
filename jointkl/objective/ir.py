"""What a player computes: a straight line of nodes and a weighted sum of terms.

A node's number is its place in the tuple; nodes refer to earlier ones by number. All values are batch first. The one
reduction is the term's: summed over the event, averaged over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from jointkl.diagnostics import NOWHERE, Span
from jointkl.semantics.model import Numbers
from jointkl.semantics.spaces import Space

Id = int


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
    """Evidence: the batch's value under `key`. A copy that the batch lacks takes that of `shifted`, moved by one."""

    key: str
    variable: str
    shifted: str | None = None


@dataclass(frozen=True, slots=True)
class Root:
    """A draw without parameters or givens: the batch's value under `key`, else a new one."""

    key: str
    variable: str
    density: Density
    once: bool = False
    """A global: one draw for the whole batch."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard noise of a draw: the batch's value under `key`, else new from the family at location 0, scale 1."""

    key: str
    variable: str
    family: str
    space: Space
    once: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """A draw with parameters that has no standard noise of its own: discrete, or reparameterised implicitly."""

    key: str
    variable: str
    density: Density
    once: bool = False


@dataclass(frozen=True, slots=True)
class Argument:
    """A variable that the caller passes: a law as a function of its givens."""

    variable: str


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


@dataclass(frozen=True, slots=True)
class Pick:
    """One of the heads of a network."""

    node: Id
    head: str


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    old: bool = False


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
    node: Id
    indices: tuple[Id, ...]


@dataclass(frozen=True, slots=True)
class Detach:
    """The value without its gradient: sg."""

    node: Id


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
    """log density at a value: a node, or the index of one value of a finite space."""

    density: Density
    value: Id | None
    fixed: int | None = None


@dataclass(frozen=True, slots=True)
class KL:
    left: Density
    right: Density


@dataclass(frozen=True, slots=True)
class Distance:
    """||a - b||^2"""

    left: Id
    right: Id
    space: Space


Node = (
    Given | Root | Noise | Sample | Argument | Drawn | Net | Pick | Parameter | Constant | Apply | Index
    | Detach | Concat | Part | LogProb | KL | Distance
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Term:
    """coefficient * the batch mean of a node; `text` is the formula that it came from.

    `over_n`: a term of globals alone, which counts 1/N for each of N data.
    """

    coefficient: Fraction
    node: Id
    text: str
    over_n: bool = False
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Loss:
    """One player's loss. `frozen` are the nodes that no gradient of this player goes through."""

    player: str
    formula: str
    nodes: tuple[Node, ...]
    terms: tuple[Term, ...]
    frozen: frozenset[Id] = frozenset()


@dataclass(frozen=True, slots=True)
class Phase:
    """When a player steps: in the order of the tuple; `snapshot` says that the old copies are renewed before it."""

    player: str
    kind: str
    snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Objective:
    """Everything that is emitted as losses: who is trained on what, in which order, and whose old copies are kept."""

    losses: tuple[Loss, ...]
    phases: tuple[Phase, ...]
    old_nets: tuple[str, ...] = ()
    old_params: tuple[str, ...] = ()


def operands(node: Node) -> tuple[Id, ...]:
    """The nodes that a node refers to."""
    match node:
        case Given() | Noise() | Argument() | Parameter() | Constant():
            return ()
        case Root(density=density) | Sample(density=density):
            return tuple(i for _, i in density.parameters)
        case Net(inputs=ids) | Concat(nodes=ids) | Apply(operands=ids):
            return ids
        case Pick(node=i) | Detach(node=i) | Part(node=i) | Drawn(node=i):
            return (i,)
        case Index(node=i, indices=indices):
            return (i, *indices)
        case LogProb(density=density, value=value):
            return (*(i for _, i in density.parameters), *(() if value is None else (value,)))
        case KL(left=left, right=right):
            return tuple(i for d in (left, right) for _, i in d.parameters)
        case Distance(left=a, right=b):
            return (a, b)
