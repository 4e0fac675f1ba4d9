"""Python as a tree: brackets stand where they must, and what is used is found in it."""

from __future__ import annotations

import ast
import builtins

import pytest

from jointkl.emission.library import FUNCTIONS, USES, WITHIN
from jointkl.emission.names import MODULE
from jointkl.emission.statements import Comment, Do, Function, Let, Row, Rows, With, names, printed
from jointkl.emission.tree import Binary, Choice, Expression, Literal, Name, Scaled, Signed, call, minus, number

A, B, C = Name("a"), Name("b"), Name("c")


@pytest.mark.parametrize(
    ("e", "shown"),
    [
        (A + B * C, "a + b * c"),
        ((A + B) * C, "(a + b) * c"),
        (A - (B - C), "a - (b - c)"),
        (A - B - C, "a - b - c"),
        (A * (B * C), "a * (b * c)"),
        (A / (B / C), "a / (b / c)"),
        (-(A + B), "-(a + b)"),
        (-A * B, "(-a) * b"),
        (A + -B, "a + (-b)"),
        (A * Literal("-2"), "a * -2"),
        (minus(A * B), "-(a * b)"),
        ((A + B).do("sum", -1), "(a + b).sum(-1)"),
        (A[0, B], "a[0, b]"),
        (Choice(A, Binary("is", B, Literal("None")), C) + A, "(a if b is None else c) + a"),
        (A / Binary("or", B, C), "a / (b or c)"),
        (Scaled(number(2.0), A * B), "2 * a * b"),
        (Scaled(number(0.5), A + B), "0.5 * (a + b)"),
        (Signed(((True, A), (False, B), (True, A + B))), "-a + b - (a + b)"),
        (Binary("@", A + B, C), "(a + b) @ c"),
        (call("f", A, b=B + C), "f(a, b=b + c)"),
    ],
)
def test_brackets_stand_where_they_must(e: Expression, shown: str) -> None:
    assert e.text == shown


def test_names_are_found_wherever_they_stand() -> None:
    body = (
        Let(("x",), call("torch.cat", A)),
        With(call("math.log", B), (Do(Name("F.relu"), "return"),)),
        Rows("f(", (Comment("nothing of this is code: copy.deepcopy(n)"), Row("", C, ",")), ")", ("f",)),
        Do(Literal('"n and math.log are words"')),
    )
    assert names([Function("def g(self):", (), body, uses=("Iterator",))]) == {
        *("torch", "a", "math", "b", "F", "f", "c", "Iterator"),
    }


def test_a_function_is_printed_with_its_statements_indented() -> None:
    body = (With(Name("c"), (Let(("x", "y"), A),)), Rows("return (", (Row("", B, comment="b"), Row("+ ", C)), ")"))
    assert printed(Function("def f(self):", ('"""f"""',), body, "@g"), "") == [
        *("@g", "def f(self):", '    """f"""', "    with c:", "        x, y = a"),
        *("    return (", "        b  # b", "        + c", "    )"),
    ]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_module_say_what_they_use(name: str) -> None:
    """Held against what Python finds in their text."""
    text = "\n".join((*(WITHIN if "Within" in FUNCTIONS[name][0] else ()), *FUNCTIONS[name]))
    tree = ast.parse(text)
    own = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    own |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - own - set(dir(builtins))
    always = {"torch", "Tensor", "nn", "dist", "pyro"}
    # what it calls may use more in turn
    inner = {u for used_there in USES.get(name, ()) for u in USES.get(used_there, ())}
    assert used - always <= set(USES.get(name, ())) <= (used - always) | inner
    assert used <= MODULE | {"Within"}
