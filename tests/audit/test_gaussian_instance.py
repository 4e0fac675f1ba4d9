"""The linear-Gaussian instance: what the finite one cannot judge is met there, and an altered module is not."""

from __future__ import annotations

import math
import re

import pytest
import torch

import jointkl
from jointkl.audit import gaussian_judge
from jointkl.audit.findings import Finding, text
from jointkl.audit.gaussian_case import made
from jointkl.audit.gaussian_instance import instance
from jointkl.audit.making import NoInstance
from jointkl.program import Program
from jointkl.reference import gaussian_goals
from tests.worlds import GAN, MODELS

VAE = """
data(x) = evidence()
var x, z: real
net E = linear()
net G = linear()
param s: positive
p(z | x) = Normal(E(x), 0.6)
q(z) = Normal(0, 1)
q(x | z) = Normal(G(z), s)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
"""

COLUMNS = """
data(x, x') = evidence()
var x, z: real
net E = linear()
net G = linear()
p(z | x, x') = Normal(E(x, x'), 0.7)
q(z) = Normal(0, 1)
g(x | z) = Normal(G(z), 0.8)
"""

ONE_ROW = f"{COLUMNS}minimize KL(data(x,x') * p(z|x,x') || q(z) * g(x|z) * g(x'|z))"

TWO_ROWS = f"""{COLUMNS}
minimize KL(data(x,x') * data(x'',x''') * p(z|x,x') * p(z'|x'',x''')
         || q(z) * q(z') * g(x|z) * g(x'|z) * g(x''|z') * g(x'''|z'))
"""

THREE_ROWS = f"""{COLUMNS.replace("E(x, x')", "E(x)").replace("p(z | x, x')", "p(z | x)")}
minimize KL(data(x,x') * data(x'') * data(x''') * p(z|x)
         || q(z) * g(x|z) * g(x'|z) * g(x''|z) * g(x'''|z))
"""


def judged(spec: str) -> tuple[Finding, ...]:
    return gaussian_judge.audit(jointkl.parse(spec))


def altered(spec: str, *changes: tuple[str, str]) -> tuple[Finding, ...]:
    """The findings on the module of a spec's instance whose text was changed, each change in one place."""
    program = jointkl.compile(instance(jointkl.parse(spec)))
    source = program.source
    for before, after in changes:
        assert source.count(before) == 1, (before, source)
        source = source.replace(before, after)
    return tuple(gaussian_judge.verdicts(Program(program.derivation, program.objective, source).double()))


def is_met(findings: tuple[Finding, ...]) -> bool:
    assert findings
    assert all(f.error is not None for f in findings), text("it", findings)
    return all(f.met for f in findings)


@pytest.mark.parametrize("name", ["age", "iwae", "gan_regularized", "vae", "ali", "gan_ratio", "vi"])
def test_models_are_met(name: str) -> None:
    findings = gaussian_judge.audit(jointkl.load(MODELS / f"{name}.jkl"))
    assert is_met(findings), text(name, findings)


def test_a_slope_of_a_bernoulli_is_met() -> None:
    findings = judged(f"{GAN}\nminimize 5 * R1(data(x) || p(y|x))")
    assert is_met(findings), text("r1", findings)


@pytest.mark.parametrize(
    ("logit", "right"), [("self.D(leaf)[:, 1] - self.D(leaf)[:, 0]", True), ("self.D(leaf)", False)]
)
def test_a_slope_of_two_classes_is_that_of_the_difference_of_logits(logit: str, right: bool) -> None:
    """Not of their sum, on which no probability depends."""
    spec = f"{GAN}\nminimize 5 * R1(data(x) || p(y|x))".replace("Bernoulli", "Categorical")
    program = jointkl.compile(instance(jointkl.parse(spec)))
    source, count = re.subn(
        r"torch\.autograd\.grad\(.*, \[leaf\]", f"torch.autograd.grad(({logit}).sum(), [leaf]", program.source
    )
    assert count == 1
    found = tuple(gaussian_judge.verdicts(Program(program.derivation, program.objective, source).double()))
    assert {f.subject for f in found if f.failed} == (set() if right else {"D"}), text("r1", found)


def test_a_wrong_slope_is_caught() -> None:
    spec = f"{GAN}\nminimize 5 * R1(data(x) || p(y|x))"
    wrong = altered(spec, ("slope.square()", "(1.1 * slope).square()"))
    assert {(f.subject, f.what) for f in wrong if f.failed} == {("D", "gradient")}


@pytest.mark.parametrize(
    ("option", "before", "after"),
    [
        ("", "E_loc + 0.6 * z_noise", "E_loc + 0.66 * z_noise"),
        ("", "+ self.s.log()", "+ 1.1 * self.s.log()"),
        (" with estimate=monte_carlo", "+ (0.5 * (z - 0.0)", "- (0.5 * (z - 0.0)"),
        (" with importance=2", "log_w.logsumexp(0)", "log_w.mean(0)"),
    ],
    ids=["noise", "spread", "sign of the prior", "importance"],
)
def test_an_altered_likelihood_is_caught(option: str, before: str, after: str) -> None:
    spec = VAE.rstrip() + option
    right, wrong = altered(spec), altered(spec, (before, after))
    assert is_met(right), text("vae", right)
    assert any(f.failed for f in wrong), text("vae", wrong)


def test_an_altered_game_is_caught() -> None:
    """A weight of the classifier's loss; what the generator plays, as the minimax value has it."""
    weighed = altered(GAN, ("+ F.softplus(D_logits[n:]).mean()", "+ 0.9 * F.softplus(D_logits[n:]).mean()"))
    assert {f.subject for f in weighed if f.failed} == {"D"}
    played = altered(GAN, ("return F.softplus(-self.D(x)).mean()", "return -F.softplus(self.D(x)).mean()"))
    assert {f.subject for f in played if f.failed} == {"G"}


def test_an_altered_proximal_term_is_caught_away_from_the_snapshot() -> None:
    spec = f"{GAN.rstrip()} with proximal=dirac(3)"
    right = altered(spec)
    assert is_met(right), text("gan", right)
    wrong = altered(spec, ("+ 3 * (x - frozen)", "+ 2.9 * (x - frozen)"))
    assert {f.what for f in wrong if f.failed} == {"proximal, away from the snapshot"}


def test_moments_are_judged_by_means_over_batches() -> None:
    age = (MODELS / "age.jkl").read_text(encoding="utf-8")
    right, wrong = altered(age), altered(age, ("z_var - 1 - z_var.log()", "0.9 * z_var - 1 - z_var.log()"))
    assert all(f.deviates for f in right)
    assert is_met(right), text("age", right)
    assert {f.subject for f in wrong if f.failed} == {"E"}


@pytest.mark.parametrize(
    ("spec", "before", "after"),
    [
        (ONE_ROW, """x_prime = batch["x'"]""", """x_prime = batch["x"]"""),
        (TWO_ROWS, """batch["x'''"] if""", """batch["x'"] if"""),
    ],
    ids=["one", "two"],
)
def test_columns_that_are_copies_are_of_one_draw(spec: str, before: str, after: str) -> None:
    """Each key is one number: of x, x' the next draw is x'', x''', independent of the first."""
    right, wrong = altered(spec), altered(spec, (before, after))
    assert is_met(right), text("columns", right)
    assert any(f.failed for f in wrong), text("columns", wrong)


def test_a_trunk_and_a_finite_variable_have_no_instance() -> None:
    for name, why in (("infogan", "c is finite"), ("vae_gan", "what another net gives")):
        with pytest.raises(NoInstance, match=why):
            instance(jointkl.load(MODELS / f"{name}.jkl"))


def test_draws_whose_keys_could_be_of_one_row_or_of_two_have_no_instance() -> None:
    with pytest.raises(NoInstance, match=r"three draws of data\(x,x'\)"):
        instance(jointkl.parse(THREE_ROWS))


def test_the_reference_against_formulas_written_out() -> None:
    """The closed KL of a linear VAE, by the formula of two bivariate normals."""
    program = jointkl.compile(VAE).double()
    case = made(program, 3)
    ((_, player),) = case.players()
    found = gaussian_goals.objective(case.world(), player)
    data = case.evidence["data(x)"]
    (a, b), (g, h) = ([p.item() for p in program.nets[n].parameters()] for n in "EG")
    m, v, s = float(data.mean), float(data.cov), program.params["s"].item()
    entropy = -0.5 * math.log(2 * math.pi * math.e * v) - 0.5 * math.log(2 * math.pi * math.e * 0.36)
    z_mean, z_var = a * m + b, a * a * v + 0.36
    prior = 0.5 * (z_mean**2 + z_var) + 0.5 * math.log(2 * math.pi)
    residual = (m - g * z_mean - h) ** 2 + (1 - a * g) ** 2 * v + g * g * 0.36
    likelihood = 0.5 * residual / s**2 + math.log(s) + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found.item(), entropy + prior + likelihood)
