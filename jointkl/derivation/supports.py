"""Where a KL is infinite: a value that is drawn where the other law's density is zero.

Only what is sure counts: bounds and probabilities that are numbers, and the whole range of a family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from math import inf

from jointkl.derivation.expr import Expectation, LogFactor, Term
from jointkl.derivation.facts import Facts
from jointkl.semantics.model import (
    Constant,
    Distribution,
    Factor,
    Indexed,
    NetCall,
    Numbers,
    Operation,
    ParameterRef,
    Value,
    VariableRef,
)
from jointkl.semantics.spaces import Kind

FAR = 1e300
"""Stands for a bound that is a finite number, but not known."""

RANGE: dict[Kind, tuple[float, float]] = {
    "real": (-inf, inf),
    "positive": (0, inf),
    "unit": (0, 1),
    "natural": (0, inf),
}


@dataclass(frozen=True, slots=True)
class Support:
    """The values of positive density: an interval for each number of the event (one for all of them if alike), or of
    a finite variable the values themselves. `sure`: it is no larger than this either."""

    intervals: tuple[tuple[float, float], ...] = ()
    values: frozenset[int] = frozenset()
    sure: bool = True

    def __str__(self) -> str:
        if self.values:
            return f"the values {', '.join(map(str, sorted(self.values)))}"
        if not self.sure:
            return "a bounded range"
        parts = tuple(dict.fromkeys(self.intervals))
        if len(parts) > 3:
            parts = ((min(low for low, _ in parts), max(high for _, high in parts)),)
        return "values " + ", ".join(map(_interval, parts))


def _interval(bounds: tuple[float, float]) -> str:
    low, high = bounds
    return f"{low:g} alone" if low == high else f"from {_shown(low)} to {_shown(high)}"


def _shown(bound: float) -> str:
    return {inf: "infinity", -inf: "minus infinity"}.get(bound, f"{bound:g}")


def support(facts: Facts, f: Factor) -> Support | None:
    """What a family with numbers for its bounds or probabilities can give; None where nothing is sure."""
    body = facts.model.laws[f.law].body
    if not isinstance(body, Distribution):
        return None
    given = dict(body.parameters)
    match body.family:
        case "Uniform":
            low, high = _numbers(given.get("low")), _numbers(given.get("high"))
            if low is None or high is None:
                return Support(((-FAR, FAR),), sure=False)
            pairs = zip_longest(low, high, fillvalue=low[0] if len(low) == 1 else high[0])
            return Support(tuple(pairs))
        case "Binomial":
            count = _numbers(given.get("total_count"))
            return Support(((0, FAR),), sure=False) if count is None else Support(tuple((0, n) for n in count))
        case "Geometric" if _numbers(given.get("probs")) is not None:
            return Support(tuple((0, 0 if p == 1 else inf) for p in _numbers(given["probs"]) or ()))
        case "Bernoulli" if facts.model.space(f.outputs[0]).kind == "binary":
            return _binary(facts, given)
        case "Categorical" | "Bernoulli":
            return _finite(facts, f, given)
        case _:
            return _whole(facts, f)


def _whole(facts: Facts, f: Factor) -> Support | None:
    kind = facts.model.space(f.outputs[0]).kind
    return Support((RANGE[kind],)) if kind in RANGE else None


def _finite(facts: Facts, f: Factor, given: Mapping[str, Value]) -> Support | None:
    space = facts.model.space(f.outputs[0])
    if space.kind != "finite":
        return None
    if "probs" not in given or _inside(facts, given["probs"]):
        return Support(values=frozenset(space.values))
    probs = _numbers(given["probs"])
    if probs is None:
        return None
    shares = (1 - probs[0], probs[0]) if len(probs) == 1 else tuple(probs)
    return Support(values=frozenset(v for v, p in zip(space.values, shares, strict=False) if p > 0))


def _binary(facts: Facts, given: Mapping[str, Value]) -> Support | None:
    """Of many numbers, each 0 or 1."""
    if "probs" not in given or _inside(facts, given["probs"]):
        return Support(((0, 1),))
    probs = _numbers(given["probs"])
    return None if probs is None else Support(tuple((int(p == 1), int(p > 0)) for p in probs))


def _inside(facts: Facts, value: Value) -> bool:
    """Is a probability surely neither 0 nor 1? What is mapped into a space lies inside it, as one of logits does."""
    match value:
        case ParameterRef(name=name):
            return facts.model.params[name].space.kind in ("unit", "simplex")
        case Indexed(value=inner):
            return _inside(facts, inner)
        case NetCall(net=net, head=head):
            heads = facts.model.nets[net].heads
            return next(h.space.kind in ("unit", "simplex") for h in heads if head is None or h.name == head)
        case Operation(operator=operator):
            return operator in ("sigmoid", "softmax")
        case Constant() | VariableRef():
            return False


def _numbers(value: Value | None) -> tuple[float, ...] | None:
    """A constant's numbers in order, or None."""
    if not isinstance(value, Constant):
        return None
    return tuple(_flat(value.value))


def _flat(value: Numbers) -> Iterator[float]:
    if isinstance(value, tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def exceeds(f: Support, g: Support) -> bool:
    """Does f surely draw what g has no density for?"""
    if f.values or g.values:
        return not f.values <= g.values
    if not f.sure:
        return False
    pairs = zip_longest(f.intervals, g.intervals, fillvalue=(f if len(f.intervals) == 1 else g).intervals[0])
    return any(low < below or high > above for (low, high), (below, above) in pairs)


def beyond(facts: Facts, entry: Expectation) -> Iterator[tuple[Factor, Support, Factor, Support, Term]]:
    """The factors of the path and the densities against them that make -E log g infinite."""
    makers = {f.outputs: f for f in entry.path}
    for t in entry.terms:
        if not (isinstance(t.atom, LogFactor) and t.atom.value is None and t.coefficient < 0):
            continue
        g = t.atom.factor
        f = makers.get(g.outputs)
        if f is None or f.law == g.law:
            continue
        drawn, allowed = support(facts, f), support(facts, g)
        if drawn is not None and allowed is not None and exceeds(drawn, allowed):
            yield f, drawn, g, allowed, t


def labels_beyond(facts: Facts, entry: Expectation) -> Iterator[tuple[int, Factor, Support, Term]]:
    """The labels of branches for which a density of the label makes -log g infinite."""
    for t in entry.terms:
        if isinstance(t.atom, LogFactor) and t.atom.value is not None and t.coefficient < 0:
            allowed = support(facts, t.atom.factor)
            if allowed is not None and allowed.values and t.atom.value not in allowed.values:
                yield t.atom.value, t.atom.factor, allowed, t
