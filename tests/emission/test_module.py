"""The emitted module: readable, alone, and safe."""

from __future__ import annotations

import ast
import keyword
import math
import re
import subprocess
import sys
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch

import jointkl
from jointkl.emission.names import ATTRIBUTES, Names, legal
from tests.bounds import SIGMAS
from tests.worlds import GAN, MODELS, VAE

GOLDEN = Path(__file__).parent / "modules"
COMPILED = sorted(path.stem for path in MODELS.glob("*.jkl"))


@pytest.mark.parametrize("name", COMPILED)
def test_the_code_is_golden(name: str, golden) -> None:
    """All but the docstring at its head, which holds the derivation: that is golden where it is shown."""
    model = jointkl.load(MODELS / f"{name}.jkl")
    head, code = jointkl.python(model).split('\n"""\n', 1)
    assert jointkl.derive(model).text() in head
    golden(GOLDEN / f"{name}.py.txt", code.strip("\n"))


@pytest.mark.parametrize("name", COMPILED)
def test_it_imports_torch_and_pyro_only(name: str) -> None:
    tree = ast.parse(jointkl.python(jointkl.load(MODELS / f"{name}.jkl")))
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    assert found <= {"__future__", "torch", "pyro", "math", "copy", "collections"}


@pytest.mark.slow
def test_it_runs_with_jointkl_absent(tmp_path: Path) -> None:
    (tmp_path / "vae.py").write_text(jointkl.python(jointkl.parse(VAE)))
    run = (
        "import sys; sys.modules['jointkl'] = None; import torch, vae;"
        "p = vae.Program(); l = p.loss_enc_dec({'x': torch.ones(3, 1, 8, 8)}); l.backward(); print(l.ndim)"
    )
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("name", COMPILED)
def test_it_is_formatted_within_reason(name: str) -> None:
    text = jointkl.python(jointkl.load(MODELS / f"{name}.jkl"))
    code = text.split('"""', 2)[2]
    assert max(map(len, code.splitlines())) <= 130
    assert "\t" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_attributes_of_torch_are_reserved() -> None:
    public = {n for n in dir(torch.nn.Module()) if not n.startswith("_")}
    assert public <= ATTRIBUTES


def test_names_are_legal_and_unique() -> None:
    names = Names.without({"torch"})
    wanted = ["x", "x'", "x_prime", "x''", "class", "torch", "match", "é", "1a", "__init__", "x"]
    given = [names.of(i, w) for i, w in enumerate(wanted)]
    assert len(set(given)) == len(given)
    assert all(g.isidentifier() and not keyword.iskeyword(g) and g.isascii() for g in given)
    assert names.of(0, "anything") == "x"
    assert not legal("__class__").startswith("__")


@pytest.mark.parametrize(
    "word", ["forward", "eval", "self", "batch", "torch", "n", "lambda", "anchor", "loss_G", "None"]
)
def test_adversarial_names_compute_the_same_loss(word: str) -> None:
    """Names of Python, of torch and of the emitted class itself, for a net and for a variable."""
    plain, odd = jointkl.compile(jointkl.parse(GAN)), None
    for old in ("G", "z"):
        text = re.sub(rf"\b{old}\b", word, GAN)
        odd = jointkl.compile(jointkl.parse(text))
        odd.emitted.load_state_dict(
            dict(zip(odd.emitted.state_dict(), plain.emitted.state_dict().values(), strict=True))
        )
        z, x = torch.randn(5, 2), torch.randn(5, 2)
        key = "z" if old == "G" else word
        player = word if old == "G" else "G"
        assert odd.loss(player, {"x": x, key: z}) == plain.loss("G", {"x": x, "z": z})
        assert odd.loss("D", {"x": x, key: z}) == plain.loss("D", {"x": x, "z": z})


def test_a_file_s_name_cannot_break_out_of_the_docstring() -> None:
    name = 'a"""\nraise SystemExit(7)\n"""\\.jkl'
    model = jointkl.parse(GAN, name)
    compile(jointkl.python(model), "emitted", "exec")
    assert "raise SystemExit" not in "".join(
        ast.unparse(node) for node in ast.parse(jointkl.python(model)).body if not isinstance(node, ast.Expr)
    )
    assert jointkl.compile(model).players == ("G", "D")


def test_what_is_trained_is_what_is_printed() -> None:
    program = jointkl.compile(jointkl.parse(GAN))
    assert program.source == jointkl.python(jointkl.parse(GAN))
    assert type(program.emitted).__module__ == "jointkl_emitted"


def test_sampling_and_densities() -> None:
    program = jointkl.compile(jointkl.parse(VAE)).double()
    assert program.sample("q(x)", 5)["x"].shape == (5, 1, 8, 8)
    x = program.sample("q(x)", 4)["x"]
    drawn = program.sample("p(x, z)", batch={"x": x})
    assert set(drawn) == {"x", "z"}
    exact = program.log_prob("q(x, z)", drawn)
    by_hand = dist.Normal(0, 1).log_prob(drawn["z"]).sum(1) + dist.Bernoulli(
        logits=program.nets["dec"](drawn["z"])
    ).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(exact, by_hand)
    with pytest.raises(jointkl.DataError, match="takes x from evidence"):
        program.sample("p(x, z)", 3)


@pytest.mark.statistical
def test_an_importance_sampled_density_is_the_exact_one() -> None:
    """Linear-Gaussian: x = a z + b + s e gives x ~ N(b, a^2 + s^2). The weights are N(x; a z + b, s^2), whose mean
    square is N(x; b, a^2 + s^2 / 2) / 2 s sqrt(pi)."""
    torch.manual_seed(0)
    program = jointkl.compile(
        jointkl.parse("""
        data(x) = evidence()
        var x, z: real
        net G = linear()
        net E = linear()
        p(z | x) = Normal(E(x))
        q(z) = Normal(0, 1)
        q(x | z) = Normal(G(z), 0.5)
        minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
    """)
    ).double()
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)
    with torch.no_grad():  # a proposal as wide as the prior
        for weight in program.nets["E"].parameters():
            weight.zero_()
    a, b = program.nets["G"].layers.weight.detach().squeeze(), program.nets["G"].layers.bias.detach().squeeze()
    exact = dist.Normal(b, (a**2 + 0.25).sqrt()).log_prob(x)
    square = dist.Normal(b, (a**2 + 0.125).sqrt()).log_prob(x).exp() / math.pi**0.5
    error = ((square / (2 * exact).exp() - 1) / 200_000).sqrt()
    assert ((program.log_prob("q(x)", {"x": x}, 200_000) - exact).abs() <= SIGMAS * error + 1e-6).all()


def test_an_empty_batch_is_named() -> None:
    program = jointkl.compile(jointkl.parse(VAE))
    for player in program.players:
        with pytest.raises(ValueError, match="an empty batch: give the values of the evidence"):
            program.loss(player, {})
    with pytest.raises(jointkl.DataError, match=r"the density of q\(x\) needs x in the batch"):
        program.log_prob("q(x)", {})
