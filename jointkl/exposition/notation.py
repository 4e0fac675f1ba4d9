"""Formulas in every format: one walk over the kinds of formula, written by the rows of `styles`.

`line`, `factor`, `total` and `number` are the walk in plain text: `E data(x) { -log p(1|x) }`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import reduce
from typing import assert_never

from jointkl.derivation.expr import (
    Apply,
    Atom,
    Body,
    ClosedCE,
    ClosedKL,
    Detach,
    Expectation,
    Label,
    LogFactor,
    Logit,
    LogMarginal,
    LogMeanExp,
    LogSigmoid,
    LogWeight,
    Moments,
    OldDistance,
    Optimum,
    Penalty,
    Scale,
    Softmax,
    Sum,
    Term,
    Weighted,
    core,
)
from jointkl.derivation.parts import Braces, Call, Density, Formula, Head, Name, Number, Over, Part, Symbol
from jointkl.derivation.players import Player
from jointkl.exposition import styles
from jointkl.exposition.styles import Row, Style
from jointkl.semantics.model import (
    Constant,
    Factor,
    Indexed,
    NetCall,
    Operation,
    ParameterRef,
    Side,
    Value,
    VariableRef,
    law_label,
)

MOST_BELOW = 9
"""A path of more names than this stands beside its E, where a line may end, and not below it."""

MOST_ARGUMENTS = 6
"""Between more arguments than this a line may end."""


@dataclass(frozen=True, slots=True)
class Notation:
    """The walk in one style; `values` are the variables written as what they are drawn by, as in p(1|G(z))."""

    style: Style
    values: Mapping[str, str] = field(default_factory=dict[str, str])

    def put(self, row: Row, *parts: str) -> str:
        return row[self.style.column] % parts

    # --- parts of a step

    def line(self, parts: Sequence[Part]) -> str:
        """Words, and the formulas among them as they stand there."""
        return "".join(
            self.style.words(part) if isinstance(part, str) else self.style.formula(self.formula(part))
            for part in parts
        )

    def formula(self, part: Symbol | Formula) -> str:
        if not isinstance(part, Formula):
            return self.symbol(part)
        pieces = (self.put(styles.SIGNS[p]) if isinstance(p, str) else self.symbol(p) for p in part.pieces)
        return "".join(pieces).strip()

    def symbol(self, part: Symbol) -> str:
        match part:
            case Density():
                return self.density(part.atom)
            case Player():
                return self.player(part)
            case Name():
                return self.name(part)
            case Call():
                return self.applied(self.style.name(part.net), part.arguments)
            case Number():
                return self.put(styles.NUMBER, f"{part.value:g}")
            case Over():
                below = (self.style.name(part.index),) if part.index else ()
                return self.put(styles.OVER[part.operator] if below else styles.EXPECTED_ALONE, *below)
            case Factor():
                return self.factor(part)
            case Term():
                return self.total((part,))
            case Head():
                return self.head(part.weight, part.path, *map(self.weight, part.weights))
            case Braces():
                return self.put(styles.BRACES, self.total(part.terms))
            case Sum() | Scale() | Apply() | Weighted() | LogMeanExp() | Softmax() | Detach() | Optimum():
                return self.body(part)
            case Expectation():
                shown = self.total(part.terms) if part.linear else self.body(part.body)
                inner = self.put(styles.CLOSE_BRACES, shown)
                return self.head(part.weight, part.path) + " " + inner
            case Side():
                return self.joint(part)
            case _:
                return self.atom(part)

    def name(self, n: Name) -> str:
        shown = self.style.name(n.name)
        shown = self.put(styles.SUBSCRIPT, shown, self.style.name(n.index)) if n.index else shown
        return self.put(styles.OLD, shown) if n.old else shown

    def player(self, p: Player) -> str:
        """A Free law as such, else names that a plus joins."""
        if isinstance(p.title, Factor):
            return self.factor(p.title)
        return self.joined(p.title)

    def joined(self, names: Sequence[str]) -> str:
        return self.put(styles.JOINED).join(map(self.style.name, names))

    # --- atoms

    def atom(self, a: Atom) -> str:
        match a:
            case LogFactor() | LogMarginal() | LogWeight():
                return self.put(styles.LOG, self.density(a))
            case ClosedKL(left=left, right=right):
                return self.put(styles.KL, self.factor(left), self.factor(right))
            case ClosedCE(left=left, right=right):
                return self.put(styles.CE, self.factor(left), self.factor(right))
            case OldDistance(factor=f):
                v = f.outputs[0]
                return self.put(styles.DISTANCE, self.variable(v), self.put(styles.OLD, self.style.name(v)))
            case Moments(variable=v):
                return self.put(styles.MOMENTS, self.style.name(v))
            case Penalty(factor=f):
                return self.put(styles.PENALTY, self.applied(self.put(styles.LOGIT, self.label(f)), f.arguments))
            case Logit(critic=critic, inputs=inputs, values=values):
                label = self.put(styles.LOGIT, self.style.name(critic))
                return self.written(label, tuple(map(self.value, values))) if values else self.applied(label, inputs)
            case LogSigmoid(logit=logit, up=up):
                inner = self.atom(logit)
                return self.put(styles.LOG_SIGMA, inner if up else self.put(styles.NEGATIVE, inner))
            case _:
                assert_never(a)

    def density(self, a: Atom) -> str:
        """An atom without its logarithm, where it is one."""
        match a:
            case LogFactor(value=None):
                return self.factor(a.factor)
            case LogFactor():
                return self.weight(a)
            case LogMarginal():
                return self.marginal(a)
            case LogWeight():
                return self.number(a.share)
            case _:
                return self.atom(a)

    def weight(self, c: LogFactor) -> str:
        """c(1|v), without its logarithm."""
        outputs = (c.value,) if c.value is not None else c.factor.outputs
        return self.applied(self.label(c.factor), outputs, c.factor.arguments)

    def factor(self, f: Factor) -> str:
        return self.applied(self.label(f), f.outputs, f.arguments)

    def label(self, f: Factor) -> str:
        name = self.style.name(f.label)
        return self.put(styles.OLD, name) if f.old else name

    def applied(self, label: str, outputs: Sequence[str | int], givens: Sequence[str | int] = ()) -> str:
        """label(outputs|givens)"""
        return self.written(label, tuple(map(self.variable, outputs)), tuple(map(self.variable, givens)))

    def written(self, label: str, outputs: Sequence[str], givens: Sequence[str] = ()) -> str:
        """label(outputs|givens), of arguments already in this style."""
        long = len(outputs) + len(givens) > MOST_ARGUMENTS
        comma = self.put(styles.COMMA_LONG if long else styles.COMMA)
        inner = comma.join(outputs)
        if givens:
            inner += self.put(styles.GIVEN) + comma.join(givens)
        return self.put(styles.APPLIED_LONG if long else styles.APPLIED, label, inner)

    def value(self, v: Value) -> str:
        """What a network is applied to."""
        match v:
            case Constant(value=number):
                return self.put(styles.NUMBER, str(number) if isinstance(number, tuple) else f"{number:g}")
            case ParameterRef(name=name):
                return self.style.name(name)
            case VariableRef(name=name):
                return self.variable(name)
            case NetCall(net=name, inputs=inner):
                return self.written(self.style.name(name), tuple(map(self.value, inner)))
            case Operation(operator=operator, operands=(one,)):
                inner = self.value(one)
                if operator == "neg":
                    return self.put(styles.NEGATIVE, self.put(styles.PARENTHESES, inner))
                return self.written(self.style.name(operator), (inner,))
            case Operation(operator=operator, operands=inner):
                nested = [isinstance(i, Operation) and len(i.operands) > 1 for i in inner]
                parts = [self.value(i) for i in inner]
                left, *others = (
                    self.put(styles.PARENTHESES, p) if n else p for p, n in zip(parts, nested, strict=True)
                )
                return reduce(lambda a, b: self.put(styles.OPERATION, a, operator, b), others, left)
            case Indexed(value=inner, indices=indices):
                return self.put(
                    styles.INDEXED, self.value(inner), self.put(styles.COMMA).join(map(self.value, indices))
                )

    def variable(self, name: str | int) -> str:
        """An argument: a variable, what is written for it, or the value of a label."""
        if isinstance(name, int):
            return self.put(styles.NUMBER, str(name))
        return self.values.get(name) or self.style.name(name)

    def marginal(self, m: LogMarginal) -> str:
        """`q(x)` where it has a name, else the integral: `∫ q(z) q(x|z) dz`."""
        if m.name:
            label = self.style.name(law_label(m.name))
            return self.applied(self.put(styles.OLD, label) if m.old else label, m.outputs, m.givens)
        beside = self.put(styles.BESIDE)
        factors = [[replace(f, old=f.old and not m.old) for f in inner] for _, inner in m.branches]
        branches = [beside.join(map(self.factor, inner)) for inner in factors]
        weighted = [self.scaled(w, b) for (w, _), b in zip(m.branches, branches, strict=True)]
        inner = self.put(styles.PLUS).join(weighted)
        inner = self.put(styles.PARENTHESES, inner) if len(branches) > 1 else inner
        shown = self.integral(inner, sorted(m.hidden))
        return self.put(styles.AT_OLD, shown) if m.old else shown

    def integral(self, inner: str, hidden: Sequence[str]) -> str:
        over = "".join(self.put(styles.INTEGRATED, self.style.name(v)) for v in hidden)
        return self.put(styles.INTEGRAL, inner, over) if hidden else inner

    # --- sums and expectations

    def body(self, body: Body) -> str:
        """A sum, and the functions and factors that it stands under."""
        match body:
            case Scale(by=by, body=inner):
                return self.signed([(by < 0, self.scaled(abs(by), self.body(inner)))])
            case Apply(function=function, body=inner):
                return self.written(self.style.name(function), (self.body(inner),))
            case Weighted(body=inner):  # what weighs it stands beside the expectation
                return self.body(inner)
            case _:
                return self.total(core(body).terms)

    def total(self, terms: Sequence[Term]) -> str:
        """A sum: `log q(x) - 2 log p(0|x)`; `sg` marks samples that carry no gradient."""
        return self.signed([(t.coefficient < 0, self.size(t)) for t in terms]) if terms else self.number(Fraction(0))

    def size(self, t: Term) -> str:
        """A term without its sign."""
        shown = self.atom(t.atom)
        if t.over_n:
            scale = self.put(styles.OVER_N, self.number(abs(t.coefficient)))
            shown = self.put(styles.TIMES, scale, shown)
        else:
            shown = self.scaled(abs(t.coefficient), shown)
        if t.detached:
            shown = self.put(styles.DETACHED, shown, self.put(styles.COMMA).join(map(self.variable, t.atom.variables)))
        return shown

    def scaled(self, size: Fraction, shown: str) -> str:
        return shown if size == 1 else self.put(styles.TIMES, self.number(size), shown)

    def signed(self, parts: Sequence[tuple[bool, str]], *, first: bool = True) -> str:
        """Parts with their signs: `a - b`; not `first`, what stands before them has none: ` - a + b`."""
        shown = ""
        for negative, part in parts:
            if shown or not first:
                shown += self.put(styles.MINUS if negative else styles.PLUS) + part
            else:
                shown = self.put(styles.NEGATIVE, part) if negative else part
        return shown

    def head(self, weight: Fraction, path: Sequence[Factor], *beside: str) -> str:
        """weight * E path, times what stands beside it."""
        return self.scaled(weight, self.expected(path, *beside))

    def expected(self, path: Sequence[Factor], *beside: str) -> str:
        """E path, times what stands beside it: weights, sums, the braces."""
        shown = list(map(self.factor, path))
        long = sum(1 + len(f.variables) for f in path) > MOST_BELOW
        row = styles.EXPECTED_LONG if long else styles.EXPECTED
        head = self.put(row, self.put(styles.BESIDE).join(shown)) if shown else self.put(styles.EXPECTED_ALONE)
        return self.put(styles.BESIDE).join((head, *beside))

    def number(self, value: Fraction) -> str:
        """`1/2`, `0.3`, `2`: a small fraction as such, else a decimal."""
        if value < 0:
            return self.put(styles.NEGATIVE, self.number(-value))
        if value.denominator == 1:
            return self.put(styles.NUMBER, str(value.numerator))
        if value.denominator <= 9 and value.denominator != 5:
            return self.put(styles.FRACTION, str(value.numerator), str(value.denominator))
        return self.put(styles.NUMBER, f"{float(value):.6g}")

    # --- joints and labels

    def at(self, label: Label) -> str:
        return self.put(styles.LABEL, self.style.name(label[0]), str(label[1]))

    def joint(self, side: Side) -> str:
        """`{ y=1: 1/2 data(x);  y=0: 1/2 ∫ q(z) q(x|z) dz }`: what a side of a divergence is made of."""
        joint = side.joint
        if joint.label is None:
            return self.product(joint.branches[0].factors, side.head)
        visible = tuple(v for v in side.head if v != joint.label)
        branches = [
            self.put(
                styles.BRANCH, self.at((b.label, b.value)), self.number(b.weight), self.product(b.factors, visible)
            )
            for b in joint.branches
            if b.label is not None and b.value is not None
        ]
        return self.put(styles.MIXTURE, self.put(styles.SEMICOLON).join(branches))

    def product(self, factors: Sequence[Factor], visible: Sequence[str]) -> str:
        hidden = [v for f in factors for v in f.outputs if v not in visible]
        return self.integral(self.put(styles.BESIDE).join(map(self.factor, factors)), hidden)


PLAIN = Notation(styles.TEXT)
line, factor, total, number = PLAIN.line, PLAIN.factor, PLAIN.total, PLAIN.number
