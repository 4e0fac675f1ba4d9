"""Which laws of the systems can be judged, and by what."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import jointkl
from jointkl.evaluation.judge import judge
from jointkl.evaluation.subjects import coded, dense, drawn, why_not_dense
from jointkl.sources import bind
from tests.bounds import share_reach

MODELS = Path(__file__).resolve().parent.parent.parent / "models"

DRAWN_CODED_DENSE = {
    "aae": (["q(x)"], ["p(z|x), q(x|z)"], []),
    "adversary_activated_vae": (["q(x)"], ["p(z|x), q(x|z)"], ["q(x)"]),
    "age": (["q(x)"], ["p(z|x), q(x|z)"], []),
    "ali": (["q(x)"], ["p(z|x), q(x|z)"], ["q(x)"]),
    "alpha_gan": (["q(x,s=0)"], ["p(z|x), q(x|z)"], []),
    "avb": (["q(x)"], ["p(z|x), q(x|z)"], ["q(x)"]),
    "cyclegan": (["q(b|a)", "p(a|b)"], ["p(a|b), q(b|a)", "q(b|a), p(a|b)"], []),
    "domain_adaptation": ([], [], []),
    "em": (["q(x)"], ["p(k|x), q(x|k)"], ["q(x)"]),
    "gan": (["q(x)"], [], []),
    "gan_ratio": (["q(x)"], [], []),
    "infogan": (["q(x)"], [], []),
    "introvae": (["q(x)"], ["p(z|x), q(x|z)"], []),
    "iwae": (["q(x)"], ["p(z|x), q(x|z)"], ["q(x)"]),
    "vae": (["q(x)"], ["p(z|x), q(x|z)"], ["q(x)"]),
    "vae_gan": (["q(x,s=0)"], ["p(z|x), q(x|z)"], []),
    "vi": (["q(x|t)"], [], []),
    "wake_sleep": (["q(x)"], ["p(z|x), q(x|z)"], ["q(x)"]),
}


@pytest.mark.parametrize("name", DRAWN_CODED_DENSE)
def test_the_systems(name: str) -> None:
    program = jointkl.compile(MODELS / f"{name}.jkl")
    facts = program.derivation.facts
    found = ([s.text for s in drawn(facts)], [s.text for s in coded(facts)], [s.text for s in dense(program)])
    assert found == DRAWN_CODED_DENSE[name]


CLASSES = """
data(x, c) = digits()
var x: real[1,8,8]
var c: {0..9}
var z: real[4]
net E = mlp(8)
net G = mlp(8)
net R = mlp(8)
p(z | x, c) = Normal(E(x, c))
r(c | x) = Categorical(R(x))
q(z) = Normal(0, 1)
q(x | z, c) = Normal(G(z, c), 0.3)
minimize KL(data(x,c) * p(z|x,c) || data(c) * q(z) * q(x|z,c))
minimize CE(data(x,c) || r(c|x)) over R
"""


@pytest.mark.statistical
def test_a_law_given_classes_and_a_classifier() -> None:
    """Samples given the evidence's own classes; the likelihood to a net that is 0 of all alike."""
    program = jointkl.compile(CLASSES)
    with torch.no_grad():
        for w in program.nets["R"].parameters():
            w.zero_()
    facts = program.derivation.facts
    assert [(s.text, s.variable, s.givens) for s in drawn(facts)] == [("q(x|c)", "x", ("c",))]
    assert [s.text for s in dense(program)] == ["r(c|x)"]
    assert [s.text for s in coded(facts)] == ["q(x|c), r(c|x)"], "classes drawn as images and read again"
    found = judge(program, bind(program.model), ["reconstruction", "log_likelihood"], samples=200)
    assert found["reconstruction"].value == pytest.approx(0.9, abs=share_reach(0.9, 200))
    assert found["log_likelihood"].value == pytest.approx(-math.log(10))


def test_why_there_is_no_density() -> None:
    assert "q(x|z) is a Dirac" in why_not_dense(jointkl.compile(MODELS / "gan.jkl"))
    assert "no law of the spec gives the density" in why_not_dense(jointkl.compile(MODELS / "domain_adaptation.jkl"))
