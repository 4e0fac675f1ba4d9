"""RATIO on finite spaces: what a critic is shown, and the gradient that others have of it, against exact sums.

A mixture is sampled on a path only as the whole of what the path's entries draw; else it is a reference that moves.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.program import Program
from tests.derivation.finite import compiled, divergence, expected, known, same_slopes, slopes

LAWS = {
    "": "data(x) = evidence() var x: {0..2} var z, t: {0, 1} net C = mlp(2) param a: real[2,3]",
    "r(x|z)": "param b: real[2,3] r(x|z) = Categorical(logits=b[z])",
    "r(x|t)": "param b: real[2,3] r(x|t) = Categorical(logits=b[t])",
    "q(x|z)": "q(x|z) = Categorical(logits=a[z])",
    "q(x|t)": "q(x|t) = Categorical(logits=a[t])",
    "q(z)": "q(z) = Bernoulli(0.4)",
    "u(t)": "u(t) = Bernoulli(0.25)",
    "v(t)": "v(t) = Bernoulli(0.9)",
}
"""What a goal may be made of."""


def spec(goals: str) -> str:
    """The goals with the laws that they use."""
    return "\n".join([text for law, text in LAWS.items() if law in goals] + [goals])


DATA = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
Z = torch.tensor([0.6, 0.4], dtype=torch.float64)


def law(p: Program, param: str) -> Tensor:
    """q(x|.) of a, r(x|.) of b."""
    return p.params[param].softmax(-1)


def mixed(share: float) -> Callable[[Program], tuple[Tensor, Tensor]]:
    """share q(x) + (1 - share) r(x), and data(x)."""

    def tables_of(p: Program) -> tuple[Tensor, Tensor]:
        q, r = Z @ law(p, "a"), Z @ law(p, "b")
        return share * q + (1 - share) * r, DATA

    return tables_of


def conditional(p: Program) -> tuple[Tensor, Tensor]:
    """u(t) (0.3 q(x|t) + 0.7 r(x|t)), and u(t) data(x), over t and x."""
    u = torch.tensor([0.75, 0.25], dtype=torch.float64)[:, None]
    return u * (0.3 * law(p, "a") + 0.7 * law(p, "b")), u * DATA


def beside(p: Program) -> tuple[Tensor, Tensor]:
    """w(t) q(x|t), and w(t) data(x), with w(t) = 0.3 u(t) + 0.7 v(t)."""
    u, v = (torch.tensor(t, dtype=torch.float64) for t in ([0.75, 0.25], [0.1, 0.9]))
    w = (0.3 * u + 0.7 * v)[:, None]
    return w * law(p, "a"), w * DATA


RATIOS: dict[str, tuple[str, Callable[[Program], tuple[Tensor, Tensor]]]] = {
    "a hidden mixture": (
        "n(x) = { s=0: 0.3 * q(z) * q(x|z); s=1: 0.7 * q(z) * r(x|z) } minimize KL(n(x) || data(x)) with critic=C",
        mixed(0.3),
    ),
    "a hidden mixture of which one branch is trained": (
        "n(x) = { s=0: 0.3 * q(z) * q(x|z); s=1: 0.7 * q(z) * r(x|z) }"
        " minimize KL(n(x) || data(x)) over a with critic=C  minimize CE(data(x) * q(z) || r(x|z)) over b",
        mixed(0.3),
    ),
    "a mixture in a mixture, one law on two branches": (
        "i(x) = { s=0: q(z) * q(x|z); s=1: q(z) * r(x|z) } n(x) = { s=0: 0.4 * i(x); s=1: 0.6 * q(z) * q(x|z) }"
        " minimize KL(n(x) || data(x)) with critic=C",
        mixed(0.8),
    ),
    "a conditional mixture": (
        "n(x|t) = { s=0: 0.3 * q(x|t); s=1: 0.7 * r(x|t) } minimize KL(u(t) * n(x|t) || u(t) * data(x)) with critic=C",
        conditional,
    ),
    "a mixture that is drawn beside": (
        "w(t) = { s=0: 0.3 * u(t); s=1: 0.7 * v(t) } minimize KL(w(t) * q(x|t) || w(t) * data(x)) with critic=C",
        beside,
    ),
}


@pytest.mark.parametrize("name", RATIOS)
def test_who_moves_a_ratio_has_the_divergence_s_gradient(name: str) -> None:
    text, joints = RATIOS[name]
    p = compiled(spec(text))
    moving, reference = joints(p)
    known(p, "C", squeezed(reference / moving).log())
    player = next(q for q in p.emitted.losses if q.startswith("a"))
    found = expected(p, player, x=DATA.tolist())
    same_slopes(found, divergence(moving, reference), list(p.parameters_of(player)))


@pytest.mark.parametrize("name", RATIOS)
def test_the_critic_is_shown_both_sides_as_they_are_drawn(name: str) -> None:
    """Its loss is stationary at the log ratio, in every value, and nowhere near it."""
    text, joints = RATIOS[name]
    p = compiled(spec(text))
    moving, reference = joints(p)
    for shift, still in ((0.0, True), (0.5, False)):
        table = known(p, "C", squeezed(reference / moving).log() + shift)
        (slope,) = slopes(expected(p, "C", x=DATA.tolist()), [table])
        assert (slope.abs().max() < 1e-10) == still


def squeezed(table: Tensor) -> Tensor:
    """By t and x in the order of declaration, which is x first."""
    return table.T if table.dim() == 2 else table


MOVING = {
    "a mixture with what is drawn and the data": (
        "q(x) = q(z) * q(x|z) m(x) = { s=0: q(z) * q(x|z); s=1: data(x) } minimize KL(q(x) || m(x)) with critic=C"
    ),
    "the branches of what is drawn in other weights, the data beside": (
        "n(x) = { s=0: 0.3 * q(z) * q(x|z); s=1: 0.4 * q(z) * r(x|z); s=2: 0.3 * data(x) }"
        " m(x) = { s=0: 0.4 * q(z) * q(x|z); s=1: 0.3 * q(z) * r(x|z); s=2: 0.3 * data(x) }"
        " minimize KL(n(x) || m(x)) with critic=C"
    ),
    "a branch that is not drawn": (
        "n(x) = { s=0: q(z) * q(x|z); s=1: data(x) } m(x) = { s=0: 0.5 * n(x); s=1: 0.5 * q(z) * r(x|z) }"
        " minimize KL(n(x) || m(x)) with critic=C"
    ),
    "a mixture in a mixture, whose weights multiply otherwise": (
        "i(x) = { s=0: q(z) * q(x|z); s=1: data(x) } n(x) = { s=0: 0.4 * i(x); s=1: 0.6 * q(z) * q(x|z) }"
        " m(x) = { s=0: 0.4 * q(z) * q(x|z); s=1: 0.6 * i(x) } minimize KL(n(x) || m(x)) with critic=C"
    ),
    "a conditional mixture in other weights": (
        "n(x|t) = { s=0: 0.3 * q(x|t); s=1: 0.7 * data(x) }"
        " m(x|t) = { s=0: 0.7 * q(x|t); s=1: 0.3 * data(x) } minimize KL(u(t) * n(x|t) || u(t) * m(x|t)) with critic=C"
    ),
}


@pytest.mark.parametrize("name", MOVING)
def test_a_mixture_that_is_drawn_otherwise_is_a_reference_that_moves(name: str) -> None:
    """E grad log m is no zero of anything drawn here: refused, and derived with its laws at the snapshot."""
    text = MOVING[name]
    with pytest.raises(jointkl.JklError) as found:
        jointkl.derive(jointkl.parse(spec(text)))
    assert {r.code for r in found.value.reports} == {"E-RESIDUAL"}


def test_with_old_laws_in_the_mixture_the_reference_stands_still() -> None:
    """What the refusal says to write: the gradient is that of KL(q || m) in q alone."""
    p = compiled(spec(
        "q(x) = q(z) * q(x|z) m(x) = { s=0: q(z) * old q(x|z); s=1: data(x) } minimize KL(q(x) || m(x)) with critic=C"
    ))  # fmt: skip
    q = Z @ p.params["a"].softmax(-1)
    m = (q.detach() + DATA) / 2
    known(p, "C", (m / q).log())
    same_slopes(expected(p, "a", x=DATA.tolist()), divergence(q, m), list(p.parameters_of("a")))


CYCLIC = """
data(x) = evidence()
other(z) = evidence()
var x, u: {0, 1}
var z: {0..2}
param a: real[2,3]
param b: real[3]
param c: real[3]
param d: real
net T = mlp(2)
p(z|x) = Categorical(logits=a[x])
p(u|z) = Bernoulli(logits=b[z])
f(z|u) = Categorical([0.2, 0.2, 0.6])
m(z|u) = { s=0: 0.4 * f(z|u); s=1: 0.6 * other(z) }
q(u) = Bernoulli(logits=d)
q(x|z) = Bernoulli(logits=c[z])
minimize KL(data(x) * p(z|x) * p(u|z) || q(u) * m(z|u) * q(x|z)) with critic=T
"""


def test_a_pair_in_a_circle_gives_way_to_the_whole_joint() -> None:
    """p(z|x) against m(z|u), u drawn from z: no path has m in p's place, and one ratio over all variables stands for
    it (the rule RATIO). What the reference draws moves: its laws have their residuals."""
    p = compiled(CYCLIC)
    a, b, c, d = (p.params[n] for n in "abcd")
    x, z = torch.tensor([0.3, 0.7], dtype=torch.float64), torch.tensor([0.1, 0.7, 0.2], dtype=torch.float64)
    m = 0.4 * torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64) + 0.6 * z

    def coin(logits: Tensor) -> Tensor:
        return torch.stack([(-logits).sigmoid(), logits.sigmoid()], -1)

    left = x[:, None, None] * a.softmax(-1)[:, :, None] * coin(b)[None]  # x, z, u
    right = coin(d)[None, None] * m[None, :, None] * coin(c).T[:, :, None]
    table = known(p, "T", (right / left).log().permute(0, 2, 1))  # x, u, z: as declared
    (player,) = (name for name in p.emitted.losses if name != "T")
    found = expected(p, player, x=x.tolist(), z=z.tolist())
    same_slopes(found, divergence(left, right), list(p.parameters_of(player)))
    (slope,) = slopes(expected(p, "T", x=x.tolist(), z=z.tolist()), [table])
    assert slope.abs().max() < 1e-10


def test_evidence_with_a_column_summed_out_is_its_marginal() -> None:
    """The bound of mutual information for a network of a, b beside it: m(h) is the marginal that the path draws."""
    p = compiled("""
data(a, b) = evidence()
var a, b: {0, 1}
var h: {0..2}
param w: real[2,3]
net T = mlp(2)
p(h|a) = Categorical(logits=w[a])
j(h, b) = data(a, b) * p(h|a)
m(h) = data(a) * p(h|a)
maximize KL(j(h,b) || m(h) * data(b)) with critic=T
""")
    table = torch.tensor([[0.1, 0.3], [0.4, 0.2]], dtype=torch.float64)
    encoder = p.params["w"].softmax(-1)
    joint = table.T @ encoder  # b, h
    apart = table.sum(0)[:, None] * (table.sum(1) @ encoder)[None]
    known(p, "T", (apart / joint).log())
    a, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    found = sum(
        share * p.loss("w", {"a": a[i : i + 1], "b": b[i : i + 1]}) for i, share in enumerate(table.flatten().tolist())
    )
    assert isinstance(found, Tensor)
    same_slopes(found, -divergence(joint, apart), list(p.parameters_of("w")))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("data(a,b,c) * q(t|a)", "data(a,b) * q(t|a)"),
        ("data(b,c,a) * q(t|a)", "data(a,b) * q(t|a)"),
        ("data(a,b,c) * q(t|a)", "data(b,a) * q(t|a)"),
    ],
)
def test_columns_of_evidence_cancel_by_name(left: str, right: str) -> None:
    """Two ways to say one law of the data, c integrated out: KL(J || J) has nothing to train."""
    derivation = jointkl.derive(
        jointkl.parse(f"""
data(a, b, c) = evidence()
var a, b, c, t: real
param w: real
q(t|a) = Normal(w * a, 1)
j(a, b, t) = {left}
k(a, b, t) = {right}
minimize KL(j(a,b,t) || k(a,b,t))
minimize CE(j(a,b,t) || q(t|a))
""")
    )
    assert {e.goal for e in derivation.losses["w"]} == {1}


def test_a_critic_may_be_all_that_a_goal_trains() -> None:
    """Neural ratio estimation: laws as they are, and log of the product of marginals over the joint is learned."""
    p = compiled("""
var th: {0, 1}
var x: {0..2}
net T = mlp(4)
prior(th) = Bernoulli(0.3)
sim(x | th) = Categorical(softmax([0.2, 1.1, -0.4] * (1 + th)))
other(x) = evidence()
mx(x) = { s=0: 0.5 * prior(th) * sim(x|th); s=1: 0.5 * other(x) }
minimize KL(prior(th) * sim(x|th) || mx(x) * prior(th)) with critic=T
""")
    assert tuple(p.emitted.losses) == ("T",)
    prior = torch.tensor([0.7, 0.3], dtype=torch.float64)
    base = torch.tensor([0.2, 1.1, -0.4], dtype=torch.float64)
    sim = torch.stack([base, 2 * base]).softmax(-1)
    mx = (prior @ sim + DATA) / 2
    table = known(p, "T", (mx[None] / sim).log())
    (slope,) = slopes(expected(p, "T", x=DATA.tolist()), [table])
    assert slope.abs().max() < 1e-10
    table = known(p, "T", torch.zeros(2, 3, dtype=torch.float64))
    (slope,) = slopes(expected(p, "T", x=DATA.tolist()), [table])
    assert slope.abs().max() > 1e-2
