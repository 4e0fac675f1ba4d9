"""Laws as functions: the distribution of a law given its givens."""

from __future__ import annotations

from jointkl.emission.lines import Attributes, Lines
from jointkl.emission.names import MODULE, Names
from jointkl.objective.ir import Density
from jointkl.objective.lower import Builder
from jointkl.semantics.model import Dirac, Distribution, Law, Model


def functions(model: Model) -> tuple[Law, ...]:
    """The laws that have a distribution of their own: families and Diracs."""
    return tuple(law for law in model.laws.values() if isinstance(law.body, Distribution | Dirac))


def law_function(model: Model, attributes: Attributes, law: Law) -> list[str]:
    """The lines of one law: a method that returns its distribution."""
    builder = Builder(model)
    made = builder.law(law)
    names = Names.without(MODULE)
    writer = Lines(model, tuple(builder.nodes), attributes, names)
    arguments = [names.of(("argument", v), v) for v in law.givens]
    if isinstance(made, Density):
        writer.count(i for _, i in made.parameters)
        text = writer.law(made).text
    else:
        writer.count((made,))
        event = len(model.space(law.outputs[0]).shape)
        text = f"dist.Delta({writer.text(made).text}, event_dim={event})"
    signature = ", ".join(["self", *(f"{a}: Tensor" for a in arguments)])
    return [
        f"    def {attributes.laws[law.key]}({signature}) -> dist.Distribution:",
        f'        """{law.text} = {source(law)}"""',
        *(f"        {line}" for line in writer.lines),
        f"        return {text}",
    ]


def source(law: Law) -> str:
    """The right side as the spec writes it, on one line."""
    text = law.definition.text
    words = " ".join(" ".join(part.split("#", 1)[0].split()) for part in text.split("\n"))
    return words.replace("\\", "\\\\").replace('"', "'")
