"""In linear-Gaussian worlds the emitted gradient is that of the closed joint divergence (7, 12, 14-16, 24, 25)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import assume, given, note
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn.functional import logsigmoid

import jointkl
from jointkl.program import Program
from tests.properties.compiled import close, examples, losing, parameters, replaced, scatter
from tests.properties.compiled import compiled as of_any_size
from tests.properties.exact import grads
from tests.properties.expectation import expectation
from tests.properties.gaussian import (
    Difference,
    World,
    classifier,
    likelihoods,
    mixtures,
    noise,
    quadratic,
    ratios,
    with_options,
)
from tests.properties.specs import Factor, Joint, Spec

CLOSE = 1e-4
"""The error that a quadrature may have."""


def compiled(spec: Spec) -> Program:
    """Parameters small, and no slope of a network near zero."""
    program = of_any_size(spec, size=0.4)
    settled(program)
    return program


def settled(program: Program) -> None:
    with torch.no_grad():
        for name, w in parameters(program):
            if name.endswith("weight"):
                w += 0.5 * w.sign()
    program.snapshot()


def verify(spec: Spec, program: Program, wanted: Callable[[World], Tensor], paths: Sequence[Sequence[Factor]]) -> None:
    """The emitted gradient of all but classifiers and critics, in expectation, is that of `wanted`.

    A world in which a coarser quadrature gives another number is not measured.
    """
    shown = f"{spec.text}\n{program.derivation.text()}"
    exact = [wanted(World(spec, program, coarse=c)) for c in (False, True)]
    noises = [noise(spec, program, paths, coarse=c) for c in (False, True)]
    for player in losing(program, "other"):
        own = program.parameters_of(player)
        found = [expectation(lambda b, player=player: program.loss(player, b), *n) for n in noises]
        fine, coarse = ([grads(v, own) for v in both] for both in zip(found, exact, strict=True))
        settled = all(torch.allclose(a, b, CLOSE, CLOSE) for x, y in zip(fine, coarse, strict=True)
                      for a, b in zip(x, y, strict=True))  # fmt: skip
        assume(settled)
        for w, a, b in zip(own, *fine, strict=True):
            close(a, b, f"{player}: {tuple(w.shape)}", shown, CLOSE)


def goal(spec: Spec) -> tuple[tuple[Factor, ...], tuple[Factor, ...], float]:
    d = spec.goals[0].terms[0]
    return d.left, d.right, float(-d.weight if spec.goals[0].maximize else d.weight)


@examples(25)
@given(likelihoods())
def test_7_a_divergence(spec: Spec) -> None:
    """Emitted gradient = autograd of the closed KL of two joint Gaussians."""
    program = compiled(spec)
    world = World(spec, program)
    left, right, weight = goal(spec)
    head = [v for f in left for v in f.outputs]
    exact = kl_divergence(world.gaussian(left, head), world.gaussian(right, head))
    verify(spec, program, lambda _: weight * exact, [world.path(left)])


def branches(spec: Spec) -> list[tuple[tuple[Factor, ...], float, int]]:
    body = spec.law(spec.goals[0].terms[0].left[0].law).body
    assert isinstance(body, Joint)
    return [(b.factors, float(w), b.value or 0) for b, w in zip(body.branches, body.shares(), strict=True)]


def joint_divergence(spec: Spec, world: World, best: Difference) -> Tensor:
    """2 sum_k w_k E_k{log branch_k - log c(k|v) - log R}, the classifier c held."""
    (key,) = spec.classifiers
    head = spec.law(key).givens
    reference = [f for f in goal(spec)[1] if f.law != key]
    total = torch.zeros((), dtype=torch.float64)
    for factors, share, value in branches(spec):
        own, other = world.gaussian(factors, head), world.gaussian(reference, head)

        def inside(v: Tensor, own=own, other=other, value=value) -> Tensor:
            logit = best(*v.unbind(-1))
            return quadratic(own, v) - logsigmoid(logit if value else -logit) - quadratic(other, v)

        total = total + 2 * share * world.expected(factors, head, inside)
    return total


@pytest.mark.slow
@examples(25)
@given(st.booleans().flatmap(lambda delta: mixtures(delta=delta)))
def test_7_a_labelled_mixture(spec: Spec) -> None:
    """At the best classifier, emitted gradient = gradient of the joint KL, of unequal weights and of Diracs too."""
    program = compiled(spec)
    world = World(spec, program)
    best = classifier(spec, world)
    replaced(program, "D", best)
    verify(
        spec,
        program,
        lambda w: goal(spec)[2] * joint_divergence(spec, w, best),
        [world.path(fs) for fs, _, _ in branches(spec)],
    )


@examples(20)
@given(mixtures())
def test_12_proximal(spec: Spec) -> None:
    """Gradient of proximal=kl = the joint KL's as well, where its law has a closed form."""
    kept = with_options(spec, "proximal=kl")
    note(kept.text)
    try:
        program = jointkl.compile(kept.text).double()
    except jointkl.JklError as error:
        assert {r.code for r in error.reports} == {"E-PROXIMAL"}  # noqa: PT017
        return
    scatter(program, size=0.4)
    settled(program)
    world = World(kept, program)
    best = classifier(kept, world)
    replaced(program, "D", best)
    verify(
        kept,
        program,
        lambda w: goal(kept)[2] * joint_divergence(kept, w, best),
        [world.path(fs) for fs, _, _ in branches(kept)],
    )


@pytest.mark.slow
@examples(20)
@given(st.booleans().flatmap(lambda delta: mixtures(options=("game=minimax",), delta=delta)))
def test_14_minimax(spec: Spec) -> None:
    """Minimax gradient = grad 2 JSD."""
    program = compiled(spec)
    world = World(spec, program)
    best = classifier(spec, world)
    replaced(program, "D", best)
    paths = [world.path(fs) for fs, _, _ in branches(spec)]
    verify(spec, program, lambda w: 2 * goal(spec)[2] * jensen_shannon(spec, w), paths)


def jensen_shannon(spec: Spec, world: World) -> Tensor:
    """sum_k w_k E_k log branch_k/mixture, less a constant."""
    (key,) = spec.classifiers
    head = spec.law(key).givens
    total = torch.zeros((), dtype=torch.float64)
    known = [(world.gaussian(fs, head), share) for fs, share, _ in branches(spec)]
    for (factors, share, _), (own, _) in zip(branches(spec), known, strict=True):

        def inside(v: Tensor, own=own) -> Tensor:
            logs = [quadratic(d, v) + torch.tensor(w).log() for d, w in known]
            return quadratic(own, v) - torch.logaddexp(*logs)

        total = total + share * world.expected(factors, head, inside)
    return total


@pytest.mark.slow
@examples(25)
@given(ratios())
def test_15_a_ratio(spec: Spec) -> None:
    """Ratio gradient = that of the closed KL: of a generator, of a posterior without density, of information."""
    program = compiled(spec)
    world = World(spec, program)
    left, right, weight = goal(spec)
    head = list(dict.fromkeys(v for f in left for v in f.outputs))
    if any(f.law.startswith("agg") for f in right):
        data, agg = right
        own = world.gaussian(left, head)
        apart = [world.gaussian([data], ["x"]), world.gaussian([agg], ["z"])]
        both = torch.distributions.MultivariateNormal(
            torch.cat([d.loc for d in apart]), torch.block_diag(*(d.covariance_matrix for d in apart))
        )
        exact, held = kl_divergence(own, both), both
        first = world.gaussian(left, head, held=True)
    else:
        held = world.gaussian(right, head)
        first, exact = world.gaussian(left, head, held=True), kl_divergence(world.gaussian(left, head), held)
    logit = next(iter(program.derivation.losses["C"])).terms[0].atom.logit
    if program.derivation.losses["C"] and set(logit.inputs) != set(head):
        raise AssertionError(logit)
    moving = first
    reference = torch.distributions.MultivariateNormal(held.loc.detach(), held.covariance_matrix.detach())
    if "p(z|x)" in {f.law for f in left} and not any(f.law.startswith("agg") for f in right):
        # the pair is p(z|x) against q(z): data(x) q(z) beside data(x) p(z|x)
        prior = world.gaussian([f for f in right if f.outputs == ("z",)], ["z"], held=True)
        data = world.gaussian([f for f in left if f.outputs == ("x",)], ["x"], held=True)
        reference = torch.distributions.MultivariateNormal(
            torch.cat([data.loc, prior.loc]), torch.block_diag(data.covariance_matrix, prior.covariance_matrix)
        )
    order = [head.index(v) for v in logit.inputs]
    replaced(program, "C", Difference(_in_order(reference, order), _in_order(moving, order)))
    verify(spec, program, lambda _: weight * exact, [world.path(left)])


def _in_order(d: torch.distributions.MultivariateNormal, order: list[int]) -> torch.distributions.MultivariateNormal:
    return torch.distributions.MultivariateNormal(d.loc[order], d.covariance_matrix[order][:, order])


@examples(20)
@given(likelihoods())
def test_16_closed_form_is_monte_carlo(spec: Spec) -> None:
    """Closed form = Monte Carlo, here by quadrature."""
    drawn = with_options(spec, "estimate=monte_carlo")
    closed, sampled = compiled(spec), compiled(drawn)
    world = World(spec, closed)
    path = [world.path(goal(spec)[0])]
    for player in losing(closed):
        values = []
        for s, program in ((spec, closed), (drawn, sampled)):
            batch, weights = noise(s, program, path)
            loss = expectation(lambda b, p=program, player=player: p.loss(player, b), batch, weights)
            values.append((loss, grads(loss, program.parameters_of(player))))
        for a, b in zip(values[0][1], values[1][1], strict=True):
            close(a, b, player, spec.text, CLOSE)


@examples(20)
@given(mixtures(delta=True))
def test_24_dirac_of_zero_is_the_plain_gan(spec: Spec) -> None:
    """dirac(0) is the plain GAN: the same code for the same losses."""
    plain, zero = compiled(spec), compiled(with_options(spec, "proximal=dirac(0)"))
    assert plain.objective.losses == zero.objective.losses
    bodies = [p.source.split("# Losses")[1] for p in (plain, zero)]
    assert bodies[0] == bodies[1]


@pytest.mark.slow
@examples(20)
@given(likelihoods(evidence=True))
def test_25_importance_of_one_copy_is_plain(spec: Spec) -> None:
    """importance=1 is plain: -log mean over one copy of exp(-sum) is the sum, at every noise."""
    one, plain = with_options(spec, "importance=1"), with_options(spec, "estimate=monte_carlo")
    weighed, summed = compiled(one), compiled(plain)
    world = World(spec, weighed)
    batch, _ = noise(plain, summed, [world.path(goal(spec)[0])])
    some = {k: v[::37] for k, v in batch.items()}
    copied = {k: v if k in {x for law in spec.evidence for x in law.outputs} else v[None] for k, v in some.items()}
    for player in losing(weighed):
        own, other = weighed.parameters_of(player), summed.parameters_of(player)
        a, b = weighed.loss(player, copied), summed.loss(player, some)
        for x, y in zip(grads(a, own), grads(b, other), strict=True):
            close(x, y, player, spec.text)
