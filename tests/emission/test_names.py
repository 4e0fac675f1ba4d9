"""Whatever a spec calls its things, and whatever the emitted module calls its own, the numbers are the same."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence

import pytest
import torch

import jointkl
from jointkl.emission.names import ATTRIBUTES, MODULE
from jointkl.syntax.stop import RESERVED
from tests.worlds import MODELS

RICH = """
data(x) = evidence()
let K = 2
var x: real[2]
var w: real[2] global
var k: {0..K-1}
param m: real[2]
param s: positive[2]
param mu: real[K,2]
param pi: simplex[K]
p(w) = Normal(m, s)
q(w) = Normal(0, 1)
q(x | w) = Normal(w, 1)
p(k | x) = Free
q(k) = Categorical(pi)
r(x | k) = Normal(mu[k], 1)
minimize KL(data(x) * p(w) || q(w) * q(x|w))
minimize KL(data(x) * p(k|x) || q(k) * r(x|k))
"""


LOCALS = {"value", "each", "score", "log_w", "r", "total", "values", "raw", "d", "both", "leaf", "played", "frozen"}
SPOKEN = {"x", "y", "z", "data", "q", "exp", "log", "sqrt", "tanh", "sigmoid", "softmax", "softplus", "sum", "prod",
          "linspace", "cumprod", "Delta", "Free"}  # fmt: skip
"""What the specs below or the language use themselves."""
BUILTINS = {name for name in dir(builtins) if not name.startswith("_")}
WORDS = sorted((ATTRIBUTES | MODULE | LOCALS | BUILTINS) - RESERVED - SPOKEN)


@pytest.mark.parametrize("system", ["gan_regularized", "ali_proximal", "gan", "rich"])
def test_every_attribute_of_the_emitted_class_is_reserved(system: str) -> None:
    text = RICH if system == "rich" else (MODELS / f"{system}.jkl").read_text()
    made = jointkl.compile(text + (" train(updates=simultaneous)" if system == "gan" else "")).emitted
    tables = (made.nets, made.params, made.laws, made.programs, made.losses, made.solutions)
    own = {name for table in tables for name in table.values()} | {name for name, _ in made.named_buffers()}
    own |= {name.split(".")[0] for name in made.state_dict()} | {name for name, _ in made.named_children()}

    assert {name for name in dir(made) if not name.startswith("_")} - own <= ATTRIBUTES


chunks = pytest.mark.parametrize("names", [WORDS[i::6] for i in range(6)], ids=range(6))
X, Y = torch.tensor([0.3, -0.7, 1.1]).double(), torch.tensor([0.9, 0.2, -1.3]).double()


def nll(y: torch.Tensor, loc: torch.Tensor) -> torch.Tensor:
    return (0.5 * (y - loc).square()).mean() + 0.5 * math.log(2 * math.pi)


@chunks
def test_params(names: Sequence[str]) -> None:
    own = "\n".join(f"param {w}: {'positive' if i % 2 else 'real'}" for i, w in enumerate(names))
    p = jointkl.compile(f"data(x) = evidence() var x: real {own} q(x) = Normal({' + '.join(names)}, 1)"
                        " minimize CE(data(x) || q(x))").double()  # fmt: skip
    with torch.no_grad():
        for i, w in enumerate(p.emitted.parameters()):
            w.fill_(0.01 * i - 0.5)
    values = [0.01 * i - 0.5 for i in range(len(names))]
    loc = torch.tensor(sum(math.exp(v) if i % 2 else v for i, v in enumerate(values))).double()
    (player,) = p.players

    torch.testing.assert_close(p.loss(player, {"x": X}), nll(X, loc))
    assert [float(p.params[w].detach()) for w in names[:2]] == pytest.approx([values[0], math.exp(values[1])])
    assert len(p.parameters_of(player)) == len(names)
    assert p.sample("q(x)", 3)["x"].shape == (3,)


@chunks
def test_nets(names: Sequence[str]) -> None:
    own = "\n".join(f"net {w}: real = mlp(1)" for w in names)
    p = jointkl.compile(f"data(x, y) = evidence() var x, y: real {own} "
                        f"q(y|x) = Normal({' + '.join(f'{w}(x)' for w in names)}, 1) "
                        "minimize CE(data(x,y) || q(y|x))").double()  # fmt: skip
    (player,) = p.players
    loc = torch.stack([p.nets[w](X) for w in names]).sum(0)

    torch.testing.assert_close(p.loss(player, {"x": X, "y": Y}), nll(Y, loc))
    assert p.sample("q(y|x)", batch={"x": X})["y"].shape == (3,)
    assert set(p.pyro("q(y|x)")(X, Y)) == {"y"}


@chunks
def test_variables(names: Sequence[str]) -> None:
    """Given by data, drawn with noise, and enumerated."""
    given, drawn, counted = names[:20], names[20:55], names[55:]
    text = f"""
        data({", ".join(["x", "y", *given])}) = evidence()
        var x, y, {", ".join([*given, *drawn])}: real
        {f"var {', '.join(counted)}: {{0, 1}}" if counted else ""}
        param a: real
        {" ".join(f"p({w}|x) = Normal(a*x, 2)" for w in drawn)}
        {" ".join(f"p({w}|x) = Bernoulli(logits=a*x)" for w in counted)}
        q(y | {", ".join(["x", *names])}) = Normal({" + ".join(["x", *names])}, 1)
        minimize CE({" * ".join([f"data({', '.join(['x', 'y', *given])})", *(f"p({w}|x)" for w in names[20:])])}
            || q(y|{", ".join(["x", *names])}))
    """
    p = jointkl.compile(text).double()
    with torch.no_grad():
        p.emitted.a.fill_(0.4)
    values = {w: 0.1 * torch.randn(3).double() for w in (*given, *(f"{w}.noise" for w in drawn))}
    loc = X + sum(values[w] for w in given) + sum(0.4 * X + 2 * values[f"{w}.noise"] for w in drawn)
    yes = (0.4 * X).sigmoid()
    counts = range(len(counted) + 1)
    wanted = sum(math.comb(len(counted), k) * yes**k * (1 - yes) ** (len(counted) - k)
                 * 0.5 * (Y - loc - k).square() for k in counts)  # fmt: skip
    assert isinstance(wanted, torch.Tensor)

    torch.testing.assert_close(p.loss("a", {"x": X, "y": Y, **values}), wanted.mean() + 0.5 * math.log(2 * math.pi))


@pytest.mark.slow
@chunks
def test_laws_and_players(names: Sequence[str]) -> None:
    laws = "\n".join(f"{w}(x) = Normal(m{i}, 1)" for i, w in enumerate(names))
    own = "\n".join(f"param m{i}: real\nplayer {w} = m{i}" for i, w in enumerate(names[:-1]))
    labels = "\n".join(f"v{w}(x) = Normal(m{i}, 1)" for i, w in enumerate(names))
    goals = " + ".join(f"CE(data(x) || v{w}(x))" for w in names[:-1])
    p = jointkl.compile(f"data(x) = evidence() var x: real {own} {labels.rsplit(chr(10), 1)[0]} minimize {goals}")
    assert set(p.players) == set(names[:-1])
    p.double()
    for w in names[:-1]:
        torch.testing.assert_close(p.loss(w, {"x": X}), nll(X, torch.zeros(()).double()))

    known = "\n".join(f"param m{i}: real" for i in range(len(names)))
    p = jointkl.compile(f"data(x) = evidence() var x: real {known} {laws} "
                        f"minimize {' + '.join(f'CE(data(x) || {w}(x))' for w in names)}").double()  # fmt: skip
    (player,) = p.players
    torch.testing.assert_close(p.loss(player, {"x": X}), len(names) * nll(X, torch.zeros(()).double()))


def test_a_net_called_as_a_param_is_kept() -> None:
    """`s_raw` is what the emitted class would call what a param `s` is kept as: each player trains its own."""
    p = jointkl.compile("""
        data(x, y) = evidence()
        var x, y: real
        param s: positive
        param t: real
        net s_raw: real = mlp(2)
        net t_raw: real = mlp(2)
        q(y | x) = Normal(t + s_raw(x) + t_raw(x), s)
        player nets = s_raw, t_raw
        player params = s, t
        minimize CE(data(x,y) || q(y|x))
    """)
    assert [len(p.parameters_of(player)) for player in ("nets", "params")] == [8, 2]
    assert p.params["s"].shape == ()
