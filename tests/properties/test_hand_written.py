"""Derived = hand-written loss, value and gradient, for the systems of the papers on random finite spaces (property 11).

Spaces, families, networks and data are drawn; the formula is the paper's, summed over all values. The classifier is
any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import softplus

from jointkl.program import Program
from tests.properties.compiled import close, compiled, examples
from tests.properties.exact import Exact, Table, grads, grid, times
from tests.properties.expectation import data, expected
from tests.properties.making import SPACES, Making
from tests.properties.specs import Branch, Divergence, Evidence, Factor, Free, Goal, Joint, Law, Spec, Var

Laws = Mapping[str, Factor]


@st.composite
def worlds(draw: Callable, build: Callable[[Making, Laws], Spec], classified: str = "") -> Spec:
    """x from data, z a code: data(x), p(z|x), q(z), q(x|z) and a classifier d(y|..), put together by `build`."""
    m = Making(draw)
    m.variables = [Var("x", *m.choice(*SPACES)), Var("z", *m.choice(*SPACES))]
    laws = {"data(x)": m.evidence(("x",))}
    for label, v, givens in (("p", "z", ("x",)), ("q", "z", ()), ("q", "x", ("z",))):
        f = m.factor(label, v, givens, constant=False)
        laws[f.law] = f
    if classified:
        m.variables.append(Var("y", "{0, 1}", 2))
        seen = tuple(classified.split())
        law = Law("d", ("y",), seen, m.network(m.choice("Bernoulli", "Categorical"), seen))
        m.laws[law.key] = law
        laws["d"] = Factor(law.key, ("y",), seen)
    return build(m, laws)


def mixture(m: Making, outputs: str, first: tuple[Factor, ...], second: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """{ y=1: first; y=0: second }"""
    law = Law("m", (*outputs.split(), "y"), (), Joint((Branch(first, None, 1), Branch(second, None, 0)), "y"))
    m.laws[law.key] = law
    return (Factor(law.key, law.outputs),)


class Tables:
    """Probabilities and -log of a spec's laws, and a classifier's logit, over the values of x and z."""

    def __init__(self, spec: Spec, program: Program) -> None:
        self.exact = Exact(spec, program)

    def mean(self, cost: Table, *laws: str) -> Tensor:
        """E of a cost over a product of laws."""
        return times(self.exact.law(k) for k in laws).expected(cost)

    def nll(self, key: str) -> Table:
        table = self.exact.law(key)
        return Table(table.names, -table.logs)

    def classified(self, key: str, value: int) -> Table:
        """-log d(value|..): softplus(-l) at 1, softplus(l) at 0."""
        table = self.exact.law(key)
        logit = table.logs[..., 1] - table.logs[..., 0]
        return Table(table.names[:-1], softplus(-logit if value else logit))


Hand = Callable[[Tables], Tensor]


def agree(spec: Spec, program: Program, player: str, hand: Hand) -> None:
    """Value and gradient with respect to everything the player trains."""
    own = program.parameters_of(player)
    emitted, written = expected(spec, program, player), hand(Tables(spec, program))
    shown = f"{spec.text}\n{program.derivation.text()}"
    close(emitted, written, f"the loss of {player}", shown)
    for a, b in zip(grads(emitted, own), grads(written, own), strict=True):
        close(a, b, f"a gradient of {player}", shown)


def goal(left: tuple[Factor, ...], right: tuple[Factor, ...], *options: str) -> Goal:
    return Goal((Divergence("KL", left, right),), options=options)


def player_of(program: Program, kind: str) -> str:
    return next(p.name for p in program.derivation.facts.players if p.kind == kind)


def vae(m: Making, laws: Laws) -> Spec:
    return m.spec(goal((laws["data(x)"], laws["p(z|x)"]), (laws["q(z)"], laws["q(x|z)"])))


@examples(25)
@given(worlds(vae))
def test_11_vae(spec: Spec) -> None:
    """Su 7: E{-log q(x|z) + KL[p(z|x) || q(z)]}."""
    program = compiled(spec)

    def hand(t: Tables) -> Tensor:
        p, q = t.nll("p(z|x)"), t.nll("q(z)")
        gap = Table(p.names, q.over(p.names) - p.logs)
        return t.mean(t.nll("q(x|z)"), "data(x)", "p(z|x)") + t.mean(gap, "data(x)", "p(z|x)")

    agree(spec, program, player_of(program, "other"), hand)


def gan(m: Making, laws: Laws) -> Spec:
    moving = mixture(m, "x", (laws["data(x)"],), (laws["q(z)"], laws["q(x|z)"]))
    return m.spec(goal(moving, (laws["data(x)"], laws["d"])), classifiers=(laws["d"].law,))


@examples(25)
@given(worlds(gan, "x"))
def test_11_gan(spec: Spec) -> None:
    """Su 16 and 20: E_data{-log D1} + E_gen{-log D0}; E_gen{-log D1}."""
    program = compiled(spec)
    generated = ("q(z)", "q(x|z)")

    def critic(t: Tables) -> Tensor:
        return t.mean(t.classified("d(y|x)", 1), "data(x)") + t.mean(t.classified("d(y|x)", 0), *generated)

    agree(spec, program, player_of(program, "classifier"), critic)
    agree(spec, program, player_of(program, "other"), lambda t: t.mean(t.classified("d(y|x)", 1), *generated))


def ali(*options: str) -> Callable[[Making, Laws], Spec]:
    def build(m: Making, laws: Laws) -> Spec:
        up, down = (laws["data(x)"], laws["p(z|x)"]), (laws["q(z)"], laws["q(x|z)"])
        return m.spec(goal(mixture(m, "x z", up, down), (*up, laws["d"]), *options), classifiers=(laws["d"].law,))

    return build


UP, DOWN = ("data(x)", "p(z|x)"), ("q(z)", "q(x|z)")


@pytest.mark.slow
@examples(25)
@given(worlds(ali(), "x z"))
def test_11_ali(spec: Spec) -> None:
    """Su 38 and 40: E_E{-log D1} + E_G{-log D0}; E_E{-log D1} + E_G{-log D1 - log p(z|x) at sg(x,z)}."""
    program = compiled(spec)
    one, zero = (lambda t: t.classified("d(y|x,z)", 1)), (lambda t: t.classified("d(y|x,z)", 0))
    agree(
        spec, program, player_of(program, "classifier"), lambda t: t.mean(one(t), *UP) + t.mean(zero(t), *DOWN)
    )  # fmt: skip

    def others(t: Tables) -> Tensor:
        samples = times(t.exact.law(k) for k in DOWN)
        residual = Table(samples.names, samples.logs.detach()).expected(t.nll("p(z|x)"))
        return t.mean(one(t), *UP) + t.mean(one(t), *DOWN) + residual

    agree(spec, program, player_of(program, "other"), others)


@pytest.mark.slow
@examples(25)
@given(worlds(ali("game=minimax"), "x z"))
def test_11_ali_minimax(spec: Spec) -> None:
    """Su 42: E_E{log D1} + E_G{log D0}."""
    program = compiled(spec)

    def hand(t: Tables) -> Tensor:
        return -t.mean(t.classified("d(y|x,z)", 1), *UP) - t.mean(t.classified("d(y|x,z)", 0), *DOWN)

    agree(spec, program, player_of(program, "other"), hand)


@pytest.mark.slow
@examples(25)
@given(worlds(ali("game=nonsaturating"), "x z"))
def test_11_ali_nonsaturating(spec: Spec) -> None:
    """Su 43: E_E{-log D0} + E_G{-log D1}."""
    program = compiled(spec)

    def hand(t: Tables) -> Tensor:
        return t.mean(t.classified("d(y|x,z)", 0), *UP) + t.mean(t.classified("d(y|x,z)", 1), *DOWN)

    agree(spec, program, player_of(program, "other"), hand)


def aae(m: Making, laws: Laws) -> Spec:
    up, coded = (laws["q(z)"],), (laws["data(x)"], laws["p(z|x)"])
    term = Divergence("KL", mixture(m, "z", up, coded), (laws["q(z)"], laws["d"]))
    rebuilt = Divergence("CE", coded, (laws["q(x|z)"],))
    return m.spec(Goal((term, rebuilt)), classifiers=(laws["d"].law,))


@pytest.mark.slow
@examples(25)
@given(worlds(aae, "z"))
def test_11_aae(spec: Spec) -> None:
    """Su 30, 33 and 34: E_q(z){-log D1} + E_E{-log D0}; E_E{-log D1} + 2 E{-log q(x|z)}.

    Here the prior is trained too: E_q(z){-log D1}, and the residual -log q(z) at the codes.
    """
    program = compiled(spec)

    def critic(t: Tables) -> Tensor:
        return t.mean(t.classified("d(y|z)", 1), "q(z)") + t.mean(t.classified("d(y|z)", 0), *UP)

    agree(spec, program, player_of(program, "classifier"), critic)

    def others(t: Tables) -> Tensor:
        coded = times(t.exact.law(k) for k in UP).without({"x"})
        residual = Table(("z",), coded.logs.detach()).expected(t.nll("q(z)"))
        adversarial = t.mean(t.classified("d(y|z)", 1), "q(z)") + t.mean(t.classified("d(y|z)", 1), *UP)
        return adversarial + residual + 2 * t.mean(t.nll("q(x|z)"), *UP)

    agree(spec, program, player_of(program, "other"), others)


def wake_sleep(m: Making, laws: Laws) -> Spec:
    up, down = (laws["data(x)"], laws["p(z|x)"]), (laws["q(z)"], laws["q(x|z)"])
    encoder = {m.laws["p(z|x)"].body.source}
    decoder = {m.laws[k].body.source for k in DOWN}
    wake = Goal((Divergence("KL", up, down),), over=tuple(sorted(decoder)))
    return m.spec(wake, Goal((Divergence("KL", down, up),), over=tuple(sorted(encoder))))


@examples(25)
@given(worlds(wake_sleep))
def test_11_wake_sleep(spec: Spec) -> None:
    """Wake: E_p{-log q(x|z) - log q(z)}; sleep: E_q{-log p(z|x)}."""
    program = compiled(spec)
    players = {p.name: p.members for p in program.derivation.facts.players}
    encoder = spec.goals[1].over
    sleep = next(p for p, members in players.items() if set(members) <= set(encoder or ()))
    wake = next(p for p in players if p != sleep)
    agree(spec, program, sleep, lambda t: t.mean(t.nll("p(z|x)"), *DOWN))
    agree(spec, program, wake, lambda t: t.mean(t.nll("q(x|z)"), *UP) + t.mean(t.nll("q(z)"), *UP))


def em(m: Making, laws: Laws) -> Spec:
    m.variables[1] = Var("z", "{0..2}", 3)
    for key, v, givens in (("q(z)", "z", ()), ("q(x|z)", "x", ("z",))):
        m.laws.pop(key)
        m.factor("q", v, givens, constant=False)
    m.laws["p(z|x)"] = Law("p", ("z",), ("x",), Free())
    return m.spec(goal((laws["data(x)"], laws["p(z|x)"]), (laws["q(z)"], laws["q(x|z)"]), "estimate=gradient"))


@examples(25)
@given(worlds(em))
def test_11_em(spec: Spec) -> None:
    """Su 8 and 11: p(k|x) := softmax_k(log q(x|k) + log q(k)); -E sum_k p(k|x) (log q(x|k) + log q(k))."""
    program = compiled(spec)
    exact = Exact(spec, program)
    joint = times(exact.law(k) for k in DOWN)
    logs = joint.over(("x", "z"))
    free = logs.log_softmax(-1).detach()
    batch, _ = data(spec, program)
    solved = program.solve("p(z|x)", batch)
    close(solved, free.exp(), "the free law", spec.text)
    (law,) = spec.evidence
    assert isinstance(law.body, Evidence)
    posterior = Table(("x", "z"), free)
    minus = Table(("x", "z"), -logs)
    path = times((exact.law("data(x)"), posterior))
    wanted = path.expected(minus)
    player = player_of(program, "other")
    own = program.parameters_of(player)
    emitted = expected(spec, program, player)
    close(emitted, wanted, "the M step's loss", spec.text)
    likelihood = -exact.law("data(x)").expected(joint.without({"z"}))
    for a, b in zip(grads(emitted, own), grads(likelihood, own), strict=True):
        close(a, b, "the gradient of the marginal likelihood", spec.text)


@examples(20)
@given(st.one_of(worlds(vae), worlds(gan, "x"), worlds(ali(), "x z")))
def test_the_laws_of_a_program_are_the_spec_s(spec: Spec) -> None:
    """`log_prob` of each law at every value of its variables is its table."""
    program = compiled(spec)
    exact = Exact(spec, program)
    for law in spec.laws:
        if isinstance(law.body, Evidence | Joint):
            continue
        names = (*law.givens, *law.outputs)
        found = program.log_prob(law.key, dict(zip(names, grid(spec, names), strict=True)))
        close(found.expand(exact.law(law.key).logs.numel()), exact.law(law.key).logs.flatten(), law.key, spec.text)
