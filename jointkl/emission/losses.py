"""Losses as methods: straight lines of torch, each term with the formula that it computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeGuard

from jointkl.emission.forms import writer
from jointkl.emission.statements import Blank, Comment, Do, Function, Let, Put, Row, Rows, Statement, With, names
from jointkl.emission.terms import over_n, scaled
from jointkl.emission.text import docstring
from jointkl.emission.tree import (
    SUM,
    Bracketed,
    Expression,
    Literal,
    Name,
    Negative,
    Scaled,
    call,
    minus,
    number,
    quoted,
    string,
)
from jointkl.emission.writer import BATCH, Attributes, N, Writer, has_call
from jointkl.objective import ir
from jointkl.objective.in_turn import turns
from jointkl.objective.walk import needed, operands

WIDTH = 100
"""A term's formula stands behind it where the line stays shorter than this, else above it."""

RESERVED = ("batch", "n")
NO_GRAD = call("torch.no_grad")


def solution(objective: ir.Objective, attributes: Attributes, found: ir.Solution, name: str) -> Function:
    """A Free law's closed step: its probabilities, (N, K)."""
    w = writer(objective, found.nodes, attributes, RESERVED)
    w.count((found.node,))
    solved = w.text(found.node).do("movedim", 0, -1)
    body = counted(found.nodes, [*w.statements, Do(solved, "return")])
    head = f"def {name}(self, batch: dict[str, Tensor]) -> Tensor:"
    return Function(head, docstring(*found.formula), body, "@torch.no_grad()")


def loss(objective: ir.Objective, attributes: Attributes, found: ir.Loss, name: str) -> Function:
    """One player's loss."""
    w = writer(objective, found.nodes, attributes, RESERVED)
    w.count(t.node for t in found.terms)
    body = _body(w, found, "return")
    return Function(
        f"def {name}(self, batch: dict[str, Tensor]) -> Tensor:", docstring(*found.formula), counted(found.nodes, body)
    )


def together(objective: ir.Objective, attributes: Attributes, found: ir.Loss, name: str) -> Function:
    """All losses as one: a dictionary by player, whose sum has each player's own gradient."""
    w = writer(objective, found.nodes, attributes, RESERVED)
    body, terms = _rescaled(w, found)
    rows: list[Rows] = []
    for player in dict.fromkeys(t.player for t in found.terms):
        own = [term for t, term in zip(found.terms, terms, strict=True) if t.player == player]
        inner = tuple(row for k, term in enumerate(own) for row in _row(term, k == 0))
        rows.append(Rows(f"{quoted(player)}: (", inner, "),"))
    told = "Each player has in the gradient of the sum that of its own loss, all at the same parameters."
    return Function(
        f"def {name}(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:",
        (f'"""{told}"""',),
        counted(found.nodes, [*body, Rows("return {", tuple(rows), "}")]),
    )


def in_turn(objective: ir.Objective, attributes: Attributes, found: ir.Loss, name: str) -> Function:
    """All losses as one generator, which yields each when it is its player's turn."""
    w = writer(objective, found.nodes, attributes, RESERVED)
    w.count(t.node for t in found.terms)
    body: list[Statement] = []
    done: set[ir.Id] = set()
    for player in turns(found):
        new = set(needed(found, player)) - done
        done |= new
        own = replace(found, terms=tuple(t for t in found.terms if t.player == player), frozen=found.frozen & new)
        for i in sorted(j for k in own.frozen for j in operands(found.nodes[k]) if j not in found.frozen):
            w.text(i)  # what has a graph, and is not to be computed without
        body += [Blank(), Comment(player), *_taken(w), *_body(w, own, "yield")]
    rows = counted(found.nodes, body)
    told = f"The losses of {', '.join(turns(found))}: each is to be stepped on before the next is asked for."
    return Function(
        f"def {name}(self, batch: dict[str, Tensor]) -> Iterator[Tensor]:",
        docstring(told),
        rows if not isinstance(rows[0], Blank) else rows[1:],
        uses=("Iterator",),
    )


def draws(objective: ir.Objective, found: ir.Loss) -> Function:
    """A function that draws, for n data, what a batch may give to a loss in place of its own draws: by key, in the
    order in which the loss draws."""
    w = writer(objective, found.nodes, Attributes(), RESERVED)
    wanted = [(i, node) for i in needed(found) if _is_given(node := found.nodes[i])]
    w.count(i for i, _ in wanted)
    given = tuple(Row(f"{quoted(node.key)}: ", w.text(i), ",") for i, node in wanted)
    start = Put(Name("batch: dict[str, Tensor]"), Literal("{}"))
    return Function(
        "def draws(self, n: int) -> dict[str, Tensor]:", (), (start, *w.statements, Rows("return {", given, "}"))
    )


def apart(objective: ir.Objective, attributes: Attributes, found: ir.Loss, name: str) -> Function:
    """A loss by its terms: each one's worth by its place, and the draws that a batch could have given, by key. What is
    computed is what the loss itself computes, so that at the same random numbers it is the same."""
    w = writer(objective, found.nodes, attributes, (*RESERVED, "worth", "drawn"))
    body, terms = _rescaled(w, found)
    loose = [i for i, t in enumerate(found.terms) if t.hinge is None]
    order = (*loose, *(j for index, _, _ in found.hinges for j, t in enumerate(found.terms) if t.hinge == index))
    worth = tuple(Row(f"{i}: ", -terms[i].value if terms[i].negative else terms[i].value, ",") for i in order)
    drawn = ((i, node) for i, node in enumerate(found.nodes) if _is_given(node) and i in w.written)
    given = tuple(Row(f"{quoted(node.key)}: ", w.written[i], ",") for i, node in drawn)
    body += [Rows("worth = {", worth, "}"), Rows("drawn = {", given, "}"), Do(Literal("worth, drawn"), "return")]
    return Function(f"def {name}(self, batch: dict[str, Tensor]):", (), counted(found.nodes, body))


def _is_given(node: ir.Node) -> TypeGuard[ir.Draw]:
    return isinstance(node, ir.Draw) and node.given


def _taken(w: Writer) -> list[Statement]:
    """The statements written so far, which are no longer the writer's."""
    taken, w.statements = w.statements, []
    return taken


def _body(w: Writer, found: ir.Loss, word: str) -> list[Statement]:
    """The statements of a loss, and the sum of its terms."""
    before = _frozen(w, found)
    terms = [_term(w, t) for t in found.terms]
    return [*before, *_taken(w), _returned(found, terms, word)]


def _rescaled(w: Writer, found: ir.Loss) -> tuple[list[Statement], list[Term]]:
    """The statements and terms of a loss of all players, its gradients rescaled."""
    w.count([*(t.node for t in found.terms), *(r.logit for r in found.rescales)])
    before = _frozen(w, found)
    terms = [_term(w, t) for t in found.terms]
    calls = [Do(call("rescale", w.text(r.node), _scale(w, r))) for r in found.rescales]
    return [*before, *_taken(w), *calls], terms


def _scale(w: Writer, r: ir.Rescale) -> Expression:
    """factor * exp(power l), or factor * (1 + exp(power l)): sigma(power l), or 1, over the slope that a lasting
    log sigma(power l) has."""
    size = number(float(abs(r.factor)))
    if not r.power:
        return Negative(size) if r.factor < 0 else size
    logit = w.text(r.logit)
    up, down = logit if r.power > 0 else minus(logit), minus(logit) if r.power > 0 else logit
    scale = (Literal("1") if r.plus else up.do("detach").do("sigmoid")) / call("steep", down)
    scale = scale if abs(r.factor) == 1 else Scaled(size, scale)
    return Negative(scale) if r.factor < 0 else scale


def counted(nodes: Sequence[ir.Node], body: Iterable[Statement]) -> tuple[Statement, ...]:
    """The statements, behind one for the batch's size where they use it. A global's value in a batch has no rows."""
    statements = tuple(body)
    if N.shown not in names(statements):
        return statements
    once = [node for node in nodes if isinstance(node, ir.Draw) and ir.DATA not in node.dims]
    keys = sorted({key for node in once for key in (node.key, node.variable)})
    rows = call("rows_beside", BATCH, *map(string, keys)) if keys else call("rows", BATCH)
    return (Let((N.shown,), rows), *statements)


# --- what needs no graph


def _frozen(w: Writer, found: ir.Loss) -> list[Statement]:
    """What needs no gradient first, under no_grad where it would otherwise build a graph."""
    plain: list[Statement] = []
    quiet: list[Statement] = []
    wanted = sorted(i for i in found.frozen if i in w.uses)
    used, building = _used_in_moving(w, found), _builds_graph(w)
    boundary = [i for i in wanted if i in used and i in building and not w.terms[i]]
    outer = _taken(w)
    for i in wanted:
        if isinstance(node := found.nodes[i], ir.Given) or _is_given(node):
            w.text(i)
            plain += _taken(w)
    for i in boundary:
        made = w.text(i)
        quiet += _taken(w)
        if has_call(made) and not isinstance(found.nodes[i], ir.Head | ir.Part):
            w.written[i] = w.let(w.names.of(i, "frozen"), made)
            quiet += _taken(w)
    w.statements = outer
    return [*plain, *([With(NO_GRAD, tuple(quiet))] if quiet else [])]


def _used_in_moving(w: Writer, found: ir.Loss) -> set[ir.Id]:
    """The nodes that one which moves uses, or a term: what is a term itself is written where it stands."""
    users = (j for j in w.uses if j not in found.frozen or w.terms[j])
    return {t.node for t in found.terms} | {i for j in users for i in operands(found.nodes[j])}


def _builds_graph(w: Writer) -> set[ir.Id]:
    """The nodes that a network or a parameter feeds; operands stand before what uses them."""
    found: set[ir.Id] = set()
    for i, node in enumerate(w.nodes):
        if isinstance(node, ir.Net | ir.Parameter) or not found.isdisjoint(operands(node)):
            found.add(i)
    return found


# --- the sum


@dataclass(frozen=True, slots=True)
class Term:
    """A term of a loss: its sign, its value, `summed` over the data or their mean, and the formula it came from."""

    negative: bool
    summed: Expression
    divided: bool
    formula: str

    @property
    def value(self) -> Expression:
        """The mean; the sum where that is none."""
        return self.summed / N if self.divided else self.summed


def _term(w: Writer, t: ir.Term) -> Term:
    found = w.formula(t.node)
    made, divided = found.mean(w.place(t.node).rows)
    weight = t.coefficient * found.sign
    term = Term(weight < 0, scaled(weight, made), divided, t.text)
    return replace(term, summed=over_n(w, term.value, t.sources), divided=False) if t.over_n else term


def _returned(found: ir.Loss, terms: list[Term], word: str) -> Statement:
    """The weighted sum of the terms, divided by n once where each is; those of a hinge under one relu."""
    first = terms[0]
    if len(terms) == 1 and not first.negative and not found.hinges:
        return Do(first.value, word)
    rows: list[Row | Rows | Comment] = []
    if all(t.divided for t in terms) and not found.hinges:
        for t in terms:
            rows += _row(replace(t, divided=False), not rows)
        return Rows(f"{word} (", tuple(rows), ") / n", ("n",))
    for term, t in zip(terms, found.terms, strict=True):
        if t.hinge is None:
            rows += _row(term, not rows)
    for index, margin, weight in found.hinges:
        inside = [term for term, t in zip(terms, found.terms, strict=True) if t.hinge == index]
        rows += _hinge(margin, weight, inside, not rows)
    return Rows(f"{word} (", tuple(rows), ")")


def _row(term: Term, first: bool, indent: int = 4) -> list[Row | Comment]:
    """A term behind its sign, and its formula."""
    value = term.value
    bare = value.rank > SUM or (not term.negative and value.rank == SUM)
    before = ("-" if first else "- ") if term.negative else "" if first else "+ "
    row = Row(before, value if bare else Bracketed(value))
    long = indent + len(row.before) + len(row.value.text) + len("  # ") + len(term.formula) > WIDTH
    return [Comment(term.formula), row] if long else [replace(row, comment=term.formula)]


def _hinge(margin: Fraction, weight: Fraction, inside: list[Term], first: bool) -> list[Rows | Comment]:
    """weight * max(0, margin + terms) on the batch mean."""
    size, shown = abs(weight), number(float(margin))
    sign = ("-" if weight < 0 else "") if first else ("- " if weight < 0 else "+ ")
    lead = sign + (f"{number(float(size)).text} * " if size != 1 else "")
    rows = (Row("", shown), *(row for term in inside for row in _row(term, False)))
    return [Comment(f"max(0, {shown.text} + ..)"), Rows(f"{lead}hinge(", rows, ")", ("hinge",))]
