"""Where a KL is infinite: a value that is drawn where the other law's density is zero.

Only what is sure counts: bounds and probabilities that are numbers, and the whole range of a family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from math import inf

from jointkl.derivation.expr import Entry, LogFactor, Term
from jointkl.derivation.facts import Facts
from jointkl.semantics.model import Constant, Distribution, Factor, Numbers, Value
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
        low, high = min(low for low, _ in self.intervals), max(high for _, high in self.intervals)
        return f"values from {_shown(low)} to {_shown(high)}"


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
    if "probs" not in given:
        return Support(values=frozenset(space.values))  # of logits: every probability is positive
    probs = _numbers(given["probs"])
    if probs is None:
        return None
    shares = (1 - probs[0], probs[0]) if len(probs) == 1 else tuple(probs)
    return Support(values=frozenset(v for v, p in zip(space.values, shares, strict=False) if p > 0))


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


def beyond(facts: Facts, entry: Entry) -> Iterator[tuple[Factor, Support, Factor, Support, Term]]:
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
