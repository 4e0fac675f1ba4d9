"""Runs that are judged while they go on, and end when nothing gets better."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import jointkl
from jointkl.diagnostics import DataError
from jointkl.training.folder import checkpoints
from jointkl.training.folder.run import Run, load_run
from jointkl.training.watching.early_stopping import Judge, Stop

VALLEY = """
data(x) = evidence()
var x: real
param b: real
q(x) = Normal(b, 1)
minimize CE(data(x) || q(x))
train(batch=1, steps=60, optimizer=sgd, lr=0.1)
"""
"""One datum: the loss falls without noise, by (1 - lr)^2 in each step of its distance."""


def judged(values: Sequence[float], patience: int) -> tuple[list[float | None], Judge]:
    """The best after each judgement of one loss, until it is over."""
    judge = Judge(Stop("loss:G", patience, 1))
    best: list[float | None] = []
    for number, value in enumerate(values, 1):
        judge.hear("G", [value])
        judge.judge(number)
        best.append(judge.standing.best)
        if judge.over:
            break
    return best, judge


def test_it_is_over_after_so_many_judgements_without_anything_better() -> None:
    best, judge = judged([5, 3, 4, 3, 2, 2.5, 2.0, 9], patience=3)
    assert best == [5, 3, 3, 3, 2, 2, 2, 2]
    assert judge.over
    assert (judge.standing.round, judge.standing.without) == (5, 3)
    assert not judged([3, 4, 2, 4, 1, 4], patience=2)[1].over
    assert len(judged([1, 1, 1], patience=1)[0]) == 2, "as good is not better"


def test_a_judgement_is_the_mean_since_the_one_before() -> None:
    judge = Judge(Stop("loss:G", 10, 4))
    judge.hear("D", [100.0])
    judge.hear("G", [1.0, 2.0])
    judge.hear("G", [6.0])
    assert judge.judge(4) == {"loss:G": 3.0}
    judge.hear("G", [5.0])
    assert judge.judge(8) == {"loss:G": 5.0}
    assert judge.judge(12) == {}, "nothing was heard"
    assert judge.standing.without == 1


def test_how_losses_are_read_does_not_move_the_last_bit() -> None:
    torch.manual_seed(0)
    losses = torch.randn(1000).tolist()
    values = []
    for chunk in (1, 7, 1000):
        judge = Judge(Stop("loss:G", 1, 1))
        for i in range(0, 1000, chunk):
            judge.hear("G", losses[i : i + chunk])
        values.append(judge.judge(1))
    assert values[0] == values[1] == values[2]


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def valley(folder: Path, spec: str = VALLEY, **options: Any) -> Run:
    asked = {"stop_on": "loss:b", "patience": 3, "judge_every": 5, "quiet": True, "pictures": 0, **options}
    return jointkl.train(spec, {"data": torch.tensor([3.0])}, out=folder, **asked)


def rising(spec: str = VALLEY) -> str:
    """The steps overshoot ever further: each judgement is worse than the first."""
    return spec.replace("lr=0.1", "lr=2.1")


def test_a_run_that_gets_better_goes_to_its_end(tmp_path: Path) -> None:
    run = valley(tmp_path / "run")
    assert run.rounds == 60
    found = {line["round"]: line["metrics"]["loss:b"] for line in lines(run) if "metrics" in line}
    assert list(found) == list(range(5, 61, 5))
    # after n steps the distance is 3 (1 - 0.1)^n
    each = [0.5 * math.log(2 * math.pi) + (3 * 0.9**n) ** 2 / 2 for n in range(60)]
    assert list(found.values()) == pytest.approx([sum(each[n - 5 : n]) / 5 for n in found], rel=1e-5)


def test_a_run_that_gets_no_better_ends_and_keeps_its_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = valley(tmp_path / "run", rising(), quiet=False)
    assert run.rounds == 20, "the first judgement is the best: three more, then it is over"
    assert "ended early: loss:b was best after round 5" in capsys.readouterr().err
    assert [path.stem for path in checkpoints.whole(run.folder)] == [
        "00000005",
        "00000012",
        "00000018",
        "00000020",
    ]
    assert load_run(run.folder).rounds == 20
    best = load_run(run.folder, best=True)
    assert best.rounds == 5
    assert best.program.params["b"].item() == pytest.approx(3 - 3 * (1 - 2.1) ** 5, rel=1e-4)
    assert [line["round"] for line in lines(run) if "metrics" in line] == [5, 10, 15, 20]


def test_what_ended_early_stays_so_until_asked(tmp_path: Path) -> None:
    data = {"data": torch.tensor([3.0])}
    folder = valley(tmp_path / "run", rising()).folder
    before = (folder / "metrics.jsonl").read_text()
    assert jointkl.resume(folder, data, quiet=True).rounds == 20
    assert (folder / "metrics.jsonl").read_text() == before
    assert jointkl.resume(folder, data, patience=5, quiet=True).rounds == 30
    whole = valley(tmp_path / "whole", rising(), patience=5)
    assert whole.rounds == 30
    assert [line for line in lines(whole) if "metrics" in line] == [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines() if "metrics" in line
    ]


def test_the_best_is_found_again_after_the_newest_is_lost(tmp_path: Path) -> None:
    folder = valley(tmp_path / "run", rising()).folder
    newest = checkpoints.whole(folder)[-1]
    newest.write_bytes(b"")
    run = load_run(folder, best=True)
    assert run.rounds == 5
    assert run.notes == (f"{newest} is damaged: its bytes are not those that were written: passed over",)
    newest.with_suffix(".json").unlink()
    assert load_run(folder, best=True).rounds == 5


def test_what_a_run_is_judged_by_is_checked(gan: str, tmp_path: Path) -> None:
    for asked, says in (
        ({"stop_on": "loss:H"}, "give loss:D, loss:G"),
        ({"stop_on": "los:G"}, "did you mean `loss:G`"),
        ({"stop_on": "mods"}, "did you mean `modes`"),
        ({"stop_on": "loss:G", "patience": 0}, "patience is 1 or more"),
        ({"patience": 3}, "nothing says by what"),
        ({"judge_every": 3}, "nothing says by what"),
    ):
        with pytest.raises(DataError, match=says):
            jointkl.train(gan, out=tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()


# --- by a metric of the evaluation


@pytest.mark.statistical
def test_a_metric_is_what_eval_finds(gan: str, tmp_path: Path) -> None:
    """At the best checkpoint `evaluate` says the very number that it was judged by."""
    asked = {"stop_on": "high_quality", "judge_every": 10, "patience": 100, "quiet": True, "pictures": 0}
    run = jointkl.train(gan + "train(ema=0.9)", steps=60, out=tmp_path / "run", **asked)
    found = {line["round"]: line["metrics"]["high_quality"] for line in lines(run) if "metrics" in line}
    assert list(found) == [10, 20, 30, 40, 50, 60]
    best = load_run(run.folder, best=True)
    assert found[best.rounds] == max(found.values())
    assert best.evaluate(["high_quality"], save=False).judged[0].value.value == found[best.rounds]
    assert run.evaluate(["high_quality"], save=False).judged[0].value.value == found[60], "by the averages"
    assert run.evaluate(["high_quality"], save=False, averaged=False).judged[0].value.value != found[60]


@pytest.mark.slow
def test_judging_by_a_metric_moves_no_run(gan: str, tmp_path: Path) -> None:
    plain = jointkl.train(gan, steps=20, out=tmp_path / "plain", quiet=True, pictures=0)
    found = jointkl.train(
        gan, steps=20, stop_on="mmd", judge_every=4, patience=99, out=tmp_path / "run", quiet=True, pictures=0
    )
    for (name, a), (_, b) in zip(plain.program.named_parameters(), found.program.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("modes", [1, 3, 3, 2], 2),
        ("mmd", [0.3, 0.1, 0.2, -0.1], 4),
        ("two_sample", [0.9, 0.6, 0.42, 0.45], 4),
        ("density", [0.5, 1.2, 1.5, 0.9], 4),
    ],
)
def test_better_is_as_the_metric_s_row_says(metric: str, values: list[float], best: int) -> None:
    left = iter(values)
    judge = Judge(Stop(metric, 10, 1), lambda: next(left))
    for number in range(1, 5):
        judge.judge(number)
    assert (judge.standing.round, judge.standing.best) == (best, values[best - 1])


def test_a_metric_that_fails_is_no_better_and_says_why() -> None:
    judge = Judge(Stop("modes", 2, 1), lambda: DataError("all samples are one point"))
    assert judge.judge(1) == {}
    assert judge.failed == "all samples are one point"
    assert not judge.over
    judge.judge(2)
    assert judge.over
    assert judge.why_over() == "ended early: modes said nothing in 2 judgements, at last: all samples are one point"


def test_a_metric_that_is_no_finite_number_is_no_best() -> None:
    left = iter([math.nan, 0.5, math.nan, -math.inf])
    judge = Judge(Stop("mmd", 10, 1), lambda: next(left))
    assert [judge.judge(number) for number in range(1, 5)] == [{}, {"mmd": 0.5}, {}, {}]
    assert judge.failed == "mmd is -inf"
    assert (judge.standing.best, judge.standing.round, judge.standing.without) == (0.5, 2, 2)


def test_a_metric_that_does_not_apply_is_refused_before_there_is_a_run(vae: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="modes"):
        jointkl.train(vae, stop_on="modes", out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_player_is_named_by_what_it_holds(vae: str, tmp_path: Path) -> None:
    run = jointkl.train(vae, steps=4, stop_on="loss:dec", judge_every=2, out=tmp_path / "run", quiet=True, pictures=0)
    assert [list(line["metrics"]) for line in lines(run) if "metrics" in line] == [["loss:enc+dec"]] * 2
    config = json.loads((run.folder / "config.json").read_text())
    assert config["stop"] == {"metric": "loss:enc+dec", "patience": 10, "every": 2}


def test_a_run_that_is_not_judged_has_no_best(gan: str, tmp_path: Path) -> None:
    run = jointkl.train(gan, steps=2, out=tmp_path / "run", quiet=True, pictures=0)
    assert all("metrics" not in line for line in lines(run))
    with pytest.raises(DataError, match="has no best checkpoint: it was not judged"):
        load_run(run.folder, best=True)


def test_a_checkpoint_that_was_not_judged_is_refused(gan: str, tmp_path: Path) -> None:
    plain = jointkl.train(gan, steps=4, out=tmp_path / "plain", quiet=True, pictures=0)
    judged_ = jointkl.train(gan, steps=4, stop_on="loss:G", out=tmp_path / "judged", quiet=True, pictures=0)
    shutil.copy(plain.folder / "config.json", judged_.folder / "config.json")
    assert jointkl.resume(judged_.folder, steps=6, quiet=True).rounds == 6, "what it says beside is left alone"
    shutil.copy(tmp_path / "judged" / "spec.jkl", tmp_path / "spec.jkl")
    config = json.loads((plain.folder / "config.json").read_text())
    config["stop"] = {"metric": "loss:G", "patience": 3, "every": 2}
    (plain.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="it was not judged"):
        jointkl.resume(plain.folder, steps=6)
