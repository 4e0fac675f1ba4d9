"""Ways through a model that show what it has learned: from data to codes and back, and from noise to data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jointkl.derivation.facts import Facts
from jointkl.derivation.resolve import Query, samplable
from jointkl.semantics.model import Constant, Dirac, Distribution, Evidence, Factor, Free, Joint, Law, Model

MOST_VALUES = 16
"""A finite variable of more values than this is not gone through."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """From a variable of `evidence`, a law's key, by the `codes`, laws applied one after the other, to the `decoder`,
    which gives it again. These are named as the spec writes them: `c(x'|x)`, which the key `c(x|x)` does not tell."""

    variable: str
    evidence: str
    codes: tuple[str, ...]
    decoder: str

    @property
    def text(self) -> str:
        return " ".join((self.evidence, *self.codes, self.decoder))


def round_trips(model: Model) -> Iterator[RoundTrip]:
    """For each variable that data give, the first law that gives it back from what laws of the spec make of the data.

    At least one of the codes is made of the variable itself; a law without givens makes none.
    """
    for evidence in model.evidence:
        for variable in evidence.outputs:
            found = (_round_trip(model, evidence, variable, law) for law in model.laws.values())
            yield from [trip for trip in found if trip is not None][:1]


def _round_trip(model: Model, evidence: Law, variable: str, decoder: Law) -> RoundTrip | None:
    if decoder.outputs != (variable,) or variable in decoder.givens or isinstance(decoder.body, Evidence | Joint):
        return None
    known = set(evidence.outputs)
    wanted = set(decoder.givens) - known
    codes: list[Law] = []
    while not wanted <= known:
        law = next((law for law in model.laws.values() if law is not decoder and _codes(law, known)), None)
        if law is None:
            return None
        codes.append(law)
        known.update(law.outputs)
    used = _used(codes, wanted)
    if not any(variable in law.givens for law in used):
        return None
    return RoundTrip(variable, evidence.key, tuple(law.text for law in used), decoder.text)


def _codes(law: Law, known: set[str]) -> bool:
    """Does a law make something new of what is known?"""
    made = isinstance(law.body, Distribution | Dirac | Free | Joint) and not set(law.outputs) & known
    return made and bool(law.givens) and set(law.givens) <= known


def _used(codes: list[Law], wanted: set[str]) -> list[Law]:
    """Of laws one after the other those that `wanted` comes from."""
    found: list[Law] = []
    for law in reversed(codes):
        if wanted & set(law.outputs):
            found.append(law)
            wanted = wanted | set(law.givens)
    return found[::-1]


@dataclass(frozen=True, slots=True)
class Root:
    """A variable that starts the way from noise, and its law's key. `centre`: the mean of a Normal written in the spec,
    about which its draws can be turned into each other; None where they cannot. `values`: of a finite one how many."""

    variable: str
    law: str
    centre: float | None = None
    values: int = 0


@dataclass(frozen=True, slots=True)
class Descent:
    """How `query`, one product of laws, draws a variable of data: its roots, and what comes between and last."""

    query: Query
    roots: tuple[Root, ...]
    others: tuple[str, ...]

    @property
    def variable(self) -> str:
        return self.query.head[0]

    @property
    def moving(self) -> tuple[Root, ...]:
        """The roots that lie in a continuum."""
        return tuple(root for root in self.roots if not root.values)

    @property
    def finite(self) -> Root | None:
        """The first root that has few values."""
        return next((root for root in self.roots if 1 < root.values <= MOST_VALUES), None)


def descent(facts: Facts) -> Descent | None:
    """What a run's samples are drawn by, if it is one product whose roots are draws of this spec's families."""
    queries = samplable(facts)
    if not queries or len(queries[0].branches) != 1:
        return None
    ((_, path),) = queries[0].branches
    starts = [f for f in path if not f.arguments and queries[0].head[0] not in f.outputs]
    if not starts or any(_shared(facts.model, f) for f in path):
        return None
    roots = tuple(_root(facts.model, f) for f in starts)
    return Descent(queries[0], roots, tuple(f.outputs[0] for f in path if f not in starts))


def _shared(model: Model, f: Factor) -> bool:
    """A global has one value for all data."""
    return any(model.variable(v).is_global for v in f.outputs)


def _root(model: Model, f: Factor) -> Root:
    space, body = model.space(f.outputs[0]), model.laws[f.law].body
    values = space.support or (2 if space.discrete else 0)
    location = body.parameters[0][1] if isinstance(body, Distribution) and body.family == "Normal" else None
    centre = location.number if isinstance(location, Constant) else None
    return Root(f.outputs[0], f.law, centre, values)
