"""Common mistakes of form, each shown by malformed samples.

A text that stops the parser as a sample does (its state, what could follow, the word that stands there) makes the
sample's mistake. This is lark's `match_examples`, made independent of what surrounds the mistake.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A mistake and the texts that make it.

    `instead` is what to write for the word at which the parser stops; `help` says so by default. In the texts,
    {before} is the word before that one, {line} its line. With `whatever`, it is no matter which word stands there, if
    no other mistake explains it.
    """

    message: str
    help: tuple[str, ...] = ()
    texts: tuple[str, ...]
    label: str = ""
    instead: str | None = None
    whatever: bool = False


KL = "minimize KL(a(x) || b(x))"

SAMPLES: tuple[Sample, ...] = (
    # --- variables, params and their spaces
    Sample(
        message="`{before}` is not declared as a variable or constant",
        help=("put `var` before it:", "var {line}"),
        texts=("x: real",),
        label="a variable's space?",
    ),
    Sample(
        message="`{before}` alone stands on the left",
        help=("a constant starts with `let`, a law has its variables in brackets:", "let K = 5", "q(x) = Normal(0, 1)"),
        texts=("K = 5",),
    ),
    Sample(
        message="`{before}` alone is no statement",
        help=("a constant starts with `let`, a law has its variables in brackets:", "let K = 5", "q(x) = Normal(0, 1)"),
        texts=("K",),
        label="expected more",
        whatever=True,
    ),
    Sample(
        message="`:` stands between a name and its space",
        instead=": ",
        texts=("var x = real", "var x, y = real", "param w = real", "param w, v = real"),
    ),
    Sample(
        message="`{before}` has no space",
        help=("write one behind the colon:", "var x: real[2]"),
        texts=("var x", "var x, y", "param w", "param w, v"),
        label="expected `:` and a space",
        whatever=True,
    ),
    Sample(
        message="a space is missing after `:`",
        help=("write one: real, positive, unit, binary, natural, simplex, cholesky or {0, 1}:", "var x: real[2]"),
        texts=("var x:", "param w:", "net T:"),
        label="expected a space",
        whatever=True,
    ),
    Sample(
        message="dimensions stand in square brackets",
        help=("write real[2], not real(2)",),
        texts=("var x: real(2)", "param x: real(2)"),
        label="these are round",
    ),
    Sample(
        message="all dimensions stand in one pair of brackets",
        help=("write real[2, 3], not real[2][3]",),
        texts=("var x: real[2][3]", "param x: real[2][3]", "net T: real[2][3]"),
    ),
    Sample(
        message="these brackets hold no dimension",
        help=("write real[2], or real alone for a single number",),
        texts=("var x: real[]",),
        label="nothing before it",
    ),
    Sample(
        message="`global` stands last",
        help=("write it behind the space:", "var w: real global"),
        texts=("var x: global real",),
    ),
    Sample(
        message="one space to a statement",
        help=("write the names before `:`, or a statement for each:", "var x, t: real", "var z: unit"),
        texts=("var x: real, z: unit", "var x: real[2], z", "var y: {0, 1}, z", "var y: {0..9}, z"),
    ),
    Sample(
        message="what is declared here has no value",
        help=("only a constant has one: let K = 3",),
        texts=("var x: real = 3", "var x: real[2] = 3", "param w: real = 3", "param w: real[2] = 3"),
    ),
    Sample(
        message="the values of a finite space are parted by `,`",
        instead=", ",
        texts=("var x: {0; 1}",),
    ),
    Sample(
        message="a finite space names its values",
        help=("write {0, 1} or {0..9}",),
        texts=("var x: {}",),
        label="none here",
    ),
    Sample(
        message="a name is missing after `{before}`",
        help=("a name is made of a-z, A-Z, 0-9 and _, and starts with no digit",),
        texts=("var", "var x,", "param", "param x,", "net", "let", "player"),
        label="expected a name",
        whatever=True,
    ),
    # --- nets, constants, players, train
    Sample(
        message="a net's builder follows `=`",
        help=("`:` is for an output space:", "net G = mlp(128, 128)", "net T: real[128] = mlp(256)"),
        texts=("net G: mlp(1)",),
    ),
    Sample(
        message="a net is named without its inputs",
        help=("they follow from where it is applied:", "net G = mlp(128, 128)"),
        texts=("net G(x) = mlp(1)",),
        label="inputs",
    ),
    Sample(
        message="one name to a statement",
        help=("write a statement for each:", "net F = mlp(128)", "net G = mlp(128)"),
        texts=("net F, G = mlp(1)",),
    ),
    Sample(
        message="one constant to a statement",
        help=("write a statement for each:", "let K = 5", "let m = 10"),
        texts=("let K, m = 5",),
    ),
    Sample(
        message="a net is built by a call",
        help=("write a builder and its brackets: net G = mlp(128, 128), net D = linear()",),
        texts=("net G =",),
        label="expected a builder",
        whatever=True,
    ),
    Sample(
        message="`{before}` has no value",
        help=("write `=` and its value behind it:", "let K = 5"),
        texts=("let K",),
        label="expected `=`",
        whatever=True,
    ),
    Sample(
        message="`{before}` is not built",
        help=("write `=` and a builder behind it:", "net G = mlp(128, 128)"),
        texts=("net G", "net G: real", "net G: real[2]"),
        label="expected `=`",
        whatever=True,
    ),
    Sample(
        message="`{before}` has no members",
        help=("write `=` and nets, params or laws behind it:", "player encoder = E, p(k|x)"),
        texts=("player a",),
        label="expected `=`",
        whatever=True,
    ),
    Sample(message="`=` stands between a name and its value", instead=" = ", texts=("let K: 5",)),
    Sample(message="`=` stands between a player and its members", instead=" = ", texts=("player a: G",)),
    Sample(
        message="a player's members are missing after `=`",
        help=("write nets, params or laws, parted by commas:", "player encoder = E, p(k|x)"),
        texts=("player a =",),
        label="expected a name or a law",
        whatever=True,
    ),
    Sample(
        message="`train` takes its options in round brackets",
        help=("write train(batch=128, lr=1e-3), or train D(lr=4e-4) for the player that holds D",),
        texts=("train", "train D"),
        label="expected `(`",
        whatever=True,
    ),
    Sample(
        message="`train` is about one player at a time",
        help=("write a statement for each: train G(lr=1e-4), train D(lr=4e-4)",),
        texts=("train G, D(a=1)",),
    ),
    Sample(
        message="`train` without an option",
        help=("write one, or leave the statement out:", "train(batch=128, steps=5000)"),
        texts=("train()", "train D()"),
        label="nothing before it",
    ),
    Sample(
        message="an option of `train` is written as name=value",
        help=("train(batch=128, steps=5000)",),
        texts=("train(1", "train(a)", "train(a", "train(a=1, 1", "train(a=1, b)"),
        label="expected name=value",
        whatever=True,
    ),
    Sample(
        message="`=` stands between an option and its value", instead="=", texts=("train(a: 1)", "train(a=1, b: 1)")
    ),
    # --- laws and joints
    Sample(
        message="`=` stands between a law and what it is",
        instead=" = ",
        texts=("q(x): N(0)", "q(x | z): N(0)"),
    ),
    Sample(
        message="a law without a right side",
        help=("write `=` and a family, a product of laws or a mixture behind it:", "q(x | z) = Normal(G(z), 0.1)"),
        texts=("q(x)", "q(x | z)"),
        label="expected `=`",
        whatever=True,
    ),
    Sample(
        message="the right side is missing",
        help=("write a family, a product of laws or a mixture:", "q(x | z) = Normal(G(z), 0.1)"),
        texts=("q(x) =",),
        label="expected a law",
        whatever=True,
    ),
    Sample(message="one `|` stands before the givens", instead=" ", texts=("q(x || z) = N(0)",), label="one too many"),
    Sample(message="the givens of a law follow `|`", instead=" | ", texts=("q(x; z) = N(0)", "q(x, y; z) = N(0)")),
    Sample(
        message="a law's left side holds only names of variables",
        help=("a value goes to the right: q(x | z) = Delta(G(z))",),
        texts=(
            *("q(1) = N(0)", "q(x, 1) = N(0)", "q(x | 1) = N(0)", "q(x | z, 1) = N(0)", "q(x(1)) = N(0)"),
            *("q(x[1]) = N(0)", "q(x | G(z)) = N(0)", "q(x | z, G(z)) = N(0)", "q(x | z[1]) = N(0)", "q(x=1) = N(0)"),
            *("q(x + z) = N(0)", "q(x * z) = N(0)", "q(x - z) = N(0)"),
        ),
        label="not a name",
    ),
    Sample(
        message="a variable is missing in the law's brackets",
        help=("write its name: q(x | z) = Normal(G(z), 0.1)",),
        texts=("q(", "q(x |"),
        label="expected a variable's name",
        whatever=True,
    ),
    Sample(
        message="a factor is missing after `*`",
        help=("write a law: q(x, z) = q(z) * q(x|z)",),
        texts=("q(x) = a(x) *", "q(x) = 2 *", f"{KL[:-1]} *", "q(x) = old"),
        label="expected a law",
        whatever=True,
    ),
    Sample(
        message="a weight stands before the factors",
        help=("write 0.3 * data(x), not data(x) * 0.3",),
        texts=("q(x) = a(x) * 2", "q(x) = a(x) * 0.5"),
        label="behind a factor",
    ),
    Sample(
        message="a product of laws needs no brackets",
        help=("write q(z) * q(x|z), each law once",),
        texts=("q(x) = (a(x))", "q(x) = a(x) * (b(x))", "q(x) = { y=1: (a(x)) }", "minimize KL((a(x)) || b(x))"),
        label="a bracket before a law",
    ),
    Sample(
        message="a mixture stands in braces",
        help=("write { y=1: data(x); y=0: q(z) * q(x|z) }",),
        texts=("q(x) = [",),
        label="these are square",
    ),
    Sample(
        message="a mixture is no factor",
        help=("give it a law of its own:", "m(x) = { s=1: data(x); s=0: q(x) }", "p(x, z) = m(x) * p(z|x)"),
        texts=("q(x) = { y=1: a(x) } * b(x)", "q(x) = a(x) * { y=1: b(x) }", "q(x) = 2 * { y=1: b(x) }"),
    ),
    Sample(
        message="a number is no law",
        help=("a constant is written `let K = 5`; a weight stands before a law: 0.3 * data(x)",),
        texts=("q(x) = 5", "q(x) = 0.5"),
        label="expected `*` and a law",
        whatever=True,
    ),
    # --- mixtures
    Sample(message="a branch ends in `;`", instead="; ", texts=("q(x) = { y=1: a(x), y=0: b(x) }",)),
    Sample(message="`:` stands between a branch's label and its law", instead=": ", texts=("q(x) = { y=1, a(x) }",)),
    Sample(
        message="a branch says for which value of its label it stands",
        help=("write { y=1: data(x); y=0: q(z) * q(x|z) }",),
        texts=("q(x) = { y: a(x) }", "q(x) = { y=1: a(x); y: a(x) }", "q(x) = { 1: a(x) }", "q(x) = { y=1: a(x); 1"),
        label="expected y=1:",
    ),
    Sample(
        message="a branch says for which value of its label it stands",
        help=("write { y=1: data(x); y=0: q(z) * q(x|z) }",),
        texts=("q(x) = { y", "q(x) = { y=1: a(x); y", "q(x) = {"),
        label="expected y=1:",
        whatever=True,
    ),
    Sample(
        message="a label's value is a whole number",
        help=("write { y=1: data(x); y=0: q(z) * q(x|z) }",),
        texts=("q(x) = { y=a: a(x) }",),
        label="expected a whole number",
        whatever=True,
    ),
    Sample(
        message="a branch has no law",
        help=("write { y=1: data(x); y=0: q(z) * q(x|z) }",),
        texts=("q(x) = { y=1:",),
        label="expected a law",
        whatever=True,
    ),
    # --- goals
    Sample(
        message="the two joints of a divergence stand on the sides of `||`",
        instead=" || ",
        texts=(
            "minimize KL(a(x) | b(x))",
            "minimize KL(a(x), b(x))",
            "minimize KL(a(x); b(x))",
            "minimize KL(a(x): b(x))",
        ),
    ),
    Sample(
        message="a divergence takes two joints",
        help=("write KL(P || Q)",),
        texts=("minimize KL(a(x))", "minimize KL(a(x)", "minimize KL(a(x) + KL", "minimize KL(a(x) let"),
        label="expected `||` and a joint before this",
    ),
    Sample(
        message="a divergence has two sides",
        help=("add a second divergence for the third joint: KL(P || Q) + KL(P || R)",),
        texts=("minimize KL(a(x) || b(x) || c(x))",),
        label="a third side",
    ),
    Sample(
        message="one `||` parts the joints",
        instead=" ",
        texts=("minimize KL(a(x) ||| b(x))", "minimize KL(a(x) || || b(x))"),
        label="one too many",
    ),
    Sample(
        message="a joint is missing",
        help=("write KL(P || Q), each of them a law or a product of laws",),
        texts=("minimize KL(", "minimize KL(a(x) ||"),
        label="expected a joint",
        whatever=True,
    ),
    Sample(message="a divergence stands in round brackets", help=("write KL(P || Q)",), texts=("minimize KL[a",)),
    Sample(
        message="a divergence is missing after `{before}`",
        help=("minimize KL(P || Q)",),
        texts=("minimize", f"{KL} +", f"{KL} -", "minimize 2 *", "minimize -"),
        label="expected a divergence",
        whatever=True,
    ),
    Sample(
        message="in `max` the number comes first",
        help=("write max(0, m - KL(P || Q))",),
        texts=("minimize max(KL(a(x) || b(x)), 0)", "minimize max(m - KL(a(x) || b(x)), 0)"),
        label="a divergence before the comma",
    ),
    Sample(
        message="a weight is divided by a number only",
        help=("compute it with `let`:", "let w = a / b", "minimize w * KL(P || Q)"),
        texts=("minimize 1 /",),
        label="expected a number",
        whatever=True,
    ),
    Sample(
        message="`over` names nothing",
        help=(
            "write the nets, params or Free laws that the goal trains, parted by commas",
            "minimize KL(P || Q) over G, p(k|x)",
        ),
        texts=(f"{KL} over", f"{KL} over G,", "player a = G,"),
        label="expected a name",
        whatever=True,
    ),
    Sample(
        message="an option is missing after `{before}`",
        help=("write it as name=value: with game=minimax, importance=8",),
        texts=(f"{KL} with", f"{KL} with a=1,"),
        label="expected name=value",
        whatever=True,
    ),
    Sample(message="`=` stands between an option and its value", instead="=", texts=(f"{KL} with a: 1",)),
    Sample(
        message="the option `{before}` has no value",
        help=("write it as name=value: with game=minimax, importance=8",),
        texts=(f"{KL} with a",),
        label="expected `=` and a value",
        whatever=True,
    ),
    # --- expressions
    Sample(
        message="`=` stands between a parameter's name and its value",
        instead="=",
        texts=("net G = f(a: 1)", "q(x) = N(a: 1)", "q(x) = N(0, a: 1)", "net G = f(1, a: 1)"),
    ),
    Sample(
        message="these brackets hold nothing",
        help=("a list has items, [0.2, 0.8]; an index a number, mu[0]",),
        texts=("let v = []", "let v = m[]", "q(x) = N(m[])"),
        label="nothing before it",
    ),
    Sample(
        message="`sum` takes its argument in round brackets",
        help=("write sum(v)",),
        texts=("let K = sum",),
        label="expected `(`",
        whatever=True,
    ),
)
