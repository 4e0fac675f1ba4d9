"""Formulas as text: `E data(x) { -log p(1|x) }`. One function per kind of formula."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import assert_never

from jointkl.derivation.expr import (
    Atom,
    Braces,
    ClosedKL,
    Entry,
    Head,
    LogFactor,
    Logit,
    LogMarginal,
    LogSigmoid,
    LogWeight,
    Moments,
    OldDistance,
    Part,
    Penalty,
    Sum,
    Term,
)
from jointkl.semantics.model import Factor


def text(part: Part) -> str:
    match part:
        case str():
            return part
        case Factor():
            return factor(part)
        case Term():
            return total((part,))
        case Head():
            return head(part.weight, part.path) + "".join(" " + atom(w).removeprefix("log ") for w in part.weights)
        case Braces():
            return "{ " + total(part.terms) + " }"
        case Sum():
            return total(part.terms)
        case Entry():
            return f"{head(part.weight, part.path)} {{{total(part.terms)}}}"
        case _:
            return atom(part)


def line(parts: Sequence[Part]) -> str:
    return "".join(text(p) for p in parts)


def atom(a: Atom) -> str:
    match a:
        case LogFactor(factor=f, value=None):
            return f"log {factor(f)}"
        case LogFactor(factor=f, value=value):
            return f"log {_applied(_label(f), (str(value),), f.givens)}"
        case LogMarginal():
            return f"log {marginal(a)}"
        case LogWeight(share=share):
            return f"log {number(share)}"
        case ClosedKL(left=left, right=right):
            return f"KL[{factor(left)} || {factor(right)}]"
        case OldDistance(factor=f):
            return f"||{f.outputs[0]} - {f.outputs[0]}_old||^2"
        case Moments(variable=v):
            return f"KL[moments of {v} || N(0,1)]"
        case Penalty(factor=f):
            return f"||d l_{_label(f)}({','.join(f.givens)})||^2"
        case Logit(critic=critic, inputs=inputs):
            return f"l_{critic}({','.join(inputs)})"
        case LogSigmoid(logit=logit, up=up):
            return f"log sigma({'' if up else '-'}{atom(logit)})"
        case _:
            assert_never(a)


def factor(f: Factor) -> str:
    return _applied(_label(f), f.outputs, f.givens)


def _label(f: Factor) -> str:
    return f.law.split("(", 1)[0] + ("_old" if f.old else "")


def _applied(label: str, outputs: tuple[str, ...], givens: tuple[str, ...]) -> str:
    return f"{label}({','.join(outputs)}{'|' if givens else ''}{','.join(givens)})"


def marginal(m: LogMarginal) -> str:
    """`q(x)` where it has a name, else the integral: `∫ q(z) q(x|z) dz`."""
    if m.name:
        label, rest = m.name.split("(", 1)
        return f"{label}{'_old' if m.old else ''}({rest}"
    branches = [(f"{number(w)} " if w != 1 else "") + " ".join(map(factor, fs)) for w, fs in m.branches]
    inner = " + ".join(branches)
    inner = f"({inner})" if len(branches) > 1 else inner
    hidden = "".join(f" d{v}" for v in sorted(m.hidden))
    return f"∫ {inner}{hidden}" + ("|old" if m.old else "") if hidden else inner + ("|old" if m.old else "")


def total(terms: Sequence[Term]) -> str:
    """A sum: `log q(x) - 2 log p(0|x)`; `sg` marks samples that carry no gradient."""
    if not terms:
        return "0"
    parts: list[str] = []
    for i, t in enumerate(terms):
        size = abs(t.coefficient)
        scale = f"{number(size)}/N " if t.over_n else f"{number(size)} " if size != 1 else ""
        inner = scale + atom(t.atom) + (sg(t) if t.detached else "")
        sign = "-" if t.coefficient < 0 else "+"
        parts.append(f" {sign} {inner}" if i else (f"-{inner}" if sign == "-" else inner))
    return "".join(parts)


def sg(t: Term) -> str:
    return f" at sg({','.join(t.atom.variables)})"


def head(weight: Fraction, path: tuple[Factor, ...]) -> str:
    return (f"{number(weight)} " if weight != 1 else "") + "E " + " ".join(map(factor, path))


def number(value: Fraction) -> str:
    """`1/2`, `0.3`, `2`: a small fraction as such, else a decimal."""
    if value.denominator == 1:
        return str(value.numerator)
    if value.denominator <= 9 and value.denominator != 5:
        return f"{value.numerator}/{value.denominator}"
    return f"{float(value):.6g}"
