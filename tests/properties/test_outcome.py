"""What every derivation ends in, what is refused, and the same again (properties 18, 22, 23, 27, 28)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, note
from hypothesis import strategies as st
from torch import Tensor

import jointkl
from jointkl.derivation.derive import Derivation
from jointkl.derivation.expr import LogFactor, LogMarginal, LogSigmoid
from jointkl.derivation.facts import facts_of
from jointkl.derivation.rewrite import RuleContext
from jointkl.derivation.rules.block import block
from jointkl.derivation.rules.cancel import cancel
from jointkl.derivation.rules.expand import expand
from jointkl.semantics.model import Divergence as ModelDivergence
from jointkl.semantics.model import Evidence as ModelEvidence
from jointkl.semantics.model import Joint as ModelJoint
from tests.properties.compiled import LEGITIMATE, compiled, examples
from tests.properties.drawn import ANY, likelihoods, mixtures, ratios
from tests.properties.expectation import data
from tests.properties.specs import (
    Factor,
    Goal,
    Joint,
    Law,
    Spec,
)
from tests.worlds import MODELS

# --- what the derivation ends in


def derived(spec: Spec) -> Derivation:
    note(spec.text)
    try:
        return jointkl.derive(jointkl.parse(spec.text))
    except jointkl.JklError as error:
        assume(not {r.code for r in error.reports} <= set(LEGITIMATE))
        raise


@examples(40)
@given(ANY)
def test_18_cancel_and_block_are_idempotent(spec: Spec) -> None:
    """CANCEL and BLOCK idempotent."""
    note(spec.text)
    model = jointkl.parse(spec.text)
    facts = facts_of(model)
    for goal in model.goals:
        for term in goal.terms:
            assert isinstance(term, ModelDivergence)
            entries, labelled = expand(facts, term, 0)
            once = tuple(made.entry if (made := cancel(e)) else e for e in entries)
            assert not any(map(cancel, once))
            for player in facts.players:
                context = RuleContext(facts, player, goal, term, labelled, once)
                for entry in once:
                    made = block(context, entry)
                    if made is not None and made.entry.terms:
                        assert block(context, made.entry) is None


@examples(40)
@given(st.one_of(ANY, ratios()))
def test_22_no_emitted_atom_is_unknown(spec: Spec) -> None:
    """No emitted atom is U: nothing is evaluated that only data have, nor a marginal of what has no sum."""
    derivation = derived(spec)
    laws = derivation.model.laws
    for entries in derivation.losses.values():
        for t in (t for e in entries for t in e.terms):
            factors = t.atom.factors if isinstance(t.atom, LogMarginal) else ()
            factors = (t.atom.factor,) if isinstance(t.atom, LogFactor) else factors
            assert not any(isinstance(laws[f.law].body, ModelEvidence | ModelJoint) for f in factors), t.atom
            hidden = t.atom.hidden if isinstance(t.atom, LogMarginal) else ()
            assert all(derivation.model.space(v).discrete for v in hidden), t.atom


@examples(40)
@given(st.one_of(mixtures(), mixtures(evaluable=True, label="three"), mixtures(options=("game=nonsaturating",))))
def test_23_a_classifier_has_one_logistic_loss(spec: Spec) -> None:
    """Every classifier has exactly one logistic loss: -log c(k|v) on each branch's paths, and nothing else."""
    derivation = derived(spec)
    (key,) = spec.classifiers
    player = next(p for p in derivation.facts.players if key in p.laws)
    law = spec.law(spec.goals[0].terms[0].left[0].law)
    assert isinstance(law.body, Joint)
    mass: Counter[int] = Counter()
    for e in derivation.losses[player.name]:
        assert e.label is not None
        (t,) = e.terms
        assert isinstance(t.atom, LogFactor)
        assert (t.atom.factor.law, t.atom.value, t.coefficient) == (key, e.label[1], -1)
        mass[e.label[1]] += e.weight
    scale = spec.goals[0].terms[0].weight * len(law.body.branches)
    shares = zip(law.body.branches, law.body.shares(), strict=True)
    assert mass == {b.value: w * scale for b, w in shares}
    assert all(t.atom.factor.law != key or p == player.name or t.atom.value is not None
               for p, entries in derivation.losses.items() for e in entries for t in e.terms
               if isinstance(t.atom, LogFactor))  # fmt: skip


@examples(30)
@given(ratios())
def test_23_a_critic_has_one_logistic_loss(spec: Spec) -> None:
    """Every ratio has exactly one logistic loss, of weight 1 on either side."""
    derivation = derived(spec)
    mass: Counter[bool] = Counter()
    for e in derivation.losses["C"]:
        (t,) = e.terms
        assert isinstance(t.atom, LogSigmoid)
        assert t.coefficient == -1
        mass[t.atom.up] += e.weight
    assert mass == {True: 1, False: 1}
    others = [t.atom for p, es in derivation.losses.items() if p != "C" for e in es for t in e.terms]
    assert not any(isinstance(a, LogSigmoid) for a in others)


# --- what is refused


def _blind(spec: Spec) -> Spec:
    """The classifier no longer sees one of the variables."""
    (key,) = spec.classifiers
    law = spec.law(key)
    assume(len(law.givens) > 1)
    fewer = replace(law, givens=law.givens[:-1], body=replace(law.body, text=_without(law)))
    swap = lambda fs: tuple(Factor(fewer.key, f.outputs, fewer.givens) if f.law == key else f for f in fs)  # noqa: E731
    laws = tuple(fewer if x.key == key else x for x in spec.laws)
    goals = tuple(replace(g, terms=tuple(replace(d, right=swap(d.right)) for d in g.terms)) for g in spec.goals)
    return replace(spec, laws=laws, goals=goals, classifiers=(fewer.key,))


def _without(law: Law) -> str:
    return law.body.text.replace(f"({','.join(law.givens)})", f"({','.join(law.givens[:-1])})")


def _negative(spec: Spec) -> Spec:
    goal = spec.goals[0]
    return replace(spec, goals=(replace(goal, maximize=True),))


def _no_critic(spec: Spec) -> Spec:
    return replace(spec, goals=tuple(replace(g, options=()) for g in spec.goals), nets=spec.nets[1:])


def _idle_net(spec: Spec) -> Spec:
    return replace(spec, nets=(*spec.nets, ("Idle", "linear()")))


def _generated_twice(spec: Spec) -> Spec:
    d = spec.goals[0].terms[0]
    return replace(spec, goals=(replace(spec.goals[0], terms=(replace(d, left=(*d.left, *d.left)),)),))


def _two_mixtures(spec: Spec) -> Spec:
    """The same classifier tells apart the branches in other shares as well."""
    d = spec.goals[0].terms[0]
    law = spec.law(d.left[0].law)
    assert isinstance(law.body, Joint)
    shares = (Fraction(2, 5), Fraction(3, 5))
    body = replace(
        law.body, branches=tuple(replace(b, weight=w) for b, w in zip(law.body.branches, shares, strict=True))
    )
    other = replace(law, label="other", body=body)
    more = replace(d, left=(Factor(other.key, d.left[0].outputs),))
    return replace(spec, laws=(*spec.laws, other), goals=(*spec.goals, Goal((more,))))


WRONG = {
    "a classifier that does not see a variable": ("E-CLASSIFIER", mixtures(), _blind),
    "a classifier trained to be wrong": ("E-GAME", mixtures(), _negative),
    "no critic": ("E-CRITIC", ratios(), _no_critic),
    "a net in no law": ("E-NET", likelihoods(), _idle_net),
    "a variable generated twice": ("E-JOINT", likelihoods(), _generated_twice),
    "a classifier of two mixtures": ("E-CLASSIFIER", mixtures(), _two_mixtures),
}
"""What is broken: the code of its refusal, the specs, and how."""


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
@examples(10)
@given(st.data())
def test_27_what_is_refused_emits_nothing(name: str, data: st.DataObject) -> None:
    """What is refused emits nothing: every way to the emitted text ends in the same refusal."""
    code, strategy, broken = WRONG[name]
    text = broken(data.draw(strategy)).text
    note(text)
    found = [
        refusal(lambda: jointkl.derive(jointkl.parse(text))),
        refusal(lambda: jointkl.python(jointkl.parse(text))),
        refusal(lambda: jointkl.compile(text)),
    ]
    assert len(set(found)) == 1
    assume(found[0])  # what differs may not depend on what is missing
    assert code in {c for c, _, _ in found[0]}


def refusal(way: Callable[[], object]) -> tuple[tuple[str, str, int], ...]:
    """Code, message and place of every report; none where the spec is accepted."""
    try:
        way()
    except jointkl.JklError as error:
        return tuple((r.code, r.message, r.span.start) for r in error.reports)
    return ()


# --- the same again


@pytest.mark.slow
@examples(20)
@given(st.one_of(ANY, ratios()))
def test_28_the_same_seed_gives_the_same_bits(spec: Spec) -> None:
    """The same seed gives the same bits: initial weights, draws, losses and gradients."""

    def run() -> list[Tensor]:
        torch.manual_seed(7)
        program = jointkl.compile(jointkl.parse(spec.text))
        batch, _ = data(spec, program)
        found = [w.detach().clone() for w in program.parameters()]
        for player in program.emitted.losses:
            own = program.parameters_of(player)
            loss = program.loss(player, {k: v.float() if v.is_floating_point() else v for k, v in batch.items()})
            found += [loss.detach(), *torch.autograd.grad(loss, own, allow_unused=True)]
        return found

    compiled(spec)
    for a, b in zip(run(), run(), strict=True):
        assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.slow
def test_28_the_same_text_in_every_process(tmp_path: Path) -> None:
    """The emitted text does not depend on the seed of Python's hashes."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(MODELS.glob("*.jkl"))]

    @examples(30)
    @given(ANY)
    def draw(spec: Spec) -> None:
        derived(spec)
        texts.append(spec.text)

    draw()
    for i, text in enumerate(texts):
        (tmp_path / f"{i:03}.jkl").write_text(text, encoding="utf-8")
    code = "import jointkl, pathlib, hashlib, sys\n" + (
        "for p in sorted(pathlib.Path(sys.argv[1]).glob('*.jkl')):"
        " print(p.stem, hashlib.sha256(jointkl.python(jointkl.load(p)).encode()).hexdigest())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    assert len(outputs) == 1
    assert len(next(iter(outputs)).splitlines()) == len(texts) >= 25 + 30
