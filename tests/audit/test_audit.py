"""The audit: every model is met, a module that was altered is not, and what cannot be judged is said so."""

from __future__ import annotations

import itertools

import pytest

import jointkl
from jointkl.audit.findings import Finding, text
from jointkl.audit.instance import instance
from jointkl.audit.judge import audit, verdicts
from jointkl.program import Program
from tests.worlds import GAN, MODELS

ALI = (MODELS / "ali.jkl").read_text(encoding="utf-8")


def judged(spec: str) -> tuple[Finding, ...]:
    return audit(jointkl.parse(spec))


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.jkl")), ids=lambda p: p.stem)
def test_every_model_is_met(path) -> None:
    findings = audit(jointkl.load(path))
    assert findings
    assert not [f for f in findings if f.failed], text(path.stem, findings)


def test_drop_fails_by_design() -> None:
    found = [f for f in judged(ALI + " with drop=p(z|x)") if f.subject == "E+G" and f.what == "gradient"]
    assert [f.instance for f in found] == ["finite", "Gaussian"]
    for f in found:
        assert not f.met
        assert not f.failed
        assert f.error is not None
        assert f.error > (5.0 if f.deviates else 0.05)
        assert "as expected" in f.verdict


def altered(spec: str, *changes: tuple[str, str]) -> tuple[Finding, ...]:
    """The findings on a module whose text was changed, each change in one place."""
    made = instance(jointkl.parse(spec))
    program = jointkl.compile(jointkl.parse(made.text))
    source = program.source
    for before, after in changes:
        assert source.count(before) == 1, (before, source)
        source = source.replace(before, after)
    return tuple(verdicts(Program(program.derivation, program.objective, source).double(), made.trunks))


def test_an_altered_module_is_caught() -> None:
    right = altered(GAN)
    assert all(f.met for f in right), text("gan", right)
    wrong = altered(GAN, ("+ F.softplus(D_logits[n:]).mean()", "+ 0.9 * F.softplus(D_logits[n:]).mean()"))
    assert {f.subject for f in wrong if f.failed} == {"D"}
    assert {f.what for f in wrong if f.failed} == {"gradient", "at the optimum: stationary"}


def test_a_joint_too_large_says_so() -> None:
    n = 24
    names = [f"z{i}" for i in range(n)]
    spec = "\n".join([
        "data(x) = evidence()", "var x: real", f"var {', '.join(names)}: real", "net A = linear()",
        f"p({names[0]} | x) = Normal(A(x), 1)",
        *(f"p({b} | {a}) = Normal({a}, 1)" for a, b in itertools.pairwise(names)),
        *(f"q({v}) = Normal(0, 1)" for v in names),
        f"minimize KL(data(x) * p({names[0]}|x) * "
        + " * ".join(f"p({b}|{a})" for a, b in itertools.pairwise(names))
        + " || data(x) * " + " * ".join(f"q({v})" for v in names) + ")",
    ])  # fmt: skip
    findings = judged(spec)
    assert not [f for f in findings if f.failed]
    assert "not judged: more states than can be summed over" in {f.verdict for f in findings}
