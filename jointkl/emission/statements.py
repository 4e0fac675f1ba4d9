"""Statements of Python: functions as trees, printed line by line. What they use is found in them: their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jointkl.emission.tree import Expression, Name, walk


@dataclass(frozen=True, slots=True)
class Let:
    """`a, b = value`."""

    names: tuple[str, ...]
    value: Expression


@dataclass(frozen=True, slots=True)
class Put:
    """`target = value`, the target an expression or a name with its type."""

    target: Expression
    value: Expression


@dataclass(frozen=True, slots=True)
class Do:
    """An expression by itself, behind `return` or `yield` as `word` says."""

    value: Expression
    word: str = ""


@dataclass(frozen=True, slots=True)
class With:
    """`with context:`, or any other head, over a body."""

    context: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Comment:
    text: str


@dataclass(frozen=True, slots=True)
class Blank:
    """An empty line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of several: what is before an expression, and behind it."""

    before: str
    value: Expression
    after: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """An expression over several lines: its head, each row, its end. `uses` are the names in head and end."""

    head: str
    rows: tuple[Row | Rows | Comment, ...]
    end: str
    uses: tuple[str, ...] = ()


Statement = Let | Put | Do | With | Comment | Blank | Row | Rows


@dataclass(frozen=True, slots=True)
class Function:
    """A method or a function; `uses` are the names of its signature."""

    head: str
    doc: tuple[str, ...]
    body: tuple[Statement, ...]
    before: str = ""
    uses: tuple[str, ...] = ()


def lines(statement: Statement) -> Iterator[str]:
    """The lines of a statement."""
    match statement:
        case Let(names=names, value=value):
            yield f"{', '.join(names)} = {value.text}"
        case Put(target=target, value=value):
            yield f"{target.text} = {value.text}"
        case Do(value=value, word=word):
            yield f"{word} {value.text}" if word else value.text
        case With(context=context, body=body):
            yield f"with {context.text}:"
            yield from indented(body)
        case Comment(text=text):
            yield f"# {text}"
        case Blank():
            yield ""
        case Row(before=before, value=value, after=after, comment=comment):
            yield f"{before}{value.text}{after}" + (f"  # {comment}" if comment else "")
        case Rows(head=head, rows=rows, end=end):
            yield head
            yield from indented(rows)
            yield end


def indented(statements: Iterable[Statement], by: str = "    ") -> Iterator[str]:
    for statement in statements:
        for line in lines(statement):
            yield f"{by}{line}" if line else ""


def printed(function: Function, by: str = "    ") -> list[str]:
    """The lines of a function, as a member of a class."""
    inner = f"{by}    "
    head = [f"{by}{line}" for line in (function.before, function.head) if line]
    return [*head, *(f"{inner}{line}" for line in function.doc), *indented(function.body, inner)]


def names(trees: Iterable[object]) -> set[str]:
    """The names that statements and expressions use, of dotted ones the first."""
    found: set[str] = set()
    for tree in walk(tuple(trees)):
        match tree:
            case Name(shown=shown):
                found.add(shown.partition(".")[0])
            case Rows(uses=uses) | Function(uses=uses):
                found.update(uses)
            case _:
                pass
    return found
