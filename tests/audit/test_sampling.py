"""What a finite instance draws, evaluates and runs by Pyro: right modules are met, and each kind of fault is caught."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.audit import solutions
from jointkl.audit.case import Case, made
from jointkl.audit.findings import Finding, text
from jointkl.audit.programs import programs
from jointkl.audit.sampling import deviation, sampling
from jointkl.program import Program

SPEC = """
data(x) = evidence()
var x: {0, 1}
var z: {0..2}
var y: {0, 1}
var b: binary[2]
param a: real[2,3]
param l: real[3]
param c: real
p(z | x) = Categorical(logits=a[x])
q(z) = Categorical(logits=l)
q(x | z) = Bernoulli(logits=c * z)
g(b | x) = Bernoulli(logits=c - x)
w(x) = Bernoulli(0.8)
r(x, y) = { y=1: 0.3 * data(x); y=0: 0.7 * q(z) * q(x|z) }
m(x) = { s=1: 0.25 * q(z) * q(x|z); s=0: 0.75 * w(x) }
h(x, z) = q(z) * q(x|z)
e(x, x', b) = data(x) * data(x') * g(b|x')
f(k | x) = Free
n(k) = Categorical()
var k: {0, 1}
o(x | k) = Bernoulli(logits=l[0] * k)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
minimize CE(data(x) || m(x)) over c
minimize KL(data(x) * f(k|x) || n(k) * o(x|k)) over f(k|x), l
"""

GLOBALS = """
data(x, t) = evidence()
var x, t: binary
var g: binary global
param a, b: real
p(g) = Bernoulli(logits=a)
q(g) = Bernoulli(logits=b)
q(x | t, g) = Bernoulli(logits=b * g - t)
j(x, t, g) = data(t) * q(g) * q(x|t,g)
minimize KL(data(x,t) * p(g) || data(t) * q(g) * q(x|t,g))
"""


def case(program: Program) -> Case:
    found = made(program, frozenset(), 0)
    for name, player in found.players():
        if player.kind == "free":
            solutions.solve_free(found, name, player)
    return found


def compiled(spec: str, kind: type[Program] = Program, *changes: tuple[str, str]) -> Case:
    """The case of a spec whose emitted text was changed, each change in one place."""
    program = jointkl.compile(spec)
    source = program.source
    for before, after in changes:
        source, count = re.subn(before, after, source)
        assert count == 1, (before, program.source)
    return case(kind(program.derivation, program.objective, source).double())


def failing(found: list[Finding]) -> set[tuple[str, str]]:
    return {(f.subject, f.what.split(":")[0]) for f in found if f.failed}


def test_what_is_right_is_met() -> None:
    it = compiled(SPEC)
    found = [*sampling(it), *programs(it)]
    assert not failing(found), text("it", found)
    for what, count in {"log_prob": 9, "samples": 12, "Pyro sites": 12, "Pyro density": 8}.items():
        assert len([f for f in found if f.what == f"{what}" and f.met]) >= count, text("it", found)


def test_globals_are_one_value_a_call() -> None:
    found = list(programs(compiled(GLOBALS)))
    assert not failing(found), text("it", found)
    assert {f.subject for f in found if f.what == "Pyro density"} == {"p(g)", "q(g)", "q(x|t,g)", "j(x,t,g)"}


@pytest.mark.parametrize(
    ("spec", "change", "caught"),
    [
        (SPEC, (r"torch.where\(\(y == 1\), x, x_0\)", "torch.where((y == 0), x, x_0)"), {("r(x,y)", "Pyro sites")}),
        (SPEC, (r"dist.Bernoulli\(self.full\(0.25\)\)", "dist.Bernoulli(self.full(0.3))"), {("m(x)", "Pyro sites")}),
        (
            GLOBALS,
            (r'(with pyro.plate\("data", ).*, subsample=torch.arange\(len\(t\)\)\):(?=\n +x = )', r"\1len(t)):"),
            {("j(x,t,g)", "Pyro density")},
        ),
        (
            GLOBALS,
            (r"logits=self.b \* g - t\)", "logits=self.b * g + t)"),
            {(law, what) for law in ("q(x|t,g)", "j(x,t,g)") for what in ("Pyro density", "Pyro sites")},
        ),
    ],
    ids=["branch", "weight", "plate", "law"],
)
def test_an_altered_program_is_caught(spec: str, change: tuple[str, str], caught: set[tuple[str, str]]) -> None:
    assert failing(list(programs(compiled(spec, Program, change)))) >= caught


class Flipped(Program):
    """The label of a mixture tells the other branch."""

    def sample(self, name: str, *arguments: Any, **keywords: Any) -> dict[str, Tensor]:
        found = super().sample(name, *arguments, **keywords)
        return {**found, "y": 1 - found["y"]} if "y" in found else found


class Paired(Program):
    """Two draws of one source are one."""

    def sample(self, name: str, *arguments: Any, **keywords: Any) -> dict[str, Tensor]:
        found = super().sample(name, *arguments, **keywords)
        return {**found, "x'": found["x"]} if "x'" in found else found


class Doubled(Program):
    """The densities of products are off by a constant."""

    def log_prob(self, name: str, batch: Mapping[str, Tensor], particles: int = 1000) -> Tensor:
        found = super().log_prob(name, batch, particles)
        return found + torch.log(torch.tensor(2.0)) if name == "h(x,z)" else found


@pytest.mark.parametrize(
    ("kind", "caught"),
    [
        (Flipped, {("r(x,y)", "samples")}),
        (Paired, {("e(x,x',b)", "samples")}),
        (Doubled, {("h(x,z)", "log_prob")}),
    ],
)
def test_a_wrong_sample_or_density_is_caught(kind: type[Program], caught: set[tuple[str, str]]) -> None:
    assert failing(list(sampling(compiled(SPEC, kind)))) == caught


def test_counts_are_told_from_their_means_in_standard_errors() -> None:
    p = torch.tensor([0.5, 0.499, 0.001, 0.0], dtype=torch.float64)
    at = deviation(torch.tensor([5000.0, 4990.0, 10.0, 0.0]), p, 10_000)
    assert at < 1e-6
    assert deviation(torch.tensor([5100.0, 4890.0, 10.0, 0.0]), p, 10_000) == pytest.approx(2.0, abs=0.01)
    assert deviation(torch.tensor([5000.0, 4990.0, 60.0, 0.0]), p, 10_000) > 5
    assert deviation(torch.tensor([5000.0, 4989.0, 10.0, 1.0]), p, 10_000) == float("inf")
