"""Who follows a run is told what the run records, and can neither end it nor move it."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import jointkl
from jointkl import cli
from jointkl.diagnostics import DataError
from jointkl.training.folder import checkpoints
from jointkl.training.watching import trackers
from tests.training.runs import interrupt, interruptible, metrics
from tests.training.specs import GAN

__all__ = ["interruptible"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody's servers, and nothing of it left behind."""
    with monkeypatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("WANDB_", "MLFLOW_")):
                patch.delenv(name)
        before = dict(os.environ)
        yield
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


def lines(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """Round and losses of each line of the metrics."""
    return [(line["round"], line["losses"]) for line in metrics(folder) if "losses" in line]


def broken(spec: str, folder: Path, track: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has told of 117 rounds and goes on from its hundredth."""
    with monkeypatch.context() as patch:
        interrupt(patch, 117)
        with pytest.raises(KeyboardInterrupt):
            jointkl.train(spec, out=folder, quiet=True, track=track)
    checkpoints.whole(folder)[-1].with_suffix(".json").unlink()
    assert checkpoints.whole(folder)[-1].stem == "00000100"


# --- all of them


class Told:
    """A tracker that keeps what it is told, and fails when it is told to."""

    def __init__(self, start: trackers.Start, failing: str = "") -> None:
        self.start, self.failing = start, failing
        self.heard: list[tuple[Any, ...]] = []
        self._hear("open")

    def _hear(self, what: str, *rest: Any) -> None:
        if what == self.failing:
            raise ConnectionError("nobody\nthere")
        self.heard.append((what, *rest))

    def metrics(self, number: int, values: trackers.Values) -> None:
        self._hear("metrics", number, dict(values))

    def picture(self, number: int, name: str, path: Path) -> None:
        self._hear("picture", number, name, path.name)

    def flush(self) -> None:
        self._hear("flush")

    def close(self, whole: bool) -> None:
        self._hear("close", whole)


def listen(monkeypatch: pytest.MonkeyPatch, failing: str = "") -> list[Told]:
    made: list[Told] = []

    def opened(start: trackers.Start) -> Told:
        made.append(Told(start, failing))
        return made[-1]

    row = trackers.TrackerKind("tensorboard", "", opened)
    monkeypatch.setattr(trackers, "KINDS", {**trackers.KINDS, "tensorboard": row})
    return made


def test_a_tracker_is_told_what_is_recorded(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = listen(monkeypatch)
    run = jointkl.train(gan, steps=20, out=tmp_path / "run", quiet=True, track=["tensorboard"], pictures=2)
    (told,) = made
    assert (told.start.folder, told.start.name, told.start.round) == (run.folder, "text", None)
    assert json.loads(json.dumps(told.start.config)) == json.loads((run.folder / "config.json").read_text())
    assert told.start.config["track"] == ["tensorboard"]
    heard = [(number, values) for what, number, values in (h for h in told.heard if h[0] == "metrics")]
    expected = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert heard == [
        (line["round"], {"round": line["round"], "seconds": line["seconds"],
                         **{f"losses/{player}": loss for player, loss in line["losses"].items()}})
        for line in expected
    ]  # fmt: skip
    pictures = [h[1:] for h in told.heard if h[0] == "picture" and h[2] == "samples"]
    assert pictures == [(10, "samples", "00000010.png"), (20, "samples", "00000020.png")]
    assert told.heard[-2:] == [("flush",), ("close", True)]


def test_each_kind_of_picture_has_its_name(vae: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = listen(monkeypatch)
    jointkl.train(vae, steps=2, out=tmp_path / "run", quiet=True, track=["tensorboard"], pictures=1)
    names = {h[2]: h[3] for h in made[0].heard if h[0] == "picture"}
    assert names["samples"] == "00000002.png"
    assert names["reconstruction"] == "00000002-reconstruction.png"


@pytest.mark.slow
def test_who_interrupts_a_run_closes_its_trackers(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = listen(monkeypatch)
    broken(gan, tmp_path / "run", ("tensorboard",), monkeypatch)
    assert made[0].heard[-1] == ("close", False)
    jointkl.resume(tmp_path / "run", quiet=True)
    assert (made[1].start.round, made[1].start.id) == (100, made[0].start.id)
    assert made[1].heard[-1] == ("close", True)
    assert min(h[1] for h in made[1].heard if h[0] == "metrics") == 102


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> jointkl.Run:
    """A run that nobody follows."""
    return jointkl.train(GAN, steps=20, out=tmp_path_factory.mktemp("plain") / "run", quiet=True, pictures=1)


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["open", "metrics", "picture", "flush", "close"])
def test_a_tracker_that_fails_is_left_out_and_said_so_once(
    failing: str, plain: jointkl.Run, gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    capsys.readouterr()
    listen(monkeypatch, failing)
    run = jointkl.train(gan, steps=20, out=tmp_path / "run", quiet=True, track=["tensorboard"], pictures=1)
    note = "note: the tracker tensorboard failed and is left out from here on: ConnectionError: nobody\n"
    assert capsys.readouterr().err == note
    a, b = (r.program.emitted.state_dict() for r in (plain, run))
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert lines(plain.folder) == lines(run.folder)


def test_without_trackers_nothing_is_asked(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nobody follows")

    monkeypatch.setattr(trackers, "flat", never)
    config = jointkl.train(gan, steps=20, out=tmp_path / "run", quiet=True).folder / "config.json"
    assert json.loads(config.read_text())["track"] == []


@pytest.mark.parametrize("name", trackers.KINDS)
def test_an_extra_that_is_missing_is_said_before_anything_is_made(
    name: str, gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gan.jkl").write_text(gan)
    (tmp_path / name).mkdir()  # as a folder of runs that another tool left here
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trackers, "find_spec", lambda found: None)
    assert cli.main(["train", "gan.jkl", "--track", name]) == 1
    said = capsys.readouterr().err
    assert f"error: the tracker {name} is not installed\nhelp: pip install 'jointkl[{name}]'" in said
    assert not Path("runs").exists()


def test_a_folder_of_that_name_is_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jkl_folder").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trackers, "KINDS", {"jkl_folder": trackers.TrackerKind("jkl_folder", "", Told)})
    with pytest.raises(DataError, match="the tracker jkl_folder is not installed"):
        trackers.verify(["jkl_folder"])


def test_a_tracker_that_nobody_knows(gan: str) -> None:
    with pytest.raises(DataError, match="no tracker `tensorbord`"):
        jointkl.train(gan, track=["tensorbord"])


def test_the_command_line_and_the_package_know_the_same() -> None:
    import tomllib

    (option,) = [p for p in cli.verbs.commands["train"].params if p.name == "track"]
    assert tuple(option.type.choices) == tuple(trackers.KINDS)
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    for name in trackers.KINDS:
        assert any(line.startswith(name) for line in project["optional-dependencies"][name])


# --- TensorBoard


def events(folder: Path) -> Any:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the extra `tensorboard`"
    )
    found = accumulator.EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    return found


@pytest.mark.slow
def test_tensorboard_shows_what_is_recorded(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(gan, tmp_path / "run", ("tensorboard",), monkeypatch)
    seen = events(tmp_path / "run")
    assert seen.Scalars("losses/D")[-1].step > 100
    jointkl.resume(tmp_path / "run", quiet=True)
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2
    seen = events(tmp_path / "run")
    for player in ("D", "G"):
        found = [(event.step, event.value) for event in seen.Scalars(f"losses/{player}")]
        assert found == [
            (number, struct.unpack("f", struct.pack("f", losses[player]))[0])
            for number, losses in lines(tmp_path / "run")
        ]
    pictures = seen.Images("samples")
    assert [picture.step for picture in pictures] == [50, 100, 150, 200]
    for picture in pictures:
        written = (tmp_path / "run" / "samples" / f"{picture.step:08d}.png").read_bytes()
        assert picture.encoded_image_string == written
        assert (picture.width, picture.height) == struct.unpack(">II", written[16:24])
    (config, _) = seen.Tensors("config/text_summary")
    assert b'"beta1=0.5"' not in config.tensor_proto.string_val[0]
    assert b'"batch": 64' in config.tensor_proto.string_val[0]
    assert "_hparams_/session_start_info" in seen.summary_metadata


@pytest.mark.slow
def test_a_tensorboard_folder_that_leads_elsewhere(
    gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra `tensorboard`")
    run = jointkl.train(gan, steps=5, out=tmp_path / "run", quiet=True, track=["tensorboard"])
    (tmp_path / "outside").mkdir()
    for path in (run.folder / "tensorboard").iterdir():
        path.unlink()
    (run.folder / "tensorboard").rmdir()
    (run.folder / "tensorboard").symlink_to(tmp_path / "outside")
    assert jointkl.resume(run.folder, steps=10, quiet=True).rounds == 10
    assert "tensorboard is refused: it is a link" in capsys.readouterr().err
    assert not list((tmp_path / "outside").iterdir())


# --- Weights & Biases


def records(path: Path) -> list[Any]:
    """What a run's own file of W&B holds: after seven bytes, LevelDB's log of blocks of 32 KiB, in which each piece has
    a checksum, its length and its kind: whole, first, middle, last."""
    from wandb.proto import wandb_internal_pb2

    content, at, found, pieces = path.read_bytes(), 7, [], b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        pieces += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(pieces)
            found.append(record)
            pieces = b""
    return found


def whole(path: Path) -> list[Any]:
    """The records of a run that ended: W&B's own process writes them a little later."""
    for _ in range(600):
        found = records(path)
        if found and found[-1].WhichOneof("record_type") in ("exit", "final"):
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{path}: {[record.WhichOneof('record_type') for record in records(path)][-3:]}")


def history(found: list[Any]) -> dict[int, dict[str, Any]]:
    """The values of each step."""
    steps: dict[int, dict[str, Any]] = {}
    for record in found:
        if record.WhichOneof("record_type") == "history":
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            steps.setdefault(row.pop("_step", record.history.step.num), {}).update(row)
    return steps


@pytest.mark.slow
def test_weights_and_biases_keeps_a_run_here(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    run = tmp_path / "run"
    broken(gan, run, ("wandb",), monkeypatch)
    jointkl.resume(run, quiet=True)
    assert capfd.readouterr().err == ""
    known = json.loads((run / "config.json").read_text())["id"]
    files = sorted((run / "wandb").glob(f"offline-run-*-{known}/run-{known}.wandb"))
    assert len(files) == 2
    parts = [whole(path) for path in files]
    for found in parts:
        (begun,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
        assert (begun.run_id, begun.project) == (known, "jointkl")
        config = {item.key: json.loads(item.value_json) for item in begun.config.update}
        assert (config["batch"], config["track"]) == (64, ["wandb"])
    told = {**history(parts[0]), **history(parts[1])}
    for number, losses in lines(run):
        assert {player: told[number][f"losses/{player}"] for player in losses} == losses
    assert min(history(parts[1])) == 102
    assert [number for number, row in sorted(told.items()) if any(key.startswith("samples") for key in row)] == [
        50,
        100,
        150,
        200,
    ]
    assert list((run / "wandb").glob("*/files/media/images/samples_*.png"))


@pytest.mark.slow
def test_weights_and_biases_asks_nobody(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Online without a key, at what looks like a terminal."""
    pytest.importorskip("wandb", reason="needs the extra `wandb`")

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self, *_: object) -> str:
            raise AssertionError("asked")

        read = __next__ = readline

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("sys.stdin", Terminal())
    assert jointkl.train(gan, steps=5, out=tmp_path / "run", quiet=True, track=["wandb"]).rounds == 5
    assert "note: the tracker wandb failed and is left out" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb/settings", ".wandb"])
def test_settings_that_a_run_brings_along_are_refused(
    name: str, gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They could name the server that is told the user's key."""
    pytest.importorskip("wandb", reason="needs the extra `wandb`")
    run = jointkl.train(gan, steps=5, out=tmp_path / "run", quiet=True)
    config = json.loads((run.folder / "config.json").read_text())
    (run.folder / "config.json").write_text(json.dumps({**config, "track": ["wandb"]}))
    (run.folder / "wandb").mkdir()
    (run.folder / name).write_text("[default]\nbase_url = http://evil.example\nmode = online\n")
    assert jointkl.resume(run.folder, steps=10, quiet=True).rounds == 10
    assert f"{run.folder / name} is refused" in capsys.readouterr().err


# --- MLflow


THEIRS = pytest.mark.filterwarnings("default")
"""What MLflow and SQLAlchemy have to tell each other."""


@pytest.mark.slow
@THEIRS
def test_mlflow_keeps_a_run_here(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    run = tmp_path / "run"
    broken(gan, run, ("mlflow",), monkeypatch)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run / 'mlflow' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("jointkl").experiment_id
    assert [found.info.status for found in client.search_runs([experiment])] == ["KILLED"]
    jointkl.resume(run, steps=210, quiet=True)
    (found,) = client.search_runs([experiment])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "text")
    assert (found.data.params["batch"], found.data.params["phases.D.optimizer"]) == ("64", "adam")
    for player in ("D", "G"):
        told = {row.step: row.value for row in client.get_metric_history(found.info.run_id, f"losses/{player}")}
        written = {number: losses[player] for number, losses in lines(run)}
        assert {number: told[number] for number in written if number in told} == {
            number: value for number, value in written.items() if number in told
        }
        assert written.keys() - told.keys() == set()
    kept = client.list_artifacts(found.info.run_id, "pictures/samples")
    assert {Path(row.path).name for row in kept} >= {"00000050.png", "00000100.png", "00000210.png"}


@pytest.mark.slow
@THEIRS
def test_a_database_that_leads_elsewhere(gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    run = jointkl.train(gan, steps=5, out=tmp_path / "run", quiet=True)
    config = json.loads((run.folder / "config.json").read_text())
    (run.folder / "config.json").write_text(json.dumps({**config, "track": ["mlflow"]}))
    (run.folder / "mlflow").mkdir()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{run.folder / 'mlflow' / 'mlflow.db'}")
    experiment = client.create_experiment("jointkl", artifact_location=(tmp_path / "outside").as_uri())
    client.create_run(experiment, tags={trackers.TAG: config["id"]})
    assert jointkl.resume(run.folder, steps=10, quiet=True).rounds == 10
    assert "mlflow.db is refused: it could send what is told elsewhere" in capsys.readouterr().err
    assert not (tmp_path / "outside").exists()
