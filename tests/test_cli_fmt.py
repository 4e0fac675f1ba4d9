"""`jointkl fmt`: what it writes, says and leaves alone."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import jointkl
from jointkl import cli, console

MESSY = "# a model\nvar x:real#c\n\n\n\nq(x)=Normal( 0,1 )\n"
NEAT = "# a model\nvar x: real                                #c\n\nq(x) = Normal(0, 1)\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("messy.jkl").write_text(MESSY)
    Path("neat.jkl").write_text(NEAT)
    Path("wrong.jkl").write_text("var x real\n")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["fmt", *arguments])
    return code, *capsys.readouterr()


def test_files_are_rewritten_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    os.chmod("messy.jkl", 0o640)
    before = os.stat("neat.jkl").st_mtime_ns
    assert run(capsys, "messy.jkl", "neat.jkl") == (0, "formatted messy.jkl\n", "")
    assert Path("messy.jkl").read_text() == NEAT == jointkl.fmt(MESSY)
    assert os.stat("messy.jkl").st_mode & 0o777 == 0o640
    assert os.stat("neat.jkl").st_mtime_ns == before
    assert sorted(os.listdir()) == ["messy.jkl", "neat.jkl", "wrong.jkl"]
    assert run(capsys, "messy.jkl") == (0, "", "")


def test_a_link_stays_a_link(capsys: pytest.CaptureFixture[str]) -> None:
    Path("deep").mkdir()
    Path("messy.jkl").rename("deep/real.jkl")
    Path("link.jkl").symlink_to("deep/real.jkl")
    assert run(capsys, "link.jkl")[0] == 0
    assert Path("link.jkl").is_symlink()
    assert Path("deep/real.jkl").read_text() == NEAT


def test_lines_end_as_on_unix(capsys: pytest.CaptureFixture[str]) -> None:
    Path("neat.jkl").write_bytes(NEAT.replace("\n", "\r\n").encode())
    assert run(capsys, "--check", "neat.jkl") == (1, "would change neat.jkl\n", "")
    assert run(capsys, "--diff", "neat.jkl") == (1, "would change neat.jkl: only how its lines end\n", "")
    assert run(capsys, "neat.jkl") == (0, "formatted neat.jkl\n", "")
    assert Path("neat.jkl").read_bytes() == NEAT.encode()


def test_check_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--check", "messy.jkl", "neat.jkl") == (1, "would change messy.jkl\n", "")
    assert run(capsys, "--check", "neat.jkl") == (0, "", "")
    assert Path("messy.jkl").read_text() == MESSY


def test_diff_shows_the_change(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--diff", "messy.jkl", "neat.jkl")
    assert (code, err) == (1, "")
    assert out.startswith("--- messy.jkl\n+++ messy.jkl\n@@ ")
    assert "\n+q(x) = Normal(0, 1)\n" in out
    assert "\n-q(x)=Normal( 0,1 )\n" in out
    assert "neat" not in out
    assert Path("messy.jkl").read_text() == MESSY
    assert run(capsys, "--diff", "neat.jkl") == (0, "", "")
    assert "\x1b[32m" in console.paint("+q(x)", cli.CHANGES)
    assert "\x1b[31m" in console.paint("-q(x)", cli.CHANGES)


def test_a_mistake_is_reported_as_by_check_and_the_others_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "wrong.jkl"]) == 1
    said = capsys.readouterr().err
    assert run(capsys, "wrong.jkl", "messy.jkl") == (1, "formatted messy.jkl\n", said)
    assert Path("wrong.jkl").read_text() == "var x real\n"
    code, out, err = run(capsys, "gone.jkl")
    assert (code, out) == (1, "")
    assert "gone.jkl cannot be read" in err


def test_what_check_refuses_by_its_meaning_is_formatted(capsys: pytest.CaptureFixture[str]) -> None:
    Path("unknown.jkl").write_text("q(x)=Nrmal(0)")
    assert run(capsys, "unknown.jkl")[0] == 0
    assert Path("unknown.jkl").read_text() == "q(x) = Nrmal(0)\n"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.chmod(0o500)
    code, _, err = run(capsys, "messy.jkl")
    folder.chmod(0o700)
    assert code == 1
    assert "messy.jkl cannot be written" in err
    assert Path("messy.jkl").read_text() == MESSY


def test_nothing_is_lost_where_writing_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, out, err = run(capsys, "messy.jkl")
    assert (code, out) == (1, "")
    assert "messy.jkl cannot be written: No space left on device" in err
    assert Path("messy.jkl").read_text() == MESSY
    assert sorted(os.listdir()) == ["messy.jkl", "neat.jkl", "wrong.jkl"]


@pytest.mark.parametrize(
    ("given", "arguments", "expected"),
    [
        (MESSY, ["-"], (0, NEAT, "")),
        (NEAT, ["-"], (0, NEAT, "")),
        ("", ["-"], (0, "", "")),
        (MESSY, ["-", "--check"], (1, "would change <stdin>\n", "")),
        (NEAT, ["-", "--check"], (0, "", "")),
    ],
)
def test_a_pipe(
    given: str,
    arguments: list[str],
    expected: tuple[int, str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(given.encode())))
    assert run(capsys, *arguments) == expected


def test_a_mistake_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"var x: real\nvar \xff")))
    code, out, err = run(capsys, "-")
    assert (code, out) == (1, "")
    assert "<stdin>:2:5" in err


def test_it_loads_nothing_heavy(folder: Path) -> None:
    heavy = ["torch", "pyro", "networkx", "numpy", "matplotlib", "sklearn", "rich"]
    code = f"""
import sys
from jointkl import cli
assert cli.main(["fmt", "messy.jkl"]) == 0
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout.splitlines()[-1] == "[]"
