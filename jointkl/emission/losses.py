"""Losses as methods: straight lines of torch, each term with the formula that it computes."""

from __future__ import annotations

from jointkl.emission import densities
from jointkl.emission.lines import Attributes, Lines
from jointkl.emission.names import MODULE, Names
from jointkl.emission.text import ATOM, SUM, Text, number
from jointkl.objective import ir
from jointkl.semantics.model import Model

WIDTH = 100
"""A term's formula stands behind it where the line stays shorter than this, else above it."""


def loss(model: Model, attributes: Attributes, found: ir.Loss, name: str) -> list[str]:
    """The lines of one player's loss, a method of the emitted class."""
    writer = Lines(model, found.nodes, attributes, Names.without(MODULE, ("batch", "n")))
    writer.count(t.node for t in found.terms)
    body = _frozen(writer, found)
    before = len(writer.lines)
    terms = [_term(writer, t) for t in found.terms]
    body += writer.lines[before:]
    body += _returned(found, terms)
    if any(_uses_n(line) for line in body):
        body = ["n = rows(batch)", *body]
    return [
        f"    def {name}(self, batch: dict[str, Tensor]) -> Tensor:",
        f'        """{found.formula}"""',
        *(f"        {line}" for line in body),
    ]


def _uses_n(line: str) -> bool:
    return any(mark in line for mark in ("(n,", "(n)", "/ n", "[n:", "[:n", "* n]", "* n:", "(n:", "or n)"))


def _frozen(writer: Lines, found: ir.Loss) -> list[str]:
    """What needs no gradient first, under no_grad where it would otherwise build a graph."""
    plain: list[str] = []
    quiet: list[str] = []
    wanted = {i for i in found.frozen if i in writer.uses}
    boundary = [i for i in sorted(wanted) if _feeds_moving(writer, found, i) and _builds_graph(writer, i)]
    for i in sorted(wanted):
        if isinstance(found.nodes[i], ir.Given | ir.Root | ir.Noise):
            mark = len(writer.lines)
            writer.text(i)
            plain += writer.lines[mark:]
    for i in boundary:
        mark = len(writer.lines)
        writer.text(i)
        quiet += writer.lines[mark:]
        if writer.written[i].text.count("(") and not isinstance(found.nodes[i], ir.Pick | ir.Part):
            name = writer.names.of(i, "frozen")
            quiet.append(f"{name} = {writer.written[i].text}")
            writer.written[i] = Text(name, ATOM)
    return [*plain, *(["with torch.no_grad():", *(f"    {q}" for q in quiet)] if quiet else [])]


def _feeds_moving(writer: Lines, found: ir.Loss, i: ir.Id) -> bool:
    """Is a frozen node used by one that moves, or by a term?"""
    users = [j for j in writer.uses if i in ir.operands(found.nodes[j])]
    return any(j not in found.frozen for j in users) or any(t.node == i for t in found.terms)


def _builds_graph(writer: Lines, i: ir.Id) -> bool:
    pending = [i]
    while pending:
        node = writer.nodes[pending.pop()]
        if isinstance(node, ir.Net | ir.Parameter):
            return True
        pending += ir.operands(node)
    return False


def _term(writer: Lines, t: ir.Term) -> tuple[str, Text, str]:
    """A term as sign, text and comment."""
    found = _formula(writer, t.node)
    batched = writer.batched(t.node)
    made = found.mean(batched)
    weight = t.coefficient * found.sign
    size = abs(weight)
    text = made if size == 1 else Text(f"{number(float(size))} * {made.factor}", 1)
    if t.over_n:
        text = Text(f"{text.factor} / (self.data_size or n)", 1)
    return ("-" if weight < 0 else "+", text, t.text)


def _formula(writer: Lines, i: ir.Id) -> densities.Formula:
    node = writer.nodes[i]
    w = densities.Writer(writer.nodes, writer.text, writer.batched, writer.copied)
    match node:
        case ir.LogProb():
            return densities.log_prob(node, w)
        case ir.KL():
            return densities.kl(node, w)
        case ir.Distance():
            return densities.distance(node, w)
        case _:
            raise AssertionError(f"no term is a {type(node).__name__}")


def _returned(found: ir.Loss, terms: list[tuple[str, Text, str]]) -> list[str]:
    if len(terms) == 1 and terms[0][0] == "+":
        return [f"return {terms[0][1].text}"]
    rows: list[str] = []
    for i, (sign, text, formula) in enumerate(terms):
        shown = text.text if sign == "+" or text.rank > SUM else f"({text.text})"
        lead = f"{sign} " if i else ("-" if sign == "-" else "")
        row = f"    {lead}{shown}  # {formula}"
        rows += [row] if len(row) <= WIDTH else [f"    # {formula}", f"    {lead}{shown}"]
    return ["return (", *rows, ")"]
