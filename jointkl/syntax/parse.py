"""Text to tree: the grammar of `grammars/jkl.lark` and one method per rule."""

# lark's types are partly unknown
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any, Literal

from lark import Lark, ParseTree, Token, Tree, UnexpectedInput
from lark.tree import Meta

from jointkl.diagnostics import JklError, Report, Source, Span
from jointkl.syntax import locate, mistakes, nodes

DEPTH = 128
"""Trees deeper than this are refused: no formula needs them, and what follows may recurse."""

MOST_MISTAKES = 20
"""Of a text with more mistakes than this the first are told."""

_STATEMENT = re.compile(
    r"^[ \t]*(?:(?:var|param|net|let|player|train|minimize|maximize)\b|[A-Za-z_]\w*\s*\([^()=\n]*\)\s*(?:=|~|:=))",
    re.MULTILINE,
)
"""The beginning of a statement, at the beginning of a line."""


def parse_text(text: str, name: str = "<text>") -> nodes.Spec:
    """The syntax tree of `text`; `name` is what messages call it.

    Raises `JklError` with a report for each place where the grammar cannot go on: behind one, reading starts again at
    the next line that begins a statement.
    """
    source = Source(name, text)
    reports: list[Report] = []
    rest: str | None = text
    while rest is not None:
        try:
            tree = _grammar().parse(rest)
            _verify_depth(source, tree)
            if not reports:
                return nodes.Spec(source, _Builder(source).build(tree))
            break
        except UnexpectedInput as found:
            reports.append(locate.report(_grammar(), Source(name, rest), found))
        except JklError as deep:
            reports += deep.reports
            break
        rest = _behind(rest, reports[-1].span) if len(reports) < MOST_MISTAKES else None
    raise JklError(_placed(r, source) for r in reports)


def _placed(report: Report, source: Source) -> Report:
    """The report on the text that was read first, where characters stand as in what was left of it."""
    causes = tuple((replace(span, source=source), label) for span, label in report.causes)
    return replace(report, span=replace(report.span, source=source), causes=causes)


def _behind(text: str, mistake: Span) -> str | None:
    """The text with all blanked, lines kept, up to the next statement that begins a line behind a mistake."""
    line_end = text.find("\n", mistake.start)
    found = _STATEMENT.search(text, line_end) if line_end >= 0 else None
    if found is None:
        return None
    return re.sub(r"[^\n]", " ", text[: found.start()]) + text[found.start() :]


def parse_tokens(text: str, name: str = "<text>") -> ParseTree:
    """The tree of the grammar's rules with every token at its place, signs and brackets too: what `format` reads.

    Raises `JklError` as `parse_text` does, and where brackets around brackets make this tree too deep.
    """
    try:
        tree = _grammar(signs=True).parse(text)
        _verify_depth(Source(name, text), tree)
    except (UnexpectedInput, JklError):
        parse_text(text, name)
        raise
    return tree


@cache
def _grammar(signs: bool = False) -> Lark:
    return Lark.open_from_package(
        "jointkl.grammars", "jkl.lark", ("",),
        parser="lalr", propagate_positions=True, maybe_placeholders=True, keep_all_tokens=signs,
    )  # fmt: skip


def _verify_depth(source: Source, tree: ParseTree) -> None:
    """A chain `a + b + c` is read from the left: its first operand lies as deep as the chain is long."""
    pending: list[tuple[ParseTree, int]] = [(tree, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > DEPTH:
            start = getattr(node.meta, "start_pos", 0)
            raise JklError(mistakes.nested_too_deeply(Span(source, start, start + 1), DEPTH))
        inner = [child for child in node.children if isinstance(child, Tree)]
        long = len(inner) if node.data == "chain" else 1
        pending += [(child, depth + max(1, long - place)) for place, child in enumerate(inner)]


class _Builder:
    """One method per rule of the grammar; children come in the order written, None for what is left out."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def build(self, tree: ParseTree) -> Any:
        """What the rule's method makes of what its children are made to."""
        children = [self.build(child) if isinstance(child, Tree) else child for child in tree.children]
        return getattr(self, tree.data)(tree.meta, children)

    def _span(self, meta: Meta) -> Span:
        return Span(self.source, getattr(meta, "start_pos", 0), getattr(meta, "end_pos", 0))

    def _name(self, token: Token) -> nodes.Name:
        start = token.start_pos or 0
        return nodes.Name(str(token), span=Span(self.source, start, start + len(token)))

    def start(self, meta: Meta, children: list[Any]) -> tuple[nodes.Statement, ...]:
        return tuple(children)

    # statements

    def var(self, meta: Meta, children: list[Any]) -> nodes.Var:
        names, space, is_global = children
        return nodes.Var(names, space, is_global is not None, span=self._span(meta))

    def param(self, meta: Meta, children: list[Any]) -> nodes.Param:
        return nodes.Param(*children, span=self._span(meta))

    def net(self, meta: Meta, children: list[Any]) -> nodes.Net:
        name, output, builder = children
        return nodes.Net(self._name(name), output, builder, span=self._span(meta))

    def let(self, meta: Meta, children: list[Any]) -> nodes.Let:
        name, value = children
        return nodes.Let(self._name(name), value, span=self._span(meta))

    def player(self, meta: Meta, children: list[Any]) -> nodes.Player:
        name, targets = children
        return nodes.Player(self._name(name), targets, span=self._span(meta))

    def train(self, meta: Meta, children: list[Any]) -> nodes.Train:
        name, keywords = children
        return nodes.Train(None if name is None else self._name(name), keywords, span=self._span(meta))

    def definition(self, meta: Meta, children: list[Any]) -> nodes.Definition:
        return nodes.Definition(*children, span=self._span(meta))

    def goal(self, meta: Meta, children: list[Any]) -> nodes.Goal:
        direction, objective, *clauses = children
        over = tuple(t for kind, items in clauses if kind == "over" for t in items)
        options = tuple(o for kind, items in clauses if kind == "with" for o in items)
        word: Literal["minimize", "maximize"] = "minimize" if direction == "minimize" else "maximize"
        return nodes.Goal(word, objective, over, options, span=self._span(meta))

    # laws, spaces and bodies

    def law(self, meta: Meta, children: list[Any]) -> nodes.Law:
        label, outputs, givens = children
        return nodes.Law(self._name(label), outputs, givens or (), span=self._span(meta))

    def names(self, meta: Meta, children: list[Any]) -> tuple[nodes.Name, ...]:
        return tuple(self._name(t) for t in children)

    def space(self, meta: Meta, children: list[Any]) -> nodes.Space:
        name, dims = children
        return nodes.Space(self._name(name), dims or (), span=self._span(meta))

    def finite(self, meta: Meta, children: list[Any]) -> nodes.Space:
        span = self._span(meta)
        return nodes.Space(nodes.Name("{}", span=span), tuple(children), span=span)

    def range(self, meta: Meta, children: list[Any]) -> nodes.Space:
        span = self._span(meta)
        return nodes.Space(nodes.Name("{..}", span=span), tuple(children), span=span)

    def dims(self, meta: Meta, children: list[Any]) -> tuple[nodes.Expr, ...]:
        return tuple(children)

    def bare(self, meta: Meta, children: list[Any]) -> nodes.Bare:
        return nodes.Bare(self._name(children[0]), span=self._span(meta))

    def mixture(self, meta: Meta, children: list[Any]) -> nodes.Mixture:
        return nodes.Mixture(tuple(children), span=self._span(meta))

    def branch(self, meta: Meta, children: list[Any]) -> nodes.Branch:
        label, value, product = children
        number = nodes.Number(str(value), span=self._name(value).span)
        return nodes.Branch(self._name(label), number, product, span=self._span(meta))

    def product(self, meta: Meta, children: list[Any]) -> nodes.Product:
        weight, *factors = children
        return nodes.Product(tuple(factors), weight, span=self._span(meta))

    def factor(self, meta: Meta, children: list[Any]) -> nodes.Factor:
        old, call = children
        return nodes.Factor(call, old is not None, span=self._span(meta))

    # goals

    def divergence(self, meta: Meta, children: list[Any]) -> nodes.Divergence:
        name, left, right = children
        return nodes.Divergence(self._name(name), left, right, span=self._span(meta))

    def hinge(self, meta: Meta, children: list[Any]) -> nodes.Hinge:
        return nodes.Hinge(*children, span=self._span(meta))

    def goal_sum(self, meta: Meta, children: list[Any]) -> nodes.Objective:
        first, *rest = children
        if not rest:
            return _objective(first)
        signs = [1 if operator == "+" else -1 for operator in rest[::2]]
        terms = [(1, first), *zip(signs, rest[1::2], strict=True)]
        return nodes.Sum(tuple((sign, _objective(term)) for sign, term in terms), span=self._span(meta))

    def goal_mul(self, meta: Meta, children: list[Any]) -> nodes.Scaled:
        weight, part = children
        return nodes.Scaled(weight, _objective(part), span=self._span(meta))

    def goal_neg(self, meta: Meta, children: list[Any]) -> nodes.Sum:
        return nodes.Sum(((-1, _objective(children[0])),), span=self._span(meta))

    def over(self, meta: Meta, children: list[Any]) -> tuple[str, tuple[nodes.Target, ...]]:
        return ("over", children[0])

    def with_(self, meta: Meta, children: list[Any]) -> tuple[str, tuple[nodes.Option, ...]]:
        return ("with", tuple(children))

    def option(self, meta: Meta, children: list[Any]) -> nodes.Option:
        name, value = children
        return nodes.Option(self._name(name), value, span=self._span(meta))

    def targets(self, meta: Meta, children: list[Any]) -> tuple[nodes.Target, ...]:
        return tuple(self._name(t) if isinstance(t, Token) else t for t in children)

    # expressions

    def call(self, meta: Meta, children: list[Any]) -> nodes.Call:
        *path, arguments, givens = children
        first, last = path[0], path[-1]
        text = ".".join(str(t) for t in path)
        name = nodes.Name(text, span=Span(self.source, first.start_pos or 0, (last.start_pos or 0) + len(last)))
        return nodes.Call(name, arguments or (), givens, span=self._span(meta))

    def arguments(self, meta: Meta, children: list[Any]) -> tuple[nodes.Expr | nodes.Keyword, ...]:
        return tuple(children)

    def keyword(self, meta: Meta, children: list[Any]) -> nodes.Keyword:
        name, value = children
        return nodes.Keyword(self._name(name), value, span=self._span(meta))

    def keywords(self, meta: Meta, children: list[Any]) -> tuple[nodes.Keyword, ...]:
        pairs = zip(children[::2], children[1::2], strict=True)
        return tuple(nodes.Keyword(self._name(n), v, span=_join(self._name(n).span, v.span)) for n, v in pairs)

    def number(self, meta: Meta, children: list[Any]) -> nodes.Number:
        return nodes.Number(str(children[0]), span=self._span(meta))

    def string(self, meta: Meta, children: list[Any]) -> nodes.Text:
        return nodes.Text(str(children[0])[1:-1], span=self._span(meta))

    def ref(self, meta: Meta, children: list[Any]) -> nodes.Name:
        return self._name(children[0])

    def total(self, meta: Meta, children: list[Any]) -> nodes.Call:
        word, value = children
        return nodes.Call(self._name(word), (value,), span=self._span(meta))

    def list(self, meta: Meta, children: list[Any]) -> nodes.Items:
        return nodes.Items(tuple(children), span=self._span(meta))

    def index(self, meta: Meta, children: list[Any]) -> nodes.Subscript:
        value, *indices = children
        return nodes.Subscript(value, tuple(indices), span=self._span(meta))

    def neg(self, meta: Meta, children: list[Any]) -> nodes.Negative:
        return nodes.Negative(children[0], span=self._span(meta))

    def chain(self, meta: Meta, children: list[Any]) -> nodes.Expr:
        """`a + b - c`, read from the left."""
        value, *rest = children
        for operator, right in zip(rest[::2], rest[1::2], strict=True):
            value = nodes.Binary(_OPERATORS[str(operator)], value, right, span=_join(value.span, right.span))
        return value


_OPERATORS: dict[str, Literal["+", "-", "*", "/", "@"]] = {"+": "+", "-": "-", "*": "*", "/": "/", "@": "@"}


def _join(left: Span, right: Span) -> Span:
    return Span(left.source, left.start, right.end)


def _objective(part: nodes.Objective | nodes.Expr) -> nodes.Objective:
    """A number standing among the terms of a goal is a term of its own."""
    match part:
        case nodes.Divergence() | nodes.Hinge() | nodes.Scaled() | nodes.Sum() | nodes.Weight():
            return part
        case _:
            return nodes.Weight(part, span=part.span)
