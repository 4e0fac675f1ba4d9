"""The language's functions and operators, of numbers that are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

Floats = float | tuple["Floats", ...]
"""A number, or lists of them."""


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


EACH: Mapping[str, Callable[[float], float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
}
"""Functions of one number."""

OPERATORS: Mapping[str, Callable[..., float]] = {
    "+": float.__add__,
    "-": float.__sub__,
    "*": float.__mul__,
    "/": float.__truediv__,
    "neg": float.__neg__,
}


def applied(name: str, value: Floats) -> Floats:
    """A function of a number or of lists. Raises `ValueError` where it has no value, `OverflowError` where it is too
    large."""
    if name == "sum":
        return math.fsum(_flat(value))
    if name == "softmax":
        return _softmax(value)
    if isinstance(value, tuple):
        return tuple(applied(name, v) for v in value)
    return EACH[name](value)


def _flat(value: Floats) -> list[float]:
    return [x for v in value for x in _flat(v)] if isinstance(value, tuple) else [value]


def _softmax(value: Floats) -> Floats:
    """Over the last dimension."""
    if not isinstance(value, tuple):
        raise ValueError("softmax of a number")
    if any(isinstance(v, tuple) for v in value):
        return tuple(map(_softmax, value))
    numbers = _flat(value)
    parts = [math.exp(x - max(numbers)) for x in numbers]
    return tuple(p / math.fsum(parts) for p in parts)


def of_numbers(operator: str, values: list[float]) -> float | None:
    """An operator or a function of single numbers; None where that is no finite number."""
    known = OPERATORS.get(operator) or EACH.get(operator)
    try:
        found = known(*values) if known is not None else math.nan
    except (ValueError, ArithmeticError):
        return None
    return found if math.isfinite(found) else None
