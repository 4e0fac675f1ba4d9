"""The checked model: names resolved, sizes known, every law applied to the right variables.

All of it is frozen. A variable is known by its name (`x`, or `x'` for a copy); a law by its label and base names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from jointkl.diagnostics import NOWHERE, Source, Span
from jointkl.semantics.catalogue import OptionValue
from jointkl.semantics.divergences import DIVERGENCES, DivergenceRow
from jointkl.semantics.spaces import Space


def base(name: str) -> str:
    """The variable that `x''` is a copy of."""
    return name.rstrip("'")


# --- values: what the parameters of a law are made of

Numbers = float | tuple[float, ...] | tuple[tuple[float, ...], ...]
"""A number, a list of numbers, or a list of equally long lists."""


@dataclass(frozen=True, slots=True)
class Constant:
    value: Numbers

    @property
    def number(self) -> float | None:
        """The value if it is one number."""
        return None if isinstance(self.value, tuple) else self.value


@dataclass(frozen=True, slots=True)
class ParameterRef:
    name: str


@dataclass(frozen=True, slots=True)
class VariableRef:
    """A variable of the law, by its base name."""

    name: str


@dataclass(frozen=True, slots=True)
class NetCall:
    """A network applied to values; `head` picks one of the parameters that a bare call supplies."""

    net: str
    inputs: tuple[Value, ...]
    head: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """Arithmetic (`+ - * / @`, `neg`) or a function by name (exp log sqrt softplus sigmoid tanh softmax sum)."""

    operator: str
    operands: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Indexed:
    value: Value
    indices: tuple[Value, ...]


Value = Constant | ParameterRef | VariableRef | NetCall | Operation | Indexed


# --- declarations


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    space: Space
    is_global: bool = False
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Param:
    name: str
    space: Space
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Head:
    """One output of a network: its name, and the space that its last map goes into."""

    name: str
    space: Space


@dataclass(frozen=True, slots=True)
class Net:
    """A network with its sizes: `inputs` the spaces it is applied to, `heads` what it gives.

    A network that no law applies has no heads. `target` is the `package.module:Class` of a `python` one, `built` where
    the builder stands.
    """

    name: str
    builder: str
    widths: tuple[int, ...]
    options: tuple[tuple[str, OptionValue], ...]
    inputs: tuple[Space, ...] = ()
    heads: tuple[Head, ...] = ()
    target: str = ""
    span: Span = field(default=NOWHERE, compare=False, repr=False)
    built: Span = field(default=NOWHERE, compare=False, repr=False)

    @property
    def outputs(self) -> int:
        """Numbers that the last layer gives."""
        return sum(h.space.size for h in self.heads)


# --- laws


@dataclass(frozen=True, slots=True)
class Distribution:
    """A family with its parameters, in Pyro's order or by name."""

    family: str
    parameters: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Dirac:
    """`Delta(value, density=...)`: sampled; `density` stands in for its density away from its own path."""

    value: Value
    density: Distribution | None = None


@dataclass(frozen=True, slots=True)
class Free:
    """Any distribution over a finite space."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Data: a source, its options, and which of its columns the outputs are.

    `rows` is the law whose rows these are: the law itself, or, for a marginal such as `data(t)` beside `data(x, t)`,
    the law bound to the source.
    """

    source: str
    options: tuple[tuple[str, OptionValue], ...] = ()
    columns: tuple[int, ...] = ()
    rows: str = ""


@dataclass(frozen=True, slots=True)
class Factor:
    """A law applied to variables. `old` reads it at the snapshot.

    A given that is the label of the branch it stands in has that label's value: `at` holds (place among the law's
    givens, value), and `givens` the others. `shift`: on a path, how many rows behind the minibatch evidence is read.
    """

    law: str
    outputs: tuple[str, ...]
    givens: tuple[str, ...] = ()
    old: bool = False
    at: tuple[tuple[int, int], ...] = ()
    shift: int = field(default=0, compare=False, repr=False)
    span: Span = field(default=NOWHERE, compare=False, repr=False)

    @property
    def label(self) -> str:
        """The label of its law: `q`."""
        return law_label(self.law)

    @property
    def variables(self) -> tuple[str, ...]:
        return (*self.outputs, *self.givens)

    @property
    def arguments(self) -> tuple[str | int, ...]:
        """What stands for the law's givens, in their order: variables and values."""
        found: list[str | int] = list(self.givens)
        for place, value in self.at:
            found.insert(place, value)
        return tuple(found)

    def applied(self, names: Mapping[str, str | int]) -> Factor:
        """The factor with other variables in place of its own; a given may become a value, an output may not."""
        moved = [(v, names.get(v, v)) for v in self.outputs]
        outputs = tuple(new if isinstance(new, str) else v for v, new in moved)
        arguments = [names.get(v, v) if isinstance(v, str) else v for v in self.arguments]
        givens = tuple(v for v in arguments if isinstance(v, str))
        at = tuple((i, v) for i, v in enumerate(arguments) if isinstance(v, int))
        return replace(self, outputs=outputs, givens=givens, at=at)


@dataclass(frozen=True, slots=True)
class Branch:
    """One product of a joint; `weight` is its share, `label` and `value` None outside a mixture."""

    factors: tuple[Factor, ...]
    weight: Fraction = Fraction(1)
    label: str | None = None
    value: int | None = None
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Joint:
    """A product (one branch) or a mixture over a label; what it generates beyond its head is integrated out."""

    branches: tuple[Branch, ...]

    @property
    def label(self) -> str | None:
        return self.branches[0].label


Body = Distribution | Dirac | Free | Evidence | Joint


@dataclass(frozen=True, slots=True)
class Law:
    """A law or a joint: `outputs` and `givens` are base names, or copies where one variable stands twice."""

    label: str
    outputs: tuple[str, ...]
    givens: tuple[str, ...]
    body: Body
    span: Span = field(default=NOWHERE, compare=False, repr=False)
    definition: Span = field(default=NOWHERE, compare=False, repr=False)
    """Where its right side stands."""

    @property
    def key(self) -> str:
        return law_key(self.label, self.outputs, self.givens)

    @property
    def text(self) -> str:
        return law_text(self.label, self.outputs, self.givens)

    def bound(self, factor: Factor) -> dict[str, str | int]:
        """What a factor of this law puts in place of the law's variables."""
        return dict(zip((*self.outputs, *self.givens), (*factor.outputs, *factor.arguments), strict=True))


def law_key(label: str, outputs: tuple[str, ...], givens: tuple[str, ...]) -> str:
    """How a law is known: `q(x|z)`, without primes or white space."""
    return law_text(label, tuple(map(base, outputs)), tuple(map(base, givens)))


def law_label(key: str) -> str:
    """The label of the law that is known by a key: `q`."""
    return key.partition("(")[0]


def law_text(label: str, outputs: tuple[str, ...], givens: tuple[str, ...]) -> str:
    return f"{label}({','.join(outputs)}{'|' if givens else ''}{','.join(givens)})"


# --- goals


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a divergence: its variables and its branches. A named joint keeps its text."""

    text: str
    head: tuple[str, ...]
    joint: Joint
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Divergence:
    """`KL(left || right)`, or what else is a row of `DIVERGENCES`, by its name."""

    name: str
    left: Side
    right: Side
    weight: Fraction = Fraction(1)
    span: Span = field(default=NOWHERE, compare=False, repr=False)

    @property
    def row(self) -> DivergenceRow:
        return DIVERGENCES[self.name]


@dataclass(frozen=True, slots=True)
class Hinge:
    """`weight * max(0, margin - sum of terms)` on the batch mean."""

    margin: Fraction
    terms: tuple[Divergence, ...]
    weight: Fraction = Fraction(1)
    span: Span = field(default=NOWHERE, compare=False, repr=False)


Estimate = Literal["monte_carlo", "score", "moments", "gradient"]


@dataclass(frozen=True, slots=True)
class GoalOptions:
    """What stands after `with`; each option's span is where a message about it points."""

    proximal: Literal["none", "kl", "dirac"] = "none"
    dirac: Fraction = Fraction(0)
    game: Literal["minimax", "nonsaturating"] | None = None
    drop: tuple[str, ...] = ()
    critic: tuple[str, tuple[Value, ...]] | None = None
    """The net, and what it is applied to, if the spec says so."""
    importance: int | None = None
    estimate: tuple[Estimate, ...] = ()
    spans: tuple[tuple[str, Span], ...] = field(default=(), compare=False)

    def span(self, name: str) -> Span:
        return next((span for known, span in self.spans if known == name), NOWHERE)


Target = str
"""A net, a param, or a Free law by its key."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Terms to minimise (a `maximize` has turned its signs). `over` is None where the spec names nobody."""

    terms: tuple[Divergence | Hinge, ...]
    over: tuple[Target, ...] | None
    options: GoalOptions
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PlayerGroup:
    """A `player` statement: who is optimised together, under a name."""

    name: str
    targets: tuple[Target, ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """The defaults of the run: for everyone (`target` None) or for the player that holds `target`."""

    target: Target | None
    options: tuple[tuple[str, OptionValue], ...]
    span: Span = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Model:
    """A whole spec, checked. `variables`, `params`, `nets` and `laws` stand in order of declaration."""

    source: Source = field(compare=False, repr=False)
    variables: Mapping[str, Variable]
    params: Mapping[str, Param]
    nets: Mapping[str, Net]
    laws: Mapping[str, Law]
    goals: tuple[Goal, ...]
    players: tuple[PlayerGroup, ...] = ()
    train: tuple[TrainOptions, ...] = ()
    evidence: tuple[Law, ...] = field(init=False, compare=False, repr=False)
    """The laws bound to a source, marginals left out."""

    def __post_init__(self) -> None:
        bound = (law for law in self.laws.values() if isinstance(law.body, Evidence) and law.body.rows == law.key)
        object.__setattr__(self, "evidence", tuple(bound))

    def variable(self, name: str) -> Variable:
        """The declaration of a variable or of the variable that it copies."""
        return self.variables[base(name)]

    def space(self, name: str) -> Space:
        return self.variable(name).space

    def batch_key(self, law: str, variable: str) -> str:
        """The key of a batch under which evidence `law` gives `variable`: its name; after the label if several laws do,
        after the law if several of that label do."""
        labels = [other.label for other in self.evidence if base(variable) in other.outputs]
        label = self.laws[law].label
        return variable if len(labels) == 1 else f"{label if labels.count(label) == 1 else law}.{variable}"

    @property
    def declared(self) -> tuple[str, ...]:
        """Trainable things by the place of their declaration: nets, params and Free laws."""
        free = [(law.span.start, key) for key, law in self.laws.items() if isinstance(law.body, Free)]
        named = [(d.span.start, d.name) for d in (*self.nets.values(), *self.params.values())]
        return tuple(name for _, name in sorted([*named, *free]))
