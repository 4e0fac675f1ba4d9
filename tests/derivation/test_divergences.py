"""A divergence is a row: one that nobody has named is read, derived, lowered and has its exact value."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

import jointkl
from jointkl.semantics.divergences import DIVERGENCES, DivergenceRow

SPEC = """
var x: {{0..2}}
param a: simplex[3]
param b: simplex[3]
p(x) = Categorical(a)
q(x) = Categorical(b)
minimize 3 * {}(p(x) || q(x))
"""


def compiled(monkeypatch: pytest.MonkeyPatch, row: DivergenceRow) -> jointkl.Program:
    """The program of `SPEC` with the row in the table, at parameters that are all different."""
    monkeypatch.setitem(DIVERGENCES, row.name, row)
    program = jointkl.compile(SPEC.format(row.name)).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for w in program.parameters():
            w.copy_(torch.randn_like(w))
    return program


def verify(program: jointkl.Program, exact: torch.Tensor) -> None:
    """The loss of the one player has the exact value and its gradient."""
    parameters = program.parameters_of("a+b")
    loss = program.loss("a+b", {})
    torch.testing.assert_close(loss, exact)
    found, wanted = (torch.autograd.grad(y, parameters) for y in (loss, exact))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_a_row_is_all_that_a_divergence_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """E_p{1/2 log p - log q}, the cross-entropy less half of the entropy."""
    program = compiled(monkeypatch, DivergenceRow("TE", "TE(P || Q)", Fraction(1, 2), Fraction(-1)))
    a, b = program.params["a"], program.params["b"]
    verify(program, 3 * (a * (a.log() / 2 - b.log())).sum())


def test_the_names_that_a_goal_may_begin_with_are_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIVERGENCES, "TE", DivergenceRow("TE", "TE(P || Q)", Fraction(1, 2), Fraction(-1)))
    with pytest.raises(jointkl.JklError) as refused:
        jointkl.parse(SPEC.format("CHI"))
    assert refused.value.reports[0].help == ("KL(P || Q), CE(P || Q), R1(P || p(y|x)) or TE(P || Q)",)


HELLINGER = DivergenceRow("H2", "H2(P || Q)", Fraction(-1, 2), Fraction(1, 2), "exp", Fraction(-1))
"""The squared Hellinger distance less its constant: 1 - sum sqrt(p q) = 1 + E_p{-exp(1/2 (log q - log p))}."""


def test_a_function_of_the_densities(monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiled(monkeypatch, HELLINGER)
    a, b = program.params["a"], program.params["b"]
    verify(program, -3 * (a * b).sqrt().sum())
    assert "LOSS           3 E sum_x p(x) {-exp(-1/2 log p(x) + 1/2 log q(x))}" in program.derivation.text()


def test_under_a_function_no_term_is_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """For who moves q alone, log p weighs what log q gives: BLOCK leaves it."""
    monkeypatch.setitem(DIVERGENCES, "H2", HELLINGER)
    program = jointkl.compile(SPEC.format("H2").strip() + " over b").double()
    a, b = program.params["a"], program.params["b"]
    exact = -3 * (a * b).sqrt().sum()
    parameters = program.parameters_of("b")
    loss = program.loss("b", {})
    torch.testing.assert_close(loss, exact)
    torch.testing.assert_close(torch.autograd.grad(loss, parameters), torch.autograd.grad(exact, parameters))


def test_what_is_no_log_ratio_has_no_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A critic stands for log P - log Q where they are averaged, not under a function."""
    monkeypatch.setitem(DIVERGENCES, "H2", HELLINGER)
    spec = """
var x: real
var z: real
net G = mlp(4)
net T = mlp(4)
data(x) = evidence()
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z))
q(x) = q(z) * q(x|z)
minimize H2(q(x) || data(x)) with critic=T
"""
    with pytest.raises(jointkl.JklError) as refused:
        jointkl.derive(jointkl.parse(spec))
    assert refused.value.reports[0].code == "E-RATIO"
