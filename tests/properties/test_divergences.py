"""What EXPAND, MARGINALISE and CANCEL make of a divergence has its value (properties 8-10).

The entries are summed over all values by the oracle's tables: every law of information theory must hold of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, note
from hypothesis import strategies as st
from torch import Tensor

import jointkl
from jointkl.derivation.expr import Atom, Expectation, LogFactor, LogMarginal, LogWeight
from jointkl.derivation.facts import facts_of
from jointkl.derivation.rules.cancel import cancel
from jointkl.derivation.rules.expand import expand
from jointkl.semantics.model import Divergence as ModelDivergence
from jointkl.semantics.model import Factor as ModelFactor
from tests.properties.compiled import (
    at_the_optimum,
    close,
    compiled,
    examples,
    losing,
    verify_gradient,
)
from tests.properties.drawn import hidden_mixtures, likelihoods, mixtures
from tests.properties.exact import Exact, Table, times
from tests.properties.making import INNER, SHARES, Making
from tests.properties.specs import Branch, Distribution, Divergence, Evidence, Factor, Goal, Joint, Law, Spec

# --- entries as numbers


def measured(spec: Spec) -> Exact:
    """A spec's laws at some parameters, whatever its goals: each law by a cross-entropy that trains it alone."""
    laws = [law for law in spec.laws if isinstance(law.body, Distribution)]
    joints = [Law(f"data{i}", (*law.givens, *law.outputs), (), Evidence(())) for i, law in enumerate(laws)]
    goals = [
        Goal((Divergence("CE", (Factor(e.key, e.outputs),), (Factor(law.key, law.outputs, law.givens),)),))
        for e, law in zip(joints, laws, strict=True)
    ]
    assume(goals)  # of data alone there is no program
    return Exact(spec, compiled(replace(spec, laws=(*joints, *laws), goals=tuple(goals), classifiers=())))


def value(exact: Exact, number: int = 0) -> Tensor:
    """The `number`-th goal's divergence, by its expanded and cancelled entries; its weight is left out."""
    note(exact.spec.text)
    facts = facts_of(jointkl.parse(exact.spec.text))
    (term,) = facts.model.goals[number].terms
    assert isinstance(term, ModelDivergence)
    entries, _ = expand(facts, term, number)
    total = sum(_entry(made.entry if (made := cancel(e)) else e, exact) for e in entries)
    assert isinstance(total, Tensor)
    return total / float(term.weight)


def _entry(entry: Expectation, exact: Exact) -> Tensor:
    path = times([_factor(f, exact) for f in entry.path] + [_atom(w, exact) for w in entry.weights])
    terms = [float(t.coefficient) * path.expected(_atom(t.atom, exact)) for t in entry.terms]
    return float(entry.weight) * sum(terms, torch.zeros((), dtype=torch.float64))


def _factor(f: ModelFactor, exact: Exact) -> Table:
    return exact.factor(Factor(f.law, f.outputs, f.givens, f.old))


def _atom(atom: Atom, exact: Exact) -> Table:
    match atom:
        case LogFactor(factor=f, value=None):
            return _factor(f, exact)
        case LogFactor(factor=f, value=at):
            table = _factor(f, exact)
            branches = exact.spec.laws
            values = sorted({b.value for law in branches if isinstance(law.body, Joint)
                             for b in law.body.branches if law.body.label == f.outputs[0]})  # fmt: skip
            place = values.index(at)
            axis = table.names.index(f.outputs[0])
            kept = tuple(n for n in table.names if n != f.outputs[0])
            return Table(kept, table.logs.select(axis, place))
        case LogMarginal(branches=branches, hidden=hidden):
            parts = []
            for share, factors in branches:
                whole = times(_factor(f, exact) for f in factors).without(hidden)
                parts.append(Table(whole.names, whole.logs + math.log(share)))
            names = parts[0].names
            return Table(names, torch.stack([p.over(names) for p in parts]).logsumexp(0))
        case LogWeight(share=share):
            return Table((), torch.tensor(math.log(share), dtype=torch.float64))
        case _:
            raise AssertionError(f"EXPAND makes no {atom}")


# --- the laws


@pytest.mark.slow
@examples(40)
@given(st.one_of(likelihoods(), likelihoods(hidden=True), hidden_mixtures(), mixtures(), mixtures(evaluable=True)))
def test_8_a_divergence_is_not_negative(spec: Spec) -> None:
    """KL >= 0: the entries of EXPAND have the value of the divergence, which is not negative."""
    exact = measured(spec)
    found = value(exact)
    assert found > -1e-12
    close(found, exact.divergence(spec.goals[0].terms[0]), "value", spec.text)


@examples(20)
@given(likelihoods(hidden=True), st.booleans())
def test_8_from_itself_it_is_zero(spec: Spec, left: bool) -> None:
    """KL(p||p) = 0, of a joint under two names too."""
    (goal,) = spec.goals
    (d,) = goal.terms
    side = d.left if left else d.right
    m = _again(spec, lambda strategy: None)
    head = tuple(v for f in side for v in f.outputs)
    m.laws["twin"] = Law("twin", head, (), Joint((Branch(side),)))
    twin = m.laws.pop("twin")
    m.laws[twin.key] = twin
    doubled = m.spec(Goal((Divergence("KL", side, (Factor(twin.key, head),)),)))
    assert value(measured(doubled)).abs() < 1e-12


def _again(spec: Spec, draw: Callable) -> Making:
    m = Making(draw)
    m.variables, m.laws = list(spec.variables), {law.key: law for law in spec.laws}
    m.params, m.nets = dict(spec.params), dict(spec.nets)
    return m


def kl(*sides: tuple[Factor, ...]) -> Goal:
    return Goal((Divergence("KL", *sides),))


@st.composite
def chains(draw: Callable) -> Spec:
    """KL(p(a) p(b|a) || q(a) q(b|a)), KL(p(a) || q(a)), KL(p(a) p(b|a) || p(a) q(b|a)), KL(p(b) || q(b))."""
    m = Making(draw)
    a = [m.variable()]
    if m.flag(1, 3):
        a.append(m.variable(INNER))
    b = m.variable(INNER)
    p, q = m.product(a, "pr"), m.product(a, "q")
    on_p = m.factor("p", b, tuple(a), constant=False)
    on_q = m.factor("q", b, tuple(a) if m.flag() else (a[0],))
    shown = [m.named(label, (b,), [*fs, last]) for label, fs, last in (("left", p, on_p), ("right", q, on_q))]
    return m.spec(
        kl((*p, on_p), (*q, on_q)), kl(tuple(p), tuple(q)), kl((*p, on_p), (*p, on_q)), kl((shown[0],), (shown[1],))
    )


@pytest.mark.slow
@examples(30)
@given(chains())
def test_9_chain_rule_and_marginals(spec: Spec) -> None:
    """Chain rule (4): KL of joints = KL of marginals + E KL of conditionals; joint >= marginal."""
    exact = measured(spec)
    joint, first, conditional, second = (value(exact, i) for i in range(4))
    close(joint, first + conditional, "chain rule", spec.text)
    assert joint >= second - 1e-12
    assert joint >= first - 1e-12


@st.composite
def channels(draw: Callable) -> Spec:
    """KL(p(a) || q(a)), and of what one channel c(b|a) makes of both."""
    m = Making(draw)
    a = m.head(1, 2)
    b = m.variable(INNER)
    p, q = m.product(a, "pr"), m.product(a, "q")
    channel = m.factor("c", b, tuple(a), constant=False)
    shown = [m.named(label, (b,), [*fs, channel]) for label, fs in (("left", p), ("right", q))]
    return m.spec(kl(tuple(p), tuple(q)), kl((shown[0],), (shown[1],)))


@pytest.mark.slow
@examples(30)
@given(channels())
def test_9_data_processing(spec: Spec) -> None:
    """Data processing: a common channel brings no two distributions further apart."""
    exact = measured(spec)
    before, after = value(exact, 0), value(exact, 1)
    assert after <= before + 1e-12


def mixed(
    m: Making, label: str, parts: tuple[list[Factor], list[Factor]], shares: tuple[Fraction | None, ...]
) -> Factor:
    head = tuple(v for f in parts[0] for v in f.outputs)
    branches = tuple(Branch(tuple(fs), w, k) for k, (fs, w) in enumerate(zip(parts, shares, strict=True)))
    law = Law(label, head, (), Joint(branches, "k"))
    m.laws[law.key] = law
    return Factor(law.key, head)


@st.composite
def convex(draw: Callable) -> tuple[Spec, float]:
    """KL(p1||q1), KL(p2||q2), and KL of their mixtures of the same weights; the second weight."""
    m = Making(draw)
    a = m.head(1, 2)
    p1, p2, q1, q2 = (m.product(a, label) for label in ("p", "r", "q", "s"))
    shares = draw(st.sampled_from(SHARES))
    left, right = mixed(m, "left", (p1, p2), shares), mixed(m, "right", (q1, q2), shares)
    made = m.spec(kl(tuple(p1), tuple(q1)), kl(tuple(p2), tuple(q2)), kl((left,), (right,)))
    return made, float(shares[1] or Fraction(1, 2))


@pytest.mark.slow
@examples(30)
@given(convex())
def test_9_convexity(case: tuple[Spec, float]) -> None:
    """Convexity: KL of mixtures <= the mixture of KLs."""
    spec, w = case
    exact = measured(spec)
    first, second, both = (value(exact, i) for i in range(3))
    assert both <= (1 - w) * first + w * second + 1e-12


@st.composite
def skewed(draw: Callable) -> tuple[Spec, float]:
    """KL(m||d), KL(q||d), KL(d||m), KL(q||m) with m = p1 d + p0 q; p0."""
    m = Making(draw)
    a = m.head(1, 2)
    d, q = m.product(a, "p"), m.product(a, "qr")
    shares = draw(st.sampled_from(SHARES))
    mixture = (mixed(m, "m", (d, q), shares),)
    made = m.spec(kl(mixture, tuple(d)), kl(tuple(q), tuple(d)), kl(tuple(d), mixture), kl(tuple(q), mixture))
    return made, float(shares[1] or Fraction(1, 2))


@pytest.mark.slow
@examples(30)
@given(skewed())
def test_10_the_mixture_s_divergence(case: tuple[Spec, float]) -> None:
    """KL(m||data) = p0 KL(q||data) - JSD_w."""
    spec, p0 = case
    exact = measured(spec)
    of_m, of_q, d_m, q_m = (value(exact, i) for i in range(4))
    jsd = (1 - p0) * d_m + p0 * q_m
    close(of_m, p0 * of_q - jsd, "KL(m||data)", spec.text)


@st.composite
def adversarial(draw: Callable, option: str = "") -> Spec:
    """A GAN of any finite generator: data against it, the classifier sees all."""
    m = Making(draw)
    head = tuple(m.head(1, 2))
    data = m.evidence(head)
    latent = m.factor("q", m.variable(INNER), ())
    moving = m.product(list(head), "q", (latent,))
    shares = m.choice(*SHARES)
    outputs = (*head, "y")
    m.variables.append(replace(m.variables[0], name="y", space="{0, 1}", size=2))
    body = Joint((Branch((data,), shares[0], 1), Branch(tuple(moving), shares[1], 0)), "y")
    m.laws[f"m({','.join(outputs)})"] = Law("m", outputs, (), body)
    classifier = Law("d", ("y",), head, m.network("Bernoulli", head))
    m.laws[classifier.key] = classifier
    right = (data, Factor(classifier.key, ("y",), head))
    goal = Goal((Divergence("KL", (Factor(f"m({','.join(outputs)})", outputs),), right),))
    return m.spec(replace(goal, options=(option,) if option else ()), classifiers=(classifier.key,))


@examples(25)
@given(adversarial())
def test_10_what_the_generator_minimises(spec: Spec) -> None:
    """-log D1 has the gradient of KL(m||data)/p0, once it is scaled as derived: of 2 KL(m||data)."""
    program = compiled(spec)
    exact = Exact(spec, program)
    at_the_optimum(spec, program, exact)
    joint = exact.law(spec.goals[0].terms[0].left[0].law)
    m = joint.without({"y"})
    data = exact.law(spec.evidence[0].key)
    wanted = 2 * m.expected(Table(m.names, m.logs - data.over(m.names)))
    for player in losing(program, "other"):
        verify_gradient(spec, program, player, wanted)


@examples(25)
@given(adversarial("game=nonsaturating"))
def test_14_nonsaturating(spec: Spec) -> None:
    """In (43) the generator has the gradient of 2 KL(m||data), in the generator's argument."""
    test_10_what_the_generator_minimises.hypothesis.inner_test(spec)
