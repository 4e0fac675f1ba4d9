"""Classes of the user's own: imported only if allowed, made as told, and refused by name where they do not fit."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import jointkl
from jointkl.cli import main
from jointkl.diagnostics import DataError, JklError
from jointkl.training.folder.run import load_run

MODULE = """
from pathlib import Path
import torch
from torch import nn

Path("imported").touch()


class Encoder(nn.Module):
    def __init__(self, inputs, outputs, hidden=3, name="", scales=(), flag=False):
        super().__init__()
        self.made = (inputs, outputs, hidden, name, scales, flag)
        size = torch.Size(inputs).numel()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size, hidden), nn.BatchNorm1d(hidden))
        self.last = nn.Linear(hidden, *outputs)
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)

    def forward(self, x):
        assert x.shape[1:] == self.made[0]
        return self.last(self.layers(x).relu())


class Program(Encoder):
    pass


class Decoder(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.outputs = outputs
        self.layers = nn.Linear(*inputs, torch.Size(outputs).numel())

    def forward(self, x):
        return self.layers(x).unflatten(1, self.outputs)


class Wrong(Encoder):
    def forward(self, x):
        return super().forward(x)[:, :1]


class Tuple(Encoder):
    def forward(self, x):
        return super().forward(x), 1


class Failing(Encoder):
    def forward(self, x):
        raise RuntimeError("not today")


class Picky(Encoder):
    def forward(self, x):
        return {2: super().forward(x)}[len(x)]


class Unmade(Encoder):
    def __init__(self, inputs, outputs):
        raise OSError("no weights")


class Fixed(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x):
        return x.new_zeros(len(x), *self.outputs)


def system(*given, **named):
    Path("called").touch()
"""

SPEC = """
data(x) = digits(threshold=0.5)
var x: binary[1,8,8]
var z: real[2]
net enc = python("nets_of_mine:Encoder")
net dec = mlp(8)
p(z | x) = Normal(enc(x))
q(z)     = Normal(0, 1)
q(x | z) = Bernoulli(dec(z))
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
train(batch=64, steps=3)
"""
ALLOWED = ("nets_of_mine",)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module, which is the current one and on Python's path; nothing of it stays imported."""
    (tmp_path / "nets_of_mine.py").write_text(MODULE)
    (tmp_path / "spec.jkl").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("nets_of_mine", "broken_net"):
        sys.modules.pop(name, None)


def spec(written: str, of: str = "enc") -> str:
    old = 'python("nets_of_mine:Encoder")' if of == "enc" else "mlp(8)"
    return SPEC.replace(old, written)


def imported() -> bool:
    return Path("imported").exists() or "nets_of_mine" in sys.modules


# --- only if allowed


def test_nothing_is_imported_unless_allowed() -> None:
    model = jointkl.parse(SPEC)
    jointkl.derive(model).text()
    for refused in (
        lambda: jointkl.python(model),
        lambda: jointkl.compile(model),
        lambda: jointkl.compile(model, allow_imports=("nets_of", "nets_of_mine.Encoder", "torch")),
        lambda: jointkl.train(model, quiet=True, out="run"),
    ):
        with pytest.raises(JklError, match="--allow-import nets_of_mine"):
            refused()
    assert not imported()
    assert not Path("run").exists()


@pytest.mark.parametrize("verb", ["check", "derive", "audit", "compile", "train"])
@pytest.mark.parametrize("allow", [[], ["--allow-import", "nets_of_mine"]])
def test_the_command_line_imports_only_to_train(verb: str, allow: list[str]) -> None:
    taken = verb in ("compile", "train")
    code = main([verb, "spec.jkl", *(allow if taken else []), *(["--quiet"] if verb == "train" else [])])
    assert (code == 0) == (bool(allow) or not taken)
    assert imported() == (verb == "train" and bool(allow))


def test_a_run_asks_again(capfd: pytest.CaptureFixture[str]) -> None:
    run = jointkl.train(SPEC, quiet=True, out="run", allow_imports=ALLOWED)
    assert "nets_of_mine" not in (run.folder / "config.json").read_text()
    sys.modules.pop("nets_of_mine")
    Path("imported").unlink()
    with pytest.raises(JklError, match="--allow-import nets_of_mine"):
        load_run("run")
    assert main(["sample", "run"]) == 1
    assert "--allow-import nets_of_mine" in capfd.readouterr().err
    assert not imported()
    assert main(["sample", "run", "--allow-import", "nets_of_mine"]) == 0
    again = load_run("run", allow_imports=ALLOWED)
    for name, value in run.program.emitted.state_dict().items():
        assert torch.equal(value, again.program.emitted.state_dict()[name]), name


@pytest.mark.slow
def test_the_installed_command_finds_a_module_beside_it() -> None:
    """The console script does not have the current folder on its path; the flag alone adds it."""
    code = "import sys; sys.path.remove(''); from jointkl.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "spec.jkl", "--quiet", "--allow-import", "nets_of_mine"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- how it is made


def test_it_is_made_with_sizes_and_options() -> None:
    given = 'python("nets_of_mine:Encoder", hidden=5, name="a\\b é", scales=[1, 0.5], flag=true)'
    program = jointkl.compile(spec(given), allow_imports=ALLOWED)
    found = program.nets["enc"].layers
    assert found.made == ((1, 8, 8), (4,), 5, "a\\b é", (1, 0.5), True)
    assert type(found.made[2]) is int
    assert "frozen" not in {
        n for n, p in found.named_parameters() if any(p is q for q in program.parameters_of("enc+dec"))
    }
    loc, scale = program.nets["enc"](torch.zeros(3, 7, 1, 8, 8))
    assert loc.shape == scale.shape == (3, 7, 2)
    assert bool((scale > 0).all())
    assert len(program.parameters_of("enc+dec")) == 6 + 4


def test_vectors_side_by_side_go_in_and_images_come_out() -> None:
    text = spec('python("nets_of_mine:Decoder")', "dec").replace("Bernoulli(dec(z))", "Delta(dec(z, z))")
    text = (
        text.replace("binary", "real").replace("threshold=0.5", "").replace('python("nets_of_mine:Encoder")', "mlp(8)")
    )
    text = text.replace("minimize KL(data(x) * p(z|x) || q(z) * q(x|z))", "minimize CE(data(x) * p(z|x) || q(x|z))")
    text = text.replace("Delta(dec(z, z))", "Normal(dec(z, z))")
    program = jointkl.compile(text, allow_imports=ALLOWED)
    assert program.nets["dec"].layers.layers.in_features == 4
    assert program.nets["dec"].layers.outputs == (2, 8, 8)
    loc, scale = program.nets["dec"](torch.zeros(5, 2), torch.zeros(5, 2))
    assert loc.shape == scale.shape == (5, 1, 8, 8)


def test_the_emitted_module_imports_that_class_alone_and_says_so() -> None:
    text = jointkl.python(jointkl.parse(spec('python("nets_of_mine:Program")')), allow_imports=ALLOWED)
    assert not imported()
    lines = [ast.unparse(n) for n in ast.parse(text).body if isinstance(n, ast.ImportFrom | ast.Import)]
    assert "from nets_of_mine import Program as Program_2" in lines
    assert "nets_of_mine:Program" in text.split('"""')[1]
    assert jointkl.compile(spec('python("nets_of_mine:Program")'), allow_imports=ALLOWED).players == ("enc+dec",)


# --- what does not fit


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("nets_of_mine:Missing", "no torch.nn.Module called Missing"),
        ("nets_of_mine:system", "no torch.nn.Module called system"),
        ("nets_of_mine:Path", "no torch.nn.Module called Path"),
        ("nets_of_mine:Wrong", r"shape \(2, 1\) of \(2, 1, 8, 8\), where \(2, 4\) is due"),
        ("nets_of_mine:Tuple", "makes a tuple of"),
        ("nets_of_mine:Failing", "RuntimeError: not today"),
        ("nets_of_mine:Unmade", "OSError: no weights"),
        ("nets_of_mine:Fixed", "no parameters to train"),
        ("no_net_here:Net", "cannot be imported from no_net_here: ModuleNotFoundError"),
        ("broken_net:Net", "cannot be imported from broken_net: ZeroDivisionError"),
        ("script_net:Net", "cannot be imported from script_net: SystemExit: 0"),
    ],
)
def test_what_does_not_fit_is_refused(written: str, says: str) -> None:
    Path("broken_net.py").write_text("1 / 0\n")
    Path("script_net.py").write_text("raise SystemExit(0)\n")
    module = written.partition(":")[0]
    with pytest.raises(DataError, match=f"net enc: .*{says}"):
        jointkl.compile(spec(f'python("{written}")'), allow_imports=(module,))
    assert not Path("called").exists()


def test_what_fails_in_training_is_told_with_its_place(capfd: pytest.CaptureFixture[str]) -> None:
    Path("spec.jkl").write_text(spec('python("nets_of_mine:Picky")'))
    assert main(["train", "spec.jkl", "--quiet", "--allow-import", "nets_of_mine"]) == 1
    told = capfd.readouterr().err
    line = 1 + MODULE.split("\n").index("        return {2: super().forward(x)}[len(x)]")
    assert f"nets_of_mine.py:{line}: KeyError: 64" in told
    assert "bug in jointkl" not in told
    program = jointkl.compile(SPEC, allow_imports=ALLOWED)
    with pytest.raises(KeyError, match="needs 'x' in its batch"):
        program.loss("enc+dec", {"y": torch.zeros(3)})


def test_an_option_it_does_not_take_is_refused() -> None:
    with pytest.raises(DataError, match=r"cannot be made: TypeError: .*colour"):
        jointkl.compile(spec('python("nets_of_mine:Encoder", colour="red")'), allow_imports=ALLOWED)


def test_trying_it_changes_neither_statistics_nor_random_numbers() -> None:
    torch.manual_seed(4)
    program = jointkl.compile(SPEC, allow_imports=ALLOWED)
    after = torch.rand(3)
    torch.manual_seed(4)
    type(program.emitted)()
    assert torch.equal(torch.rand(3), after)
    norm = program.nets["enc"].layers.layers[2]
    assert norm.training
    assert norm.num_batches_tracked == 0
