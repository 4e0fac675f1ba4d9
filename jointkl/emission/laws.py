"""Laws as functions: the distribution of a law given its givens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from jointkl.derivation.derive import Derivation
from jointkl.derivation.expr import Entry
from jointkl.derivation.facts import Facts
from jointkl.derivation.inline import products
from jointkl.emission import formulas
from jointkl.emission.lines import Attributes, Lines
from jointkl.emission.names import MODULE, Names, key_of, law_name
from jointkl.emission.text import ATOM, Text
from jointkl.objective import ir
from jointkl.objective.builder import LAW, Builder, Scope
from jointkl.objective.lower import solutions
from jointkl.semantics.model import Dirac, Distribution, Factor, Free, Law, Model


@dataclass(frozen=True, slots=True)
class Function:
    """A law as a method; `way` is how it is read: as it is, at the snapshot, or by the density of a Dirac.

    `entry` is what determines a Free law, over its own variable and its givens alone.
    """

    law: Law
    way: str = ""
    entry: Entry | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        return key_of(self.law.key, self.way)

    @property
    def name(self) -> str:
        name = law_name(self.law)
        return {"": name, "old": f"old_{name}", "density": f"{name}_density"}[self.way]


def functions(derivation: Derivation, objective: ir.Objective) -> tuple[Function, ...]:
    """The laws that have a distribution of their own: families, Diracs, and Free laws at their optimum.

    A law at its snapshot has one where a joint draws it so and the objective keeps the copies; a Dirac with `density=`
    a second one.
    """
    model = derivation.model
    free = solutions(derivation)
    drawn_old = _old(derivation.facts)
    found: list[Function] = []
    for law in model.laws.values():
        match law.body:
            case Distribution() | Dirac():
                found.append(Function(law))
                if law.key in drawn_old and _kept(model, law, objective):
                    found.append(Function(law, "old"))
                if isinstance(law.body, Dirac) and law.body.density is not None:
                    found.append(Function(law, "density"))
            case Free() if law.key in free and _alone(law, free[law.key]):
                found.append(Function(law, entry=free[law.key]))
            case _:
                pass
    return tuple(found)


def _alone(law: Law, entry: Entry) -> bool:
    """Is a Free law determined by its own variable and givens? Else it is an average over others."""
    return {v for t in entry.terms for v in t.atom.variables} <= {*_applied(law, entry).variables}


def _applied(law: Law, entry: Entry) -> Factor:
    """The Free law as its goal applies it."""
    return entry.free or Factor(law.key, law.outputs, law.givens)


def _old(facts: Facts) -> frozenset[str]:
    """The laws that some joint draws at their snapshot; a mixture so drawn draws all of its own so."""
    opened = products(facts)
    pending = [f.law for paths in opened.values() for path in paths for f in path if f.old]
    found: set[str] = set()
    while pending:
        if (law := pending.pop()) not in found:
            found.add(law)
            pending += [f.law for path in opened.get(law, ()) for f in path]
    return frozenset(found)


def _kept(model: Model, law: Law, objective: ir.Objective) -> bool:
    """Are there old copies of all that the law needs?"""
    builder = Builder(model)
    builder.law(Factor(law.key, law.outputs, law.givens, old=True))
    return all(
        (not isinstance(n, ir.Net) or n.net in objective.old_nets)
        and (not isinstance(n, ir.Parameter) or n.name in objective.old_params)
        for n in builder.nodes
    )


def law_function(derivation: Derivation, attributes: Attributes, function: Function) -> list[str]:
    """The lines of one law: a method that returns its distribution."""
    law, model = function.law, derivation.model
    names = Names.without(MODULE)
    arguments = [names.of(("argument", v), v) for v in law.givens]
    lines, text = (
        _free(derivation, attributes, function.entry, law, names, arguments)
        if function.entry is not None
        else _own(model, attributes, function, names)
    )
    signature = ", ".join(["self", *(f"{a}: Tensor" for a in arguments)])
    way = {"": "", "old": " at the snapshot", "density": ", its density"}[function.way]
    return [
        f"    def {attributes.laws[function.key]}({signature}) -> dist.Distribution:",
        f'        """{law.text} = {source(law)}{way}"""',
        *(f"        {line}" for line in lines),
        f"        return {text}",
    ]


def _own(model: Model, attributes: Attributes, function: Function, names: Names) -> tuple[list[str], str]:
    """A family, or a Dirac."""
    law = function.law
    builder = Builder(model)
    f = Factor(law.key, law.outputs, law.givens, old=function.way == "old")
    made = builder.density(law, f, Scope(LAW, {}, {})) if function.way == "density" else builder.law(f)
    writer = Lines(model, tuple(builder.nodes), attributes, names)
    if isinstance(made, ir.Density):
        writer.count(i for _, i in made.parameters)
        return writer.lines, writer.law(made, asked=True).text
    writer.count((made,))
    event = len(model.space(law.outputs[0]).shape)
    return writer.lines, f"dist.Delta({writer.text(made).text}, event_dim={event})"


def _free(
    derivation: Derivation, attributes: Attributes, entry: Entry, law: Law, names: Names, arguments: Iterable[str]
) -> tuple[list[str], str]:
    """A Free law at its optimum, a softmax (rule FREE), its givens batched in any number of dimensions."""
    model = derivation.model
    builder = Builder(model, solutions(derivation))
    (v,), f = law.outputs, _applied(law, entry)
    every = builder.add(ir.Enumerate(v, model.space(v)))
    given = {a: builder.add(ir.Argument(g)) for a, g in zip(f.arguments, law.givens, strict=True)}
    drawn = {f.outputs[0]: every, **{a: i for a, i in given.items() if isinstance(a, str)}}
    scope = Scope(entry, drawn, {u: f for f in entry.path for u in f.outputs})
    scores = tuple((t.coefficient, builder.atom(t, scope)) for t in entry.terms)
    writer = Lines(model, tuple(builder.nodes), attributes, names)
    writer.count(i for _, i in scores)
    name = names.of(("every", v), v)
    ranks = [f"{a}.dim()" + (f" - {n}" if (n := len(model.space(g).shape)) else "")
             for a, g in zip(arguments, law.givens, strict=True)]  # fmt: skip
    rank = ranks[0] if len(ranks) == 1 else f"max({', '.join(ranks)})"
    behind = f"({rank})" if " - " in rank and len(ranks) == 1 else rank
    values = f"torch.arange({len(model.space(v).values)}, device=self.anchor.device)"
    writer.lines.append(f"{name} = {values}.reshape(-1, *[1] * {behind})" if ranks else f"{name} = {values}")
    writer.written[every] = Text(name, ATOM)
    score = formulas.assigned(writer, "score", scores, -1)
    return writer.lines, f"dist.Categorical(logits={score}.movedim(0, -1).detach())"


def source(law: Law) -> str:
    """The right side as the spec writes it, on one line."""
    text = law.definition.text
    words = " ".join(" ".join(part.split("#", 1)[0].split()) for part in text.split("\n"))
    return words.replace("\\", "\\\\").replace('"', "'")
