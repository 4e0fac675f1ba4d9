"""Checkpoints: whole or not there, and refused where they are not the run's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import jointkl
from jointkl.diagnostics import DataError
from jointkl.training.folder import checkpoints
from jointkl.training.folder.run import Run, load_run
from jointkl.training.folder.tensors import digest


@pytest.fixture
def run(proximal: str, tmp_path: Path) -> Run:
    return jointkl.train(proximal, steps=8, out=tmp_path / "run", quiet=True, pictures=0)


def newest(run: Run) -> Path:
    return checkpoints.whole(run.folder)[-1]


def test_a_run_comes_back_bit_for_bit(run: Run) -> None:
    again = load_run(run.folder)
    assert (again.rounds, again.losses) == (8, run.losses)
    assert again.seconds == pytest.approx(run.seconds)
    before, after = run.program.emitted.state_dict(), again.program.emitted.state_dict()
    assert before.keys() == after.keys()
    assert any(name.startswith("old_") for name in before), "the old copies are kept too"
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert torch.equal(run.sample(5, seed=1)["x"], again.sample(5, seed=1)["x"])
    assert not torch.equal(run.sample(5, seed=1)["x"], again.sample(5, seed=2)["x"])


def test_it_holds_what_going_on_would_need(run: Run) -> None:
    tensors = load_file(newest(run))
    record = json.loads(newest(run).with_suffix(".json").read_text())
    for player in ("D", "G"):
        for name, parameter in run.program.emitted.named_parameters():
            if name.startswith(f"{player}."):
                for slot in ("exp_avg", "exp_avg_sq"):
                    assert tensors[f"optimizer/{player}/{name}/{slot}"].shape == parameter.shape
                assert tensors[f"optimizer/{player}/{name}/step"].item() == 8
    assert {"random/cpu", "data/data(x)"} <= tensors.keys()
    assert (record["round"], record["data"]) == (8, {"data(x)": 8 * 64})
    assert record["optimizers"]["D"]["betas"] == [0.5, 0.999]


def test_only_the_newest_are_kept_and_nothing_half_written(run: Run) -> None:
    names = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    stems = ["00000006", "00000007", "00000008"]
    assert names == sorted(f"{stem}{ending}" for stem in stems for ending in (".json", ".safetensors"))


def test_without_its_json_a_checkpoint_is_not_there(run: Run) -> None:
    newest(run).with_suffix(".json").unlink()
    assert load_run(run.folder).rounds == 7


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def edited(**values: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path = path.with_suffix(".json")
        record = {**json.loads(path.read_text()), **values}
        record.pop(checkpoints.SEAL)
        path.write_bytes(checkpoints.sealed(record))

    return edit


def flipped(path: Path) -> None:
    """One bit of how much of the data is used up."""
    path = path.with_suffix(".json")
    record = json.loads(path.read_text())
    record["data"]["data(x)"] ^= 1
    path.write_text(json.dumps(record))


def reshaped(path: Path) -> None:
    """Tensors of another program under the right hash."""
    save_file({f"program/{name}": torch.zeros(3) for name in ("D.layers.0.bias",)}, path)
    edited(tensors=digest(path.read_bytes()))(path)


def no_safetensors(path: Path) -> None:
    path.write_bytes(b"\x80\x04 a pickle, say")
    edited(tensors=digest(path.read_bytes()))(path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "damaged: its bytes are not those"),
        (changed, "damaged: its bytes are not those"),
        (lambda path: path.unlink(), "cannot be read: No such file"),
        (no_safetensors, "damaged: "),
        (lambda path: path.with_suffix(".json").write_text("{"), "damaged: no JSON"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "damaged: no JSON object"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "format None; this version reads 3"),
        (edited(format=1), "format 1; this version reads 3"),
        (edited(more=1), "damaged: its bytes are not those"),
        (flipped, "damaged: its bytes are not those"),
        (edited(round=5), "damaged: it is of round 5"),
        (edited(spec="0" * 64), "another spec"),
    ],
)
def test_a_bad_checkpoint_is_passed_over_by_name(run: Run, damage: Callable[[Path], object], says: str) -> None:
    *others, bad = checkpoints.whole(run.folder)
    damage(bad)
    again = load_run(run.folder)
    assert again.rounds == 7
    (note,) = again.notes
    assert says in note
    assert str(bad.with_suffix("")) in note
    for path in others:
        damage(path)
    with pytest.raises(DataError) as found:
        load_run(run.folder)
    assert says in str(found.value)
    assert str(bad.with_suffix("")) in str(found.value)


def test_tensors_of_another_program_are_refused(run: Run) -> None:
    reshaped(newest(run))
    with pytest.raises(DataError, match="does not fit the run's spec") as found:
        load_run(run.folder)
    assert str(newest(run)) in str(found.value)


def test_a_changed_spec_is_refused(run: Run) -> None:
    spec = run.folder / "spec.jkl"
    spec.write_text(spec.read_text() + "\n# another day\n")
    with pytest.raises(DataError, match="another spec"):
        load_run(run.folder)


def test_the_module_in_the_folder_is_never_executed(run: Run) -> None:
    module = next(run.folder.glob("*.py"))
    module.write_text("raise SystemExit('executed')")
    load_run(run.folder).sample(2)


def test_a_folder_that_is_no_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no spec\.jkl"):
        load_run(tmp_path)
    for path in (run.folder / "checkpoints").glob("*.json"):
        path.unlink()
    with pytest.raises(DataError, match="holds no checkpoint"):
        load_run(run.folder)
    whole = json.loads((run.folder / "config.json").read_text())
    wrong = {
        "[": "no JSON",
        "[" * 100_000: "no JSON",
        "[]": "no JSON object",
        "{}": "no `spec`",
        json.dumps({**whole, "lets": 3}): "no `lets`",
        json.dumps({**whole, "data": {"data(x)": {}}}): "no `data`",
        json.dumps({**whole, "data": {"data(x)": {"rows": 3, "file": ["a"]}}}): "no `data`",
        json.dumps({**whole, "ways": [{"player": "D"}]}): "no `ways`",
        json.dumps({**whole, "pictures": -1}): "no `pictures`",
    }
    for text, says in wrong.items():
        (run.folder / "config.json").write_text(text)
        with pytest.raises(DataError, match=says):
            load_run(run.folder)
    (run.folder / "config.json").unlink()
    with pytest.raises(DataError, match=r"holds no config\.json") as found:
        load_run(run.folder)
    assert "ended before its first round" in str(found.value)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    checkpoints.write(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="No space left on device"):
        checkpoints.write(path, b"new")
    assert path.read_bytes() == b"old"
