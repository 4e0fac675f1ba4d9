"""Classifiers and critics that share networks: each has its own loss once, whatever else trains them, in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

import jointkl
from jointkl.derivation.expr import LogSigmoid
from jointkl.program import Program
from tests.worlds import losses

HEAD = """
data(x) = evidence()
var x, z: real[2]
var y: {0, 1}
var k: {0..3}
net G = mlp(8)
net H = mlp(8)
net T: real[8] = mlp(8)
net C = linear()
net B = linear()
net D = linear()
net R = linear()
q(z) = Normal(0, 1)
q(k) = Categorical()
q(x|z,k) = Delta(G(z, k))
s(x|z) = Delta(H(z))
d(y|x) = Bernoulli(D(T(x)))
r(k|x) = Categorical(R(T(x)))
q(x) = q(z) * q(k) * q(x|z,k)
s(x) = q(z) * s(x|z)
m(x, y) = { y=1: data(x); y=0: q(x) }
"""
"""T is the trunk of the classifier d, of the critics C and B, and of the law r."""

Draws = dict[str, Tensor]


def logistic(up: Tensor, down: Tensor) -> Tensor:
    return softplus(-up).mean() + softplus(down).mean()


def critic(net: str, moving: str) -> Callable[[Program, Draws], Tensor]:
    """-E_data log sigma(l) - E_moving log sigma(-l)"""

    def loss(p: Program, v: Draws) -> Tensor:
        return logistic(p.nets[net](p.nets["T"](v["x"])), p.nets[net](p.nets["T"](v[moving])))

    return loss


def code(p: Program, v: Draws) -> Tensor:
    """-E log r(k|x)"""
    return cross_entropy(p.nets["R"](p.nets["T"](v["q"])), v["k"])


TRAINED: dict[str, tuple[tuple[str, ...], str, tuple[Callable[[Program, Draws], Tensor], ...]]] = {
    "a critic whose trunk another goal trains": (
        (
            "minimize CE(q(z) * q(k) * q(x|z,k) || r(k|x)) over G, R, T",
            "minimize KL(q(x) || data(x)) over G with critic=C(T(x))",
        ),
        "T+C",
        (code, critic("C", "q")),
    ),
    "a classifier and a critic": (
        (
            "minimize KL(m(x,y) || data(x) * d(y|x))",
            "minimize KL(s(x) || data(x)) with critic=C(T(x))",
        ),
        "T+C+D",
        (critic("D", "q"), critic("C", "s")),
    ),
    "a classifier, a critic and a law": (
        (
            "minimize KL(m(x,y) || data(x) * d(y|x))",
            "minimize KL(s(x) || data(x)) with critic=C(T(x))",
            "minimize CE(q(z) * q(k) * q(x|z,k) || r(k|x)) over R, T",
        ),
        "T+C+D",
        (critic("D", "q"), critic("C", "s"), code),
    ),
    "two critics": (
        (
            "minimize KL(q(x) || data(x)) over G with critic=C(T(x))",
            "minimize KL(s(x) || data(x)) over H with critic=B(T(x))",
        ),
        "T+C+B",
        (critic("C", "q"), critic("B", "s")),
    ),
    "a critic of one ratio in two goals": (
        (
            "minimize KL(s(x) || data(x)) over H with critic=C(T(x))",
            "minimize 2 * KL(s(x) || data(x)) with critic=C(T(x))",
        ),
        "T+C",
        (critic("C", "s"),),
    ),
}
"""Goals, whom they train beside others, and the parts of that player's loss."""

CASES = [(name, order) for name, (goals, _, _) in TRAINED.items() for order in permutations(range(len(goals)))]


DRAWN = ("q(x", "q(k", "m(x,y)")

USES = {
    **dict.fromkeys(("net D", "d(y|x)", "m(x, y)"), ("m(x,y)",)),
    **dict.fromkeys(("net G", "q(x", "q(k"), DRAWN),
    **dict.fromkeys(("net R", "r(k|x)"), ("r(k|x)",)),
    **dict.fromkeys(("net H", "s(x"), ("s(x)",)),
    "net B": ("B(T",),
    "net C": ("C(T",),
}
"""What stands in a spec only if its goals use one of these."""


def spec(goals: Sequence[str]) -> str:
    """The goals with the networks and laws that they use."""
    text = "\n".join(goals)

    def used(line: str) -> bool:
        return all(any(w in text for w in words) for at, words in USES.items() if line.startswith(at))

    kept = filter(used, HEAD.strip().splitlines())
    return "\n".join([*kept, text])


@pytest.mark.parametrize(("name", "order"), CASES)
def test_every_judge_has_its_own_loss_once(name: str, order: tuple[int, ...]) -> None:
    """Value and gradient against the logistic losses and what `over` names it for, written out."""
    goals, player, parts = TRAINED[name]
    torch.manual_seed(0)
    p = jointkl.compile(spec([goals[i] for i in order])).double()
    kinds = {q.name: q.kind for q in p.derivation.facts.players}
    assert kinds[player] == ("classifier" if "D" in player else "critic")
    n = 5
    batch = {"x": torch.randn(n, 2).double(), "z": torch.randn(n, 2).double(), "k": torch.randint(4, (n,))}
    drawn = dict(batch)
    with torch.no_grad():
        if "G" in p.nets:
            drawn["q"] = p.nets["G"](batch["z"], batch["k"])
        if "H" in p.nets:
            drawn["s"] = p.nets["H"](batch["z"])
    found, wanted = p.loss(player, batch), sum(part(p, drawn) for part in parts)
    assert isinstance(wanted, Tensor)
    torch.testing.assert_close(found, wanted)
    own = list(p.parameters_of(player))
    for a, b in zip(torch.autograd.grad(found, own), torch.autograd.grad(wanted, own), strict=True):
        torch.testing.assert_close(a, b)


def test_the_order_of_goals_is_no_matter_for_the_others() -> None:
    goals = TRAINED["a classifier and a critic"][0]
    one, other = losses(spec(list(goals))), losses(spec(list(reversed(goals))))
    assert {k: set(v.split(" + ")) for k, v in one.items()} == {k: set(v.split(" + ")) for k, v in other.items()}


def test_the_penalty_of_a_classifier_that_shares_with_a_critic() -> None:
    """R1 finds its classifier, whatever goal is stated last."""
    goals = [*TRAINED["a classifier and a critic"][0], "minimize R1(data(x) || d(y|x))"]
    derivation = jointkl.derive(jointkl.parse(spec(goals)))
    assert {e.goal for e in derivation.losses["T+C+D"]} == {0, 1, 2}
    ratios = [e for e in derivation.losses["T+C+D"] if isinstance(e.terms[0].atom, LogSigmoid)]
    assert [e.weight for e in ratios] == [1, 1]


def test_a_trunk_that_a_bound_names_has_its_copies() -> None:
    """The encoder's trunk is the classifier's too: named by `over` for an importance-weighted bound, it has it."""
    text = """
data(x) = evidence()
var x, z: real[2]
var y: {0, 1}
net T: real[8] = mlp(8)
net E = linear()
net D = linear()
net G = mlp(8)
p(z|x) = Normal(E(T(x)))
q(z) = Normal(0, 1)
q(x|z) = Normal(G(z), 1)
d(y|x) = Bernoulli(D(T(x)))
m(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
minimize KL(data(x) * p(z|x) || q(z) * q(x|z)) over E, G, T with importance=3
minimize KL(m(x,y) || data(x) * d(y|x)) over D
"""
    shared = {e.goal: e.copies for e in jointkl.derive(jointkl.parse(text)).losses["T+D"]}
    assert shared == {0: 3, 1: 0}


UNTRAINED = """
minimize KL(m(x,y) || data(x) * d(y|x)) over G
minimize CE(q(z) * q(k) * q(x|z,k) || r(k|x)) over R, T
"""


def test_a_classifier_is_not_trained_by_what_trains_its_trunk() -> None:
    """The second goal names T for another law: d itself stays as it is, and others play against it."""
    text = spec(UNTRAINED.strip().splitlines())
    with pytest.raises(jointkl.JklError, match="no goal trains it") as found:
        jointkl.derive(jointkl.parse(text))
    (report,) = found.value.reports
    line = report.help[-1].strip()
    assert line == "minimize KL(m(x,y) || data(x) * d(y|x)) over G, T, D"
    derivation = jointkl.derive(jointkl.parse(spec([line, UNTRAINED.strip().splitlines()[1]])))
    assert {e.goal for e in derivation.losses["T+D"]} == {0, 1}


SHARED = """
data(x) = evidence()
var x, z: real[2]
var y: {0, 1}
net T: real[8] = mlp(8)
net F = linear()
net D = linear()
q(z) = Normal(0, 1)
q(x|z) = Delta(F(T(z)))
q(x) = q(z) * q(x|z)
d(y|x) = Bernoulli(D(T(x)))
m(x, y) = { y=1: data(x); y=0: q(x) }
"""


@pytest.mark.parametrize(
    ("text", "player"),
    [
        (SHARED + "minimize KL(m(x,y) || data(x) * d(y|x))", "T+D"),
        (SHARED + "minimize KL(m(x,y) || data(x) * d(y|x)) with game=nonsaturating", "T+D"),
        (
            SHARED.replace("d(y|x) = Bernoulli(D(T(x)))\n", "").replace("m(x, y) = { y=1: data(x); y=0: q(x) }\n", "")
            + "minimize KL(q(x) || data(x)) with critic=D(T(x))",
            "T+D",
        ),
    ],
    ids=["classifier", "game", "critic"],
)
def test_a_trunk_that_draws_too_is_trained_by_samples_that_stand_still(text: str, player: str) -> None:
    """T is of the judge and of the law that it judges: its loss is logistic in the judgement, not in what is drawn."""
    torch.manual_seed(0)
    p = jointkl.compile(text).double()
    trunk, draw, judge = (p.nets[n] for n in "TFD")
    batch = {"x": torch.randn(5, 2).double(), "z": torch.randn(5, 2).double()}
    made = draw(trunk(batch["z"])).detach()
    wanted = logistic(judge(trunk(batch["x"])), judge(trunk(made)))
    found = p.loss(player, batch)
    torch.testing.assert_close(found, wanted)
    own = list(p.parameters_of(player))
    for a, b in zip(torch.autograd.grad(found, own), torch.autograd.grad(wanted, own), strict=True):
        torch.testing.assert_close(a, b)
