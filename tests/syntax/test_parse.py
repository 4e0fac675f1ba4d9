"""Text to tree: what parses, what the tree keeps of the text, and what never happens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jointkl.diagnostics import JklError
from jointkl.syntax import nodes
from jointkl.syntax.parse import parse_text
from jointkl.syntax.stop import RESERVED

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*.jkl"))

EVERYTHING = """
# every statement and every form of it, some as in the description of the language
data(x) = ring8(std=0.02)
target(x) = images("faces/", size=[64, 64])
var x, t: real[2]
var w: real[3] global
var y: {0, 1}
var k: {0..K-1}
param mu: real[K,2]
net G = mlp(128, 128)
net T: real[128] = mlp(256)
let K = 5
let v = linspace(0, -1, 3) @ [1e-3, 0.5] / (2 + sum(K))
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z), density=Laplace(1))
r(x | k) = MultivariateNormal(mu[k], scale_tril=L[k, 0])
p(k | x) = Free
p(z | x) = p(e) * p(z|x,e)
q(x, y) = { y=1: 0.3 * data(x); y=0: 1/2 * q(z) * old q(x|z); }
n(h | h') = nn.Normal(h', 1)
minimize KL(q(x,y) || p(x,y)) + 2 * CE(data(x) * p(z|x) || q(x|z)) - 1/3 * R1(data(x) || p(y|x)) over G, p(k|x)
  with proximal=dirac(lam), game=minimax with critic=C(T(x), z)
maximize -(KL(a(x) || b(x)) + 0.25 * max(0, m - KL(a(x') || b(x'))))
player encoder = E, p(k|x)
train(batch=128, steps=5000, lr=1e-3)
train D(lr=4e-4, repeat=5)
"""


def walk(value: object) -> Iterator[nodes.Node]:
    """Every node of a tree, found through the fields, without recursion."""
    left = [value]
    while left:
        match left.pop():
            case tuple() as items:
                left.extend(items)
            case nodes.Node() | nodes.Spec() as node:
                if isinstance(node, nodes.Node):
                    yield node
                left.extend(getattr(node, f.name) for f in dataclasses.fields(node) if f.name not in ("span", "source"))
            case _:
                pass


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models_parse(path: Path) -> None:
    assert parse_text(path.read_text(encoding="utf-8"), path.name).statements


def test_there_are_twenty_five_models() -> None:
    assert len(MODELS) == 25


def test_every_statement_parses() -> None:
    kinds = {type(statement) for statement in parse_text(EVERYTHING).statements}
    assert kinds == {
        *(nodes.Var, nodes.Param, nodes.Net, nodes.Let, nodes.Player),
        *(nodes.Train, nodes.Definition, nodes.Goal),
    }


def test_the_empty_text_parses() -> None:
    assert parse_text(" \n # nothing\n").statements == ()


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("let a = 1 - 2 - 3", "((1 - 2) - 3)"),
        ("let a = 1 + 2 * -b", "(1 + (2 * -b))"),
        ("let a = f(x)[k] @ c / 2", "((f(x)[k] @ c) / 2)"),
        ("let a = (1 + b) * 2", "((1 + b) * 2)"),
    ],
)
def test_operators_bind_as_in_python(text: str, tree: str) -> None:
    def shown(e: nodes.Expr | nodes.Keyword) -> str:
        match e:
            case nodes.Binary(operator=o, left=left, right=right):
                return f"({shown(left)} {o} {shown(right)})"
            case nodes.Negative(operand=operand):
                return f"-{shown(operand)}"
            case nodes.Subscript(value=value, indices=indices):
                return f"{shown(value)}[{', '.join(map(shown, indices))}]"
            case nodes.Call(name=name, arguments=arguments):
                return f"{name.text}({', '.join(map(shown, arguments))})"
            case nodes.Number(text=text) | nodes.Name(text=text):
                return text
            case _:
                raise AssertionError(e)

    (let,) = parse_text(text).statements
    assert isinstance(let, nodes.Let)
    assert shown(let.value) == tree


def test_signs_of_a_goal_stay_flat() -> None:
    (goal,) = parse_text("minimize KL(a(x)||b(x)) - 2 * CE(a(x)||b(x)) + max(0, 1 - KL(a(x)||b(x)))").statements
    assert isinstance(goal, nodes.Goal)
    assert isinstance(goal.objective, nodes.Sum)
    assert [sign for sign, _ in goal.objective.terms] == [1, -1, 1]


TOKEN = re.compile(r"#[^\n]*|\"[^\"\n]*\"|\|\||\.\.|[A-Za-z_]\w*'*|\d+\.\d+(?:e-?\d+)?|\d+e-?\d+|\d+|\S")


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.sampled_from(MODELS), st.randoms(use_true_random=False))
def test_layout_and_comments_do_not_matter(path: Path, random: object) -> None:
    choice = random.choice
    text = path.read_text(encoding="utf-8")
    words = [w for w in TOKEN.findall(text) if not w.startswith("#")]
    other = "".join(w + choice([" ", "\n", "\t", "\r\n", '  # a comment: || ) "\n']) for w in words)
    assert parse_text(other) == parse_text(text)


@pytest.mark.parametrize("text", [EVERYTHING, *(p.read_text(encoding="utf-8") for p in MODELS)], ids=range(26))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spans_point_at_the_text(text: str, end: str) -> None:
    text = text.replace("\n", end)
    found = list(walk(parse_text(text)))
    assert len(found) > 20
    for node in found:
        match node:
            case nodes.Name(text=("{}" | "{..}")):
                assert node.span.text[0] + node.span.text[-1] == "{}"
            case nodes.Name(text=said) | nodes.Number(text=said):
                assert node.span.text == said
            case nodes.Text(value=value):
                assert node.span.text == f'"{value}"'
            case _:
                assert node.span.text
                assert node.span.text == node.span.text.strip()


def test_spans_of_statements_parse_to_the_statement() -> None:
    for statement in parse_text(EVERYTHING).statements:
        assert parse_text(statement.span.text).statements == (statement,)


def test_a_long_chain_parses() -> None:
    text = "\n".join(f"q(x{i + 1} | x{i}) = Normal(F(x{i}), 0.1)" for i in range(2000))
    assert len(parse_text(text).statements) == 2000


@pytest.mark.slow
def test_a_long_sum_parses() -> None:
    spec = parse_text(f"let a = {' + '.join(['b'] * 100)}\nminimize {' + '.join(['KL(a(x) || b(x))'] * 500)}")
    assert sum(isinstance(node, nodes.Divergence) for node in walk(spec)) == 500
    assert sum(isinstance(node, nodes.Name) and node.text == "b" for node in walk(spec)) == 600


@pytest.mark.parametrize(
    "text",
    [
        f"let a = {'f(' * 3000}1{')' * 3000}",
        f"let a = {'-#' + chr(10)}{'- ' * 3000}1",
        f"let a = b{'[0]' * 3000}",
        f"let a = 1{'+1' * 3000}",
        f"let a = {'[' * 3000}{']' * 3000}",
        f"minimize {'2 * ' * 3000}KL(a(x) || b(x))",
        f"minimize 1{'/2' * 3000} * KL(a(x) || b(x))",
        f"minimize {'(' * 3000}KL(a(x) || b(x)){')' * 3000}",
    ],
    ids=["calls", "signs", "indices", "sums", "lists", "weights", "quotients", "brackets"],
)
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(JklError):
        parse_text(text)


def test_many_signs_are_not_deep() -> None:
    assert len(parse_text("let a = 1 - -2\n" * 200).statements) == 200


WORDS = [
    *sorted(RESERVED),
    *"( ) [ ] { } | || , ; : . .. = * + - / @ # ' \" \n ~ ^ ∥ ′ λ".split(" "),
    *'x z\' y q p KL G 0 1 0.5 1e-3 "faces" Normal mlp real data game minimax q(x|z) y=1: KL('.split(" "),
]


def parses_or_explains(text: str) -> None:
    try:
        parse_text(text)
    except JklError as found:
        refused = found
    else:
        return
    for report in refused.reports:
        assert report.span.source.text == text
        assert 0 <= report.span.start <= report.span.end <= len(text)
        assert report.help
    assert len({report.span.start for report in refused.reports}) == len(refused.reports)
    assert str(refused)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25), st.sampled_from(["", " ", "\n"]))
@example(["for", "λ"], "")
def test_words_in_any_order_parse_or_are_explained(words: list[str], between: str) -> None:
    parses_or_explains(between.join(words))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_any_text_parses_or_is_explained(text: str) -> None:
    parses_or_explains(text)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MODELS), st.data())
def test_a_damaged_model_parses_or_is_explained(path: Path, data: st.DataObject) -> None:
    """A word left out, doubled, or another put in its place."""
    text = path.read_text(encoding="utf-8")
    words = list(TOKEN.finditer(text))
    word = data.draw(st.sampled_from(words))
    new = data.draw(st.sampled_from(["", word.group() * 2, *WORDS]))
    parses_or_explains(text[: word.start()] + new + text[word.end() :])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(MODELS), st.data())
def test_a_model_cut_short_parses_or_is_explained(path: Path, data: st.DataObject) -> None:
    text = path.read_text(encoding="utf-8")
    parses_or_explains(text[: data.draw(st.integers(0, len(text)))])
