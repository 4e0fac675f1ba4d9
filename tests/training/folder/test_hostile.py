"""A run's folder from somebody else: it runs nothing, waits for nothing, and leads nowhere."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

import jointkl
from jointkl import cli
from jointkl.diagnostics import DataError, JklError
from jointkl.training.folder import checkpoints
from jointkl.training.folder.run import load_run
from tests.training.folder.attacks import (
    DEEP,
    LEFT,
    Attack,
    Evil,
    bytes_of,
    config,
    config_text,
    every,
    folder_there,
    hard_link,
    instead,
    link,
    link_to_folder,
    link_to_zero,
    listening,
    pickled,
    pipe,
    record,
    record_text,
    safetensors,
    sparse,
    tensors,
    torch_saved,
)
from tests.training.specs import GAN

SECRET = "the user's own"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jointkl.train(GAN, steps=8, out=tmp_path_factory.mktemp("whole") / "run", quiet=True).folder


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_text(SECRET)
    return folder


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """What waits for a pipe is ended."""

    def ended(number: int, frame: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(folder: Path, *, resuming: bool = True) -> str:
    """What is said where a folder is refused by all that opens it."""
    said: list[str] = []
    for act in (load_run, lambda f: jointkl.resume(f, steps=12, quiet=True))[: 1 + resuming]:
        with pytest.raises((DataError, JklError)) as found:
            act(folder)
        said.append(str(found.value))
    return said[0]


FIRST = "program/D.layers.0.weight"
TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}

READING: Mapping[str, tuple[Attack, str]] = {
    # other kinds of files
    "spec: a link": (instead("spec.jkl", link), r"spec\.jkl is refused: it is a link"),
    "spec: a pipe": (instead("spec.jkl", pipe), r"spec\.jkl is refused: it is a pipe"),
    "spec: a folder": (instead("spec.jkl", folder_there), r"spec\.jkl is refused: it is a folder"),
    "spec: huge": (instead("spec.jkl", sparse(10 << 30)), r"spec\.jkl is refused: it has 10,737,418,240 bytes"),
    "spec: no text": (instead("spec.jkl", lambda p, _: p.write_bytes(b"\xff\xfe")), r"spec\.jkl is damaged: no text"),
    "config: a link": (instead("config.json", link), r"config\.json is refused: it is a link"),
    "config: a dangling link": (
        instead("config.json", lambda p, o: p.symlink_to(o / "no")),
        "is refused: it is a link",
    ),
    "config: a pipe": (instead("config.json", pipe), r"config\.json is refused: it is a pipe"),
    "config: a socket": (instead("config.json", listening), r"config\.json is refused: it is a socket"),
    "config: endless": (instead("config.json", link_to_zero), r"config\.json is refused: it is a link"),
    "config: huge": (instead("config.json", sparse(10 << 30)), r"config\.json is refused: it has 10,737,418,240 bytes"),
    "checkpoints: a link": (instead("checkpoints", link_to_folder), "checkpoints is refused: it is a link"),
    "checkpoints: a file": (instead("checkpoints", link), "checkpoints is refused: it is a link"),
    "tensors: links": (every(".safetensors", link), r"safetensors is refused: it is a link"),
    "tensors: endless": (every(".safetensors", link_to_zero), r"safetensors is refused: it is a link"),
    "tensors: pipes": (every(".safetensors", pipe), r"safetensors is refused: it is a pipe"),
    "tensors: folders": (every(".safetensors", folder_there), r"safetensors is refused: it is a folder"),
    "tensors: huge": (every(".safetensors", sparse(10 << 30)), r"safetensors is refused: it has 10,737,418,240 bytes"),
    "tensors: a pickle": (every(".safetensors", pickled), r"safetensors is damaged: its bytes are not those"),
    "tensors: saved by torch": (every(".safetensors", torch_saved), r"safetensors is damaged: its bytes are not those"),
    "records: links": (every(".json", link), r"json is refused: it is a link"),
    "records: pipes": (every(".json", pipe), r"json is refused: it is a pipe"),
    "records: huge": (every(".json", sparse(10 << 30)), r"json is refused: it has 10,737,418,240 bytes"),
    # safetensors that are none, under the right hash
    "a pickle": (bytes_of(lambda _: pickle.dumps(Evil())), r"safetensors is damaged"),
    "nothing": (bytes_of(lambda _: b""), r"safetensors is damaged: no safetensors"),
    "a cut header": (bytes_of(lambda found: found[:40]), r"safetensors is damaged"),
    "a cut tensor": (bytes_of(lambda found: found[:-4]), r"safetensors is damaged: no safetensors"),
    "2**60 bytes": (safetensors({}, claimed=2**60), "its header claims 1,152,921,504,606,846,976 bytes"),
    "2**64 - 1 bytes": (safetensors({}, claimed=2**64 - 1), "its header claims"),
    "a large header": (safetensors(b'{"a":' + b" " * 10_000_000 + b"1}"), "its header claims 10,000,007 bytes"),
    "a deep header": (safetensors(DEEP[:20_000].encode()), "no safetensors"),
    "no JSON": (safetensors(b"{" * 50), "no safetensors"),
    "an unknown type": (safetensors({"a": {**TENSOR, "dtype": "PICKLE"}}, b"0000"), "no safetensors"),
    "a hole": (safetensors({"a": {**TENSOR, "data_offsets": [8, 12]}}, b"0" * 12), "no safetensors"),
    "before the start": (safetensors({"a": {**TENSOR, "data_offsets": [-4, 0]}}, b"0" * 4), "no safetensors"),
    "behind the end": (safetensors({"a": {**TENSOR, "data_offsets": [0, 2**40]}}, b"0" * 4), "no safetensors"),
    "overflowing": (safetensors({"a": {**TENSOR, "shape": [2**32, 2**32]}}, b"0" * 4), "no safetensors"),
    "named ../../x": (safetensors({"program/../../x": TENSOR}, b"0" * 4), "does not fit the run's spec"),
    # tensors
    "a missing tensor": (tensors(lambda found: found.pop(FIRST)), r"D\.layers\.0\.weight is missing"),
    "an unknown tensor": (
        tensors(lambda found: found.update({"program/more": torch.zeros(1)})),
        "more is unknown to it",
    ),
    "another shape": (
        tensors(lambda found: found.update({FIRST: torch.zeros(3)})),
        r"is \(3,\) of float32, not \(16, 2\)",
    ),
    "no numbers in it": (
        tensors(lambda found: found.update({FIRST: torch.zeros(2**40, 0)})),
        r"is \(1099511627776, 0\) of float32, not \(16, 2\)",
    ),
    "another type": (tensors(lambda found: found.update({FIRST: found[FIRST].double()})), "of float64, not"),
    "whole numbers": (tensors(lambda found: found.update({FIRST: found[FIRST].long()})), "of int64, not"),
    "not finite": (tensors(lambda found: found[FIRST].fill_(float("nan"))), r"D\.layers\.0\.weight is not finite"),
    # what a checkpoint says of itself
    "round: text": (record(round="x"), "it has no `round`"),
    "round: negative": (record(round=-1), "it has no `round`"),
    "round: true": (record(round=True), "it has no `round`"),
    "round: another": (record(round=5), "it is of round 5"),
    "round: large": (record(round=10**300), "it has no `round`"),
    "round: too large for Python": (
        record_text(lambda t: re.sub(r'"round": \d+', f'"round": {"9" * 5000}', t)),
        "no JSON",
    ),
    "format: text": (record(format="3"), "has format 3; this version reads 3"),
    "seconds: NaN": (record_text(lambda t: t.replace('"seconds": ', '"seconds": NaN, "x": ')), "NaN is no number"),
    "seconds: infinite": (record_text(lambda t: t.replace('"seconds": ', '"seconds": 1e400, "x": ')), "no `seconds`"),
    "seconds: negative": (record(seconds=-1.0), "it has no `seconds`"),
    "losses: text": (record(losses={"D": "1"}), "it has no `losses`"),
    "losses: a list": (record(losses=[1.0]), "it has no `losses`"),
    "losses: a name for a terminal": (record(losses={"\x1b[2J": 1.0}), "it has no `losses`"),
    "data: negative": (record(data={"data(x)": -64}), "it has no `data`"),
    "data: text": (record(data={"data(x)": "a"}), "it has no `data`"),
    "unread: a number": (record(unread=3), "it has no `unread`"),
    "unread: threes": (record(unread={"D": [[1, 2.0, 3]], "G": []}), "it has no `unread`"),
    "unread: nothing": (record(unread={"D": [[1, None]], "G": []}), "it has no `unread`"),
    "unread: millions": (
        record_text(lambda t: t.replace('"unread": {', '"unread": {"x": [' + "[0,0.5]," * 3_000_000 + "[0,0.5]],")),
        "is refused: it has 24,",
    ),
    "optimizers: deep": (record(optimizers={"D": {"lr": {"a": [1]}}}), "it has no `optimizers`"),
    "torch: a name for a terminal": (record(torch="\x1b]0;mine\x07"), "it has no `torch`"),
    "more": (record(more=1), "its bytes are not those"),
    "deep": (record_text(lambda t: t.replace('"losses": {', f'"x": {DEEP}, "losses": {{')), "no JSON"),
    "deep as far as JSON goes": (record_text(lambda t: t.replace("{", '{"x": ' + DEEP[99_100:100_900] + ", ", 1)), "."),
    "a list": (record_text(lambda _: "[]"), "no JSON object"),
    # options
    "config: nothing": (config_text(b""), "no JSON"),
    "config: deep": (config_text('{"lets": ' + DEEP), "no JSON"),
    "config: NaN": (config_text('{"pictures": NaN}'), "NaN is no number"),
    "config: another encoding": (config_text(b"\xff\xfe{\x00"), "no JSON"),
    "config: lets": (config(lets={"H": 3}), "it has no `lets`"),
    "config: settings": (config(settings={"lr": 1}), "it has no `settings`"),
    "config: pictures": (config(pictures=10**9), "it has no `pictures`"),
    "config: checkpoints": (config(checkpoints=1e400), "Infinity is no number"),
    "config: ways": (config(ways=[{"player": ["D"], "way": "eager"}]), "it has no `ways`"),
    "config: started": (config(started="pickled"), "it has no `started`"),
    "config: module": (config(module="../../x"), "it has no `module`"),
    "config: track": (config(track=["os"]), "it has no `track`"),
    "config: tracks": (config(track=[["wandb"]]), "it has no `track`"),
    "config: id": (config(id="' OR 1=1 --"), "it has no `id`"),
    "config: rows": (config(data={"data(x)": {"rows": 10**300}}), "it has no `data`"),
    "config: another's data": (config(data={"x": {"rows": 3, "file": "/etc/passwd"}}), "its data are of x"),
    "config: a constant that is none": (config(lets={"nobody": "3"}), "nobody"),
    "config: a constant of code": (config(lets={"nobody": "__import__('os')"}), "."),
    # what the spec says
    "spec: another": (lambda f, _: (f / "spec.jkl").write_text("var x: real\n"), "."),
    "spec: not the run's": (
        lambda f, _: (f / "spec.jkl").write_text((f / "spec.jkl").read_text().replace("0.02", "0.03")),
        "belongs to another spec",
    ),
    "spec: imports": (
        lambda f, _: (f / "spec.jkl").write_text(
            (f / "spec.jkl").read_text().replace("G = mlp(16)", 'G = python("os:system")')
        ),
        "import",
    ),
    "spec: networks that no memory holds": (
        lambda f, _: (f / "spec.jkl").write_text(
            (f / "spec.jkl").read_text().replace("G = mlp(16)", "G = mlp(46000, 46000, 46000)")
        ),
        "the networks of its spec have 4,232,",
    ),
}
"""Attacks that nothing which opens the folder falls for, and what is said."""


@pytest.mark.parametrize("name", READING)
def test_what_is_read_is_refused_by_name(name: str, run: Path, outside: Path) -> None:
    attack, says = READING[name]
    attack(run, outside)
    said = refused(run)
    assert re.search(says, said), said
    assert str(run) in said or "-->" in said
    assert said.replace("\n", "").isprintable()
    assert [p.name for p in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == SECRET
    assert not LEFT.exists()


GOING_ON: Mapping[str, tuple[Attack, str]] = {
    "metrics: a link": (instead("metrics.jsonl", link), r"metrics\.jsonl is refused: it is a link"),
    "metrics: a hard link": (instead("metrics.jsonl", hard_link), r"metrics\.jsonl is refused: it is a hard link"),
    "metrics: a pipe": (instead("metrics.jsonl", pipe), r"metrics\.jsonl is refused: it is a pipe"),
    "metrics: a folder": (instead("metrics.jsonl", folder_there), r"metrics\.jsonl is refused: it is a folder"),
    "metrics: endless": (instead("metrics.jsonl", link_to_zero), r"metrics\.jsonl is refused: it is a link"),
    "samples: a link": (instead("samples", link_to_folder), "samples is refused: it is a link"),
    "samples: a pipe": (instead("samples", pipe), "samples is refused: it is a pipe"),
    "a device that computes nothing": (config(device="meta"), "no device `meta`"),
    "a device that is none": (config(device="\x1b[2J\n"), "no device"),
    "a device that is not there": (config(device="cuda:99"), "no such GPU"),
    "half a letter": (config(device="\ud800"), "no device"),
    "a setting that is none": (config(settings={"exec": "1"}), "no training option `exec`"),
    "a setting of ten million digits": (config(settings={"lr": "9" * 1_000_000 + "x"}), "expected a finite number"),
    "data: a pipe": (
        lambda f, o: (os.mkfifo(o / "x.npy"), config(data={"data(x)": {"rows": 3, "file": str(o / "x.npy")}})(f, o)),
        "is neither file nor folder",
    ),
    "data: a device": (config(data={"data(x)": {"rows": 3, "file": "/dev/zero"}}), "is neither file nor folder"),
    "data: another's file": (config(data={"data(x)": {"rows": 3, "file": "/etc/passwd"}}), "passwd"),
    "data: no file": (config(data={"data(x)": {"rows": 3, "file": "\0"}}), "data"),
    "a player too few": (record(unread={"D": []}), "it has other players"),
    "behind the data": (record(data={"data(x)": 10**6}), "behind row 1,000,000 of data\\(x\\), whose data have 1,000"),
    "other data": (record(data={"other(x)": 0}), "it stands in other data"),
    "a slot too many": (tensors(lambda f: f.update({"optimizer/D/D.x/y": torch.zeros(1)})), "is unknown to it"),
    "a slot too few": (tensors(lambda f: f.pop("optimizer/D/D.layers.0.weight/exp_avg")), "has step, exp_avg_sq"),
    "a slot of another shape": (
        tensors(lambda f: f.update({"optimizer/D/D.layers.0.weight/exp_avg": torch.zeros(5)})), r"is \(5,\) of float32",
    ),
    "a scalar for a tensor": (
        tensors(lambda f: f.update({"optimizer/D/D.layers.0.weight/exp_avg": torch.tensor(0.0)})),
        r"is \(\) of float32",
    ),
    "a step of another type": (
        tensors(lambda f: f.update({"optimizer/D/D.layers.0.weight/step": torch.tensor(3)})), "of int64, not",
    ),
    "a random state that is none": (tensors(lambda f: f.update({"random/cpu": torch.zeros(3)})), "random states"),
    "a random state of zeros": (
        tensors(lambda f: f.update({"random/cpu": torch.zeros(5056, dtype=torch.uint8)})), "random states",
    ),
    "a random state of ones": (
        tensors(lambda f: f.update({"data/data(x)": torch.full((5056,), 255, dtype=torch.uint8)})), "random states",
    ),
    "no random state": (tensors(lambda f: f.pop("random/cpu")), "random states"),
}  # fmt: skip
"""Attacks on what only going on needs."""


@pytest.mark.parametrize("name", GOING_ON)
def test_what_going_on_needs_is_refused_by_name(name: str, run: Path, outside: Path) -> None:
    attack, says = GOING_ON[name]
    attack(run, outside)
    with pytest.raises(DataError) as found:
        jointkl.resume(run, steps=12, quiet=True)
    said = str(found.value)
    assert re.search(says, said), said
    assert len(said) < 2000
    assert said.replace("\n", "").isprintable()
    assert (outside / "file").read_text() == SECRET


def test_what_stands_where_a_file_will_be_is_replaced(run: Path, outside: Path) -> None:
    """Links under the names of what a run writes next: nothing is written through them."""
    for place in ("checkpoints/00000012.safetensors", "checkpoints/.00000012.safetensors.part",
                  "checkpoints/.00000012.json.part", "samples/00000012.png", "samples/.00000012.png.part",
                  ".config.json.part"):  # fmt: skip
        (run / place).symlink_to(outside / "file")
    jointkl.resume(run, steps=12, quiet=True)
    assert (outside / "file").read_text() == SECRET
    assert (run / "samples" / "00000012.png").is_file()
    assert not (run / "samples" / "00000012.png").is_symlink()
    assert load_run(run).rounds == 12
    assert not [path for path in (run / "checkpoints").iterdir() if path.name.startswith(".") or path.is_symlink()]


def test_samples_are_not_drawn_through_a_link(run: Path, outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "samples" / "q(x).png").symlink_to(outside / "file")
    assert cli.main(["sample", str(run), "-n", "5"]) == 0
    assert (outside / "file").read_text() == SECRET
    shutil.rmtree(run / "samples")
    (run / "samples").symlink_to(outside)
    assert cli.main(["sample", str(run), "-n", "5"]) == 1
    assert "samples is refused: it is a link" in capsys.readouterr().err
    assert [path.name for path in outside.iterdir()] == ["file"]


def test_a_metrics_file_without_lines_is_cut_and_not_read(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    sparse(10 << 30)(run / "metrics.jsonl", run)
    jointkl.resume(run, steps=12, quiet=True)
    assert (run / "metrics.jsonl").stat().st_size < 10_000


def test_lines_of_metrics_that_are_none_are_cut(run: Path) -> None:
    path = run / "metrics.jsonl"
    good = path.read_bytes()
    for line in (b"[" * 100_000, b'{"round": "x"}', b'{"round": 1e400}', b"\xff", b'{"round": ' + b"9" * 5000 + b"}"):
        path.write_bytes(good + line + b"\n")
        jointkl.resume(run, quiet=True)
        assert path.read_bytes() == good


def test_a_damaged_line_of_metrics_takes_no_other_with_it(run: Path) -> None:
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\x00" + lines[2][1:]
    path.write_bytes(b"".join(lines))
    jointkl.resume(run, steps=9, quiet=True)
    found = path.read_bytes().splitlines(keepends=True)
    assert found[: len(lines)] == lines
    assert len(found) == len(lines) + 1


def test_the_spec_s_name_is_printed_as_text(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name of a spec that says nothing but what a terminal should do: neither there nor as a path."""
    config(spec="../../\x1b[2J\nerror: run me\r.jkl")(run, run)
    jointkl.resume(run, steps=12)
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\nerror: run me" not in said
    spec = (run / "spec.jkl").read_text()
    (run / "spec.jkl").write_text(spec.replace("minimize", "maximise"))
    assert cli.main(["sample", str(run)]) == 1
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\nerror: run me" not in said


def test_what_a_spec_imports_is_imported_only_if_the_user_says_so(run: Path, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """A module beside the run, as its spec names it."""
    (tmp_path / "jkl_evil.py").write_text(f"open({str(tmp_path / 'was here')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    spec = (run / "spec.jkl").read_text()
    (run / "spec.jkl").write_text(spec.replace("G = mlp(16)", 'G = python("jkl_evil:Net")'))
    assert "--allow-import jkl_evil" in refused(run)
    assert cli.main(["sample", str(run)]) == 1
    assert cli.main(["resume", str(run)]) == 1
    assert not (tmp_path / "was here").exists()


def test_a_crowd_of_damaged_checkpoints_is_not_gone_through(run: Path) -> None:
    for i in range(100, 5000):
        (run / "checkpoints" / f"{i:08d}.json").touch()
    with pytest.raises(DataError, match=r"00004999\.json is damaged"):
        load_run(run)


def test_names_that_are_no_numbers_are_no_checkpoints(run: Path) -> None:
    for name in ("²", "٣", "1e3", "-9", "0x10", " 9", "9 "):
        (run / "checkpoints" / f"{name}.json").write_text("{}")
    assert load_run(run).rounds == 8
    assert jointkl.resume(run, steps=12, quiet=True).rounds == 12
    assert (run / "checkpoints" / "².json").exists()


def test_later_checkpoints_that_were_refused_do_not_crowd_out_the_new_ones(run: Path) -> None:
    for i in (100, 200, 300):
        (run / "checkpoints" / f"{i:08d}.json").write_text("{}")
    jointkl.resume(run, steps=12, quiet=True)
    assert [path.stem for path in checkpoints.whole(run)] == ["00000009", "00000010", "00000012"]
    assert load_run(run).rounds == 12


@pytest.mark.slow
def test_the_user_is_told_which_files_a_run_reads(gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(300, 2)))
    run = jointkl.train(gan, {"data": tmp_path / "points.npy"}, steps=2, out=tmp_path / "run", quiet=True)
    capsys.readouterr()
    jointkl.resume(run.folder, steps=3)
    assert f"note: the data of data(x) are those of {tmp_path / 'points.npy'}\n" in capsys.readouterr().err
    for verb in ("sample", "eval", "export"):
        assert cli.main([verb, str(run.folder)]) == 0
        assert f"note: the data of data(x) are those of {tmp_path / 'points.npy'}\n" in capsys.readouterr().err


def test_the_user_is_told_which_folders_a_spec_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.layouts import faces

    faces(tmp_path / "faces", ("a",))
    spec = f"""
    data(x) = images("{tmp_path / "faces"}")
    var x: unit[3, 6, 5]
    param b: unit[3, 6, 5]
    q(x) = ContinuousBernoulli(b)
    minimize CE(data(x) || q(x))
    train(batch=2, steps=1)
    """
    run = jointkl.train(spec, out=tmp_path / "run", quiet=True)
    capsys.readouterr()
    assert cli.main(["sample", str(run.folder)]) == 0
    assert f"note: the data of data(x) are those of {tmp_path / 'faces'}\n" in capsys.readouterr().err
