"""Runs on data of every kind: where the rows lie decides nothing, and what is missing is said before the first step."""

from __future__ import annotations

import json
import logging
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

import jointkl
from jointkl import cli
from jointkl.diagnostics import DataError
from jointkl.sources import streams
from tests import layouts

VAE = """
data(x) = SOURCE
var x: real[SHAPE]
var z: real[2]
net enc = mlp(8)
net dec = mlp(8)
p(z | x) = Normal(enc(x))
q(z) = Normal(0, 1)
q(x | z) = Normal(dec(z), 1)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
train(batch=16, steps=7)
"""

ADAPTED = """
source(x, c) = mnist(size=32)
target(x) = svhn(grey=true)
var x: unit[1,32,32]
var c: {0..9}
var f: real[4]
var y: {0, 1}
net E = mlp(8)
net R = mlp(8)
net D = mlp(8)
p(f | x) = Delta(E(x))
r(c | f) = Categorical(R(f))
p(y | f) = Bernoulli(D(f))
q(f, y) = { y=1: source(x, c) * p(f|x); y=0: target(x) * p(f|x) }
p(f, y) = source(x, c) * p(f|x) * p(y|f)
minimize KL(q(f,y) || p(f,y)) with game=minimax
minimize CE(source(x, c) * p(f|x) || r(c|f))
train(batch=8, steps=5)
"""

MIXTURE = """
data(x) = evidence()
var x: real[3]
var k: {0..1}
param mu: real[2,3]
p(k | x) = Free
q(k) = Categorical()
q(x | k) = Normal(mu[k], 1)
minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
train(steps=3)
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOINTKL_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def spec(source: str, shape: str) -> str:
    return VAE.replace("SOURCE", source).replace("SHAPE", shape)


def trained(text: str, out: Path, data: dict[str, object] | None = None) -> dict[str, torch.Tensor]:
    run = jointkl.train(text, data, out=out, quiet=True, device="cpu", pictures=1)
    assert all(np.isfinite(loss) for loss in run.losses.values())
    return run.program.emitted.state_dict()


@pytest.mark.parametrize("form", ["npy", "parquet", "images"])
def test_a_run_ends_with_the_same_bits_wherever_its_rows_lie(form, tmp_path, monkeypatch) -> None:
    made = layouts.faces(tmp_path / "faces", ("a", "b", "c", "d"), count=9) / np.float32(255)
    text, data = spec("evidence()", "3,6,5"), {"data": tmp_path / "x.npy"}
    np.save(tmp_path / "x.npy", made)
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"x": list(made.reshape(len(made), -1))}), tmp_path / "x.parquet")
        data = {"data": tmp_path / "x.parquet"}
    elif form == "images":
        text, data = spec('images("faces/")', "3,6,5"), {}
    held = trained(spec("evidence()", "3,6,5"), tmp_path / "held", {"data": made})
    monkeypatch.setattr(streams, "LARGE", 0)
    streamed = trained(text, tmp_path / "streamed", data)
    assert held.keys() == streamed.keys()
    assert all(torch.equal(held[name], streamed[name]) for name in held)
    one, other = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("held", "streamed"))
    assert one["data"]["data(x)"]["digest"] == other["data"]["data(x)"]["digest"]


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        ("mnist(size=[20, 13])", "1,20,13"),
        ("cifar10(grey=true, size=9)", "1,9,9"),
        ("celeba(size=8)", "3,8,8"),
        ("colour_mnist(size=9)", "3,9,9"),
    ],
)
def test_a_source_gives_the_same_bits_held_or_not(source, shape, root, tmp_path, monkeypatch) -> None:
    """Scaled and made grey all at once, or a batch at a time."""
    layouts.everything(root, monkeypatch)
    held = trained(spec(source, shape), tmp_path / "held")
    monkeypatch.setattr(streams, "LARGE", 0)
    streamed = trained(spec(source, shape), tmp_path / "streamed")
    assert all(torch.equal(held[name], streamed[name]) for name in held)


def test_a_closed_step_takes_all_rows_wherever_they_lie(tmp_path, monkeypatch) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    np.save(tmp_path / "x.npy", rows)
    held = trained(MIXTURE, tmp_path / "held", {"data": rows})
    monkeypatch.setattr(streams, "LARGE", 0)
    streamed = trained(MIXTURE, tmp_path / "streamed", {"data": tmp_path / "x.npy"})
    assert all(torch.equal(held[name], streamed[name]) for name in held)


@pytest.mark.parametrize(
    ("source", "shape"),
    [
        ("mnist()", "1,28,28"),
        ("fashion_mnist(size=8)", "1,8,8"),
        ("cifar10(grey=true)", "1,32,32"),
        ('svhn(split="extra")', "3,32,32"),
        ("celeba(size=[8, 6])", "3,8,6"),
        ('images("data/faces", size=4)', "3,4,4"),
        ("colour_mnist(match=0.9, colours=2)", "3,28,28"),
        ("colour_mnist(of=digits)", "3,8,8"),
    ],
)
def test_every_source_trains_a_vae(source, shape, root, tmp_path, monkeypatch) -> None:
    layouts.everything(root, monkeypatch)
    trained(spec(source, shape), tmp_path / "run")
    kept = [path for path in (tmp_path / "run" / "samples").iterdir() if path.suffix == ".png"]
    assert {path.stem.partition("-")[2] for path in kept} == {"", "reconstruction", "interpolation"}


def test_several_sources_train_at_once(root, tmp_path, monkeypatch) -> None:
    layouts.everything(root, monkeypatch)
    trained(ADAPTED, tmp_path / "run")


@pytest.mark.slow
def test_a_run_is_sampled_with_data_that_are_not_in_memory(root, tmp_path, monkeypatch) -> None:
    layouts.everything(root, monkeypatch)
    monkeypatch.setattr(streams, "LARGE", 0)
    run = jointkl.train(spec("cifar10()", "3,32,32"), out=tmp_path / "run", quiet=True, device="cpu")
    assert run.sample(5, "p(z|x)")["z"].shape == (5, 2)


# --- the command line


def test_what_is_missing_is_said_before_anything_is_made(root, tmp_path, capsys) -> None:
    (tmp_path / "vae.jkl").write_text(spec("mnist()", "1,28,28"))
    for verb in (["check"], ["derive"], ["compile", "-o", "-"]):
        assert cli.main([verb[0], "vae.jkl", *verb[1:]]) == 0, "no data are needed"
    capsys.readouterr()
    assert cli.main(["train", "vae.jkl", "--device", "cpu"]) == 1
    text = capsys.readouterr().err
    assert "error: `data(x)`, from source `mnist`: expected the data set in" in text
    assert "help: --download fetches it: jointkl train SPEC --download" in text
    assert not (tmp_path / "runs").exists()


def test_download_is_asked_for_by_its_flag(tmp_path, monkeypatch, capsys) -> None:
    asked: list[object] = []

    def unknown(host: object, *rest: object, **more: object) -> None:
        asked.append(host)
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    (tmp_path / "vae.jkl").write_text(spec("mnist()", "1,28,28"))
    assert cli.main(["train", "vae.jkl"]) == 1
    assert not asked
    assert cli.main(["train", "vae.jkl", "--download"]) == 1
    assert asked
    assert "the download to" in capsys.readouterr().err
    with pytest.raises(DataError, match="the download to"):
        jointkl.train(tmp_path / "vae.jkl", download=True)


def test_what_takes_long_is_said_unless_quiet(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(streams, "LARGE", 100)
    (tmp_path / "vae.jkl").write_text(spec("evidence()", "4"))
    (tmp_path / "x.csv").write_text("\n".join(["0,0.5,1,0.25"] * 40))
    command = ["train", "vae.jkl", "--data", "data=x.csv", "--steps", "2", "--device", "cpu"]
    assert cli.main([*command, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    (tmp_path / "x.csv").write_text("\n".join(["0,0.5,1,0.75"] * 40))
    assert cli.main(command) == 0
    text = capsys.readouterr().err
    assert "note: `data(x)`, from x.csv: copied to " in text
    assert "note: `x` of `data(x)`, from x.csv: 40 rows, read once to check them" in text
    assert not logging.getLogger("jointkl").handlers
