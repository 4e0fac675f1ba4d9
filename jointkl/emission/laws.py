"""Laws as functions: methods that return the distribution of a law given its givens."""

from __future__ import annotations

from collections.abc import Sequence

from jointkl.emission.distributions import distribution
from jointkl.emission.forms import writer
from jointkl.emission.names import law_name
from jointkl.emission.statements import Do, Function
from jointkl.emission.tree import Binary, Expression, Literal, Name, Starred, call, listed
from jointkl.emission.values import every
from jointkl.emission.writer import Attributes, Writer
from jointkl.objective import ir
from jointkl.semantics.model import Law


def wanted(function: ir.Function) -> str:
    """What a function's method is called, if it is free."""
    name = law_name(function.law)
    return {"": name, "old": f"old_{name}", "density": f"{name}_density"}[function.way]


def law_function(objective: ir.Objective, attributes: Attributes, function: ir.Function) -> Function:
    """A law as a method that returns its distribution."""
    law = function.law
    w = writer(objective, function.nodes, attributes)
    arguments = [w.names.of(("argument", v), v) for v in law.givens]
    made = _own(w, function) if function.every is None else _free(w, function, function.every, arguments)
    signature = ", ".join(["self", *(f"{a}: Tensor" for a in arguments)])
    way = {"": "", "old": " at the snapshot", "density": ", its density"}[function.way]
    return Function(
        f"def {attributes.laws[function.key]}({signature}) -> dist.Distribution:",
        (f'"""{law.text} = {source(law)}{way}"""',),
        (*w.statements, Do(made, "return")),
    )


def _own(w: Writer, function: ir.Function) -> Expression:
    """A family, or a Dirac."""
    made = function.made
    if isinstance(made, ir.Density):
        w.count(i for _, i in made.parameters)
        return distribution(made, w, asked=True)
    w.count((made,))
    return call("dist.Delta", w.text(made), event_dim=len(w.place(made).shape))


def _free(w: Writer, function: ir.Function, i: ir.Id, arguments: Sequence[str]) -> Expression:
    """A Free law at its optimum, a softmax (rule FREE), its givens batched in any number of dimensions."""
    variable = function.nodes[i]
    assert isinstance(variable, ir.Every)
    assert isinstance(function.made, int)
    w.count((function.made,))
    name = w.names.of(("every", variable.variable), variable.variable)
    spaces = {n.variable: n.space for n in function.nodes if isinstance(n, ir.Argument)}
    values = every(variable)
    if arguments:
        ranks = [_rank(a, len(spaces[g].shape)) for a, g in zip(arguments, function.law.givens, strict=True)]
        rank = ranks[0] if len(ranks) == 1 else call("max", *ranks)
        ones = Binary("*", listed(1), rank)
        values = values.do("reshape", -1, Starred(ones))
    w.written[i] = w.let(name, values)
    logits = w.text(function.made).do("movedim", 0, -1).do("detach")
    return call("dist.Categorical", logits=logits)


def _rank(argument: str, event: int) -> Expression:
    """How many dimensions stand in front of an argument's event."""
    rank = Name(argument).do("dim")
    return rank - Literal(str(event)) if event else rank


def source(law: Law) -> str:
    """The right side as the spec writes it, on one line."""
    text = law.definition.text
    words = " ".join(" ".join(part.split("#", 1)[0].split()) for part in text.split("\n"))
    return words.replace("\\", "\\\\").replace('"', "'")
