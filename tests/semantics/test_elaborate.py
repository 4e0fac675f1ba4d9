"""Tree to model: names, sizes, laws applied to copies, constants, evidence, goals and training."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jointkl
from jointkl.diagnostics import JklError
from jointkl.semantics.model import (
    Constant,
    Dirac,
    Distribution,
    Divergence,
    Evidence,
    Head,
    Hinge,
    Indexed,
    Joint,
    Model,
    Net,
    NetCall,
    Operation,
    ParameterRef,
    VariableRef,
)
from jointkl.semantics.spaces import Space
from tests.worlds import GAN, MODELS, VAE

REAL = Space("real")


def real(*dims: int) -> Space:
    return Space("real", dims)


def body(model: Model, key: str) -> Any:
    return model.laws[key].body


def parameters(text: str, key: str = "q(x)") -> dict[str, Any]:
    return dict(body(jointkl.parse(text), key).parameters)


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.jkl")), ids=lambda path: path.stem)
def test_every_model_elaborates(path: Path) -> None:
    model = jointkl.load(path)
    assert model.goals
    for net in model.nets.values():
        critics = {g.options.critic[0] for g in model.goals if g.options.critic}
        assert (net.inputs and net.heads) or net.name in critics
    for law in model.laws.values():
        assert law.key in model.laws
        if isinstance(law.body, Joint):
            assert sum(b.weight for b in law.body.branches) == 1
            assert all(f.law in model.laws for b in law.body.branches for f in b.factors)


# --- sizes of networks


def net(text: str, name: str = "G") -> Net:
    return jointkl.parse(text).nets[name]


@pytest.mark.parametrize(
    ("law", "inputs", "heads"),
    [
        ("q(x | z) = Normal(G(z))", (real(2),), (Head("loc", real(3)), Head("scale", Space("positive", (3,))))),
        ("q(x | z) = Normal(G(z), 1)", (real(2),), (Head("loc", real(3)),)),
        ("q(x | z) = Normal(0, G(z))", (real(2),), (Head("scale", Space("positive", (3,))),)),
        ("q(x | z, s) = Normal(G(z, s), 1)", (real(2), REAL), (Head("loc", real(3)),)),
        ("q(x | k) = Normal(G(k), 1)", (Space("finite", (), (0, 1, 2)),), (Head("loc", real(3)),)),
        ("q(x | z) = Normal(exp(G(z)) + 1, 1)", (real(2),), (Head("value", real(3)),)),
        ("q(x | z) = Delta(G(z))", (real(2),), (Head("value", real(3)),)),
        ("q(u | z) = Delta(G(z))", (real(2),), (Head("value", Space("unit", (1, 4, 4))),)),
        ("q(b | z) = Bernoulli(G(z))", (real(2),), (Head("logits", real(4)),)),
        ("q(b | z) = Bernoulli(probs=G(z))", (real(2),), (Head("probs", Space("unit", (4,))),)),
        ("q(k | z) = Categorical(G(z))", (real(2),), (Head("logits", real(3)),)),
        ("q(y | u) = Bernoulli(G(u))", (Space("unit", (1, 4, 4)),), (Head("logits", REAL),)),
        ("q(x | z) = Normal(G(z)[2], 1)", (real(2),), None),
        (
            "q(x | z) = MultivariateNormal(G(z))",
            (real(2),),
            (Head("loc", real(3)), Head("scale_tril", Space("cholesky", (3,)))),
        ),
        ("q(w | z) = Dirichlet(G(z))", (real(2),), (Head("concentration", Space("positive", (3,))),)),
        ("q(x | z) = Normal(G(2 * z), 1)", (real(2),), (Head("loc", real(3)),)),
        ("q(x | z) = Normal(G(z, m), 1)", (real(2), real(5)), (Head("loc", real(3)),)),
    ],
)
def test_sizes_follow_from_where_a_net_is_applied(
    law: str, inputs: tuple[Space, ...], heads: tuple[Head, ...] | None
) -> None:
    declared = (
        "var x: real[3]\nvar z: real[2]\nvar s: real\nvar k: {0..2}\nvar y: {0, 1}\nvar b: binary[4]\n"
        "var u: unit[1,4,4]\nvar w: simplex[3]\nparam m: real[5]\nnet G = mlp(8)\n"
    )
    if heads is None:
        with pytest.raises(JklError, match="does not follow"):
            net(declared + law)
        return
    found = net(declared + law)
    assert (found.inputs, found.heads) == (inputs, heads)
    assert found.outputs == sum(h.space.size for h in heads)


def test_a_stated_output_is_what_a_hidden_feature_needs() -> None:
    model = jointkl.parse(
        "var x: unit[1,8,8]\nvar y: {0, 1}\nnet T: real[6] = mlp(8)\nnet D = linear()\np(y | x) = Bernoulli(D(T(x)))"
    )
    assert model.nets["T"].heads == (Head("value", real(6)),)
    assert model.nets["D"].inputs == (real(6),)
    call = body(model, "p(y|x)").parameters[0][1]
    assert call == NetCall("D", (NetCall("T", (VariableRef("x"),)),))


def test_a_net_indexed_by_a_finite_variable_gives_one_row_for_each_value() -> None:
    found = net("var x: real[3]\nvar z: real\nvar k: {0..4}\nnet G = mlp()\nq(x | z, k) = Normal(G(z)[k], 1)")
    assert found.heads == (Head("value", real(5, 3)),)


@pytest.mark.parametrize("step", [1, -1])
def test_the_last_map_of_a_dirac_wins_over_another_use(step: int) -> None:
    laws = ["q(x | z) = Delta(G(z))", "r(h | z) = Normal(G(z), 1)"][::step]
    text = "var x: unit[2]\nvar h, z: real[2]\nnet G = mlp(8)\n" + "\n".join(laws)
    assert net(text).heads == (Head("value", Space("unit", (2,))),)


def test_one_net_serves_several_laws_of_one_size() -> None:
    model = jointkl.parse(GAN + "p(y | z) = Bernoulli(D(z))\n")
    assert model.nets["D"].inputs == (real(2),)


# --- laws


def test_a_bare_net_supplies_every_parameter_by_a_head() -> None:
    found = body(jointkl.parse(VAE), "p(z|x)")
    x = (VariableRef("x"),)
    assert found == Distribution("Normal", (("loc", NetCall("enc", x, "loc")), ("scale", NetCall("enc", x, "scale"))))


def test_parameters_stand_by_position_or_by_name() -> None:
    by_place = parameters("var x: real\nq(x) = Normal(1, 2)")
    assert by_place == parameters("var x: real\nq(x) = Normal(scale=2, loc=1)")
    assert by_place == {"loc": Constant(1.0), "scale": Constant(2.0)}


def test_a_uniform_categorical_has_equal_probabilities() -> None:
    assert parameters("var x: {0..3}\nq(x) = Categorical()") == {"probs": Constant((0.25,) * 4)}


def test_values_are_arithmetic_of_what_is_given() -> None:
    found = parameters("var x, z: real[2]\nparam W: real[2,2]\nq(x | z) = Normal(tanh(W @ z) - 1, 1)", "q(x|z)")
    product = Operation("@", (ParameterRef("W"), VariableRef("z")))
    assert found["loc"] == Operation("-", (Operation("tanh", (product,)), Constant(1.0)))


def test_a_param_is_indexed_by_a_finite_variable() -> None:
    found = parameters("var x: real[2]\nvar k: {0..2}\nparam mu: real[3,2]\nq(x | k) = Normal(mu[k], 1)", "q(x|k)")
    assert found["loc"] == Indexed(ParameterRef("mu"), (VariableRef("k"),))


def test_a_dirac_names_the_density_to_use_elsewhere() -> None:
    model = jointkl.parse("var x, z: real\nnet G = mlp(8)\nq(x | z) = Delta(G(z), density=Laplace(0.5))")
    at = NetCall("G", (VariableRef("z"),))
    density = Distribution("Laplace", (("loc", at), ("scale", Constant(0.5))))
    assert body(model, "q(x|z)") == Dirac(at, density)


def test_a_law_applied_to_copies_is_the_same_law() -> None:
    text = "var x, z: real\nq(z) = Normal(0, 1)\nq(x | z) = Normal(z, 1)\np(x, x') = q(z) * q(x|z) * q(z') * q(x'|z')"
    (branch,) = body(jointkl.parse(text), "p(x,x)").branches
    assert [(f.law, f.outputs, f.givens) for f in branch.factors] == [
        ("q(z)", ("z",), ()),
        ("q(z)", ("z'",), ()),
        ("q(x|z)", ("x",), ("z",)),
        ("q(x|z)", ("x'",), ("z'",)),
    ]


def test_a_law_with_two_copies_is_matched_in_order() -> None:
    text = "var h: real\nn(h | h') = Normal(h', 1)\nq(h) = Normal(0, 1)\np(h, h') = q(h) * n(h'|h)"
    model = jointkl.parse(text)
    assert body(model, "n(h|h)").parameters[0][1] == VariableRef("h'")
    (branch,) = body(model, "p(h,h)").branches
    assert [(f.law, f.outputs, f.givens) for f in branch.factors] == [("q(h)", ("h",), ()), ("n(h|h)", ("h'",), ("h",))]


@pytest.mark.parametrize("factors", ["q(x|z) * q(z)", "q(z) * q(x|z)"])
def test_factors_stand_after_what_they_are_given(factors: str) -> None:
    text = f"var x, z: real\nq(z) = Normal(0, 1)\nq(x | z) = Normal(z, 1)\np(x, z) = {factors}"
    (branch,) = body(jointkl.parse(text), "p(x,z)").branches
    assert [f.law for f in branch.factors] == ["q(z)", "q(x|z)"]


# --- mixtures


@pytest.mark.parametrize(
    ("first", "second", "weights"),
    [
        ("", "", (Fraction(1, 2), Fraction(1, 2))),
        ("0.3 * ", "0.7 * ", (Fraction(3, 10), Fraction(7, 10))),
        ("1/3 * ", "2/3 * ", (Fraction(1, 3), Fraction(2, 3))),
        ("w * ", "v * ", (Fraction(1, 4), Fraction(3, 4))),
    ],
)
def test_weights_are_fractions(first: str, second: str, weights: tuple[Fraction, ...]) -> None:
    text = "let w = 1/4\nlet v = 1 - w\nvar x: real\nvar y: {0, 1}\nq(x) = Normal(0, 1)\n"
    found = body(jointkl.parse(text + f"p(x, y) = {{ y=1: {first}q(x); y=0: {second}q(x) }}"), "p(x,y)")
    assert tuple(b.weight for b in found.branches) == weights
    assert [(b.label, b.value) for b in found.branches] == [("y", 1), ("y", 0)]


def test_a_hidden_label_needs_no_declaration() -> None:
    found = body(jointkl.parse("var x: real\nq(x) = Normal(0, 1)\np(x) = { s=7: q(x); s=9: q(x) }"), "p(x)")
    assert (found.label, [b.value for b in found.branches]) == ("s", [7, 9])


# --- evidence


def test_a_source_binds_its_columns_by_position() -> None:
    found = body(jointkl.parse("var x: real[2]\nvar k: {0..7}\ndata(x, k) = ring8(std=1/4)"), "data(x,k)")
    assert found == Evidence("ring8", (("std", 0.25),), (0, 1), "data(x,k)")


def test_what_is_part_of_bound_data_is_their_marginal() -> None:
    text = "var x: real[2]\nvar k: {0..7}\ndata(x, k) = ring8()\nq(k) = Categorical()\n"
    model = jointkl.parse(text + "minimize KL(data(k) || q(k)) + KL(data(x, k) || data(x, k))")
    assert body(model, "data(k)") == Evidence("ring8", (), (1,), "data(x,k)")
    assert [law.key for law in model.evidence] == ["data(x,k)"]


def test_unbound_data_come_at_run_time() -> None:
    text = "var x, t: real\nq(x) = Normal(0, 1)\nminimize KL(data(x) || q(x)) + KL(data(t, x) || data(t, x))"
    model = jointkl.parse(text)
    assert body(model, "data(t,x)") == Evidence("evidence", (), (0, 1), "data(t,x)")
    assert body(model, "data(x)") == Evidence("evidence", (), (1,), "data(t,x)")


def test_any_label_may_be_bound() -> None:
    model = jointkl.load(MODELS / "domain_adaptation.jkl")
    assert [law.key for law in model.evidence] == ["source(x,c)", "target(x)"]
    assert model.batch_key("target(x)", "x") == "target.x"
    assert model.batch_key("source(x,c)", "c") == "c"


@pytest.mark.parametrize(("space", "options"), [("unit[1,8,8]", ""), ("real[64]", ""), ("binary[64]", "threshold=0.5")])
def test_columns_that_lie_in_the_space_fit_whatever_their_shape(space: str, options: str) -> None:
    jointkl.parse(f"var x: {space}\ndata(x) = digits({options})")


# --- constants


def constant(expression: str, **lets: str) -> Any:
    model = jointkl.parse(f"let K = 3\nlet v = {expression}\nvar x: real\nq(x) = Normal(v, 1)", lets=lets)
    return body(model, "q(x)").parameters[0][1].value


def listed(expression: str, n: int, **lets: str) -> Any:
    model = jointkl.parse(f"let K = 3\nlet v = {expression}\nvar x: real[{n}]\nq(x) = Normal(v, 1)", lets=lets)
    return body(model, "q(x)").parameters[0][1].value


def test_constants_are_exact() -> None:
    assert constant("0.1 + 0.2") == 0.3
    assert constant("(1/3) * 3") == 1.0
    assert constant("K / 7 * 7 - K") == 0.0


def test_lists_meet_numbers_item_by_item() -> None:
    assert listed("1 - 2 * [1, 2, K]", 3) == (-1.0, -3.0, -5.0)
    assert listed("[1, 2] * [3, 4]", 2) == (3.0, 8.0)
    assert constant("[5, 6, 7][K - 1]") == 7.0


def test_linspace_has_both_ends() -> None:
    assert listed("linspace(0, 1, 5)", 5) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert listed("linspace(1, 0, 1)", 1) == (1.0,)


def test_cumprod_multiplies_up() -> None:
    assert listed("cumprod([2, 3, 4])", 3) == (2.0, 6.0, 24.0)


@given(st.floats(1e-5, 1e-2), st.floats(1e-2, 0.5), st.integers(2, 40))
def test_a_schedule_of_noise_is_as_numpy_would_have_it(first: float, last: float, n: int) -> None:
    found = listed(f"cumprod(1 - linspace({first!r}, {last!r}, {n}))", n)
    expected = 1.0
    for i in range(n):
        expected *= 1 - (first + (last - first) * i / (n - 1))
        assert math.isclose(found[i], expected, rel_tol=1e-9)


def written(tree: Any) -> str:
    return tree if isinstance(tree, str) else f"({written(tree[0])} {tree[1]} {written(tree[2])})"


def value(tree: Any) -> Fraction:
    if isinstance(tree, str):
        return Fraction(tree)
    left, right = value(tree[0]), value(tree[2])
    match tree[1]:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right


NUMBERS = st.one_of(
    st.integers(0, 10**6).map(str), st.decimals(0, 1000, places=3).map(str), st.sampled_from(["1e-3", "2.5e2"])
)
TREES = st.recursive(NUMBERS, lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner), max_leaves=12)


@given(TREES)
def test_an_expression_has_the_value_that_fractions_give_it(tree: Any) -> None:
    try:
        expected = value(tree)
    except ZeroDivisionError:
        with pytest.raises(JklError, match="divides by zero"):
            constant(written(tree))
        return
    found = constant(written(tree))
    if expected.numerator.bit_length() + expected.denominator.bit_length() < 100:
        assert found == float(expected)
    else:
        assert math.isclose(found, float(expected), rel_tol=1e-12)


def test_constants_may_stand_in_any_order() -> None:
    model = jointkl.parse("let a = b + 1\nlet b = c * 2\nlet c = 3\nvar x: real[a]")
    assert model.space("x") == real(7)


@pytest.mark.parametrize(
    ("text", "expected"), [("5", 5.0), ("1/4", 0.25), ("-2.5", -2.5), ("2 * J", 14.0), ("[7, 8][1]", 8.0)]
)
def test_an_override_is_an_expression(text: str, expected: float) -> None:
    model = jointkl.parse("let K = 3\nlet J = 7\nvar x: real\nq(x) = Normal(K, 1)", lets={"K": text})
    assert body(model, "q(x)").parameters[0][1] == Constant(expected)


def test_an_override_reaches_what_is_made_of_it() -> None:
    text = "let K = 3\nlet L = K + 1\nvar x: real[L]"
    assert jointkl.parse(text, lets={"K": "5"}).space("x") == real(6)
    assert jointkl.parse(text, lets={"L": "5"}).space("x") == real(5)


# --- goals and training


BASE = "let lam = 1/3\nvar x: real\nparam m: real\nparam n: real\nq(x) = Normal(m, 1)\nr(x) = Normal(n, 1)\n"
KL = "KL(data(x) || q(x))"


@pytest.mark.parametrize(
    ("goal", "weights"),
    [
        (f"minimize {KL}", (Fraction(1),)),
        (f"maximize {KL}", (Fraction(-1),)),
        (f"minimize 2 * {KL} - lam * {KL}", (Fraction(2), Fraction(-1, 3))),
        (f"minimize -({KL} - 1/2 * {KL})", (Fraction(-1), Fraction(1, 2))),
        (f"maximize 3 * (2 * ({KL} + {KL}))", (Fraction(-6), Fraction(-6))),
        (f"minimize lam/2 * {KL}", (Fraction(1, 6),)),
    ],
)
def test_weights_are_multiplied_out(goal: str, weights: tuple[Fraction, ...]) -> None:
    (found,) = jointkl.parse(BASE + goal).goals
    assert tuple(t.weight for t in found.terms) == weights


def test_a_hinge_has_a_margin_and_terms() -> None:
    (found,) = jointkl.parse(BASE + f"minimize 1/4 * max(0, 5 - {KL} + lam)").goals
    (hinge,) = found.terms
    assert isinstance(hinge, Hinge)
    assert (hinge.margin, hinge.weight) == (Fraction(16, 3), Fraction(1, 4))
    assert [t.weight for t in hinge.terms] == [Fraction(-1)]


def test_a_product_has_all_that_it_generates_as_its_head() -> None:
    (found,) = jointkl.parse(VAE + "minimize CE(data(x) * p(z|x) || q(x|z))").goals[1:]
    (term,) = found.terms
    assert isinstance(term, Divergence)
    assert (term.left.head, term.left.text) == (("x", "z"), "data(x) p(z|x)")
    assert (term.right.head, term.right.text) == (("x",), "q(x|z)")


def test_old_reads_a_law_at_its_snapshot() -> None:
    (found,) = jointkl.parse(VAE + "minimize KL(data(x) * old p(z|x) || q(z) * q(x|z)) over dec").goals[1:]
    (term,) = found.terms
    assert isinstance(term, Divergence)
    assert [f.old for f in term.left.joint.branches[0].factors] == [False, True]
    assert found.over == ("dec",)


def test_options_are_read_with_their_places() -> None:
    options = "with proximal=dirac(lam=1/2), critic=D, importance=8, estimate=score, estimate=gradient, drop=q(x|z)"
    (goal,) = jointkl.parse(GAN.rstrip() + " " + options).goals
    found = goal.options
    assert (found.proximal, found.dirac, found.critic, found.importance) == ("dirac", Fraction(1, 2), ("D", ()), 8)
    assert (found.estimate, found.drop) == (("score", "gradient"), ("q(x|z)",))
    assert found.span("importance").text == "importance=8"


def test_who_is_trained_may_be_a_net_a_param_or_a_free_law() -> None:
    text = (MODELS / "em.jkl").read_text().rstrip() + " over p(k|x), w, mu"
    (goal,) = jointkl.parse(text).goals
    assert goal.over == ("p(k|x)", "w", "mu")


def test_players_and_training() -> None:
    more = "player coder = enc, dec\ntrain(batch=64, lr=1/1000)\ntrain coder(lr=2e-4, every=2)\ntrain dec(beta1=0.5)\n"
    model = jointkl.parse(VAE + more)
    assert [(p.name, p.targets) for p in model.players] == [("coder", ("enc", "dec"))]
    assert [(t.target, t.options) for t in model.train] == [
        (None, (("batch", 64), ("lr", 0.001))),
        ("enc", (("lr", 0.0002), ("every", 2))),
        ("dec", (("beta1", 0.5),)),
    ]


def test_declared_things_stand_in_order_of_place() -> None:
    assert jointkl.load(MODELS / "em.jkl").declared == ("mu", "L", "w", "p(k|x)")


def test_statements_may_stand_in_any_order() -> None:
    backwards = "\n".join(reversed(VAE.strip().splitlines()))
    model, other = jointkl.parse(VAE), jointkl.parse(backwards)
    assert dict(model.laws) == dict(other.laws)
    assert dict(model.nets) == dict(other.nets)
    assert model.goals == other.goals
