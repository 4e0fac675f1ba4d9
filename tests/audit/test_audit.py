"""The audit: every model meets its target, a biased or broken derivation does not."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType

import pytest

import jointkl
from jointkl.audit.findings import audit, text
from jointkl.derivation.derive import Derivation
from jointkl.derivation.expr import Entry, Term
from tests.worlds import GAN, MODELS

ALI = (MODELS / "ali.jkl").read_text(encoding="utf-8")


def derived(spec: str) -> Derivation:
    return jointkl.derive(jointkl.parse(spec))


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.jkl")), ids=lambda p: p.stem)
def test_every_model_meets_its_target(path) -> None:
    findings = audit(jointkl.derive(jointkl.load(path)))
    assert findings
    assert not [f for f in findings if f.failed]
    audited = [f for f in findings if f.error is not None]
    assert audited
    if path.stem != "ali_dropped":
        assert all(f.met for f in audited)
    assert text(path.stem, findings).count("\n") == len(findings) + 1


def test_drop_fails_by_design() -> None:
    (found,) = [f for f in audit(derived(ALI + " with drop=p(z|x)")) if f.player == "E+G"]
    assert not found.met
    assert not found.failed
    assert found.error is not None
    assert found.error > 0.05
    assert "as expected" in found.verdict


def changed(derivation: Derivation, player: str, change) -> Derivation:
    """The derivation with one player's entries rewritten."""
    losses = dict(derivation.losses)
    losses[player] = tuple(change(e) for e in losses[player])
    return replace(derivation, losses=MappingProxyType(losses))


def failing(derivation: Derivation, player: str) -> bool:
    return any(f.failed for f in audit(derivation) if f.player == player)


def terms(e: Entry, change) -> Entry:
    return replace(e, terms=tuple(t for t in map(change, e.terms) if t is not None))


def flipped(t: Term) -> Term:
    return replace(t, coefficient=-t.coefficient)


@pytest.mark.parametrize(
    ("spec", "player", "change"),
    [
        (GAN, "G", lambda e: terms(e, flipped)),
        (GAN, "D", lambda e: replace(e, weight=e.weight * (2 if e.label == ("y", 1) else 1))),
        (GAN, "G", lambda e: replace(e, weight=e.weight * Fraction(784))),
        (ALI, "E+G", lambda e: terms(e, lambda t: None if t.detached else t)),
        (ALI, "E+G", lambda e: terms(e, lambda t: replace(t, detached=False))),
        (ALI, "E+G", lambda e: terms(e, lambda t: flipped(t) if t.detached else t)),
    ],
    ids=["sign", "weight of a branch", "scale", "no residual", "not detached", "sign of the residual"],
)
def test_a_wrong_loss_is_caught(spec: str, player: str, change) -> None:
    right = derived(spec)
    assert not failing(right, player)
    assert failing(changed(right, player, change), player)


def test_it_works_on_a_spec_that_nobody_has_named() -> None:
    """Two latents, a hidden mixture on the generating side, unequal weights, a common factor, two goals."""
    findings = audit(
        derived("""
        data(x) = evidence()
        var x: real[3]
        var z, w: real[2]
        var t: real
        var y: {0, 1}
        net A = mlp(4)
        net B = mlp(4)
        net G = mlp(4)
        net H = mlp(4)
        net D = mlp(4)
        p(w | x) = Normal(A(x))
        p(z | w) = Normal(B(w))
        q(z) = Normal(0, 1)
        q(w | z) = Normal(H(z))
        q(x | w) = Delta(G(w))
        r(t | x) = Normal(0, 1)
        c(y | x, w) = Bernoulli(D(x, w))
        g(x, w) = { s=0: 0.25 * q(z) * q(w|z) * q(x|w); s=1: 0.75 * data(x') * p(w|x') * q(x|w) }
        q(x, w, t, y) = { y=1: 0.4 * data(x) * p(w|x) * r(t|x); y=0: 0.6 * g(x, w) * r(t|x) }
        minimize KL(q(x,w,t,y) || data(x) * p(w|x) * r(t|x) * c(y|x,w))
        minimize 0.5 * KL(data(x) * p(w|x) * p(z|w) || q(z) * q(w|z) * data(x)) over A, B, H
    """)
    )
    assert {f.player for f in findings} >= {"D"}
    assert all(f.met for f in findings), text("it", findings)


def test_a_joint_too_large_says_so() -> None:
    n = 16
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
    (found,) = audit(derived(spec))
    assert not found.failed
    assert found.verdict == "not audited: more than 2,000,000 states"
