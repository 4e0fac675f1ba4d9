"""Specs as data, apart from the compiler's own model: what a strategy draws, rendered as .jkl, read by the oracles.

Everything is frozen, so that a variant of a spec (shuffled, renamed, relabelled) is made by `replace` and `renamed`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any


@dataclass(frozen=True)
class Var:
    """A variable over a small space: `{0, 1}`, `{0..2}`, `{2, 5}`, `binary[2]`; or `real` in a Gaussian world."""

    name: str
    space: str
    size: int

    @property
    def kind(self) -> str:
        return "finite" if self.space.startswith("{") else self.space.split("[")[0]


@dataclass(frozen=True)
class Distribution:
    """`text` is the right side; `how` says how an oracle reads it.

    table: param `source` indexed by the givens holds logits (`form`: logits, probs or softmaxed/sigmoid ones);
    net: network `source` applied to the givens gives logits; constant: `numbers` are probabilities of 1 or of each
    value.
    """

    text: str
    family: str
    how: str
    source: str = ""
    form: str = "logits"
    numbers: tuple[float, ...] = ()
    spread: str = ""
    """The param that is a Normal's scale; else `numbers` holds it."""


@dataclass(frozen=True)
class Evidence:
    """How often each joint value of the outputs stands in the data, the last output running fastest."""

    counts: tuple[int, ...]


@dataclass(frozen=True)
class Marginal:
    """Some columns of bound evidence: no statement of its own."""

    of: str


@dataclass(frozen=True)
class Free:
    """Any distribution: solved in closed form."""


@dataclass(frozen=True)
class Factor:
    law: str
    outputs: tuple[str, ...]
    givens: tuple[str, ...] = ()
    old: bool = False

    @property
    def text(self) -> str:
        given = f"|{','.join(self.givens)}" if self.givens else ""
        label = self.law.split("(")[0]
        return f"{'old ' if self.old else ''}{label}({','.join(self.outputs)}{given})"


@dataclass(frozen=True)
class Branch:
    factors: tuple[Factor, ...]
    weight: Fraction | None = None
    value: int | None = None


@dataclass(frozen=True)
class Joint:
    """A product (one branch, no label) or a mixture over `label`."""

    branches: tuple[Branch, ...]
    label: str | None = None

    def shares(self) -> tuple[Fraction, ...]:
        return tuple(b.weight if b.weight is not None else Fraction(1, len(self.branches)) for b in self.branches)


Body = Distribution | Evidence | Marginal | Free | Joint


@dataclass(frozen=True)
class Law:
    label: str
    outputs: tuple[str, ...]
    givens: tuple[str, ...]
    body: Body

    @property
    def key(self) -> str:
        return f"{self.label}({','.join(self.outputs)}{'|' if self.givens else ''}{','.join(self.givens)})"


@dataclass(frozen=True)
class Divergence:
    """`weight * name(left || right)`; each side a product of factors, or one named joint."""

    name: str
    left: tuple[Factor, ...]
    right: tuple[Factor, ...]
    weight: Fraction = Fraction(1)


@dataclass(frozen=True)
class Goal:
    terms: tuple[Divergence, ...]
    over: tuple[str, ...] | None = None
    options: tuple[str, ...] = ()
    maximize: bool = False


@dataclass(frozen=True, repr=False)
class Spec:
    variables: tuple[Var, ...]
    laws: tuple[Law, ...]
    goals: tuple[Goal, ...]
    params: tuple[tuple[str, str], ...] = ()
    nets: tuple[tuple[str, str], ...] = ()
    players: tuple[tuple[str, tuple[str, ...]], ...] = ()
    classifiers: tuple[str, ...] = field(default=())
    """Keys of the laws that are classifiers of a goal."""

    def var(self, name: str) -> Var:
        return next(v for v in self.variables if v.name == name.rstrip("'"))

    def law(self, key: str) -> Law:
        return next(law for law in self.laws if law.key == key)

    @property
    def evidence(self) -> tuple[Law, ...]:
        return tuple(law for law in self.laws if isinstance(law.body, Evidence))

    def statements(self) -> list[str]:
        """The statements, one each."""
        found = [f"{law.key} = evidence()" for law in self.evidence]
        found += [f"var {v.name}: {v.space}" for v in self.variables]
        found += [f"param {n}: {space}" for n, space in self.params]
        found += [f"net {n} = {built}" for n, built in self.nets]
        found += [
            f"{law.key} = {right(law.body)}" for law in self.laws if not isinstance(law.body, Evidence | Marginal)
        ]
        found += [f"player {n} = {', '.join(members)}" for n, members in self.players]
        return found + [goal(g) for g in self.goals]

    @property
    def text(self) -> str:
        return "\n".join(self.statements()) + "\n"

    def __repr__(self) -> str:
        return f"\n{self.text}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """A counter-example is shown as .jkl."""
        printer.text(repr(self))


def number(value: Fraction) -> str:
    """A number as the language writes it, exactly."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{value.numerator}/{value.denominator}"


def right(body: Body) -> str:
    match body:
        case Distribution(text=text):
            return text
        case Evidence():
            return "evidence()"
        case Marginal():
            raise AssertionError("a marginal is not stated")
        case Free():
            return "Free"
        case Joint(label=None, branches=(branch,)):
            return product(branch.factors)
        case Joint(label=label, branches=branches):
            parts = [
                f"{label}={b.value}: {'' if b.weight is None else f'{float(b.weight)!r} * '}{product(b.factors)}"
                for b in branches
            ]
            return "{ " + "; ".join(parts) + " }"


def product(factors: tuple[Factor, ...]) -> str:
    return " * ".join(f.text for f in factors)


def goal(g: Goal) -> str:
    parts = ""
    for i, d in enumerate(g.terms):
        size = abs(d.weight)
        scale = f"{number(size)} * " if size != 1 else ""
        sign = "-" if d.weight < 0 else "+"
        lead = ("-" if sign == "-" else "") if i == 0 else f" {sign} "
        parts += f"{lead}{scale}{d.name}({product(d.left)} || {product(d.right)})"
    over = f" over {', '.join(g.over)}" if g.over is not None else ""
    options = f" with {', '.join(g.options)}" if g.options else ""
    return f"{'maximize' if g.maximize else 'minimize'} {parts}{over}{options}"


# --- variants


def word(name: str) -> str:
    return rf"(?<![\w.]){re.escape(name)}(?![\w])"


def renamed(spec: Spec, names: Mapping[str, str]) -> Spec:
    """The spec with every variable, label, param and net called as `names` says."""

    def new(name: str) -> str:
        base = name.rstrip("'")
        return names.get(base, base) + name[len(base) :]

    def key(law: str) -> str:
        return re.sub(r"[A-Za-z_]\w*", lambda m: names.get(m.group(), m.group()), law)

    def factors(fs: tuple[Factor, ...]) -> tuple[Factor, ...]:
        return tuple(Factor(key(f.law), tuple(map(new, f.outputs)), tuple(map(new, f.givens)), f.old) for f in fs)

    def body(b: Body) -> Body:
        match b:
            case Distribution():
                return replace(b, text=key(b.text), source=new(b.source), spread=new(b.spread))
            case Marginal(of=of):
                return Marginal(key(of))
            case Joint():
                made = tuple(replace(x, factors=factors(x.factors)) for x in b.branches)
                return Joint(made, None if b.label is None else new(b.label))
            case _:
                return b

    def options(o: str) -> str:
        name, value = o.split("=", 1)
        return f"{name}={key(value)}"

    return Spec(
        tuple(replace(v, name=new(v.name)) for v in spec.variables),
        tuple(
            Law(new(law.label), tuple(map(new, law.outputs)), tuple(map(new, law.givens)), body(law.body))
            for law in spec.laws
        ),
        tuple(
            replace(
                g,
                terms=tuple(replace(d, left=factors(d.left), right=factors(d.right)) for d in g.terms),
                over=None if g.over is None else tuple(map(key, g.over)),
                options=tuple(map(options, g.options)),
            )
            for g in spec.goals
        ),
        tuple((new(n), space) for n, space in spec.params),
        tuple((new(n), built) for n, built in spec.nets),
        tuple((n, tuple(map(key, members))) for n, members in spec.players),
        tuple(map(key, spec.classifiers)),
    )


def shuffled(spec: Spec, seed: int) -> tuple[Spec, str]:
    """The spec with factors and branches in another order, and its statements in another order still."""
    chance = random.Random(seed)

    def mixed(fs: Iterable[Factor]) -> tuple[Factor, ...]:
        found = list(fs)
        chance.shuffle(found)
        return tuple(found)

    def body(b: Body) -> Body:
        if not isinstance(b, Joint):
            return b
        made = [replace(x, factors=mixed(x.factors)) for x in b.branches]
        chance.shuffle(made)
        return Joint(tuple(made), b.label)

    laws = [replace(law, body=body(law.body)) for law in spec.laws]
    goals = [
        replace(g, terms=tuple(replace(d, left=mixed(d.left), right=mixed(d.right)) for d in g.terms))
        for g in spec.goals
    ]
    made = replace(spec, laws=tuple(laws), goals=tuple(goals))
    lines = made.statements()
    chance.shuffle(lines)
    return made, "\n".join(lines) + "\n"
