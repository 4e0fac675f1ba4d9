"""Expressions of Python: a small tree that knows how tightly it binds, so that brackets stand where they must."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import TypeGuard

CHOICE, SUM, PRODUCT, ATOM = range(4)
"""How tightly an expression binds: `a if c else b` and conditions; `a + b`; `a * b` and `-a`; what never needs
brackets."""


class Expression(ABC):
    """What has a value. Operators and `do` make larger expressions of it."""

    __slots__ = ()

    @property
    def rank(self) -> int:
        return RANKS.get(type(self), ATOM)

    @property
    @abstractmethod
    def text(self) -> str:
        """As Python prints it."""

    @property
    def atom(self) -> str:
        return self.text if self.rank == ATOM else f"({self.text})"

    @property
    def factor(self) -> str:
        """Before a `*`."""
        text = self.text
        return text if self.rank >= PRODUCT and not text.startswith("-") else f"({text})"

    @property
    def first(self) -> str:
        """Before a `+` or a `-`."""
        return self.text if self.rank > CHOICE else f"({self.text})"

    def do(self, method: str, *arguments: Written, **keywords: Written) -> Call:
        """A call of one of its methods."""
        return Call(Attribute(self, method), _all(arguments), _named(keywords))

    def __getitem__(self, items: Written | tuple[Written, ...]) -> Expression:
        return Item(self, _all(items if isinstance(items, tuple) else (items,)))

    def __neg__(self) -> Expression:
        return Negative(self)

    def __add__(self, other: Written) -> Expression:
        return Binary("+", self, written(other))

    def __sub__(self, other: Written) -> Expression:
        return Binary("-", self, written(other))

    def __mul__(self, other: Written) -> Expression:
        return Binary("*", self, written(other))

    def __truediv__(self, other: Written) -> Expression:
        return Binary("/", self, written(other))


Written = Expression | int | float
"""What may stand in an expression: numbers as Python prints them."""


def written(value: Written) -> Expression:
    return value if isinstance(value, Expression) else Literal(repr(value))


def _all(values: Iterable[Written]) -> tuple[Expression, ...]:
    return tuple(map(written, values))


def _named(values: Mapping[str, Written]) -> tuple[tuple[str, Expression], ...]:
    return tuple((name, written(value)) for name, value in values.items())


@dataclass(frozen=True, slots=True)
class Literal(Expression):
    """A number, a string, `None`, `...`, a slice."""

    shown: str

    @property
    def text(self) -> str:
        return self.shown


@dataclass(frozen=True, slots=True)
class Name(Expression):
    """A name, or one behind the name of a module: `n`, `torch.cat`."""

    shown: str

    @property
    def text(self) -> str:
        return self.shown


@dataclass(frozen=True, slots=True)
class Attribute(Expression):
    of: Expression
    name: str

    @property
    def text(self) -> str:
        return f"{self.of.atom}.{self.name}"


@dataclass(frozen=True, slots=True)
class Call(Expression):
    function: Expression
    arguments: tuple[Expression, ...] = ()
    keywords: tuple[tuple[str, Expression], ...] = ()

    @property
    def text(self) -> str:
        return f"{self.function.text}({self.inside})"

    @property
    def inside(self) -> str:
        """What stands between the brackets."""
        return ", ".join((*(a.text for a in self.arguments), *(f"{name}={e.text}" for name, e in self.keywords)))


@dataclass(frozen=True, slots=True)
class Inside(Expression):
    """The arguments of a call, on a line of their own."""

    call: Call

    @property
    def text(self) -> str:
        return self.call.inside


@dataclass(frozen=True, slots=True)
class Item(Expression):
    of: Expression
    items: tuple[Expression, ...]

    @property
    def text(self) -> str:
        return f"{self.of.atom}[{', '.join(i.text for i in self.items)}]"


@dataclass(frozen=True, slots=True)
class Tuple(Expression):
    """`a, b`, as a function returns it."""

    items: tuple[Expression, ...]

    @property
    def text(self) -> str:
        return ", ".join(i.text for i in self.items)


@dataclass(frozen=True, slots=True)
class Listed(Expression):
    """`[a, b]` or `(a, b)`, by its brackets."""

    items: tuple[Expression, ...]
    brackets: str = "[]"

    @property
    def text(self) -> str:
        one = "," if self.brackets == "()" and len(self.items) == 1 else ""
        return f"{self.brackets[0]}{', '.join(i.text for i in self.items)}{one}{self.brackets[1]}"


@dataclass(frozen=True, slots=True)
class Starred(Expression):
    """An argument spread: `*x`."""

    of: Expression

    @property
    def text(self) -> str:
        return f"*{self.of.text}"


@dataclass(frozen=True, slots=True)
class Slice(Expression):
    """`first:last`, either left out where it is None."""

    start: Expression | None
    stop: Expression | None

    @property
    def text(self) -> str:
        return ":".join("" if end is None else end.text for end in (self.start, self.stop))


@dataclass(frozen=True, slots=True)
class Negative(Expression):
    of: Expression

    @property
    def text(self) -> str:
        return f"-{self.of.factor}"


@dataclass(frozen=True, slots=True)
class Binary(Expression):
    """`left operator right`; conditions bind least."""

    operator: str
    left: Expression
    right: Expression

    @property
    def rank(self) -> int:
        return OPERATORS.get(self.operator, CHOICE)

    @property
    def text(self) -> str:
        left, right = self.left, self.right
        match self.operator:
            case "+":
                shown = right.text
                after = f"({shown})" if shown.startswith("-") or right.rank == CHOICE else shown
                return f"{left.first} + {after}"
            case "-":
                return f"{left.first} - {right.factor}"
            case "*" | "/":
                return f"{left.factor} {self.operator} {right.atom}"
            case "@":
                return f"{left.atom} @ {right.atom}"
            case _:
                return f"{left.text} {self.operator} {right.text}"


@dataclass(frozen=True, slots=True)
class Scaled(Expression):
    """A number times what needs no brackets behind it: `2 * a * b`."""

    number: Expression
    of: Expression

    @property
    def text(self) -> str:
        return f"{self.number.text} * {self.of.factor}"


@dataclass(frozen=True, slots=True)
class Signed(Expression):
    """A sum of signed expressions: `-a + b`."""

    terms: tuple[tuple[bool, Expression], ...]
    """Each with whether it is negative."""

    @property
    def text(self) -> str:
        return "".join(f"{before}{e.text}" for before, e in self.rows())

    def rows(self) -> Iterator[tuple[str, Expression]]:
        """Each term, in brackets where it needs them, with what stands before it."""
        for place, (negative, e) in enumerate(self.terms):
            bare = e.rank > (SUM if negative else CHOICE)
            before = (" - " if negative else " + ") if place else "-" if negative else ""
            yield before, e if bare else Bracketed(e)


@dataclass(frozen=True, slots=True)
class Choice(Expression):
    """`yes if condition else no`."""

    yes: Expression
    condition: Expression
    no: Expression

    @property
    def text(self) -> str:
        return f"{self.yes.text} if {self.condition.text} else {self.no.text}"


@dataclass(frozen=True, slots=True)
class Bracketed(Expression):
    """In brackets, whatever it is."""

    of: Expression

    @property
    def text(self) -> str:
        return f"({self.of.text})"


RANKS: Mapping[type[Expression], int] = {
    Tuple: CHOICE,
    Choice: CHOICE,
    Signed: SUM,
    Negative: PRODUCT,
    Scaled: PRODUCT,
}
OPERATORS: Mapping[str, int] = {"+": SUM, "-": SUM, "*": PRODUCT, "/": PRODUCT, "@": PRODUCT}


def walk(tree: object) -> Iterator[object]:
    """A tree, or a tuple of them, and all that it is made of, by the fields."""
    pending = [tree]
    while pending:
        found = pending.pop()
        if _is_tuple(found):
            pending += found
        elif parts := _parts(type(found)):
            yield found
            pending += [getattr(found, part) for part in parts]


@cache
def _parts(kind: type) -> tuple[str, ...]:
    """The fields of a kind of tree; what is none has none."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple)


# --- short ways to write


def call(function: str, *arguments: Written, **keywords: Written) -> Call:
    return Call(Name(function), _all(arguments), _named(keywords))


def member(name: str) -> Expression:
    """`self.name`."""
    return Attribute(Name("self"), name)


def own(method: str, *arguments: Written, **keywords: Written) -> Call:
    """`self.method(..)`."""
    return Call(member(method), _all(arguments), _named(keywords))


def listed(*items: Written) -> Expression:
    return Listed(_all(items))


def pair(*items: Written) -> Expression:
    return Listed(_all(items), "()")


def quoted(text: str) -> str:
    """A string of Python between double quotes, whatever it holds."""
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def string(text: str) -> Expression:
    return Literal(quoted(text))


def number(value: float) -> Expression:
    """A float as short as it is exact: `2`, `0.5`."""
    return Literal(str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value))


def minus(e: Expression) -> Expression:
    """-e, in brackets unless it is an atom."""
    return -(e if e.rank == ATOM else Bracketed(e))


REST, BLANK, ALL = Literal("..."), Literal("None"), Literal(":")


def spread(of: Expression, behind: int) -> Expression:
    """A value with `behind` event dimensions of size one more."""
    return of[(REST, *[BLANK] * behind)] if behind else of


def summed(of: Expression, ndim: int) -> Expression:
    """A value summed over its last `ndim` dimensions."""
    if ndim > 1:
        return of.do("flatten", -ndim).do("sum", -1)
    return of.do("sum", -1) if ndim else of
