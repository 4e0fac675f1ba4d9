"""The command line: what it prints, what it writes, and how every mistake ends."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

import jointkl
from jointkl import cli, console
from jointkl.semantics.catalogue import SOURCES

GAN = """data(x) = ring8(n=1000)
var x, z: real[2]
var y: {0, 1}
let H = 8
net G = mlp(H)
net D = mlp(H)
q(z) = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y))
train(batch=32, steps=3)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with specs in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOINTKL_TRACEBACK", raising=False)
    Path("gan.jkl").write_text(GAN)
    Path("typo.jkl").write_text(GAN.replace("Bernoulli(D(x))", "Bernoulli(Dd(x))"))
    return tmp_path


class Shell:
    """Runs command lines in this process; keeps what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = cli.main(arguments)
        self.out, self.err = self._capsys.readouterr()
        assert "Traceback" not in self.out + self.err
        return code


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


# --- check, derive, compile


def test_check(shell: Shell) -> None:
    assert shell("check", "gan.jkl") == 0
    assert shell.out == "ok gan.jkl: players G, D\n"
    assert shell.err == ""


def test_check_goes_through_all_files(shell: Shell) -> None:
    assert shell("check", "typo.jkl", "gone.jkl", "gan.jkl") == 1
    assert shell.out == "ok gan.jkl: players G, D\n"
    assert "typo.jkl:9:22" in shell.err
    assert "did you mean `D`?" in shell.err
    assert "gone.jkl cannot be read" in shell.err


def test_check_shows_warnings(shell: Shell) -> None:
    models = Path(cli.__file__).parent.parent / "models"
    assert shell("check", str(models / "ali_dropped.jkl")) == 0
    assert shell.out.startswith("ok ")
    assert shell.err.startswith("warning[W-DROP]")


def test_derive(shell: Shell) -> None:
    assert shell("derive", "gan.jkl") == 0
    assert shell.out == jointkl.derive(jointkl.load("gan.jkl")).text().rstrip("\n") + "\n"
    assert "OPTIMAL-DISCRIMINATOR" in shell.out


def test_compile(shell: Shell) -> None:
    text = jointkl.python(jointkl.load("gan.jkl"))
    assert shell("compile", "gan.jkl", "-o", "-") == 0
    assert shell.out == text
    assert sorted(os.listdir()) == ["gan.jkl", "typo.jkl"]
    assert shell("compile", "gan.jkl") == 0
    assert shell.out == "wrote gan.py\n"
    assert Path("gan.py").read_text() == text
    assert shell("compile", "gan.jkl", "-o", "deep/er/mine.py", "--let", "H=5") == 0
    assert "nn.Linear(2, 5)" in Path("deep/er/mine.py").read_text()
    assert shell("compile", "gan.jkl", "-o", "build/") == 0
    assert Path("build/gan.py").read_text() == text
    assert shell("compile", "gan.jkl", "--no-share", "-o", "build") == 0
    assert "torch.cat" in text
    assert "torch.cat" not in Path("build/gan.py").read_text()


def test_graph(shell: Shell) -> None:
    model = jointkl.load("gan.jkl")
    assert shell("graph", "gan.jkl") == 0
    assert shell.out == jointkl.graph(model) + "\n"
    assert shell("graph", "gan.jkl", "--format", "dot", "--joint", "q(x, y)") == 0
    assert shell.out == jointkl.graph(model, "dot", "q(x,y)") + "\n"
    assert shell("graph", "gan.jkl", "gan.jkl") == 0
    assert shell.out.startswith("gan.jkl:\nq(x,y)\n")
    assert shell.out.count("\n\ngan.jkl:\n") == 1
    assert shell("graph", "gan.jkl", "gan.jkl", "--format", "mermaid") == 2
    assert "do not fit into one mermaid drawing" in shell.err


def test_compile_overwrites_its_own_files_alone(shell: Shell) -> None:
    Path("gan.py").write_text("mine = 1\n")
    assert shell("compile", "gan.jkl") == 1
    assert "gan.py exists, and jointkl did not write it" in shell.err
    assert Path("gan.py").read_text() == "mine = 1\n"
    assert shell("compile", "gan.jkl", "-o", "other.py") == 0
    assert shell("compile", "gan.jkl", "-o", "other.py") == 0
    assert shell("compile", "gan.jkl", "gan.jkl", "-o", "one.py") == 2
    assert "give -o a folder" in shell.err


def test_these_verbs_load_nothing_heavy(folder: Path) -> None:
    heavy = ["torch", "torchvision", "pyro", "networkx", "sklearn", "matplotlib", "numpy", "rich", "safetensors", "PIL"]
    code = f"""
import sys
from jointkl import cli, console
from jointkl.semantics.catalogue import SOURCES
assert cli.main(["check", "gan.jkl"]) == 0
assert cli.main(["derive", "gan.jkl"]) == 0
assert cli.main(["compile", "gan.jkl", "-o", "-"]) == 0
assert cli.main(["sources"]) == 0
assert cli.main(["help", "KL"]) == 0
assert cli.main(["fmt", "--check", "gan.jkl"]) in (0, 1)
assert cli.main(["compile", "gan.jkl", "--emit", "objective"]) == 0
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.splitlines()[-1] == "[]"


# --- train, sample


@pytest.mark.slow
def test_train_then_sample(shell: Shell) -> None:
    assert shell("train", "gan.jkl", "--set", "lr=1e-4", "--set", "D.repeat=2", "--let", "H=4", "--seed", "3") == 0
    assert shell.out.splitlines()[0].startswith("runs/gan: 3 steps in ")
    assert shell.out.splitlines()[1] == "samples: runs/gan/samples/00000003.png"
    assert "gan  3/3  D " in shell.err
    config = json.loads(Path("runs/gan/config.json").read_text())
    assert [(p["player"], p["lr"], p["repeat"]) for p in config["phases"]] == [("D", 1e-4, 2), ("G", 1e-4, 1)]
    assert (config["seed"], config["lets"], config["rounds"]) == (3, {"H": "4"}, 3)

    assert shell("sample", "runs/gan", "-n", "16", "-o", "out.png") == 0
    assert shell.out == "wrote out.png\n"
    picture = np.asarray(Image.open("out.png"))
    assert picture.shape[:2] == (600, 600)
    assert picture.std() > 5
    assert shell("sample", "runs/gan", "-n", "16", "-o", "out.npy", "--seed", "7") == 0
    first = np.load("out.npy")
    assert (first.shape, first.dtype) == ((16, 2), np.float32)
    assert shell("sample", "runs/gan", "-n", "16", "-o", "out.npy", "--seed", "7") == 0
    assert np.array_equal(np.load("out.npy"), first)
    assert shell("sample", "runs/gan", "--law", "q(x, y)", "-o", "both.npz") == 0
    assert set(np.load("both.npz")["y"]) == {0, 1}
    assert shell("sample", "runs/gan", "--law", "p(y|x)", "-o", "labels.png") == 0
    assert "note: y: {0, 1} has no picture" in shell.err
    assert np.load("labels.npy").shape == (64,)
    assert shell("sample", "runs/gan") == 0
    assert shell.out == f"wrote {Path('runs/gan/samples/q(x).png')}\n"


def test_train_on_given_data_quietly(shell: Shell) -> None:
    np.save("points.npy", np.zeros((50, 2), dtype="float32"))
    arguments = ["--data", "data=points.npy", "--steps", "1", "--out", "mine", "--device", "cpu", "--quiet"]
    assert shell("train", "gan.jkl", *arguments) == 0
    assert (shell.out, shell.err) == ("", "")
    zeros = hashlib.sha256(bytes(50 * 2 * 4)).hexdigest()
    assert json.loads(Path("mine/config.json").read_text())["data"] == {
        "data(x)": {"file": str(Path("points.npy").absolute()), "rows": 50, "digest": zeros}
    }


def test_ctrl_c_is_no_mistake(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*rest: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jointkl.training.steps.PhaseStepper.step", stop)
    assert shell("train", "gan.jkl") == 130
    saved = Path("runs/gan/checkpoints/00000000.safetensors")
    assert (
        f"interrupted after round 0; the last checkpoint is {saved}\nto go on: jointkl resume {saved.parents[1]}"
        in shell.err
    )


def test_eval(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(folder))
    jointkl.train("gan.jkl", steps=3, quiet=True, pictures=0)
    assert shell("eval", "runs/gan", "--metrics", "modes, high_quality,mmd", "--samples", "200", "--seed", "4") == 0
    lines = shell.out.splitlines()
    assert lines[0] == "q(x) against data(x): 1000 rows of ring8(seed=1), fresh points"
    assert [line.split()[0] for line in lines[2:5]] == ["modes", "high_quality", "mmd"]
    assert lines[-1] == f"wrote {Path('runs/gan/eval.json')}"
    found = json.loads(Path("runs/gan/eval.json").read_text(), parse_constant=pytest.fail)
    assert (found["round"], found["samples"], found["seed"]) == (3, 200, 4)
    assert [m["metric"] for m in found["metrics"]] == ["modes", "high_quality", "mmd"]
    assert found["data"]["data(x)"]["unseen"]
    first = Path("runs/gan/eval.json").read_bytes()
    assert shell("eval", "runs/gan", "--metrics", "modes,high_quality,mmd", "--samples", "200", "--seed", "4") == 0
    assert Path("runs/gan/eval.json").read_bytes() == first
    np.save("mine.npy", np.zeros((60, 2), dtype="float32"))
    assert shell("eval", "runs/gan", "--metrics", "precision", "--samples", "50", "--data", "data=mine.npy") == 0
    assert shell.out.startswith("q(x) against data(x): 60 rows of mine.npy\n")
    assert "note: precision: 100% of the balls about the data have no extent" in shell.err
    assert shell("eval", "--list") == 0
    assert shell.out.startswith("modes: modes that hold a sample of high quality; better: higher\n    needs ")
    for line, says in (
        ("--metrics fid", "no metric is called `fid`"),
        ("--metrics frechet", "frechet cannot be had of"),
        ("--metrics modes --data data=mine.npy", "the modes of data(x) are not known"),
        ("--features digit", "did you mean `digits`?"),
        ("--features inception", "91 MB"),
        ("--features mine.seen:net", "add --allow-import mine.seen"),
    ):
        assert shell("eval", "runs/gan", *line.split()) == 1
        assert says in shell.err
    assert shell("eval") == 2
    assert "name the RUN" in shell.err


# --- mistakes


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("derive typo.jkl", "error[E-NAME]"),
        ("compile typo.jkl", "did you mean `D`?"),
        ("train typo.jkl", "typo.jkl:9:22"),
        ("check gone.jkl", "gone.jkl cannot be read"),
        ("check .", ". cannot be read"),
        ("check data.bin", "data.bin is no text"),
        ("train gone.jkl", "error: gone.jkl cannot be read"),
        ("derive gan.jkl --let Q=3", "`Q`"),
        ("graph gan.jkl --joint q(z)", "there is no joint q(z)"),
        ("graph typo.jkl", "did you mean `D`?"),
        ("derive gan.jkl --let H", "error: --let H: expected a constant and its value"),
        ("derive gan.jkl --let H=1 --let H=2", "`H` is given twice"),
        ("train gan.jkl --set lrr=1", "did you mean `lr`?"),
        ("train gan.jkl --set lr", "error: --set lr: expected an option and its value"),
        ("train gan.jkl --set lr=", "--set lr="),
        ("train gan.jkl --set E.lr=1", "no player, net or param `E`"),
        ("train gan.jkl --set lr=big", "expected a finite number; found `big`"),
        ("train gan.jkl --data points.npy", "expected a label and a file"),
        ("train gan.jkl --data data=gone.npy", "gone.npy"),
        ("train gan.jkl --data data=three.npy", "three.npy"),
        ("train gan.jkl --data dat=three.npy", "`dat`"),
        ("train gan.jkl --out taken", "taken exists and is not empty"),
        ("train gan.jkl --out gan.jkl", "gan.jkl exists and is not empty"),
        ("sample runs/nothing", "runs/nothing is no run: there is no such folder"),
        ("sample taken", "taken is no run: it holds no spec.jkl"),
        ("sample taken -o out.jpg", "no way to write samples as `.jpg`"),
        ("eval runs/nothing", "runs/nothing is no run: there is no such folder"),
    ],
)
def test_what_the_user_can_mend_exits_1(shell: Shell, line: str, says: str) -> None:
    Path("data.bin").write_bytes(b"\xff\xfe\xfa")
    Path("taken").mkdir()
    Path("taken/notes.txt").write_text("mine")
    np.save("three.npy", np.zeros((50, 3)))
    assert shell(*line.split()) == 1
    assert says in shell.err
    assert shell.err.startswith("error")
    assert shell.out == ""
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("law", "says"),
    [("q(w)", "no law or joint"), ("q(x", "names no law"), ("q(x|z)", "is given z, which no evidence")],
)
def test_a_law_that_cannot_be_drawn(shell: Shell, law: str, says: str) -> None:
    jointkl.train("gan.jkl", steps=1, quiet=True, pictures=0)
    assert shell("sample", "runs/gan", "--law", law) == 1
    assert says in shell.err


@pytest.mark.parametrize(
    "line",
    ["chekc gan.jkl", "check", "train", "train gan.jkl --steps many", "train gan.jkl --device tpu", "sample x -n 0"],
)
def test_a_wrong_command_line_exits_2(shell: Shell, line: str) -> None:
    assert shell(*line.split()) == 2
    assert "Usage: jointkl" in shell.err


def test_a_bug_says_so(shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*rest: object) -> None:
        raise RuntimeError("out of cheese")

    monkeypatch.setattr("jointkl.compiler.derive", broken)
    assert shell("derive", "gan.jkl") == 70
    assert "this is a bug in jointkl: RuntimeError: out of cheese" in shell.err
    assert "JOINTKL_TRACEBACK=1" in shell.err
    monkeypatch.setenv("JOINTKL_TRACEBACK", "1")
    assert cli.main(["derive", "gan.jkl"]) == 70
    assert 'raise RuntimeError("out of cheese")' in capsys.readouterr().err


# --- the rest


@pytest.mark.parametrize(
    "verb",
    ["check", "derive", "graph", "fmt", "compile", "train", "resume", "sample", "eval", "report", "export", "sources"],
)
def test_every_help_has_an_example(shell: Shell, verb: str) -> None:
    assert shell(verb, "--help") == 0
    assert f"  For example:\n    jointkl {verb}" in shell.out
    assert shell("--help") == 0
    assert f"\n  {verb} " in shell.out


def test_version(shell: Shell) -> None:
    assert shell("--version") == 0
    assert shell.out.startswith("jointkl, version 0.")


def test_sources(shell: Shell) -> None:
    assert shell("sources") == 0
    listed = [line.split(":")[0] for line in shell.out.splitlines() if not line.startswith(" ")]
    assert listed == list(SOURCES)
    for part in (
        "ring8: eight Gaussians",
        "    gives real[2], {0..7}",
        "    split=train  which part (train, test, all)",
        '    "FOLDER"  folder: where they lie',
        "    gives unit[3,H,W], {0..K-1}",
        "    root=none  the folder it lies in; left out: $JOINTKL_DATA, else ~/.cache/jointkl",
    ):
        assert part in shell.out


def test_messages_are_coloured_for_a_terminal() -> None:
    report = "error[E-X]: wrong\n  --> a.jkl:1:2\n  |\n1 | var x\n  |     ^ here\n  = help: mend it"
    painted = [console.paint(line) for line in report.split("\n")]
    assert painted[0].startswith("\x1b[31m\x1b[1merror[E-X]:\x1b[0m")
    assert "\x1b[31m" in painted[4]
    assert "\x1b[32m" in painted[5]
    for plain, coloured in zip(report.split("\n"), painted, strict=True):
        assert click.unstyle(coloured) == plain


@pytest.mark.slow
def test_the_process_itself(folder: Path) -> None:
    """The module, its exit codes, a pipe that closes early, and no colour in a file."""
    jointkl_ = [sys.executable, "-m", "jointkl"]
    done = subprocess.run([*jointkl_, "check", "typo.jkl"], capture_output=True, text=True, cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "\x1b" not in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*jointkl_, "derive", "gan.jkl"], stdout=writer, stderr=subprocess.PIPE, text=True, cwd=folder
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
