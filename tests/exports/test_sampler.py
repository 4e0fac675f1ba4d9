"""What an exported sampler draws is what the program's laws say: by hand where noise determines it, else in numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.diagnostics import DataError
from jointkl.exports.formats import FORMATS
from jointkl.exports.sampler import Sampler, Supply
from jointkl.program import Program
from tests.bounds import reach, share_reach

MODELS = Path(__file__).resolve().parents[2] / "models"
N = 20_000


def compiled(spec: str) -> Program:
    torch.manual_seed(0)
    return jointkl.compile(MODELS / spec if spec.endswith(".jkl") else spec)


class Loaded:
    """A law's sampler, read back from the bytes of its file."""

    def __init__(self, program: Program, law: str, supply: Supply = "given") -> None:
        self.sampler = Sampler(program, law, supply)
        content = FORMATS[".pt2"].write(self.sampler, {})
        self.module = torch.export.load(io.BytesIO(content)).module()

    @property
    def inputs(self) -> list[tuple[str, str]]:
        return [(i.name, i.need.noise or i.need.role) for i in self.sampler.inputs]

    def __call__(self, **given: Tensor) -> Mapping[str, Tensor]:
        return self.module(**given)


def spread(n: int, *shape: int) -> Tensor:
    """Evenly spread uniform noise, (n, *shape): the same in every number of a row."""
    return ((torch.arange(n) + 0.5) / n).reshape(n, *[1] * len(shape)).expand(n, *shape)


# --- noise determines the draw


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "names"), [("gan", ["z"]), ("ali", ["z", "x_noise"])], ids=["dirac", "normal given normal"]
)
def test_the_same_seed_draws_what_the_program_draws(model: str, names: list[str]) -> None:
    program = compiled(f"{model}.jkl")
    loaded = Loaded(program, "q(x)")
    torch.manual_seed(5)
    expected = program.sample("q(x)", 64)["x"]
    torch.manual_seed(5)
    noise = {i.name: torch.randn(64, *i.need.shape) for i in loaded.sampler.inputs}
    assert list(noise) == names
    assert torch.allclose(loaded(**noise)["x"], expected, atol=1e-6)


def test_a_normal_is_moved_and_scaled() -> None:
    program = compiled("vae.jkl")
    loaded = Loaded(program, "p(z|x)")
    assert loaded.inputs == [("x", "given"), ("z_noise", "normal")]
    x, e = torch.rand(9, 1, 8, 8).round(), torch.randn(9, 8)
    with torch.no_grad():
        loc, scale = program.nets["enc"](x)
    assert torch.allclose(loaded(x=x, z_noise=e)["z"], loc + scale * e, atol=1e-6)


def test_discrete_draws_have_their_probabilities() -> None:
    program = compiled("vae.jkl")
    z = torch.randn(1, 8).expand(2000, 8)
    with torch.no_grad():
        p = program.nets["dec"](z[:1]).sigmoid()
    x = Loaded(program, "q(x|z)")(z=z, x_noise=spread(2000, 1, 8, 8))["x"]
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(x.mean(0), p[0], atol=1e-3)


def test_a_finite_latent_and_what_it_indexes() -> None:
    program = compiled("em.jkl")
    with torch.no_grad():
        program.emitted.w_raw.copy_(torch.tensor([0.0, 1.0, -1.0]))
        program.emitted.L_raw.normal_()
    loaded = Loaded(program, "q(x,k)")
    assert loaded.inputs == [("k_noise", "uniform"), ("x_noise", "normal")]
    e = torch.randn(3000, 4)
    found = loaded(k_noise=spread(3000), x_noise=e)
    k, mu, tril = found["k"], program.params["mu"].detach(), program.params["L"].detach()
    assert k.dtype == torch.int64
    assert torch.allclose(torch.bincount(k) / 3000, program.params["w"].detach(), atol=1e-3)
    assert torch.allclose(found["x"], mu[k] + torch.einsum("nij,nj->ni", tril[k], e), atol=1e-5)


def test_a_free_law_is_its_optimum() -> None:
    program = compiled("em.jkl")
    x = torch.randn(1, 4)
    exact = program.solve("p(k|x)", {"x": x})[0]
    k = Loaded(program, "p(k|x)")(x=x.expand(3000, 4), k_noise=spread(3000))["k"]
    assert torch.allclose(torch.bincount(k, minlength=3) / 3000, exact, atol=1e-3)


# --- mixtures and evidence


def test_each_row_of_a_mixture_is_of_its_branch() -> None:
    program = compiled("gan.jkl")
    loaded = Loaded(program, "q(x,y)")
    assert loaded.inputs == [("x", "evidence"), ("z", "normal"), ("y_noise", "uniform")]
    x, z = torch.randn(1000, 2), torch.randn(1000, 2)
    found = loaded(x=x, z=z, y_noise=spread(1000))
    real = found["y"] == 1
    assert int(real.sum()) == 500
    assert torch.equal(found["x"][real], x[real])
    with torch.no_grad():
        assert torch.allclose(found["x"][~real], program.nets["G"](z)[~real], atol=1e-6)


WEIGHTED = """
data(x) = evidence()
var x: real
var y: {0, 1}
net D = mlp(4)
param m: real
q(x) = { s=0: 0.3 * a(x); s=1: 0.7 * b(x) }
a(x) = Normal(-5, 0.5)
b(x) = Laplace(m, 0.5)
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(x) }
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y))
"""


def test_a_hidden_mixture_has_its_weights_and_noise_of_each_kind() -> None:
    program = compiled(WEIGHTED)
    loaded = Loaded(program, "q(x)")
    assert loaded.inputs == [("x_noise", "normal"), ("x_noise_2", "uniform"), ("branch_noise", "uniform")]
    e, u = torch.randn(1000), torch.rand(1000)
    x = loaded(x_noise=e, x_noise_2=u, branch_noise=spread(1000))["x"]
    assert torch.allclose(x[:300], -5 + 0.5 * e[:300], atol=1e-6)
    m = program.params["m"].detach()
    assert torch.allclose(x[300:], torch.distributions.Laplace(m, 0.5).icdf(u[300:]), atol=1e-5)


def test_a_copy_of_evidence_is_rows_of_its_own() -> None:
    program = compiled("alpha_gan.jkl")
    loaded = Loaded(program, "q(x)")
    assert loaded.inputs == [("x_prime", "evidence"), ("z", "normal"), ("branch_noise", "uniform")]
    x, z = torch.rand(8, 1, 8, 8), torch.randn(8, 8)
    found = loaded(x_prime=x, z=z, branch_noise=torch.tensor([0.0, 0.99] * 4))["x"]
    with torch.no_grad():
        sampled, again = (program.nets["G"](code) for code in (z, program.nets["E"](x)))
    assert torch.allclose(found[0::2], sampled[0::2], atol=1e-6)
    assert torch.allclose(found[1::2], again[1::2], atol=1e-6)


# --- networks


NETS = """
data(x) = evidence()
var x: unit[1,8,8]
var z: real[4]
net E = conv(4, hidden=16, norm=batch, dropout=0.5)
net G = deconv(8, 4, norm=batch)
net D = resnet(4, norm=spectral)
var y: {0, 1}
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z))
p(z | x) = Normal(E(x))
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y))
minimize KL(data(x) * p(z|x) || q(z) * data(x))
"""


@pytest.mark.slow
def test_networks_are_in_evaluation_mode() -> None:
    """Running batch statistics, no dropout, a weight of spectral norm one as it stands."""
    program = compiled(NETS)
    for _ in range(3):  # running statistics that are not those of the start
        for player in program.players:
            program.loss(player, {"x": torch.rand(16, 1, 8, 8)})
    assert program.training
    x, z, e = torch.rand(5, 1, 8, 8), torch.randn(5, 4), torch.randn(5, 4)
    found = {
        "x": Loaded(program, "q(x)")(z=z)["x"],
        "z": Loaded(program, "p(z|x)")(x=x, z_noise=e)["z"],
        "y": Loaded(program, "p(y|x)")(x=x.expand(5, 1, 8, 8), y_noise=torch.full((5,), 0.5))["y"],
    }
    assert program.training, "the program is left as it was"
    program.eval()
    with torch.no_grad():
        loc, scale = program.nets["E"](x)
        assert torch.allclose(found["x"], program.nets["G"](z), atol=1e-5)
        assert torch.allclose(found["z"], loc + scale * e, atol=1e-5)
        assert torch.equal(found["y"], (program.nets["D"](x).sigmoid() > 0.5).long())


def test_only_what_the_law_needs_is_there() -> None:
    program = compiled("gan.jkl")
    assert {name.split(".")[1] for name in Sampler(program, "q(x)").state_dict()} == {"G"}
    assert {name.split(".")[1] for name in Sampler(program, "q(x,y)").state_dict()} == {"G"}
    assert {name.split(".")[1] for name in Sampler(program, "p(y|x)").state_dict()} == {"D"}
    assert Sampler(program, "q(z)").state_dict() == {}
    assert set(Sampler(compiled("em.jkl"), "q(k)").state_dict()) == {"emitted.w_raw"}
    assert all(p.requires_grad for p in program.parameters())


# --- draws without a simple form in noise, and without an input


COUNTS = """
data(x) = evidence()
var x: natural[2]
var w: positive
var c: real
param m: positive
net r = mlp(4)
q(w) = Gamma(3, 2)
q(x | w) = Poisson(w * m)
q(c) = Delta(m)
p(w | x) = Gamma(r(x))
p(x, w) = data(x) * p(w|x)
q(x, w) = q(w) * q(x|w)
minimize KL(p(x,w) || q(x,w))
"""


@pytest.mark.statistical
def test_what_noise_cannot_draw_is_drawn_inside() -> None:
    """x given w is Poisson(m w), w Gamma(3, rate 2): E x = 3m/2, Var x = 3m/2 + 3m^2/4."""
    program = compiled(COUNTS)
    with torch.no_grad():
        program.emitted.m_raw.fill_(torch.tensor(2.0).log())
    loaded = Loaded(program, "q(x,w)")
    assert loaded.inputs == [("rows", "rows")]
    assert loaded.sampler.inside == {"q(w)": "Gamma", "q(x|w)": "Poisson"}
    torch.manual_seed(0)
    found = loaded(rows=torch.empty(N))
    x, w = found["x"], found["w"]
    assert x.shape == (N, 2)
    for each, known in (
        (w, 1.5),
        ((w - 1.5) ** 2, 0.75),
        (x.mean(1), 3.0),
        (((x - 3) ** 2).mean(1), 6.0),
        ((x - 3).prod(1), 3.0),  # both counts are of one w
    ):
        assert float(each.mean()) == pytest.approx(known, abs=reach(each))
    assert loaded(rows=torch.empty(1))["w"].shape == (1,)
    assert not torch.equal(loaded(rows=torch.empty(9))["w"], loaded(rows=torch.empty(9))["w"])


def test_a_constant_fills_its_rows() -> None:
    program = compiled(COUNTS)
    loaded = Loaded(program, "q(c)")
    assert loaded.inputs == [("rows", "rows")]
    assert torch.equal(loaded(rows=torch.empty(3))["c"], program.params["m"].detach().expand(3))


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("law", ["q(x,k)", "p(k|x)"])
def test_all_noise_may_be_drawn_inside(law: str) -> None:
    program = compiled("em.jkl")
    loaded = Loaded(program, law, "drawn")
    given = {"x": torch.zeros(N, 4)} if "|" in law else {"rows": torch.empty(N)}
    assert [name for name, _ in loaded.inputs] == list(given)
    torch.manual_seed(2)
    k = loaded(**given)["k"]
    exact = program.solve("p(k|x)", {"x": torch.zeros(1, 4)})[0] if "|" in law else program.params["w"].detach()
    found = torch.bincount(k, minlength=3) / N
    assert all(abs(a - b) <= share_reach(b, N) for a, b in zip(found.tolist(), exact.tolist(), strict=True))


def test_a_family_that_no_graph_draws() -> None:
    program = compiled("""
        data(x) = evidence()
        var x, a: real
        net E = mlp(4)
        q(a) = VonMises(0, 1)
        q(x | a) = Normal(a, 1)
        p(a | x) = Normal(E(x))
        minimize KL(data(x) * p(a|x) || q(a) * q(x|a)) with estimate=monte_carlo
        """)
    with pytest.raises(DataError, match=r"q\(a\) is a VonMises, which cannot be exported: its draws are rejected"):
        Sampler(program, "q(x)")


# --- names


def test_arguments_have_names_of_python() -> None:
    program = compiled("""
        data(class) = evidence()
        var class, rows: real[2]
        net E = mlp(4)
        net G = mlp(4)
        q(rows) = Normal(0, 1)
        q(class | rows) = Normal(G(rows))
        p(rows | class) = Normal(E(class))
        minimize KL(data(class) * p(rows|class) || q(rows) * q(class|rows))
        """)
    loaded = Loaded(program, "q(class)")
    assert [name for name, _ in loaded.inputs] == ["rows", "class_noise"]
    assert [name for name, _ in Loaded(program, "p(rows|class)").inputs] == ["class_", "rows_noise"]
    found = loaded(rows=torch.zeros(2, 2), class_noise=torch.zeros(2, 2))["class"]
    with torch.no_grad():
        assert torch.allclose(found, program.nets["G"](torch.zeros(2, 2))[0], atol=1e-6)


def test_noise_of_another_shape_is_refused_by_the_graph() -> None:
    loaded = Loaded(compiled("vae.jkl"), "q(x)")
    with pytest.raises(AssertionError, match=r"size\(\)"):
        loaded(z=torch.randn(4, 8), x_noise=torch.rand(5, 1, 8, 8))
