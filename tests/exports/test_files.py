"""Exported files: run without jointkl, in torch and in ONNX; and every mistake."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import jointkl
from jointkl import cli
from jointkl.diagnostics import DataError
from jointkl.exports import files, formats
from jointkl.exports.files import export
from jointkl.exports.formats import FORMATS
from jointkl.exports.sampler import Sampler, tracing
from jointkl.program import Program

MODELS = Path(__file__).resolve().parents[2] / "models"


def compiled(spec: str) -> Program:
    torch.manual_seed(0)
    return jointkl.compile(MODELS / spec if spec.endswith(".jkl") else spec)


@pytest.fixture(scope="module")
def vae() -> Program:
    return compiled("vae.jkl")


@pytest.fixture(scope="module")
def gan() -> Program:
    return compiled("gan.jkl")


# --- .pt2

ALONE = """
import sys
sys.modules["jointkl"] = sys.modules["pyro"] = None  # importing either fails
import json, torch
extra = {"jointkl.json": ""}
sampler = torch.export.load(sys.argv[1], extra_files=extra).module()
told = json.loads(extra["jointkl.json"])
draw = {"standard normal": torch.randn, "uniform on [0, 1)": torch.rand}
torch.manual_seed(1)
noise = {i["name"]: draw[i["distribution"]](5, *i["shape"][1:]) for i in told["inputs"]}
print(json.dumps([told, sampler(**noise)["x"].flatten(1).tolist()]))
"""


def test_a_file_needs_torch_alone_and_tells_what_it_takes(vae: Program, tmp_path: Path) -> None:
    written = export(vae, tmp_path / "deep" / "sampler.pt2", "q( x )")
    assert written.path == tmp_path / "deep" / "sampler.pt2"
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(written.path)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    told, x = json.loads(done.stdout)
    assert told == written.told
    assert told["law"] == "q(x)"
    assert told["spec"] == "vae.jkl"
    assert told["inputs"] == [
        {"name": "z", "key": "z", "role": "noise", "distribution": "standard normal",
         "shape": ["batch", 8], "dtype": "float32"},
        {"name": "x_noise", "key": "x.noise", "role": "noise", "distribution": "uniform on [0, 1)",
         "shape": ["batch", 1, 8, 8], "dtype": "float32"},
    ]  # fmt: skip
    assert told["outputs"] == [
        {"name": "x", "key": "x", "space": "binary[1,8,8]", "shape": ["batch", 1, 8, 8], "dtype": "float32"}
    ]
    sampler = Sampler(vae, "q(x)")
    torch.manual_seed(1)
    with tracing():
        expected = sampler(z=torch.randn(5, 8), x_noise=torch.rand(5, 1, 8, 8))["x"]
    assert torch.equal(torch.tensor(x), expected.flatten(1))


@pytest.mark.slow
def test_a_file_names_no_place_and_no_data(gan: Program, tmp_path: Path) -> None:
    for name in ("a.pt2", "a.onnx"):
        if name == "a.onnx":
            pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
        content = export(gan, tmp_path / name, "q(x)").path.read_bytes()
        for place in (os.getcwd(), os.path.dirname(jointkl.__file__), sys.prefix):
            assert place.encode() not in content


def test_torchs_random_state_and_the_program_are_left_alone(vae: Program, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    torch.manual_seed(7)
    export(vae, tmp_path / "a.pt2", "q(x)")
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert all(p.requires_grad for p in vae.parameters())
    assert all(part.training for part in vae.modules())


def test_a_file_that_differs_is_not_kept(gan: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = FORMATS[".pt2"]

    def other(content: bytes, arguments: formats.Tensors) -> formats.Tensors:
        return {name: value + 0.01 for name, value in right.run(content, arguments).items()}

    wrong = formats.Format(right.name, right.outputs, right.write, other)
    monkeypatch.setattr(files, "FORMATS", {".pt2": wrong})
    with pytest.raises(DataError, match=r"the export of q\(x\) to torch, read back and run on 1 rows, gives another x"):
        export(gan, tmp_path / "a.pt2", "q(x)")
    assert not (tmp_path / "a.pt2").exists()


# --- ONNX


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "law"),
    [("gan", "q(x)"), ("vae", "p(x,z)"), ("em", "q(x,k)"), ("alpha_gan", "q(x)")],
)
def test_onnx_gives_what_torch_gives(model: str, law: str, tmp_path: Path) -> None:
    """By onnxruntime's own calls, at two batch sizes, to 1e-5; the sizes are free, and named."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    program = compiled(f"{model}.jkl")
    written = export(program, tmp_path / "sampler.onnx", law)
    session = onnxruntime.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == [i["name"] for i in written.told["inputs"]]
    assert [list(i.shape) for i in session.get_inputs()] == [i["shape"] for i in written.told["inputs"]]
    assert json.loads(session.get_modelmeta().custom_metadata_map["jointkl.json"]) == written.told
    outputs = {o["key"]: o["name"] for o in written.told["outputs"]}
    assert list(outputs.values()) == [o.name for o in session.get_outputs()]
    assert outputs["x"] == ("x_out" if law == "p(x,z)" else "x"), "an input is called x there"
    sampler = Sampler(program, law)
    for rows in (1, 33):
        arguments = sampler.example(rows)
        with tracing():
            expected = sampler(**arguments)
        found = session.run(None, {name: value.numpy() for name, value in arguments.items()})
        assert list(outputs) == list(expected)
        for value, key in zip(found, expected, strict=True):
            assert value.dtype == expected[key].numpy().dtype
            assert np.allclose(value, expected[key].numpy(), rtol=1e-5, atol=1e-5)


POISSON = """
data(x) = evidence()
var x: natural
var z: real
net E = mlp(4)
q(z) = Normal(0, 1)
q(x | z) = Poisson(exp(z))
p(z | x) = Normal(E(x))
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
"""


@pytest.mark.slow
def test_what_onnx_cannot_say(gan: Program, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    with pytest.raises(DataError, match=r"q\(x\|z\) is a Poisson, which is no simple function of noise") as refused:
        export(compiled(POISSON), tmp_path / "a.onnx", "q(x)")
    assert refused.value.help == (
        "end the name in .pt2: there torch's own generator draws it, inside the exported graph",
    )
    with pytest.raises(DataError, match=r"p\(k\|x\) cannot .* no translation of aten.linalg_solve_triangular"):
        export(compiled("em.jkl"), tmp_path / "a.onnx", "p(k|x)")
    with pytest.raises(DataError, match=r"noise=drawn is for \.pt2"):
        export(gan, tmp_path / "a.onnx", "q(x)", noise="drawn")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", formats.EXTRA)
def test_a_missing_extra_is_named(gan: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found("json"))
    with pytest.raises(DataError, match=f"ONNX needs the package {package}") as refused:
        export(gan, tmp_path / "a.onnx", "q(x)")
    assert refused.value.help == ("pip install 'jointkl[onnx]'",)


# --- mistakes


@pytest.mark.parametrize(
    ("path", "law", "says", "help"),
    [
        ("a.pt", "q(x)", "no format is called `.pt`", "end the name in .pt2 or .onnx"),
        ("sampler", "q(x)", "its name has no ending that names a format", "end the name in .pt2 or .onnx"),
        ("a.pt2", "q(xx)", "no law or joint `q(xx)`", "did you mean `q(x|z)`?"),
        ("a.pt2", "p(z|x)", "no law or joint `p(z|x)`", "did you mean `p(y|x)`?"),
        ("a.pt2", "data(x)", "data(x) is evidence alone", "name a law that draws"),
        ("file/a.pt2", "q(x)", "file/a.pt2 cannot be written", ""),
    ],
)
def test_mistakes(gan: Program, tmp_path: Path, path: str, law: str, says: str, help: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as refused:
        export(gan, tmp_path / path, law)
    assert says in refused.value.message
    assert help in " ".join(refused.value.help)


def test_an_unknown_noise(gan: Program, tmp_path: Path) -> None:
    wrong: Any = "drwan"
    with pytest.raises(DataError, match="no noise `drwan`") as refused:
        export(gan, tmp_path / "a.pt2", "q(x)", noise=wrong)
    assert refused.value.help[0] == "did you mean `drawn`?"


CHOOSY = """
from torch import nn

class Choosy(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.layer = nn.Linear(*inputs, *outputs)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else -self.layer(x)
"""


def test_a_class_of_ones_own_that_cannot_be_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "choosy_nets.py").write_text(CHOOSY)
    monkeypatch.syspath_prepend(tmp_path)
    program = jointkl.compile(
        """
        data(x) = evidence()
        var x, z: real[2]
        net G = python("choosy_nets:Choosy")
        net E = mlp(4)
        q(z) = Normal(0, 1)
        q(x | z) = Normal(G(z), 1)
        p(z | x) = Normal(E(x))
        minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
        """,
        allow_imports=("choosy_nets",),
    )
    with pytest.raises(DataError, match=r"q\(x\) cannot be exported to torch") as refused:
        export(program, tmp_path / "a.pt2", "q(x)")
    place = tmp_path / "choosy_nets.py"
    assert f"the class of net G fails at {place}:10; torch.export must be able to trace it" in refused.value.help[0]
    assert export(program, tmp_path / "a.pt2", "p(z|x)").path.exists()


# --- runs

SPEC = """data(x) = ring8(n=100)
var x, z: real[2]
net E = mlp(4)
net G = mlp(4)
q(z) = Normal(0, 1)
q(x | z) = Normal(G(z), 0.1)
p(z | x) = Normal(E(x))
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
train(batch=32, steps=3)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "mine"
    jointkl.train(SPEC, out=out, quiet=True, pictures=0)
    return out


@pytest.mark.slow
def test_a_run_is_exported(folder: Path) -> None:
    run = jointkl.train(SPEC, out=folder.parent / "other", quiet=True, pictures=0)
    written = run.export()
    assert written.path == run.folder / "q(x).pt2"
    z, e = torch.randn(6, 2), torch.randn(6, 2)
    found = torch.export.load(written.path).module()(z=z, x_noise=e)["x"]
    with torch.no_grad():
        assert torch.allclose(found, run.program.nets["G"](z) + 0.1 * e, atol=1e-6)
    assert run.export(folder.parent / "code.pt2", "p(z | x)").told["law"] == "p(z|x)"


@pytest.mark.slow
def test_the_verb(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sampler.pt2"
    assert cli.main(["export", str(folder), "--law", "p(z|x)", "-o", str(out)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {out}: p(z|x)",
        "  takes x        float32 (batch, 2), real[2]",
        "  takes z_noise  float32 (batch, 2), standard normal",
        "  gives z        float32 (batch, 2), real[2]",
    ]
    assert set(torch.export.load(out).module()(x=torch.zeros(4, 2), z_noise=torch.zeros(4, 2))) == {"z"}
    assert cli.main(["export", str(folder), "-o", str(out), "--noise", "drawn"]) == 0
    assert "takes rows  float32 (batch), any numbers, one a row" in capsys.readouterr().out
    assert torch.export.load(out).module()(rows=torch.empty(11))["x"].shape == (11, 2)


def test_the_verb_refuses_a_name_before_it_loads_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "runs/nothing", "-o", "a.jpg"]) == 1
    assert capsys.readouterr().err == "error: a.jpg: no format is called `.jpg`\nhelp: end the name in .pt2 or .onnx\n"
    assert cli.main(["export", "runs/nothing", "--noise", "drawn"]) == 1
    assert "runs/nothing is no run" in capsys.readouterr().err
