"""Laws as functions: methods that return the distribution of a law given its givens."""

from __future__ import annotations

from collections.abc import Iterable

from jointkl.emission.lines import Attributes, Lines
from jointkl.emission.names import MODULE, Names, law_name
from jointkl.emission.text import ATOM, Text
from jointkl.objective import ir
from jointkl.semantics.model import Law


def wanted(function: ir.Function) -> str:
    """What a function's method is called, if it is free."""
    name = law_name(function.law)
    return {"": name, "old": f"old_{name}", "density": f"{name}_density"}[function.way]


def law_function(objective: ir.Objective, attributes: Attributes, function: ir.Function) -> list[str]:
    """The lines of one law: a method that returns its distribution."""
    law, names = function.law, Names.without(MODULE)
    arguments = [names.of(("argument", v), v) for v in law.givens]
    writer = Lines(objective, function.nodes, attributes, names)
    text = _free(writer, function, arguments) if function.every is not None else _own(writer, function)
    signature = ", ".join(["self", *(f"{a}: Tensor" for a in arguments)])
    way = {"": "", "old": " at the snapshot", "density": ", its density"}[function.way]
    return [
        f"    def {attributes.laws[function.key]}({signature}) -> dist.Distribution:",
        f'        """{law.text} = {source(law)}{way}"""',
        *(f"        {line}" for line in writer.lines),
        f"        return {text}",
    ]


def _own(writer: Lines, function: ir.Function) -> str:
    """A family, or a Dirac."""
    made = function.made
    if isinstance(made, ir.Density):
        writer.count(i for _, i in made.parameters)
        return writer.law(made, asked=True).text
    writer.count((made,))
    return f"dist.Delta({writer.text(made).text}, event_dim={len(writer.layout(made).shape)})"


def _free(writer: Lines, function: ir.Function, arguments: Iterable[str]) -> str:
    """A Free law at its optimum, a softmax (rule FREE), its givens batched in any number of dimensions."""
    law, every = function.law, function.every
    assert every is not None
    assert isinstance(function.made, int)
    variable = function.nodes[every]
    assert isinstance(variable, ir.Every)
    writer.count((function.made,))
    name = writer.names.of(("every", variable.variable), variable.variable)
    spaces = {n.variable: n.space for n in function.nodes if isinstance(n, ir.Argument)}
    ranks = [f"{a}.dim()" + (f" - {n}" if (n := len(spaces[g].shape)) else "")
             for a, g in zip(arguments, law.givens, strict=True)]  # fmt: skip
    rank = ranks[0] if len(ranks) == 1 else f"max({', '.join(ranks)})"
    behind = f"({rank})" if " - " in rank and len(ranks) == 1 else rank
    values = f"torch.arange({len(variable.space.values)}, device=self.anchor.device)"
    writer.lines.append(f"{name} = {values}.reshape(-1, *[1] * {behind})" if ranks else f"{name} = {values}")
    writer.written[every] = Text(name, ATOM)
    score = writer.text(function.made).text
    return f"dist.Categorical(logits={score}.movedim(0, -1).detach())"


def source(law: Law) -> str:
    """The right side as the spec writes it, on one line."""
    text = law.definition.text
    words = " ".join(" ".join(part.split("#", 1)[0].split()) for part in text.split("\n"))
    return words.replace("\\", "\\\\").replace('"', "'")
