"""On random finite specs the emitted gradient is that of the exact divergence (properties 7, 12-15, 19, 20)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jointkl.program import Program
from tests.properties.compiled import (
    at_the_optimum,
    before,
    compiled,
    examples,
    gradients,
    losing,
    network,
    replaced,
    same,
    scatter,
    target,
    verify_gradient,
)
from tests.properties.drawn import hidden_mixtures, likelihoods, mixtures, ratios, several, weighted
from tests.properties.exact import Exact, Lookup, Table, grads
from tests.properties.expectation import expected
from tests.properties.specs import Spec


def verify(spec: Spec, program: Program, copies: int = 1) -> None:
    """Every player's gradient is exact: a classifier's wherever it stands, the others' at its optimum."""
    exact = Exact(spec, program)
    for player in losing(program, "classifier"):
        verify_gradient(spec, program, player, target(spec, program, player, exact), copies)
    at_the_optimum(spec, program, exact)
    for player in losing(program, "other"):
        verify_gradient(spec, program, player, target(spec, program, player, exact), copies)


@pytest.mark.slow
@examples(40)
@given(likelihoods())
def test_7_a_divergence_of_factorisations(spec: Spec) -> None:
    """Emitted gradient = exact gradient, by enumeration of what moves."""
    verify(spec, compiled(spec))


@examples(25)
@given(likelihoods(name="CE"))
def test_7_a_cross_entropy(spec: Spec) -> None:
    """Emitted gradient = exact gradient, of E_P[-log Q] in both its arguments."""
    verify(spec, compiled(spec))


@pytest.mark.slow
@examples(40)
@given(st.sampled_from(["KL", "CE"]).flatmap(lambda name: likelihoods(hidden=True, name=name)))
def test_7_hidden_variables(spec: Spec) -> None:
    """Emitted gradient = exact gradient: a finite marginal is evaluated by its sum."""
    verify(spec, compiled(spec))


@pytest.mark.slow
@examples(30)
@given(hidden_mixtures("CE"))
def test_7_hidden_mixtures(spec: Spec) -> None:
    """Emitted gradient = exact gradient: one path for each branch."""
    verify(spec, compiled(spec))


@pytest.mark.slow
@examples(30)
@given(several())
def test_7_several_goals(spec: Spec) -> None:
    """Emitted gradient = exact gradient: goals add up for the players that they name, of either sign."""
    verify(spec, compiled(spec))


@pytest.mark.slow
@examples(40)
@given(mixtures())
def test_7_a_labelled_mixture_and_its_classifier(spec: Spec) -> None:
    """Emitted gradient = exact gradient, also with unequal weights; the others' at the classifier's optimum."""
    verify(spec, compiled(spec))


@pytest.mark.slow
@examples(30)
@given(st.sampled_from(["", "three"]).flatmap(lambda label: mixtures(evaluable=True, label=label)))
def test_7_a_reference_that_can_be_evaluated(spec: Spec) -> None:
    """Emitted gradient = exact gradient with any classifier, of two labels or three: no optimum is used."""
    program = compiled(spec)
    exact = Exact(spec, program)
    for player in losing(program):
        verify_gradient(spec, program, player, target(spec, program, player, exact))


@examples(25)
@given(weighted())
def test_7_a_classifier_that_weighs(spec: Spec) -> None:
    """Emitted gradient = exact gradient, the label drawn by a classifier on the left."""
    verify(spec, compiled(spec))


@pytest.mark.slow
@examples(25)
@given(mixtures())
def test_12_the_proximal_term_has_no_gradient_at_the_old_value(spec: Spec) -> None:
    """Gradient of proximal=kl = proximal=none at the old value."""
    plain = compiled(spec)
    kept = replace(spec, goals=tuple(replace(g, options=("proximal=kl",)) for g in spec.goals))
    same(gradients(spec, plain), gradients(kept, compiled(kept, more=["E-PROXIMAL"])), spec.text)


@examples(30)
@given(st.sampled_from([several(), mixtures()]).flatmap(lambda s: s), st.randoms(use_true_random=False))
def test_13_one_player_or_several(spec: Spec, chance) -> None:
    """One joint player and separate players are both exact."""
    whole = compiled(spec)
    known = {network(spec, c) for c in spec.classifiers}
    free = [n for n, _ in (*spec.params, *spec.nets) if n not in known and all(g.over is None for g in spec.goals)]
    groups = {n: chance.randrange(2) for n in free}
    stated = tuple((f"P{i}", tuple(n for n in free if groups[n] == i)) for i in (0, 1))
    apart = replace(spec, players=tuple((name, members) for name, members in stated if members))
    program = compiled(apart)
    verify(apart, program)
    verify(spec, whole)


@examples(30)
@given(mixtures(options=("game=minimax",)))
def test_14_minimax_is_jensen_shannon(spec: Spec) -> None:
    """Minimax gradient = grad 2 JSD, of the weighted branches from their mixture."""
    program = compiled(spec)
    exact = Exact(spec, program)
    at_the_optimum(spec, program, exact)
    d = spec.goals[0].terms[0]
    table = exact.law(d.left[0].law)
    table = table.without(set(table.names) - set(d.left[0].outputs))
    mixed = table.without({"y"})
    shares = table.without(set(table.names) - {"y"})
    jsd = table.expected(Table(table.names, table.logs - mixed.over(table.names) - shares.over(table.names)))
    for player in losing(program, "other"):
        verify_gradient(spec, program, player, 2 * float(d.weight) * jsd)


@pytest.mark.slow
@examples(30)
@given(ratios())
def test_15_a_ratio_has_the_divergence_s_gradient(spec: Spec) -> None:
    """Ratio gradient = grad KL(g||d), and of mutual information and total correlation with either sign."""
    program = compiled(spec)
    exact = Exact(spec, program)
    ratio = next(iter(program.derivation.losses["C"])).terms[0].atom.logit
    d = spec.goals[0].terms[0]
    left, right = exact.product(d.left), exact.product(d.right)
    log_ratio = Table(left.names, right.over(left.names) - left.logs)
    assert set(ratio.inputs) <= set(left.names)
    replaced(program, "C", Lookup(spec, ratio.inputs, reduced(log_ratio, left, ratio.inputs)))
    for player in losing(program, "other"):
        verify_gradient(spec, program, player, exact.objective(spec.goals[0]))


def reduced(log_ratio: Table, left: Table, inputs: tuple[str, ...]) -> torch.Tensor:
    """log b/a as a function of some variables, on which alone it depends."""
    extra = [n for n in log_ratio.names if n not in inputs]
    logs = log_ratio.over((*inputs, *extra)).reshape(*(left.logs.shape[left.names.index(n)] for n in inputs), -1)
    torch.testing.assert_close(logs, logs[..., :1].expand_as(logs))
    return logs[..., 0]


@examples(25)
@given(ratios())
def test_15_a_critic_s_own_loss_is_logistic(spec: Spec) -> None:
    """The critic's expected loss is least, in every value, at log reference/moving."""
    program = compiled(spec)
    exact = Exact(spec, program)
    ratio = next(iter(program.derivation.losses["C"])).terms[0].atom.logit
    d = spec.goals[0].terms[0]
    left, right = exact.product(d.left), exact.product(d.right)
    best = reduced(Table(left.names, right.over(left.names) - left.logs), left, ratio.inputs)
    table = Lookup(spec, ratio.inputs, best)
    replaced(program, "C", table)
    (slope,) = grads(expected(spec, program, "C"), [table.table])
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


@pytest.mark.slow
@examples(30)
@given(st.sampled_from([likelihoods(), several()]).flatmap(lambda s: s), st.sampled_from([1, 2]))
def test_19_enumeration_is_the_score_function_in_expectation(spec: Spec, copies: int) -> None:
    """Enumeration = score function in expectation, of one datum and with a baseline of two."""
    scored = replace(spec, goals=tuple(replace(g, options=("estimate=score",)) for g in spec.goals))
    verify(scored, compiled(scored), copies)


@pytest.mark.slow
@examples(30)
@given(several(old=True), st.integers(1, 3))
def test_20_old_gives_no_gradient(spec: Spec, seed: int) -> None:
    """`old` gives no gradient, and is the law at the snapshot wherever the parameters have gone."""
    program = compiled(spec)
    exact = Exact(spec, program, before=before(spec, program))
    snapshot = program.snapshot
    program.snapshot = lambda: None  # so that `scatter` leaves the old copies behind
    scatter(program, seed=seed)
    program.snapshot = snapshot  # as it was
    for player in losing(program):
        verify_gradient(spec, program, player, target(spec, program, player, exact))


@pytest.mark.parametrize("option", ["estimate=monte_carlo"])
@examples(25)
@given(spec=likelihoods())
def test_16_closed_form_is_monte_carlo(spec: Spec, option: str) -> None:
    """Closed form = Monte Carlo, here in its exact expectation."""
    drawn = replace(spec, goals=tuple(replace(g, options=(option,)) for g in spec.goals))
    same(gradients(spec, compiled(spec)), gradients(drawn, compiled(drawn)), spec.text)
