"""A spec as it is written: laws that are right are met, in batches of any shape, and each kind of fault is caught."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import jointkl
from jointkl.audit import over_data, written
from jointkl.audit.findings import Finding, summed, text
from jointkl.program import Program

SHAPES = """
data(x, k, u) = evidence()
var x: real[3]
var k: {0..2}
var u: unit
param mu: real[3,3]
param s: positive[3]
param a, b: positive[3]
p(x | k) = Normal(mu[k], s[k])
p(u | k) = Beta(a[k], b[k])
p(k | x) = Categorical(logits=x * softplus(s))
minimize CE(data(x,k) || p(x|k)) + 2 * CE(data(u,k) || p(u|k)) + 0.5 * CE(data(x,k) || p(k|x))
"""

NETS = """
data(i, c, v) = evidence()
var i: unit[1,8,8]
var c: {0..2}
var v: binary[2,3]
var z: real[2]
param e: real[2]
net K = conv(4)
net H = conv(4, hidden=6)
net M = mlp(5)
net T: real[3] = mlp(4)
p(c | i) = Categorical(K(i))
p(z | i, c) = Normal(H(i, c))
p(v | c, z) = Bernoulli(M(T(z), e, c))
r(z | c) = Delta(e * c, density=Laplace(1))
q(z | c) = MultivariateNormal(e, scale_tril=[[1, 0], [0.5, 2]])
minimize KL(data(i,c) * p(z|i,c) || data(i) * p(c|i) * q(z|c))
minimize KL(data(v,c) * q(z|c) || data(c) * p(v|c,z) * r(z|c)) over M, T, e
"""

EM = """
data(x) = evidence()
var x: real[2]
var k: {0..1}
param mu: real[2,2]
param L: cholesky[2,2]
param w: simplex[2]
p(k | x) = Free
q(k) = Categorical(w)
q(x | k) = MultivariateNormal(mu[k], scale_tril=L[k])
minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
"""

MIXTURES = """
data(x, t) = evidence()
target(x) = evidence()
var x: real
var t, y, k: {0, 1}
param a, b: real[2]
net D = mlp(4)
net E = mlp(4)
u(x | t) = Normal(a[t], 1)
v(x | k) = Laplace(b[k], 2)
h(k) = Bernoulli(0.3)
m(x | t) = { s=0: 0.25 * u(x|t); s=1: 0.75 * h(k) * v(x|k) }
c(y | x) = Bernoulli(D(x))
j(x, y) = { y=1: 0.2 * data(x); y=0: 0.8 * target(x) }
e(k | x) = Categorical(E(x))
minimize CE(data(x,t) || m(x|t)) over a, b
minimize KL(j(x,y) || data(x) * c(y|x))
minimize KL(target(x) * e(k|x) || h(k) * v(x|k)) over E, b
"""

PENALTY = """
data(x) = evidence()
var x, z: real[2]
var y: {0, 1}
net G = mlp(4)
net D = mlp(4)
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
minimize KL(q(x,y) || data(x) * p(y|x)) + 3 * R1(data(x) || p(y|x))
"""


def compiled(spec: str, *changes: tuple[str, str]) -> Program:
    """The program of a spec whose emitted text was changed, each change in one place."""
    program = jointkl.compile(spec)
    source = program.source
    for before, after in changes:
        assert source.count(before) == 1, (before, source)
        source = source.replace(before, after)
    return Program(program.derivation, program.objective, source).double()


def findings(program: Program) -> Iterator[Finding]:
    yield from written.laws(program)
    yield from over_data.players(program)


EM_STEPS = ("solution: stationary", "gradient over data", "closed step: stationary")


@pytest.mark.parametrize(
    ("spec", "judged"),
    [
        (SHAPES, {"density": 3, "log_prob": 3, "gradient over data": 1}),
        (NETS, {"density": 5, "log_prob": 4}),
        (EM, {"density": 2, "log_prob": 2, **dict.fromkeys(EM_STEPS, 1)}),
        (MIXTURES, {"density": 5, "log_prob": 5, "gradient over data": 4}),
        (PENALTY, {"density": 3, "log_prob": 2, "R1 over data": 1}),
    ],
    ids=["shapes", "networks", "em", "mixtures", "penalty"],
)
def test_what_is_right_is_met(spec: str, judged: dict[str, int]) -> None:
    found = list(findings(compiled(spec)))
    assert not [f for f in found if f.error is not None and not f.met], text("it", found)
    for what, count in judged.items():
        assert len([f for f in found if f.what == f"{what}" and f.met]) >= count, text("it", found)


NORMAL = "dist.Normal(self.mu[k.long()], self.s[k.long()][..., None]).to_event(1)"
BETA, SWAPPED = (f"dist.Beta(self.{p}[k.long()], self.{q}[k.long()])" for p, q in ("ab", "ba"))
LOSS = "-dist.Normal(self.mu[k.long()], s[k.long()][..., None]).to_event(1).log_prob(x).mean()"


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        ((f"return {NORMAL}", f"return {NORMAL.replace('[..., None]', '')}"), {"p(x|k)"}),
        ((f"return {NORMAL}", f"return {NORMAL.replace('mu[k.long()]', 'mu[:, k.long()].mT')}"), {"p(x|k)"}),
        ((f"return {NORMAL}", f"return {NORMAL.removesuffix('.to_event(1)')}"), {"p(x|k)"}),
        ((f"return {BETA}\n", f"return {SWAPPED}\n"), {"p(u|k)"}),
        (("logits=x * F.softplus(self.s))\n", "logits=(x * F.softplus(self.s)).flip(0))\n"), {"p(k|x)"}),
        ((LOSS, LOSS.replace("mean", "sum")), {"mu+s+a+b"}),
        ((LOSS, LOSS.replace(".to_event(1)", "")), {"mu+s+a+b"}),
        ((LOSS, LOSS.replace("[..., None]", "[..., :1, None]")), {"mu+s+a+b"}),
    ],
    ids=["fill", "axis", "event", "swapped", "rows", "batch size", "event of a loss", "fill of a loss"],
)  # fmt: skip
def test_an_altered_module_is_caught(change: tuple[str, str], caught: set[str]) -> None:
    found = list(findings(compiled(SHAPES, change)))
    assert {f.subject for f in found if f.failed} == caught, text("it", found)


def test_a_wrong_step_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    program = compiled(EM)
    right = program.solve

    def half(player: str, batch: dict[str, torch.Tensor]) -> object:
        found = right(player, batch)
        with torch.no_grad():
            program.emitted.mu.mul_(0.9)
        return found

    monkeypatch.setattr(program, "solve", half)
    failed = [f.what for f in findings(program) if f.failed]
    assert failed == ["closed step: stationary"]


def test_what_fails_stands_alone() -> None:
    met, other, worse = Finding("a", "x", 1e-12), Finding("b", "x", 1e-11), Finding("c", "x", 0.5)
    none = Finding("d", "x", None, "no density")
    assert list(summed("law", [met, worse, none, other])) == [worse, Finding("2 laws", "x, 1 not judged", 1e-11)]
    assert list(summed("law", [none])) == [Finding("0 laws", "x", None, "no density")]
