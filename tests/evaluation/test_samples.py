"""What is drawn from a program, and how it is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import jointkl
from jointkl.diagnostics import DataError
from jointkl.evaluation import samples
from jointkl.program import Program
from jointkl.sources import Bound, bind

VAE = """
data(x) = digits(threshold=0.5)
var x: binary[1,8,8]
var z: real[3]
net enc = mlp(8)
net dec = mlp(8)
p(z | x) = Normal(enc(x))
q(z) = Normal(0, 1)
q(x | z) = Bernoulli(dec(z))
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
"""


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    return jointkl.compile(VAE)


@pytest.fixture(scope="module")
def data(program: Program) -> tuple[Bound, ...]:
    return bind(program.model)


def test_the_default_draws_what_evidence_gives_from_noise(program: Program) -> None:
    assert samples.default(program).text == "q(x)"
    assert not samples.needs_data(program, None)
    values = samples.draw(program, None, 7)
    assert {name: tuple(value.shape) for name, value in values.items()} == {"x": (7, 1, 8, 8)}
    assert set(values["x"].unique().tolist()) == {0.0, 1.0}


def test_a_law_given_evidence_takes_its_rows(program: Program, data: tuple[Bound, ...]) -> None:
    assert samples.needs_data(program, "p(z|x)")
    assert samples.needs_data(program, "data(x)")
    assert samples.draw(program, "p(z|x)", 5, data=data)["z"].shape == (5, 3)
    drawn = samples.draw(program, "data(x)", 300, data=data, seed=0)["x"]
    rows = {tuple(row.flatten().tolist()) for row in data[0].columns[0]}
    assert all(tuple(row.flatten().tolist()) in rows for row in drawn)
    assert len(drawn.unique(dim=0)) > 100
    with pytest.raises(DataError, match="is given x"):
        samples.draw(program, "p(z|x)", 5)
    with pytest.raises(DataError, match="is given z, which no evidence"):
        samples.draw(program, "q(x|z)", 5, data=data)


def test_a_seed_gives_the_same_samples_and_leaves_torch_alone(program: Program) -> None:
    torch.manual_seed(3)
    first = samples.draw(program, None, 20, seed=1)["x"]
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(first, samples.draw(program, None, 20, seed=1)["x"])
    assert not torch.equal(first, samples.draw(program, None, 20, seed=2)["x"])
    assert not torch.equal(samples.draw(program, None, 20)["x"], samples.draw(program, None, 20)["x"])


def test_networks_sample_in_evaluation_mode_and_keep_their_own(program: Program) -> None:
    modes: list[bool] = []
    handle = program.nets["dec"].register_forward_hook(lambda module, *rest: modes.append(module.training))
    for training in (True, False):
        program.train(training)
        samples.draw(program, None, 2)
        assert program.training is training
    handle.remove()
    program.train()
    assert modes == [False, False]


def test_nothing_to_sample() -> None:
    program = jointkl.compile("""
        data(x) = ring8()
        other(x) = evidence()
        var x: real[2]
        net E = mlp(4)
        var z: real[1]
        p(z | x) = Normal(E(x))
        q(z) = Normal(0, 1)
        minimize KL(data(x) * p(z|x) || data(x) * q(z))
        """)
    with pytest.raises(DataError, match="has no law that draws"):
        samples.draw(program, None, 3)


def test_pictures_and_arrays(program: Program, tmp_path: Path) -> None:
    values = samples.draw(program, "q(x,z)", 9, seed=0) if "q(x,z)" in program.model.laws else {
        "x": samples.draw(program, "q(x)", 9, seed=0)["x"], "z": samples.draw(program, "q(z)", 9, seed=0)["z"],
    }  # fmt: skip
    picture = samples.write(tmp_path / "deep" / "out.png", program, values, (), "title")
    assert picture == tmp_path / "deep" / "out.png"
    assert np.asarray(Image.open(picture)).std() > 50
    assert samples.write(tmp_path / "bare", program, values, (), "").name == "bare.png"
    x = np.load(samples.write(tmp_path / "out.npy", program, values, (), ""))
    assert np.array_equal(x, values["x"].numpy())
    both = np.load(samples.write(tmp_path / "out.npz", program, values, (), ""))
    assert set(both) == {"x", "z"}
    assert np.array_equal(both["z"], values["z"].numpy())
    z = {"z": values["z"]}
    assert samples.write(tmp_path / "codes.png", program, z, (), "") == tmp_path / "codes.npy"
    assert np.array_equal(np.load(tmp_path / "codes.npy"), values["z"].numpy())
    assert not (tmp_path / "codes.png").exists()
    for write in (samples.verify_ending, lambda path: samples.write(path, program, values, (), "")):
        with pytest.raises(DataError, match=r"as `\.jpg`"):
            write(tmp_path / "out.jpg")


def test_a_path_that_cannot_be_written(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        samples.write(tmp_path / "file" / "out.npy", program, {"z": torch.zeros(2, 3)}, (), "")


def test_the_evidence_of_a_variable_is_that_of_all_its_sources() -> None:
    a, b = torch.zeros(2, 3), torch.ones(4, 3)
    bound = (Bound("a(x)", ("a.x",), (a,)), Bound("b(x,c)", ("b.x", "c"), (b, torch.arange(4))))
    found = samples.column(bound, "x'")
    assert found is not None
    assert torch.equal(found, torch.cat([a, b]))
    assert samples.column(bound, "z") is None
