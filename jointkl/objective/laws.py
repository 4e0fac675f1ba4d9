"""Laws as functions: the distribution of a law given its givens."""

from __future__ import annotations

from collections.abc import Iterator

from jointkl.derivation.derive import Derivation
from jointkl.derivation.expr import Expectation
from jointkl.derivation.facts import Facts
from jointkl.derivation.inline import products
from jointkl.objective import ir
from jointkl.objective.atoms import scores
from jointkl.objective.builder import LAW, Builder, Scope, Solutions
from jointkl.semantics.model import Dirac, Distribution, Factor, Free, Law, Model


def functions(derivation: Derivation, free: Solutions, old: frozenset[str]) -> tuple[ir.Function, ...]:
    """The laws that have a distribution of their own: families, Diracs, and Free laws at their optimum.

    A law at its snapshot has one where a joint draws it so and there are `old` copies of all its nets and params; a
    Dirac with `density=` a second one.
    """
    drawn_old = _drawn_old(derivation.facts)
    found: list[ir.Function] = []
    for law in derivation.model.laws.values():
        match law.body:
            case Distribution() | Dirac():
                found += _ways(derivation.model, law, old if law.key in drawn_old else None)
            case Free() if law.key in free and _alone(law, free[law.key]):
                found.append(_free(derivation.model, free, law))
            case _:
                pass
    return tuple(found)


def _ways(model: Model, law: Law, old: frozenset[str] | None) -> Iterator[ir.Function]:
    """A family or a Dirac: as it is, at the snapshot, by its density."""
    yield _own(model, law, "")
    if old is not None and _copied(found := _own(model, law, "old")) <= old:
        yield found
    if isinstance(law.body, Dirac) and law.body.density is not None:
        yield _own(model, law, "density")


def _own(model: Model, law: Law, way: str) -> ir.Function:
    builder = Builder(model)
    f = Factor(law.key, law.outputs, law.givens, old=way == "old")
    made = builder.density(law, f, Scope(LAW, {}, {})) if way == "density" else builder.law(f)
    return ir.Function(law, way, tuple(builder.nodes), made)


def _free(model: Model, free: Solutions, law: Law) -> ir.Function:
    """A Free law at its optimum, a softmax (rule FREE)."""
    entry, builder = free[law.key], Builder(model, free)
    (v,), f = law.outputs, _applied(law, entry)
    every = builder.every(v)
    given = {a: builder.add(ir.Argument(g, model.space(g))) for a, g in zip(f.arguments, law.givens, strict=True)}
    drawn = {f.outputs[0]: every, **{a: i for a, i in given.items() if isinstance(a, str)}}
    scope = Scope(entry, drawn, {u: f for f in entry.path for u in f.outputs})
    logits = scores(builder, entry, scope)
    return ir.Function(law, "", tuple(builder.nodes), logits, every)


def _alone(law: Law, entry: Expectation) -> bool:
    """Is a Free law determined by its own variable and givens? Else it is an average over others."""
    return {v for t in entry.terms for v in t.atom.variables} <= {*_applied(law, entry).variables}


def _applied(law: Law, entry: Expectation) -> Factor:
    """The Free law as its goal applies it."""
    return entry.solved or Factor(law.key, law.outputs, law.givens)


def _drawn_old(facts: Facts) -> frozenset[str]:
    """The laws that some joint draws at their snapshot; a mixture so drawn draws all of its own so."""
    opened = products(facts)
    pending = [f.law for paths in opened.values() for path in paths for f in path if f.old]
    found: set[str] = set()
    while pending:
        if (law := pending.pop()) not in found:
            found.add(law)
            pending += [f.law for path in opened.get(law, ()) for f in path]
    return frozenset(found)


def _copied(function: ir.Function) -> frozenset[str]:
    """The nets and params that a function at the snapshot reads."""
    nets = {n.net for n in function.nodes if isinstance(n, ir.Net)}
    return frozenset(nets | {n.name for n in function.nodes if isinstance(n, ir.Parameter)})
