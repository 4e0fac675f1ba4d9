"""What a spec says is data: no name, text, number, comment or path of it becomes code of the emitted module."""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pyro
import pytest
import torch

import jointkl
from jointkl import cli
from jointkl.diagnostics import JklError
from jointkl.emission.names import ATTRIBUTES, MODULE
from jointkl.syntax.stop import RESERVED
from tests.fuzz.emitted import verify_file, verify_module
from tests.fuzz.mutations import EVIL, PYTHON
from tests.worlds import GAN, VAE

SPEC = """
{evidence}(x) = evidence()
var {variable}, x: real[2]
var {label}: {{0, 1}}
let {constant} = 4
param {param}: positive
net {net} = mlp({constant})
net {other} = mlp({constant})
{law}({variable}) = Normal(0, {param})
{law}(x | {variable}) = Delta({net}({variable}))
{classifier}({label} | x) = Bernoulli({other}(x))
{law}(x, {label}) = {{ {label}=1: {evidence}(x); {label}=0: {law}({variable}) * {law}(x|{variable}) }}
{classifier}(x, {label}) = {evidence}(x) * {classifier}({label}|x)
player {player} = {net}
minimize KL({law}(x,{label}) || {classifier}(x,{label}))
"""
ROLES = ("evidence", "variable", "label", "constant", "param", "net", "other", "law", "classifier", "player")
PLAIN = {role: f"{role}_0" for role in ROLES}
NAMES = sorted({*PYTHON, *MODULE, *ATTRIBUTES, "a" * 300, "_", "__", "x_prime", *PLAIN.values()} - RESERVED - {"x"})


def emitted(text: str, name: str = "<text>") -> str:
    """The module, which is one."""
    made = jointkl.python(jointkl.parse(text, name))
    verify_file(made, verify_module(made))
    return made


def structure(module: str) -> list[tuple[type[ast.AST], object]]:
    """The kinds of what stands in the module's classes, with the numbers, but for names and texts."""
    classes = [n for n in ast.parse(module).body if isinstance(n, ast.ClassDef)]
    return [
        (type(n), n.value if isinstance(n, ast.Constant) and not isinstance(n.value, str) else None)
        for c in classes
        for n in ast.walk(c)
    ]


@pytest.mark.slow
def test_the_structure_does_not_depend_on_the_names() -> None:
    """Every adversarial name, in turn in all the roles: the module is the one of plain names."""
    expected = structure(emitted(SPEC.format(**PLAIN)))
    for i in range(len(NAMES)):
        names = dict(zip(ROLES, (NAMES * 2)[i : i + len(ROLES)], strict=True))
        assert structure(emitted(SPEC.format(**names))) == expected, names


LOOKALIKES = ["\u0435val", "\uff45val", "x\u0301", "\u2160", "self\u200b", "q\u2032", "\u00b5", "\u202eq", "x\u00a0y"]


@pytest.mark.parametrize("name", LOOKALIKES, ids=ascii)
@pytest.mark.parametrize("role", ["variable", "net", "law"])
def test_a_name_that_looks_like_another_is_refused(name: str, role: str) -> None:
    with pytest.raises(JklError) as found:
        jointkl.parse(SPEC.format(**PLAIN | {role: name}))
    assert all(line.isprintable() for line in str(found.value).split("\n"))


TEXTS = [
    "'", "'''", "\\", "\\\\", "\\n", "\\x22", "\\N{QUOTATION MARK}", "{0}", "{__import__('os')}", "%s", "${x}", "`ls`",
    "\r", "\x00", "\x1b[2J", "\u2028", "\ud800", "../../x", "/etc/passwd", "file:///etc/passwd", "a" * 10_000,
    "'); import os; ('", "# type: ignore", "# -*- coding: utf-7 -*-", "+ACI-", "\x0c", "\u202e",
]  # fmt: skip
PLACES = ['net E = mlp(4, activation="{}")', 'data(x) = digits(split="{}")', 'data(x) = images("{}", size="{}")',
          'data(x) = evidence("{}")', 'train(optimizer="{}")', 'train(lr="{}")', 'let K = "{}"']  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_text_of_a_spec_reaches_the_module(place: str) -> None:
    base = "var x: real\nparam a: real\nq(x) = Normal(a, 1)\n"
    base += "minimize KL(data(x) || q(x))\n"
    for text in TEXTS:
        spec = f"{base}{place.replace('{}', text)}\n"
        if not place.startswith("let") or "\n" in text:
            with pytest.raises(JklError) as found:
                emitted(spec)
            assert all(line.isprintable() for line in str(found.value).split("\n"))
        else:
            assert emitted(spec) == emitted(base), "a constant that nothing uses changes the module"


def test_no_folder_of_a_spec_reaches_the_module() -> None:
    """A text that a spec may hold. It is a path, and opened by whoever trains."""
    spec = "var x: real[3]\nparam a: real\nq(x) = Normal(a, 1)\nminimize KL(data(x) || q(x))\n"
    plain, held = emitted(f'{spec}data(x) = images("faces")'), 0
    for text in TEXTS:
        with contextlib.suppress(JklError):
            assert emitted(f'{spec}data(x) = images("{text}")') == plain
            held += 1
    assert held > len(TEXTS) / 2


@pytest.mark.parametrize("text", [GAN, VAE], ids=["gan", "vae"])
def test_no_comment_reaches_the_module(text: str) -> None:
    comments = [*EVIL, "# type: ignore", "-*- coding: utf-7 -*-", "fmt: off", '"""', "'''", "\\"]
    lines = text.split("\n")
    plain = emitted("\n".join(lines))
    for comment in comments:
        hidden = comment.replace("\n", " ")
        assert emitted("\n".join(f"{line} # {hidden}" for line in lines)) == plain


NUMBERS = (
    "1e999 1e308 1e400 1e-400 1e308*1e308 1/1e-300 1e-300/1e300 9e99*9e99 -0.0 inf nan -inf 1e309-1e309 0/0 1/0 0.1"
    " 99999999999999999999999 2147483648 1_000 1j 0x10 007 1e5 1.5e300*1e300 -1e308-1e308"
).split()
NUMBERED = """
let c = {}
var x, z: real
param a: real[2]
q(z) = Normal({}, {})
q(x|z) = Normal({} * z + a[{}], {})
p(z|x) = Normal(x * {}, 1)
minimize {} * KL(data(x) * p(z|x) || q(z) * q(x|z)) + max(0, {} - KL(q(z) || q(z)))
train(lr={}, steps={}, batch={})
"""
ORDINARY = "1 0 1 2 0 1 0.5 1 3 0.1 10 4".split()


@pytest.mark.slow
def test_a_number_is_a_number_or_refused() -> None:
    assert emitted(NUMBERED.format(*ORDINARY))
    many = 0
    for place in range(len(ORDINARY)):
        for number in [*NUMBERS, "9" * 5_000, "c", "-c * c"]:
            filled = [*ORDINARY[:place], number, *ORDINARY[place + 1 :]]
            with contextlib.suppress(JklError):
                many += bool(emitted(NUMBERED.format(*filled)))
    assert many > 50


NAMES_OF_FILES = [f"a{evil}b.jkl" for evil in EVIL] + [
    "\n# coding: utf-7\n+ACIAIgAi-.jkl", "\r# coding: rot13\r.jkl", '"""', "\ud800.jkl", "a" * 5_000, "\x00", '"', "\\",
    "../../../etc/x.jkl", "-o", '" + __import__("os") + ".jkl', "", "/", "\\\n.jkl", 'a""" b """.jkl', "\u202elkj.q",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES_OF_FILES, ids=lambda name: ascii(name)[:30])
def test_the_name_of_a_file_is_text_on_the_docstring_s_lines(name: str) -> None:
    plain, odd = emitted(GAN, "gan.jkl"), emitted(GAN, name)
    (_, *ours), (_, *expected) = ast.parse(odd).body, ast.parse(plain).body
    assert [ast.dump(n) for n in ours] == [ast.dump(n) for n in expected]
    assert len(odd.split("\n")) == len(plain.split("\n"))
    assert jointkl.compile(jointkl.parse(GAN, name)).players == ("G", "D")


def test_files_of_odd_names_are_compiled_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into the current folder under the last part of the path; a file's name that is no text is told as it can be."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for i, name in enumerate(n for n in NAMES_OF_FILES if n.endswith(".jkl") and "/" not in n and len(n) < 200):
        folder = tmp_path / f"specs{i}"
        folder.mkdir()
        path = os.fsencode(folder) + b"/" + (b"\xff.jkl" if "\ud800" in name else name.encode())
        Path(os.fsdecode(path)).write_text(GAN, encoding="utf-8")
        before = set(work.iterdir())
        assert cli.main(["compile", os.fsdecode(path)]) == 0
        told = capsys.readouterr()
        (made,) = set(work.iterdir()) - before
        verify_file(text := made.read_text(encoding="utf-8"), verify_module(text))
        assert told.err == ""
        assert os.listdir(folder) == [os.fsdecode(os.path.basename(path))]


@pytest.mark.slow
def test_a_name_that_is_no_text_is_printed_as_it_can_be(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\n\x1b.jkl"
    Path(os.fsdecode(path)).write_text(GAN, encoding="utf-8")
    for arguments in ([b"check", path], [b"compile", path, b"-o", b"-"], [b"derive", path], [b"check", path + b"x"]):
        done = subprocess.run([sys.executable, "-m", "jointkl", *arguments], cwd=tmp_path, capture_output=True)
        assert done.returncode == (1 if arguments[1].endswith(b"x") else 0), done.stderr
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", [GAN, VAE, SPEC.format(**PLAIN | {"net": "exec", "param": "open", "law": "print"})])
def test_importing_a_module_does_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens, runs, prints and draws nothing; Pyro's store stays as it was."""
    code = compile(emitted(text, 'a"""\nprint(1)\n.jkl'), "emitted", "exec")

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError(f"called with {arguments}")

    state, store = torch.get_rng_state(), list(pyro.get_param_store())
    space: dict[str, object] = {"__name__": "emitted"}
    out = io.StringIO()
    with monkeypatch.context() as patched, contextlib.redirect_stdout(out):
        for owner, name in ((builtins, "open"), (builtins, "eval"), (builtins, "input"), (os, "system"),
                            (os, "remove"), (subprocess, "Popen")):  # fmt: skip
            patched.setattr(owner, name, never)
        exec(code, space)
    assert out.getvalue() == ""
    assert torch.equal(torch.get_rng_state(), state)
    assert list(pyro.get_param_store()) == store
    assert isinstance(space["Program"], type)
