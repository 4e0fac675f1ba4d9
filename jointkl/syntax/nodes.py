"""The syntax tree: a spec as it is written, before any name is looked up.

Every node keeps its span, left out of equality, so that two texts that differ in layout alone give equal trees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jointkl.diagnostics import NOWHERE, Source, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    span: Span = field(default=NOWHERE, compare=False, repr=False)


# --- expressions


@dataclass(frozen=True, slots=True)
class Number(Node):
    text: str


@dataclass(frozen=True, slots=True)
class Text(Node):
    value: str


@dataclass(frozen=True, slots=True)
class Name(Node):
    text: str


@dataclass(frozen=True, slots=True)
class Keyword(Node):
    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Call(Node):
    """`f(a, b, k=v)`, `a.b(c)`, and an application of a law, `q(x | z)`: then `givens` is not None."""

    name: Name
    arguments: tuple[Expr | Keyword, ...] = ()
    givens: tuple[Name, ...] | None = None


@dataclass(frozen=True, slots=True)
class Items(Node):
    """A bracketed list."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Negative(Node):
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Node):
    operator: Literal["+", "-", "*", "/", "@"]
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Subscript(Node):
    value: Expr
    indices: tuple[Expr, ...]


Expr = Number | Text | Name | Call | Items | Negative | Binary | Subscript


# --- laws and joints


@dataclass(frozen=True, slots=True)
class Law(Node):
    """The left side of a definition, or a law named as a target: `q(x | z)`."""

    label: Name
    outputs: tuple[Name, ...]
    givens: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class Factor(Node):
    call: Call
    old: bool = False


@dataclass(frozen=True, slots=True)
class Product(Node):
    factors: tuple[Factor, ...]
    weight: Expr | None = None


@dataclass(frozen=True, slots=True)
class Branch(Node):
    label: Name
    value: Number
    product: Product


@dataclass(frozen=True, slots=True)
class Mixture(Node):
    branches: tuple[Branch, ...]


@dataclass(frozen=True, slots=True)
class Bare(Node):
    """A name alone on the right: `p(k | x) = Free`."""

    name: Name


Body = Product | Mixture | Bare


# --- goals


@dataclass(frozen=True, slots=True)
class Divergence(Node):
    name: Name
    left: Product
    right: Product


@dataclass(frozen=True, slots=True)
class Hinge(Node):
    """`max(0, sum)`."""

    floor: Expr
    sum: Objective


@dataclass(frozen=True, slots=True)
class Scaled(Node):
    weight: Expr
    part: Objective


@dataclass(frozen=True, slots=True)
class Sum(Node):
    """Terms with their signs, +1 or -1, in the order written."""

    terms: tuple[tuple[int, Objective], ...]


@dataclass(frozen=True, slots=True)
class Weight(Node):
    """A number standing alone in a goal, as the margin of a hinge does."""

    value: Expr


Objective = Divergence | Hinge | Scaled | Sum | Weight
Target = Name | Law


# --- statements


@dataclass(frozen=True, slots=True)
class Space(Node):
    """`real[2, K]`; `{0, 1}` as name `{}` with its values; `{0..K-1}` as name `{..}` with its two ends."""

    name: Name
    dims: tuple[Expr, ...] = ()


@dataclass(frozen=True, slots=True)
class Var(Node):
    names: tuple[Name, ...]
    space: Space
    is_global: bool = False


@dataclass(frozen=True, slots=True)
class Param(Node):
    names: tuple[Name, ...]
    space: Space


@dataclass(frozen=True, slots=True)
class Net(Node):
    name: Name
    output: Space | None
    builder: Call


@dataclass(frozen=True, slots=True)
class Let(Node):
    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Player(Node):
    name: Name
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Train(Node):
    player: Name | None
    keywords: tuple[Keyword, ...]


@dataclass(frozen=True, slots=True)
class Definition(Node):
    law: Law
    body: Body


@dataclass(frozen=True, slots=True)
class Option(Node):
    name: Name
    value: Expr


@dataclass(frozen=True, slots=True)
class Goal(Node):
    direction: Literal["minimize", "maximize"]
    objective: Objective
    over: tuple[Target, ...] = ()
    options: tuple[Option, ...] = ()


Statement = Var | Param | Net | Let | Player | Train | Definition | Goal


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole text, statement by statement."""

    source: Source = field(compare=False)
    statements: tuple[Statement, ...]
