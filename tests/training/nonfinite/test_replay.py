"""Runs that stop being finite: the step, the term and the line are found, and kept to look at."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import jointkl
from jointkl.diagnostics import DataError, JklError
from jointkl.objective.share import Passes
from jointkl.training.folder.run import load_run
from jointkl.training.nonfinite import explanation, failure
from jointkl.training.nonfinite.replay import terms_of
from tests.worlds import MODELS

LOG = """data(x, t) = evidence()
var x: real
var t: real[2]
param w: real
param b: real[2]
q(t | x) = Normal(log(x) * w + b, 1)
minimize CE(data(x, t) || q(t|x))
train(batch=8, steps=500, lr=1e-2)
"""

ROOT = """data(x) = ring8(n=500)
var x: real[2]
param w: real
param b: real[2]
q(x) = Normal(b, 1 + sqrt(w * w))
q(x) = Normal(b, 1)
minimize CE(data(x) || q(x))
train(batch=8, steps=50)
""".replace("q(x) = Normal(b, 1)\n", "")

STEEP = """data(x) = ring8(std=0.02, n=1000)
var x: real[2]
var z: real[2]
net E = mlp(16)
net G = mlp(16)
p(z | x) = Normal(E(x))
q(z) = Normal(0, 1)
q(x | z) = Normal(G(z), 0.05)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
train(batch=64, steps=2000, optimizer=sgd, lr=0.1)
"""


DOUBLING = """data(x) = ring8(n=500)
var x: real[2]
var z: real
param a: real
param m: real
p(z | x) = Normal(m, 1)
q(z) = Normal(0, 1)
q(x | z) = Normal(a, 1)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
train(batch=8, steps=50, optimizer=sgd, lr=3)
"""
"""Each step takes m, whose loss is m^2 / 2, to -2 m."""


def begun_at(spec: str, **params: float) -> jointkl.Program:
    program = jointkl.compile(spec)
    with torch.no_grad():
        for name, value in params.items():
            program.params[name].fill_(value)
    return program


def told(spec: Any, folder: Path, data: Any = None, **options: Any) -> str:
    """What a run that ends so says."""
    with pytest.raises(JklError) as found:
        jointkl.train(spec, data, out=folder, **{"quiet": True, "pictures": 0, **options})
    return str(found.value)


def with_a_zero(rows: int) -> dict[str, Any]:
    """Data of which one row has the logarithm of 0, the last in the data's order."""
    torch.manual_seed(5)
    x = torch.rand(rows) + 0.5
    x[-1] = 0.0
    return {"data": {"x": x, "t": torch.randn(rows, 2)}}


# --- what is found


def test_a_loss_that_overflows(tmp_path: Path) -> None:
    """From 2^62 m is 2^64 in round 3, and its square more than a float32 can be."""
    text = told(begun_at(DOUBLING, m=2.0**62, a=0.0), tmp_path / "run")
    assert "the loss of player a+m is not finite in round 3: inf" in text
    assert "<text>:9:23" in text
    assert "^^^^^^ KL[p(z|x) || q(z)] is inf" in text
    assert "-log q(x|z) is" not in text, "that term was finite"
    assert f"the last good checkpoint is {tmp_path / 'run' / 'checkpoints' / '00000000.safetensors'}" in text
    assert "a smaller learning rate" in text
    found = jointkl.load_failure(tmp_path / "run")
    assert (found.player, found.what, found.number, found.parameter) == ("a+m", "the loss", 3, "")
    assert math.isfinite(found.terms["-log q(x|z)"])
    assert found.terms["KL[p(z|x) || q(z)]"] == math.inf
    assert found.program.loss(found.player, found.batch).item() == math.inf
    assert found.loss().item() == math.inf


def test_the_logarithm_of_zero(tmp_path: Path) -> None:
    """One row in a hundred: the batch that is kept is the one that holds it."""
    text = told(LOG, tmp_path / "run", with_a_zero(100))
    found = jointkl.load_failure(tmp_path / "run")
    assert f"the loss of player w+b is not finite in round {found.number}" in text
    assert "^^^^^^ -log q(t|x) is " in text
    assert 0.0 in found.batch["x"].tolist()
    assert found.batch["x"].shape == (8,)
    again = found.program.loss(found.player, found.batch)
    assert not math.isfinite(again.item())
    finite = found.batch["x"] > 0
    rest = {key: value[finite] for key, value in found.batch.items()}
    assert math.isfinite(found.program.loss(found.player, rest).item()), "it was that row"


def test_a_gradient_that_is_not_finite_while_the_loss_is(tmp_path: Path) -> None:
    text = told(ROOT, tmp_path / "run")
    assert "the gradient of player w+b is not finite in round 1" in text
    assert "its gradient is not finite" in text
    assert "the first of its parameters where that is so is w" in text
    assert "nothing was trained before" in text
    assert "smaller learning rate" not in text
    found = jointkl.load_failure(tmp_path / "run")
    assert (found.what, found.parameter) == ("the gradient", "w")
    loss = found.program.loss(found.player, found.batch)
    assert math.isfinite(loss.item())
    loss.backward()
    gradients = {name: p.grad for name, p in found.program.emitted.named_parameters()}
    assert gradients["w"].isnan().all()
    assert gradients["b"].isfinite().all()


def test_a_step_that_overflows(gan: str, tmp_path: Path) -> None:
    text = told(gan, tmp_path / "run", steps=1, settings={"optimizer": "sgd", "G.lr": "1e39"})
    assert "a parameter of player G is not finite in round 1" in text
    assert "the first of its parameters where that is so is G." in text
    found = jointkl.load_failure(tmp_path / "run")
    before = load_run(tmp_path / "run").program.emitted.state_dict()
    for name, value in found.program.emitted.state_dict().items():
        assert bool(value.isfinite().all()), "before the step"
        if name.startswith("G."):
            assert torch.equal(value, before[name])
    assert found.loss().item() == pytest.approx(found.program.loss("G", found.batch).item())


def test_a_gradient_whose_square_overflows(tmp_path: Path) -> None:
    """Adam would divide by an infinite root from then on, and the parameter stand still: (20 / 1e-20)^2."""
    spec = ROOT.replace("Normal(b, 1 + sqrt(w * w))", "Normal(b, 1e-10)").replace("param w: real\n", "")
    text = told(begun_at(spec, b=20.0), tmp_path / "run")
    assert "a moment in the optimiser of player b is not finite in round 1" in text
    found = jointkl.load_failure(tmp_path / "run")
    assert (found.what, found.parameter) == ("a moment in the optimiser", "b")
    loss = found.program.loss("b", found.batch)
    loss.backward()
    gradient = found.program.params["b"].grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.square().isinf().any()
    plain = {"optimizer": "sgd", "steps": "20"}
    assert "a moment" not in told(begun_at(spec, b=20.0), tmp_path / "plain", settings=plain)


def test_a_distribution_that_refuses_its_parameters(tmp_path: Path) -> None:
    """torch checks them before it computes: that a parameter is a NaN is then an error of its own."""
    spec = ROOT.replace("Normal(b, 1 + sqrt(w * w))", "StudentT(3, b, 1 + sqrt(w * w))")
    text = told(spec, tmp_path / "run", settings={"steps": "5000"})
    assert "the gradient of player w+b is not finite in round 1" in text


def test_a_distribution_that_refuses_what_no_parameter_is_guilty_of(tmp_path: Path) -> None:
    spec = LOG.replace("Normal(log(x) * w + b, 1)", "StudentT(3, log(x) * w + b, 1)")
    text = told(spec, tmp_path / "run", with_a_zero(8), settings={"batch": "8"})
    assert "the loss of player w+b is not finite in round 1: nan" in text
    assert math.isnan(jointkl.load_failure(tmp_path / "run").loss().item())


def test_a_refusal_whose_beginning_is_not_found_is_no_bug_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explanation, "replay", lambda *_: None)
    spec = LOG.replace("Normal(log(x) * w + b, 1)", "StudentT(3, log(x) * w + b, 1)")
    with pytest.raises(DataError, match="in round 1 a distribution refused its parameters: Expected parameter loc"):
        jointkl.train(spec, with_a_zero(8), out=tmp_path / "run", quiet=True, settings={"batch": "8"})


@pytest.mark.statistical
def test_the_first_of_many_rounds_is_found_from_the_newest_checkpoint(tmp_path: Path) -> None:
    """The read that meets it stands rounds behind the step where it began."""
    text = told(LOG, tmp_path / "run", with_a_zero(4000), steps=5000, checkpoints=500)
    found = jointkl.load_failure(tmp_path / "run")
    assert 0.0 in found.batch["x"].tolist()
    newest = load_run(tmp_path / "run")
    assert newest.rounds < found.number <= newest.rounds + 10
    assert f"{newest.rounds:08d}.safetensors" in text
    # that step is the one that the run's own seed and data lead to: taken again from the start it is met there
    jointkl.train(LOG, with_a_zero(4000), steps=found.number - 1, out=tmp_path / "before", quiet=True, pictures=0)
    before = load_run(tmp_path / "before").program.emitted.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in found.program.emitted.state_dict().items())


@pytest.mark.statistical
def test_all_at_once(tmp_path: Path, gan: str) -> None:
    spec = gan.replace("steps=200", "steps=400, optimizer=sgd, lr=1e5") + "\ntrain(updates=simultaneous)"
    text = told(spec, tmp_path / "run")
    found = jointkl.load_failure(tmp_path / "run")
    assert found.player in ("D", "G")  # whichever is the first
    assert found.what == "the loss"
    guilty = [term for term, value in found.terms.items() if not math.isfinite(value)]
    assert any(f"{term} is {found.terms[term]:g}" in text for term in guilty)
    assert str(found.program.loss(found.player, found.batch).item()) == str(found.loss().item())
    assert not math.isfinite(found.loss().item())


def test_losses_in_turn(tmp_path: Path) -> None:
    """The step is found where several losses are one line, and is that of the player's own loss."""
    path = MODELS / "alpha_gan.jkl"
    told(path, tmp_path / "run", steps=40, settings={"optimizer": "sgd", "E.lr": "1e39", "batch": "8", "C.repeat": "2"})
    found = jointkl.load_failure(tmp_path / "run")
    assert (found.player, found.what, found.number) == ("E+G", "a parameter", 1)
    assert all(value.isfinite().all() for value in found.program.emitted.state_dict().values())
    assert found.loss().isfinite()


def test_where_not_all_noise_can_be_given_the_random_numbers_are(gan: str, tmp_path: Path) -> None:
    spec = gan.replace("D = mlp(16)", "D = mlp(16, dropout=0.5)")
    told(spec, tmp_path / "run", steps=1, settings={"optimizer": "sgd", "D.lr": "1e39"})
    record = json.loads((tmp_path / "run" / "failure" / "step.json").read_text())
    found = jointkl.load_failure(tmp_path / "run")
    assert not record["given"], "which units are dropped is in no batch"
    assert found.batch.keys() == {"x"}
    assert found.noise.keys() == {"z"}
    assert str(found.loss().item()) == record["loss"]
    assert str(found.program.loss("D", found.batch).item()) != record["loss"]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_it_is_met_in_its_own_arithmetic(tmp_path: Path, precision: str) -> None:
    told(STEEP, tmp_path / "run", precision=precision)
    found = jointkl.load_failure(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "failure" / "step.json").read_text())
    assert str(found.loss().item()) == record["loss"]


class Poisoned(nn.Module):
    """A network that is a NaN at its `when`-th call: what it hangs on is in no checkpoint."""

    def __init__(self, inner: nn.Module, when: int) -> None:
        super().__init__()
        self.inner, self.when, self.calls = inner, when, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x) * (math.nan if self.calls == self.when else 1.0)


def test_what_is_not_met_again_is_said_to_be_so(gan: str, tmp_path: Path) -> None:
    program = jointkl.compile(gan)
    program.emitted.D = Poisoned(program.emitted.D, when=2 * 29)
    text = told(program, tmp_path / "run")
    assert "the loss of player G is not finite in round 29" in text
    assert "taken again from there, every step is finite" in text
    with pytest.raises(DataError, match="keeps no step"):
        jointkl.load_failure(tmp_path / "run")


class Failing(Poisoned):
    """A network that is a NaN once, and cannot be called again."""

    def forward(self, x: Tensor) -> Tensor:
        if self.calls > self.when + 50:
            raise ValueError("called too often")
        return super().forward(x)


def test_what_fails_while_it_is_looked_for_hides_nothing(gan: str, tmp_path: Path) -> None:
    program = jointkl.compile(gan)
    program.emitted.D = Failing(program.emitted.D, when=2 * 29)
    text = told(program, tmp_path / "run", checkpoints=1, steps=40)
    assert "the loss of player G is not finite in round 29" in text
    assert "the step where it began was not found: ValueError: called too often" in text


def test_a_step_that_cannot_be_kept_is_told_still(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    options = {"quiet": True, "pictures": 0}
    with pytest.MonkeyPatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise DataError("step.safetensors cannot be written: no space left on device")

        patch.setattr(failure, "write", full)
        text = told(begun_at(DOUBLING, m=2.0**62, a=0.0), tmp_path / "run", **options)
    assert "the loss of player a+m is not finite in round 3: inf" in text
    assert "the step is not kept: step.safetensors cannot be written" in text


def test_a_run_that_is_finite_keeps_no_failure(gan: str, tmp_path: Path) -> None:
    run = jointkl.train(gan, out=tmp_path / "run", quiet=True, pictures=0)
    assert not (run.folder / "failure").exists()


def test_a_run_goes_on_before_it_and_meets_it_again(tmp_path: Path) -> None:
    told(LOG, tmp_path / "run", with_a_zero(100))
    first = jointkl.load_failure(tmp_path / "run")
    with pytest.raises(JklError):
        jointkl.resume(tmp_path / "run", with_a_zero(100), quiet=True)
    assert jointkl.load_failure(tmp_path / "run").number == first.number


# --- what is kept


def test_a_damaged_failure_is_refused(tmp_path: Path) -> None:
    told(STEEP, tmp_path / "run")
    path = tmp_path / "run" / "failure" / "step.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="its bytes are not those that were written"):
        jointkl.load_failure(tmp_path / "run")
    path.write_bytes(whole)
    record = path.with_suffix(".json")
    text = record.read_text()
    for changed, says in (
        (text.replace('"format": 1', '"format": 9'), "has format 9"),
        (text[:-20], "no JSON"),
        (text.replace('"given": true', '"given": "yes"'), "it has no `given`"),
    ):
        record.write_text(changed)
        with pytest.raises(DataError, match=says):
            jointkl.load_failure(tmp_path / "run")


# --- terms of a loss, one by one


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.jkl")), ids=lambda path: path.stem)
def test_the_terms_are_those_of_the_loss(path: Path) -> None:
    """At the same random numbers their sum is the loss, in which a hinge stands once more; with the noise given too."""
    from tests.training.speed.test_backends import steppers_of

    program, _, batch = steppers_of(path.read_text())
    for loss in program.objective.losses:
        torch.manual_seed(3)
        whole = program.loss(loss.player, batch)
        torch.manual_seed(3)
        terms, noise = terms_of(program, loss)(batch)
        assert terms.keys() == set(range(len(loss.terms)))
        total = sum(value for i, value in terms.items() if loss.terms[i].hinge is None)
        for index, margin, weight in loss.hinges:
            inside = sum(value for i, value in terms.items() if loss.terms[i].hinge == index)
            total = total + float(weight) * torch.relu(float(margin) + inside)
        torch.testing.assert_close(total, whole)
        assert not set(noise) & set(batch)
        given = terms_of(program, loss)({**batch, **noise})[1]
        assert all(torch.equal(value, given[key]) for key, value in noise.items())


def test_the_terms_of_all_losses_at_once(gan: str) -> None:
    torch.manual_seed(0)
    program = jointkl.compile(gan, Passes(together=True))
    together = program.objective.together
    assert together is not None
    batch = {"x": torch.randn(16, 2), "z": torch.randn(16, 2)}
    terms, _ = terms_of(program, together)(batch)
    for player in program.players:
        own = sum(value for i, value in terms.items() if together.terms[i].player == player)
        torch.testing.assert_close(own, program.loss(player, batch))
