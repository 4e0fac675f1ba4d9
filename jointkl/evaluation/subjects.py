"""What of a program can be judged, by its model alone: laws that draw evidence, laws that evaluate it, codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jointkl.derivation.facts import Facts
from jointkl.derivation.resolve import Query, resolve, samplable
from jointkl.diagnostics import DataError
from jointkl.program import Program
from jointkl.semantics.model import Dirac, Distribution, Evidence, Law, Model, base, law_text


@dataclass(frozen=True, slots=True)
class Drawn:
    """A law that draws a variable that evidence gives: from noise alone, or given variables of evidence too."""

    law: str
    variable: str
    evidence: str
    givens: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.law


@dataclass(frozen=True, slots=True)
class Dense:
    """A law whose density evidence is judged by."""

    law: str
    evidence: str

    @property
    def text(self) -> str:
        return self.law


@dataclass(frozen=True, slots=True)
class Coded:
    """A law that encodes a variable of evidence, and one that decodes it."""

    encoder: str
    decoder: str
    variable: str
    evidence: str

    @property
    def text(self) -> str:
        return f"{self.encoder}, {self.decoder}"


Subject = Drawn | Dense | Coded


def drawn(facts: Facts) -> tuple[Drawn, ...]:
    """Each law that draws a variable of evidence, against every evidence that gives it; one that takes givens from
    evidence only where its label has none that needs nothing. Finite variables are left to likelihoods."""
    model = facts.model
    alone = [(query, query.head[0]) for query in samplable(facts)]
    known = {(query.text.partition("(")[0], base(v)) for query, v in alone}
    given: list[tuple[Query, str]] = []
    for label in _labels(model):
        for v in dict.fromkeys(v for law in model.evidence for v in law.outputs):
            if (label, v) in known:
                continue
            found = next((query for query in _given(facts, label, v)), None)
            given += [(found, v)] if found is not None else []
    return tuple(
        Drawn(query.text, v, law.key, query.givens)
        for query, v in (*alone, *given)
        for law in model.evidence
        if base(v) in law.outputs and model.space(v).kind != "finite"
    )


def _given(facts: Facts, label: str, variable: str) -> Iterator[Query]:
    """The laws of a label that draw a variable given others of one evidence: one of them, then all."""
    for law in facts.model.evidence:
        others = tuple(v for v in law.outputs if v != variable)
        for givens in (*((v,) for v in others), *([others] if len(others) > 1 else [])):
            query = _resolved(facts, law_text(label, (variable,), givens))
            if query is not None and _from(query, set(givens)) >= {variable} and not _takes_evidence(facts, query):
                yield query


def dense(program: Program) -> tuple[Dense, ...]:
    """Each density of evidence that can be evaluated: of all its variables together, else of each; and laws of some
    of them given others."""
    facts = program.derivation.facts
    found: list[Dense] = []
    for law in facts.model.evidence:
        for label in _labels(facts.model):
            whole = law_text(label, law.outputs, ())
            parts = [whole] if _evaluable(program, whole) else []
            if not parts and len(law.outputs) > 1:
                parts = [t for v in law.outputs if _evaluable(program, t := law_text(label, (v,), ()))]
            found += [Dense(text, law.key) for text in parts]
        for other in facts.model.laws.values():
            inside = other.givens and {*map(base, (*other.outputs, *other.givens))} <= set(law.outputs)
            if inside and not isinstance(other.body, Evidence) and _evaluable(program, other.text):
                found.append(Dense(other.text, law.key))
    return tuple(found)


def why_not_dense(program: Program) -> str:
    """Why a program has no density to judge evidence by."""
    model = program.model
    for law in model.evidence:
        for label in _labels(model):
            for text in (law_text(label, law.outputs, ()), *(law_text(label, (v,), ()) for v in law.outputs)):
                if _resolved(program.derivation.facts, text) is not None:
                    try:
                        program.proposals(text)
                    except DataError as error:
                        return str(error).split("\n", 1)[0]
    return "no law of the spec gives the density of what evidence gives"


def coded(facts: Facts) -> tuple[Coded, ...]:
    """Each pair of a law that encodes a variable of evidence and a law that decodes just that code."""
    model = facts.model
    found: list[Coded] = []
    for decoder in model.laws.values():
        if not (isinstance(decoder.body, Distribution | Dirac) and len(decoder.outputs) == 1 and decoder.givens):
            continue
        v, codes = decoder.outputs[0], decoder.givens
        for law in (law for law in model.evidence if v in law.outputs and v not in codes):
            for label in _labels(model):
                query = _resolved(facts, law_text(label, codes, (v,)))
                if query is not None and _from(query, {v}) >= set(codes) and not _takes_evidence(facts, query):
                    found.append(Coded(query.text, decoder.text, v, law.key))
    return tuple(found)


def _labels(model: Model) -> tuple[str, ...]:
    """The labels of laws that are no evidence."""
    return tuple(dict.fromkeys(law.label for law in model.laws.values() if not isinstance(law.body, Evidence)))


def _resolved(facts: Facts, text: str) -> Query | None:
    try:
        return resolve(facts, text)
    except DataError:
        return None


def _evaluable(program: Program, text: str) -> bool:
    if _resolved(program.derivation.facts, text) is None:
        return False
    try:
        program.proposals(text)
    except DataError:
        return False
    return True


def _from(query: Query, sources: set[str]) -> set[str]:
    """What depends on `sources` on every branch."""
    found: set[str] | None = None
    for _, path in query.branches:
        moved = set(sources)
        for f in path:
            if not moved.isdisjoint(f.givens):
                moved.update(f.outputs)
        found = moved if found is None else found & moved
    return found or set()


def _takes_evidence(facts: Facts, query: Query) -> bool:
    laws: list[Law] = [facts.model.laws[f.law] for _, path in query.branches for f in path]
    return any(isinstance(law.body, Evidence) for law in laws)
