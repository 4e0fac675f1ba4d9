"""Averages of parameters: against the recursion written out, kept, used, and taken away again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.diagnostics import DataError
from jointkl.evaluation import gallery
from jointkl.training.averages import standing_in
from jointkl.training.folder import checkpoints
from jointkl.training.folder.run import Run, load_run

EMA = "\ntrain(ema=0.8)\n"


def trained(spec: str, folder: Path, **options: object) -> Run:
    return jointkl.train(spec, out=folder, **{"quiet": True, "pictures": 0, "steps": 6, **options})


def parameters(run: Run) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in run.program.emitted.named_parameters()}


def by_hand(spec: str, folder: Path, decay: float, rounds: int, every: int = 1) -> dict[str, Tensor]:
    """m <- decay m + (1 - decay) w from the parameters of runs that end after each round; in float64."""
    found: dict[str, Tensor] = {}
    for number in range(rounds + 1):
        now = parameters(trained(spec, folder / str(number), steps=number))
        for name, value in now.items():
            if number == 0:
                found[name] = value.double()
            elif number % every == 0:
                found[name] = decay * found[name] + (1 - decay) * value.double()
    return found


def test_the_average_is_the_recursion_s(gan: str, tmp_path: Path) -> None:
    run = trained(gan + EMA, tmp_path / "run")
    expected = by_hand(gan, tmp_path, 0.8, 6)
    assert run.averages.keys() == {name for name in expected if name.startswith("G.")}, "not the classifier's"
    for name, mean in run.averages.items():
        torch.testing.assert_close(mean.double(), expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_averaging_moves_no_run(gan: str, tmp_path: Path) -> None:
    plain, averaged = trained(gan, tmp_path / "plain"), trained(gan + EMA, tmp_path / "averaged", pictures=3)
    assert all(torch.equal(value, parameters(averaged)[name]) for name, value in parameters(plain).items())


def test_rounds_that_a_player_leaves_out_do_not_count(gan: str, tmp_path: Path) -> None:
    spec = gan + "train G(every=2)"
    run = trained(spec + "\ntrain G(ema=0.8)", tmp_path / "run")
    for name, mean in by_hand(spec, tmp_path, 0.8, 6, every=2).items():
        if name.startswith("G."):
            torch.testing.assert_close(run.averages[name].double(), mean, rtol=1e-5, atol=1e-7)


def test_a_classifier_has_one_if_it_is_named(gan: str, tmp_path: Path) -> None:
    run = trained(gan + "train D(ema=0.9)", tmp_path / "run", steps=2)
    assert {name.split(".")[0] for name in run.averages} == {"D"}


def test_a_run_comes_back_with_its_averages(gan: str, tmp_path: Path) -> None:
    run = trained(gan + EMA, tmp_path / "run")
    again = load_run(run.folder)
    assert again.averages.keys() == run.averages.keys()
    assert all(torch.equal(value, again.averages[name]) for name, value in run.averages.items())
    assert all(torch.equal(value, parameters(again)[name]) for name, value in parameters(run).items())


def test_samples_are_the_average_s(gan: str, tmp_path: Path) -> None:
    run = load_run(trained(gan + EMA, tmp_path / "run").folder)
    z = torch.randn(5, 2)
    live = run.sample(5, "q(x)", seed=3, averaged=False)["x"]
    mean = run.sample(5, "q(x)", seed=3)["x"]
    assert not torch.equal(live, mean)
    before = parameters(run)
    with run.averaged() as program:
        inside = program.nets["G"](z)
        assert all(torch.equal(p, run.averages[name]) for name, p in parameters(run).items() if name in run.averages)
    with run.averaged(False) as program:
        assert not torch.equal(program.nets["G"](z), inside)
    assert all(torch.equal(value, parameters(run)[name]) for name, value in before.items()), "bit for bit"
    plain = load_run(trained(gan, tmp_path / "plain").folder)
    assert torch.equal(plain.sample(5, "q(x)", seed=3)["x"], live), "a run without averages has its parameters"


def fail_among(program: jointkl.Program, averages: Mapping[str, Tensor]) -> None:
    with standing_in(program, averages):
        assert all(torch.equal(program.emitted.get_parameter(name), mean) for name, mean in averages.items())
        raise ZeroDivisionError


def test_they_are_swapped_back_whatever_happens_and_where_they_were(gan: str) -> None:
    program = jointkl.compile(gan)
    own = dict(program.emitted.named_parameters())
    places = {name: value.data_ptr() for name, value in own.items()}
    with pytest.raises(ZeroDivisionError):
        fail_among(program, {"G.layers.0.bias": torch.full((16,), 7.0)})
    assert {name: value.data_ptr() for name, value in own.items()} == places
    assert not own["G.layers.0.bias"].eq(7).any()


def test_statistics_are_the_live_networks(gan: str, tmp_path: Path) -> None:
    spec = gan.replace("G = mlp(16)", "G = mlp(16, norm=batch)")
    run = trained(spec + EMA, tmp_path / "run")
    statistics = {name: value.clone() for name, value in run.program.emitted.named_buffers()}
    assert any("running_mean" in name for name in statistics)
    assert not any("running" in name for name in run.averages)
    with run.averaged() as program:
        assert all(torch.equal(value, statistics[name]) for name, value in program.emitted.named_buffers())


def test_pictures_are_the_average_s(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Mapping[str, Tensor]] = []
    keep = gallery.keep

    def listening(program: jointkl.Program, *rest: Any) -> tuple[Path, ...]:
        drawn.append({name: value.detach().clone() for name, value in program.emitted.named_parameters()})
        return keep(program, *rest)

    monkeypatch.setattr(gallery, "keep", listening)
    run = trained(gan + EMA, tmp_path / "run", pictures=1)
    (seen,) = drawn
    assert all(torch.equal(seen[name], value) for name, value in run.averages.items())


def test_averages_that_are_not_asked_for_or_missing_are_refused(gan: str, tmp_path: Path) -> None:
    run = trained(gan + EMA, tmp_path / "run")
    (run.folder / "spec.jkl").write_text(gan + EMA)
    config = (run.folder / "config.json").read_text()
    (run.folder / "config.json").write_text(config.replace('"settings": {', '"settings": {"G.ema": "0", '))
    with pytest.raises(DataError, match=r"the average of G\.\S+ is not asked for"):
        jointkl.resume(run.folder, steps=9)
    (run.folder / "config.json").write_text(config.replace('"settings": {', '"settings": {"D.ema": "0.5", '))
    with pytest.raises(DataError, match=r"the average of D\.\S+ is missing"):
        jointkl.resume(run.folder, steps=9)


def test_a_checkpoint_names_its_averages(gan: str, tmp_path: Path) -> None:
    run = trained(gan + EMA, tmp_path / "run")
    found = checkpoints.newest(run.folder, run.program)[0]
    assert found is not None
    names = {name for name in found.tensors if name.startswith("average/")}
    assert names == {f"average/G/{name}" for name in parameters(run) if name.startswith("G.")}
