"""A rule is a row: one that nobody has named fires, is printed with its law, and does what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import jointkl
from jointkl.derivation import derive
from jointkl.derivation.expr import Expectation
from jointkl.derivation.rewrite import Rewrite, Rule, RuleContext

SPEC = """
var x: real
param m: real
q(x) = Normal(m, 1)
p(x) = Normal(0, 2)
minimize KL(q(x) || p(x)) with estimate=monte_carlo
"""


def still(context: RuleContext, entry: Expectation) -> Rewrite | None:
    return Rewrite(entry.of(replace(t, detached=True) for t in entry.terms), (("samples without gradient",),))


STILL = Rule("STILL", ("samples carry no gradient",), still)


def test_a_row_is_all_that_a_rule_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With samples held still, the gradient of log q(x) - log p(x) in q's mean is the score x - m of q alone."""
    monkeypatch.setattr(derive, "RULES", (*derive.RULES[:-1], STILL, derive.RULES[-1]))
    program = jointkl.compile(SPEC)
    noise = torch.tensor([0.3, -1.0, 2.0])
    (slope,) = torch.autograd.grad(program.loss("m", {"x.noise": noise}), program.parameters_of("m"))
    torch.testing.assert_close(slope, noise.mean())
    lines = program.derivation.text().splitlines()
    assert [line.strip() for line in lines if "STILL" in line] == [
        "STILL          samples without gradient",
        "STILL    samples carry no gradient",
    ]
