"""What may stand in an objective: every mistake of a pass is found, and said where in the spec it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import jointkl
from jointkl.objective import ir
from jointkl.objective.verify import verify
from jointkl.semantics.spaces import Space
from tests.worlds import MODELS

SPEC = """data(x) = evidence()
var x: real[2]
var k: {0..2}
param w: real[3]
param mu: real[3,2]
net F = mlp(4)
q(k) = Categorical(logits=w)
q(x|k) = Normal(mu[k], 1)
p(k|x) = Categorical(F(x))
minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
"""

Change = Callable[[ir.Node], ir.Node | None]


def lowered() -> ir.Objective:
    return jointkl.lower(jointkl.derive(jointkl.parse(SPEC, "spec.jkl")))


def changed(objective: ir.Objective, change: Change) -> ir.Objective:
    """The first node of the first loss that `change` gives another for is that."""
    loss = objective.losses[0]
    for i, node in enumerate(loss.nodes):
        other = change(node)
        if other is not None:
            nodes = (*loss.nodes[:i], other, *loss.nodes[i + 1 :])
            return replace(objective, losses=(replace(loss, nodes=nodes), *objective.losses[1:]))
    raise AssertionError("no such node")


def over(node: ir.Node) -> ir.Node | None:
    return replace(node, dims=(ir.Dim("j", 3),)) if isinstance(node, ir.Over) else None


def forward(node: ir.Node) -> ir.Node | None:
    return replace(node, factors=(99, *node.factors)) if isinstance(node, ir.Product) else None


def inputs(node: ir.Node) -> ir.Node | None:
    return replace(node, inputs=(*node.inputs, *node.inputs)) if isinstance(node, ir.Net) else None


def space(node: ir.Node) -> ir.Node | None:
    wrong = Space("real", (3,))
    return replace(node, density=replace(node.density, space=wrong)) if isinstance(node, ir.LogProb) else None


def event(node: ir.Node) -> ir.Node | None:
    return replace(node, indices=(*node.indices,) * 3) if isinstance(node, ir.Index) else None


def index(node: ir.Node) -> ir.Node | None:
    return replace(node, indices=(node.node,)) if isinstance(node, ir.Index) else None


def parameter(node: ir.Node) -> ir.Node | None:
    if not isinstance(node, ir.LogProb) or node.density.family != "Normal":
        return None
    (_, loc), scale = node.density.parameters
    return replace(node, density=replace(node.density, parameters=(("rate", loc), scale)))


def argument(node: ir.Node) -> ir.Node | None:
    return ir.Argument("x", Space("real", (2,))) if isinstance(node, ir.Given) else None


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (over, "nothing along j: it has data, k with an event of ()"),
        (forward, "it refers to what stands behind it"),
        (inputs, "2 inputs for 1"),
        (space, "loc has an event of (2,) for one of (3,)"),
        (event, "3 indices for an event of (3, 2)"),
        (index, "is no place"),
        (parameter, "Normal has no parameter rate"),
        (argument, "an argument in a loss"),
    ],
)
def test_what_a_pass_may_not_make_is_found(change: Change, wrong: str) -> None:
    with pytest.raises(AssertionError) as raised:
        verify(changed(lowered(), change), "this pass")
    message = str(raised.value)
    assert message.startswith("after this pass: the loss of ")
    assert wrong in message
    if change is not forward:  # what refers forward is in no term's reach
        assert any(f"line {line} of the spec, `" in message for line in (7, 8, 9, 10))


@pytest.mark.parametrize("name", sorted(path.stem for path in MODELS.glob("*.jkl")))
def test_what_is_lowered_and_shared_is_in_order(name: str) -> None:
    objective = jointkl.lower(jointkl.derive(jointkl.load(MODELS / f"{name}.jkl")))
    assert verify(objective, "sharing") is objective
