"""Losses as methods: straight lines of torch, each term with the formula that it computes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from jointkl.emission import formulas
from jointkl.emission.lines import Attributes, Lines
from jointkl.emission.names import MODULE, Names
from jointkl.emission.text import ATOM, PRODUCT, SUM, Text, docstring, number, quoted
from jointkl.objective import ir
from jointkl.objective.in_turn import turns
from jointkl.objective.walk import needed, operands

WIDTH = 100
"""A term's formula stands behind it where the line stays shorter than this, else above it."""


def solution(objective: ir.Objective, attributes: Attributes, found: ir.Solution, name: str) -> list[str]:
    """The lines of a Free law's closed step: its probabilities, (N, K)."""
    writer = Lines(objective, found.nodes, attributes, Names.without(MODULE, ("batch", "n")))
    writer.count((found.node,))
    text = writer.text(found.node).text
    body = [*writer.lines, f"return {text}.movedim(0, -1)"]
    body = counted(found.nodes, body)
    return [
        "    @torch.no_grad()",
        f"    def {name}(self, batch: dict[str, Tensor]) -> Tensor:",
        *(f"        {line}" for line in docstring(found.formula)),
        *(f"        {line}" for line in body),
    ]


def loss(objective: ir.Objective, attributes: Attributes, found: ir.Loss, name: str) -> list[str]:
    """The lines of one player's loss, a method of the emitted class."""
    writer = Lines(objective, found.nodes, attributes, Names.without(MODULE, ("batch", "n")))
    writer.count(t.node for t in found.terms)
    body = _frozen(writer, found)
    before = len(writer.lines)
    terms = [_term(writer, t) for t in found.terms]
    body += writer.lines[before:]
    body += _returned(found, terms)
    body = counted(found.nodes, body)
    return [
        f"    def {name}(self, batch: dict[str, Tensor]) -> Tensor:",
        *(f"        {line}" for line in docstring(found.formula)),
        *(f"        {line}" for line in body),
    ]


def together(objective: ir.Objective, attributes: Attributes, found: ir.Loss, name: str) -> list[str]:
    """The lines of all losses as one: a dictionary by player, whose sum has each player's own gradient."""
    writer = Lines(objective, found.nodes, attributes, Names.without(MODULE, ("batch", "n")))
    writer.count([*(t.node for t in found.terms), *(r.logit for r in found.rescales)])
    body = _frozen(writer, found)
    before = len(writer.lines)
    terms = [(t.player, _term(writer, t)) for t in found.terms]
    calls = [f"rescale({writer.text(r.node).text}, {_scale(writer, r)})" for r in found.rescales]
    body += [*writer.lines[before:], *calls, "return {"]
    for player in dict.fromkeys(p for p, _ in terms):
        own = [term for p, term in terms if p == player]
        rows = [row for k, term in enumerate(own) for row in _row(*term, k == 0)]
        body += [f"    {quoted(player)}: (", *(f"    {row}" for row in rows), "    ),"]
    body.append("}")
    body = counted(found.nodes, body)
    return [
        f"    def {name}(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:",
        '        """Each player has in the gradient of the sum that of its own loss, all at the same parameters."""',
        *(f"        {line}" for line in body),
    ]


def in_turn(objective: ir.Objective, attributes: Attributes, found: ir.Loss, name: str) -> list[str]:
    """The lines of all losses as one generator, which yields each when it is its player's turn."""
    writer = Lines(objective, found.nodes, attributes, Names.without(MODULE, ("batch", "n")))
    writer.count(t.node for t in found.terms)
    body: list[str] = []
    done: set[ir.Id] = set()
    for player in turns(found):
        new = set(needed(found, player)) - done
        done |= new
        own = replace(found, terms=tuple(t for t in found.terms if t.player == player), frozen=found.frozen & new)
        before = len(writer.lines)
        for i in sorted(j for k in own.frozen for j in operands(found.nodes[k]) if j not in found.frozen):
            writer.text(i)  # what has a graph, and is not to be computed without
        body += ["", f"# {player}", *writer.lines[before:], *_frozen(writer, own)]
        before = len(writer.lines)
        terms = [_term(writer, t) for t in own.terms]
        body += writer.lines[before:]
        first, *others = _returned(own, terms)
        body += [first.replace("return", "yield", 1), *others]
    body = counted(found.nodes, body)
    body = body if body[0] else body[1:]
    told = f"The losses of {', '.join(turns(found))}: each is to be stepped on before the next is asked for."
    return [
        f"    def {name}(self, batch: dict[str, Tensor]) -> Iterator[Tensor]:",
        *(f"        {line}" for line in docstring(told)),
        *(f"        {line}".rstrip() for line in body),
    ]


def draws(objective: ir.Objective, found: ir.Loss) -> list[str]:
    """The lines of a method that draws, for n data, what a batch may give to a loss in place of its own draws: by key,
    in the order in which the loss draws."""
    writer = Lines(objective, found.nodes, Attributes({}, {}, {}, {}, {}), Names.without(MODULE, ("batch", "n")))
    wanted = [(i, node) for i in needed(found) if isinstance(node := found.nodes[i], ir.Draw) and node.given]
    writer.count(i for i, _ in wanted)
    given = [f"{quoted(node.key)}: {writer.text(i).text}" for i, node in wanted]
    body = ["batch: dict[str, Tensor] = {}", *writer.lines, f"return {{{', '.join(given)}}}"]
    return ["def draws(self, n: int) -> dict[str, Tensor]:", *(f"    {line}" for line in body)]


def apart(objective: ir.Objective, attributes: Attributes, found: ir.Loss, name: str) -> list[str]:
    """The lines of a loss by its terms: each one's worth by its place, and the draws that a batch could have given, by
    key. The lines are those of the loss itself, so that at the same random numbers the same is computed."""
    writer = Lines(objective, found.nodes, attributes, Names.without(MODULE, ("batch", "n")))
    writer.count([*(t.node for t in found.terms), *(r.logit for r in found.rescales)])
    body = _frozen(writer, found)
    before = len(writer.lines)
    terms = [_term(writer, t) for t in found.terms]
    calls = [f"rescale({writer.text(r.node).text}, {_scale(writer, r)})" for r in found.rescales]
    body += [*writer.lines[before:], *calls, "return {"]
    loose = [i for i, t in enumerate(found.terms) if t.hinge is None]
    for i in (*loose, *(j for index, _, _ in found.hinges for j, t in enumerate(found.terms) if t.hinge == index)):
        sign, text, _ = terms[i]
        body.append(f"    {i}: {text.text if sign == '+' else f'-{text.factor}'},")
    drawn = [(node.key, i) for i, node in enumerate(found.nodes) if isinstance(node, ir.Draw) and node.given]
    body += ["}, {", *(f"    {quoted(key)}: {writer.written[i].text}," for key, i in drawn if i in writer.written), "}"]
    body = counted(found.nodes, body)
    return [f"def {name}(self, batch: dict[str, Tensor]):", *(f"    {line}" for line in body)]


def _scale(writer: Lines, r: ir.Rescale) -> str:
    """factor * exp(power l), or factor * (1 + exp(power l)): sigma(power l), or 1, over the slope that a lasting
    log sigma(power l) has."""
    sign, size = "-" if r.factor < 0 else "", number(float(abs(r.factor)))
    if not r.power:
        return f"{sign}{size}"
    up, down = f"{writer.text(r.logit).atom}", f"-{writer.text(r.logit).atom}"
    if r.power < 0:
        up, down = down, up
    wanted = "1" if r.plus else f"{f'({up})' if up.startswith('-') else up}.detach().sigmoid()"
    scale = f"{wanted} / steep({down})"
    return f"{sign}{scale}" if abs(r.factor) == 1 else f"{sign}{size} * {scale}"


def counted(nodes: Sequence[ir.Node], body: list[str]) -> list[str]:
    """The lines, behind one for the batch's size where they speak of it. A global's value in a batch has no rows."""
    if not any(map(_uses_n, body)):
        return body
    draws = [node for node in nodes if isinstance(node, ir.Draw) and ir.DATA not in node.dims]
    keys = sorted({key for node in draws for key in (node.key, node.variable)})
    return [f"n = rows_beside(batch, {', '.join(map(quoted, keys))})" if keys else "n = rows(batch)", *body]


def _uses_n(line: str) -> bool:
    """Does a line of code speak of the batch's size?"""
    return re.search(r"(?<![\w.])n(?![\w=])", re.sub(r'"[^"]*"|#.*', "", line)) is not None


def _frozen(writer: Lines, found: ir.Loss) -> list[str]:
    """What needs no gradient first, under no_grad where it would otherwise build a graph."""
    plain: list[str] = []
    quiet: list[str] = []
    wanted = sorted(i for i in found.frozen if i in writer.uses)
    used, building = _used_in_moving(writer, found), _builds_graph(writer)
    boundary = [i for i in wanted if i in used and i in building and not writer.terms[i]]
    for i in wanted:
        node = found.nodes[i]
        if isinstance(node, ir.Given) or (isinstance(node, ir.Draw) and node.given):
            mark = len(writer.lines)
            writer.text(i)
            plain += writer.lines[mark:]
    for i in boundary:
        mark = len(writer.lines)
        writer.text(i)
        quiet += writer.lines[mark:]
        if writer.written[i].text.count("(") and not isinstance(found.nodes[i], ir.Head | ir.Part):
            name = writer.names.of(i, "frozen")
            quiet.append(f"{name} = {writer.written[i].text}")
            writer.written[i] = Text(name, ATOM)
    return [*plain, *(["with torch.no_grad():", *(f"    {q}" for q in quiet)] if quiet else [])]


def _used_in_moving(writer: Lines, found: ir.Loss) -> set[ir.Id]:
    """The nodes that one which moves uses, or a term: what is a term itself is written where it stands."""
    users = (j for j in writer.uses if j not in found.frozen or writer.terms[j])
    return {t.node for t in found.terms} | {i for j in users for i in operands(found.nodes[j])}


def _builds_graph(writer: Lines) -> set[ir.Id]:
    """The nodes that a network or a parameter feeds; operands stand before what uses them."""
    found: set[ir.Id] = set()
    for i, node in enumerate(writer.nodes):
        if isinstance(node, ir.Net | ir.Parameter) or not found.isdisjoint(operands(node)):
            found.add(i)
    return found


def _term(writer: Lines, t: ir.Term) -> tuple[str, Text, str]:
    """A term as sign, text and comment."""
    found = formulas.formula(writer, t.node)
    made = found.mean(writer.layout(t.node).rows)
    weight = t.coefficient * found.sign
    size = abs(weight)
    text = made if size == 1 else Text(f"{number(float(size))} * {made.factor}", PRODUCT)
    if t.over_n:
        text = Text(formulas.over_n(writer, text, t.sources), PRODUCT)
    return ("-" if weight < 0 else "+", text, t.text)


MEAN = " / n"
"""How a sum over the batch becomes its mean: once, where every term of a loss is one."""


def _returned(found: ir.Loss, terms: list[tuple[str, Text, str]]) -> list[str]:
    """The weighted sum of the terms; those of a hinge under one relu."""
    if len(terms) == 1 and terms[0][0] == "+" and not found.hinges:
        return [f"return {terms[0][1].text}"]
    rows: list[str] = []
    if all(text.rank == PRODUCT and text.text.endswith(MEAN) for _, text, _ in terms) and not found.hinges:
        for sign, text, formula in terms:
            rows += _row(sign, Text(text.text.removesuffix(MEAN), PRODUCT), formula, not rows)
        return ["return (", *rows, f"){MEAN}"]
    for (sign, text, formula), term in zip(terms, found.terms, strict=True):
        if term.hinge is None:
            rows += _row(sign, text, formula, not rows)
    for index, margin, weight in found.hinges:
        inside = [row for row, term in zip(terms, found.terms, strict=True) if term.hinge == index]
        rows += _hinge(margin, weight, inside, not rows)
    return ["return (", *rows, ")"]


def _row(sign: str, text: Text, formula: str, first: bool) -> list[str]:
    shown = text.first if sign == "+" or text.rank > SUM else f"({text.text})"
    lead = ("-" if sign == "-" else "") if first else f"{sign} "
    row = f"    {lead}{shown}  # {formula}"
    return [row] if len(row) <= WIDTH else [f"    # {formula}", f"    {lead}{shown}"]


def _hinge(margin: Fraction, weight: Fraction, inside: list[tuple[str, Text, str]], first: bool) -> list[str]:
    """weight * max(0, margin + terms) on the batch mean."""
    size = abs(weight)
    sign = ("-" if weight < 0 else "") if first else ("- " if weight < 0 else "+ ")
    lead = sign + (f"{number(float(size))} * " if size != 1 else "")
    rows = [f"    # max(0, {number(float(margin))} + ..)", f"    {lead}hinge("]
    rows.append(f"        {number(float(margin))}")
    for part in inside:
        rows += [f"    {row}" for row in _row(*part, False)]
    return [*rows, "    )"]
