"""Every joint and law of every system is a program that Pyro runs, inspects, draws and conditions."""

from __future__ import annotations

import inspect
import shutil
from functools import cache

import pyro
import pytest
import torch
from pyro.infer.inspect import get_model_relations
from pyro.poutine import trace
from torch import Tensor

import jointkl
from jointkl.program import Program
from jointkl.semantics.model import Evidence, Free, Joint, base
from jointkl.semantics.spaces import Space
from tests.worlds import MODELS

NAMES = sorted(path.stem for path in MODELS.glob("*.jkl"))
N = 3


@cache
def compiled(name: str) -> Program:
    torch.manual_seed(0)
    return jointkl.compile(jointkl.load(MODELS / f"{name}.jkl"))


def values(space: Space, *batch: int) -> Tensor:
    if space.kind == "finite":
        return torch.randint(len(space.values), batch)
    drawn = torch.rand((*batch, *space.shape))
    return drawn.round() if space.kind == "binary" else drawn


def arguments(p: Program, program: object) -> dict[str, Tensor | None]:
    """Something for each argument that a program needs; nothing is observed beyond."""
    found: dict[str, Tensor | None] = {}
    for name, parameter in inspect.signature(program).parameters.items():  # pyright: ignore[reportArgumentType]
        if parameter.annotation == "Tensor":
            plain = name.removesuffix("_prime").removesuffix("_prime2")
            v = next(v for v in p.model.variables if plain == v or plain.endswith(f"_{v}"))
            found[name] = values(p.model.space(v), *(() if p.model.variable(v).is_global else (N,)))
        elif parameter.annotation == "Tensor | None":
            found[name] = None
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_joint_and_law_is_a_program(name: str) -> None:
    """All but the evidence, its sites named as variables, their values in the variables' spaces."""
    p = compiled(name)
    wanted = {law.key for law in p.model.laws.values() if not isinstance(law.body, Evidence)}
    assert wanted <= set(p.emitted.programs)
    for key in p.emitted.programs:
        program = p.pyro(key)
        given = arguments(p, program)
        torch.manual_seed(1)
        t = trace(program).get_trace(**given)
        returned = t.nodes["_RETURN"]["value"]
        head = key.rstrip(")").partition("(")[2]
        assert set(returned) == {v for v in head.partition("|")[0].split(",") if "=" not in v}
        for site in t.stochastic_nodes:
            variable = base(site.partition("[")[0])
            if site != "data" and variable in p.model.variables:
                space = p.model.space(variable)
                assert t.nodes[site]["fn"].event_shape == torch.Size(space.shape)
        t.compute_log_prob()
        assert all(torch.isfinite(t.nodes[s]["log_prob"]).all() for s in t.stochastic_nodes if s != "data")
        for v, value in returned.items():
            assert value.shape[value.dim() - len(p.model.space(v).shape) :] == torch.Size(p.model.space(v).shape)


@pytest.mark.parametrize("name", NAMES)
def test_a_labelled_mixture_conditioned_is_its_branch(name: str) -> None:
    """Given its label a mixture is drawn as that branch alone: the same noise, the same values."""
    p = compiled(name)
    for law in p.model.laws.values():
        if not isinstance(law.body, Joint) or law.body.label not in law.outputs:
            continue
        label = law.body.label
        for branch in law.body.branches:
            place = p.model.space(label).values.index(branch.value or 0)
            program = pyro.condition(p.pyro(law.key), {label: torch.full((N,), float(place))})
            whole = trace(program).get_trace(**arguments(p, p.pyro(law.key)))
            for v in law.outputs:
                own = f"{v}[{label}={branch.value}]"
                if own in whole.nodes:
                    torch.testing.assert_close(whole.nodes["_RETURN"]["value"][v], whole.nodes[own]["value"])
            whole.compute_log_prob()
            other = [s for s in whole.stochastic_nodes if "=" in s and f"[{label}={branch.value}]" not in s]
            assert all(not whole.nodes[s]["log_prob"].any() for s in other)


@pytest.mark.parametrize("name", ["gan", "vae", "vi", "em"])
def test_render_model_draws_it(name: str) -> None:
    """Each drawn or observed variable is a node, inside the plate but for globals, with its parents."""
    p = compiled(name)
    joint = {"gan": "q(x,y)", "vae": "q(x,z)", "vi": "q(x,t,w,b)", "em": "q(x,k)"}[name]
    program = p.pyro(joint)
    given = arguments(p, program)
    if name != "gan":
        given["x"] = values(p.model.space("x"), N)
    found = get_model_relations(program, (), given)
    parents = {v: set(above) for v, above in found["sample_sample"].items()}
    expected = {
        "gan": {"y": set(), "z": set(), "x[y=0]": {"z"}, "x": {"y", "z"}},  # Pyro sees through a Dirac
        "vae": {"z": set(), "x": {"z"}},
        "vi": {"w": set(), "b": set(), "x": {"w", "b"}},
        "em": {"k": set(), "x": {"k"}},
    }[name]
    assert {v: above - {v} for v, above in parents.items()} == expected
    assert set(found["plate_sample"]["data"]) == set(expected) - {"w", "b"}
    assert found["observed"] == ([] if name == "gan" else ["x"])
    graphviz = pytest.importorskip("graphviz", reason="the extra `graph` is not installed")
    drawn = pyro.render_model(program, model_kwargs=given, render_distributions=True)
    assert isinstance(drawn, graphviz.Digraph)
    assert all(f'"{v}"' in drawn.source or f"{v} [" in drawn.source for v in expected)
    assert all(f"{a} -> " in drawn.source for above in expected.values() for a in above)


@pytest.mark.parametrize("name", ["gan", "vae", "vi", "em"])
@pytest.mark.skipif(shutil.which("dot") is None, reason="the program `dot` of graphviz is not installed")
def test_render_model_writes_a_picture(name: str, tmp_path) -> None:
    p = compiled(name)
    law = next(law for law in p.model.laws.values() if isinstance(law.body, Joint))
    program = p.pyro(law.key)
    pyro.render_model(program, model_kwargs=arguments(p, program), filename=str(tmp_path / "drawn.svg"))
    assert (tmp_path / "drawn.svg").read_text().lstrip().startswith("<?xml")


def test_a_free_law_given_a_latent_is_drawn_at_that_latent() -> None:
    """p(k|z) at the z of the trace, whatever dimensions lead it."""
    p = jointkl.compile("""
        data(x) = evidence()
        var x, z: real[2]
        var k: {0..2}
        net E = mlp(4)
        net G = mlp(4)
        param m: real[3,2]
        p(z | x) = Normal(E(x))
        p(k | z) = Free
        q(k)     = Categorical()
        q(z | k) = Normal(m[k], 1)
        q(x | z) = Normal(G(z), 1)
        p(x, z, k) = data(x) * p(z|x) * p(k|z)
        q(x, z, k) = q(k) * q(z|k) * q(x|z)
        minimize KL(p(x,z,k) || q(x,z,k))
    """)
    assert isinstance(p.model.laws["p(k|z)"].body, Free)
    t = trace(p.pyro("p(x,z,k)")).get_trace(torch.randn(N, 2))
    z, m = t.nodes["z"]["value"], p.params["m"]
    r = torch.distributions.Normal(m, 1.0).log_prob(z[:, None]).sum(-1).softmax(-1)
    torch.testing.assert_close(t.nodes["k"]["fn"].probs, r.detach())
    many = torch.randn(5, 2, N, 2)
    torch.testing.assert_close(
        p.emitted.p_k_given_z(many).probs,
        torch.distributions.Normal(m, 1.0).log_prob(many[..., None, :]).sum(-1).softmax(-1).detach(),
    )
    drawn = p.sample("p(x,z,k)", batch={"x": torch.randn(N, 2)})
    assert drawn["k"].shape == (N,)


def test_an_observed_dirac_is_scored_by_its_density() -> None:
    p = jointkl.compile("""
        data(x) = evidence()
        var x: real[3]
        var z: real[2]
        net E = mlp(4)
        net G = mlp(4)
        p(z | x) = Normal(E(x))
        q(z)     = Normal(0, 1)
        q(x | z) = Delta(G(z), density=Laplace(2))
        q(x, z)  = q(z) * q(x|z)
        minimize CE(data(x) * p(z|x) || q(x|z))
    """)
    x = torch.randn(N, 3)
    t = trace(p.pyro("q(x,z)")).get_trace(x)
    t.compute_log_prob()
    loc = p.nets["G"](t.nodes["z"]["value"])
    torch.testing.assert_close(t.nodes["x"]["log_prob"], torch.distributions.Laplace(loc, 2.0).log_prob(x).sum(-1))
    drawn = trace(p.pyro("q(x,z)")).get_trace(size=4)
    torch.testing.assert_close(drawn.nodes["x"]["value"], p.nets["G"](drawn.nodes["z"]["value"]))


def test_two_sources_of_one_variable_are_two_arguments() -> None:
    p = compiled("domain_adaptation")
    a, b = torch.rand(N, 1, 8, 8), torch.rand(N, 1, 8, 8)
    drawn = p.pyro("q(f,y)")(source_x=a, target_x=b, c=torch.zeros(N).long())
    f = torch.where((drawn["y"] == 1)[:, None], p.nets["E"](a), p.nets["E"](b))
    torch.testing.assert_close(drawn["f"], f)


def test_a_label_observed_by_its_index_is_scored() -> None:
    p = jointkl.compile("""
        data(x, y) = evidence()
        var x: real[2]
        var y: {0, 1}
        net D = mlp(4)
        p(y | x) = Bernoulli(D(x))
        minimize CE(data(x,y) || p(y|x))
    """)
    x, y = torch.randn(N, 2), torch.tensor([0, 1, 1])
    scored = trace(p.pyro("p(y|x)")).get_trace(x, y).log_prob_sum()
    torch.testing.assert_close(scored, -N * p.loss("D", {"x": x, "y": y}))
