"""What is installed from the wheel works alone: grammar and models are found, and `check` and `derive` need no torch.

The network is not needed: the wheel is built by the setuptools at hand, and lark, click and rich are copied, with what
they require, from the environment of the tests into a clean one, where nothing else is.
"""

from __future__ import annotations

import importlib.resources
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("jointkl", "grammars", "models", "docs")
FILES = ("pyproject.toml", "README.md", "LICENSE")
LIGHT = ("lark", "click", "rich")
"""All that `check` and `derive` need."""


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that must succeed, away from this checkout and its environment."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "UV_"))}
    done = subprocess.run(command, cwd=cwd, env=inherited, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the project, in which building may leave what it likes."""
    pytest.importorskip("setuptools", minversion="77", reason="the wheel is built by the setuptools at hand")
    copy = tmp_path_factory.mktemp("project")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, copy)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", cwd=copy)
    (built,) = (copy / "dist").glob("jointkl-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a clean environment that holds the wheel, `LIGHT` and what that requires."""
    home = tmp_path_factory.mktemp("clean")
    uv = shutil.which("uv")
    venv.create(home, with_pip=uv is None, symlinks=os.name != "nt")
    scheme = {"base": str(home), "platbase": str(home)}
    programs = Path(sysconfig.get_path("scripts", "venv", scheme))
    python = programs / ("python.exe" if os.name == "nt" else "python")
    for name in sorted(required(LIGHT)):
        copy_distribution(name, Path(sysconfig.get_path("purelib", "venv", scheme)))
    installer = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    run(*installer, "--no-index", "--no-deps", wheel, cwd=home)
    return programs


def required(names: tuple[str, ...]) -> set[str]:
    """These distributions and those that they cannot do without."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            needs = distribution(name).requires or ()
            pending += [re.split(r"[^\w.-]", need, maxsplit=1)[0] for need in needs if ";" not in need]
    return found


def copy_distribution(name: str, target: Path) -> None:
    for file in distribution(name).files or ():
        if ".." not in file.parts and file.suffix != ".pyc":
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target / file)


@pytest.mark.slow
def test_the_wheel_holds_all_of_the_package(wheel: Path) -> None:
    """Every module of every folder: the list of packages in pyproject.toml is written by hand."""
    source = wheel.parent.parent
    modules = {p.relative_to(source).as_posix() for p in (source / "jointkl").rglob("*.py")}
    grammars = {f"jointkl/grammars/{p.name}" for p in (source / "grammars").iterdir()}
    models = {f"jointkl/models/{p.name}" for p in (source / "models").iterdir()}
    pages = {f"jointkl/docs/{p.name}" for p in (source / "docs").iterdir()}
    assert "jointkl/grammars/jkl.lark" in grammars
    assert "jointkl/models/gan.jkl" in models
    assert "jointkl/docs/language.md" in pages
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == modules | grammars | models | pages | {"jointkl/py.typed"}


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["check", "derive"])
def test_the_command_runs_without_torch(installed: Path, tmp_path: Path, verb: str) -> None:
    shutil.copy(ROOT / "models" / "gan.jkl", tmp_path / "mine.jkl")
    assert "D" in run(installed / "jointkl", verb, "mine.jkl", cwd=tmp_path)


def test_words_are_explained_without_torch(installed: Path, tmp_path: Path) -> None:
    assert "E_P[log P - log Q]" in run(installed / "jointkl", "help", "KL", cwd=tmp_path)


MODEL = """
import importlib.resources, jointkl
with importlib.resources.as_file(importlib.resources.files("jointkl.models") / "gan.jkl") as path:
    print(jointkl.derive(jointkl.load(path)).text())
"""


def test_a_model_is_found_in_the_installed_package(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import jointkl; print(jointkl.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert "LOSS" in run(installed / "python", "-c", MODEL, cwd=tmp_path)


def test_a_model_is_found_in_the_checkout() -> None:
    """The environment of the tests has the package installed as editable."""
    model = importlib.resources.files("jointkl.models") / "gan.jkl"
    assert model.read_text(encoding="utf-8") == (ROOT / "models" / "gan.jkl").read_text(encoding="utf-8")
