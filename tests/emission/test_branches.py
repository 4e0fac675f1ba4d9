"""The branches of a classifier are one forward exactly where that changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

import jointkl
from jointkl import Passes
from jointkl.program import Program

SPEC = """
data(x) = digits()
var x: unit[1,8,8]
var z: real[4]
var y: {{0, 1}}
net G = deconv(6, 4, norm=batch)
net D = {}
q(z)     = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))
q(x, y) = {{ y=1: data(x); y=0: q(z) * q(x|z) }}
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y))
"""
SEPARATE = Passes(branches=False, frozen=False, copies=False)
JOINED = ["conv(4)", "conv(4, norm=layer)", "mlp(8, norm=layer)", "resnet(4)"]
APART = ["conv(4, norm=batch)", "conv(4, norm=spectral)", "mlp(8, norm=batch)", "resnet(4, norm=batch)"]


def compiled(classifier: str, passes: Passes | None = None) -> Program:
    torch.manual_seed(1)
    return jointkl.compile(SPEC.format(classifier), passes).double()


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(6, 1, 8, 8, generator=generator, dtype=torch.float64)
    return {"x": images, "z": torch.randn(6, 4, generator=generator, dtype=torch.float64)}


@pytest.mark.parametrize(("builder", "joined"), [*((b, True) for b in JOINED), *((b, False) for b in APART)])
def test_statistics_of_one_branch_never_mix_with_the_other_s(builder: str, joined: bool) -> None:
    program = compiled(builder)
    assert ("torch.cat" in program.source) == joined
    nets, given = program.nets, batch()
    before = {name: value.clone() for name, value in program.emitted.state_dict().items()}
    found = program.loss("D", given)
    gradients = torch.autograd.grad(found, program.parameters_of("D"))
    after = {name: value.clone() for name, value in program.emitted.state_dict().items()}
    program.emitted.load_state_dict(before)
    with torch.no_grad():
        fake = nets["G"](given["z"])
    by_hand = softplus(-nets["D"](given["x"])).mean() + softplus(nets["D"](fake)).mean()
    torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=1e-12)
    for a, b in zip(gradients, torch.autograd.grad(by_hand, program.parameters_of("D")), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    for name, value in program.emitted.state_dict().items():
        torch.testing.assert_close(after[name], value)


def test_one_forward_would_be_another_loss() -> None:
    """That the test above can fail: joined, batch statistics give another value."""
    program, given = compiled("conv(4, norm=batch)"), batch()
    found = program.loss("D", given)
    with torch.no_grad():
        both = torch.cat([given["x"], program.nets["G"](given["z"])])
    logits = program.nets["D"](both)
    joined = softplus(-logits[:6]).mean() + softplus(logits[6:]).mean()
    assert (joined - found).abs() > 1e-4


@pytest.mark.parametrize("builder", [*JOINED, *APART])
@pytest.mark.parametrize("player", ["G", "D"])
def test_passes_change_no_value_and_no_gradient(builder: str, player: str) -> None:
    shared, plain = compiled(builder), compiled(builder, SEPARATE)
    plain.emitted.load_state_dict(shared.emitted.state_dict())
    values = [p.loss(player, batch()) for p in (shared, plain)]
    torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(v, p.parameters_of(player)) for v, p in zip(values, (shared, plain), strict=True)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_class_of_one_s_own_is_never_joined() -> None:
    text = jointkl.python(jointkl.parse(SPEC.format('python("mine:D")')), allow_imports=("mine",))
    assert "torch.cat" not in text
