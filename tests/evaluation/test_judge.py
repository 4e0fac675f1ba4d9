"""Programs judged: known answers through the whole of it, and everything that must stay as it was."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chi2
from torch.distributions import MultivariateNormal

import jointkl
from jointkl.density import Estimate
from jointkl.diagnostics import DataError
from jointkl.evaluation import metric_inputs, verdict
from jointkl.evaluation.features import Features
from jointkl.evaluation.held_out import held_out, training_rows
from jointkl.evaluation.judge import Evaluation, evaluate, judge
from jointkl.evaluation.metric_inputs import MetricInputs
from jointkl.evaluation.metrics import METRICS, Value, density_coverage
from jointkl.evaluation.subjects import drawn
from jointkl.program import Program
from jointkl.sources import Bound, bind, streams
from tests import layouts
from tests.bounds import SIGMAS, reach, share_reach

MODELS = Path(__file__).resolve().parent.parent.parent / "models"
QUICK = tuple(name for name in METRICS if name != "wasserstein")

LINEAR = """
data(x) = evidence()
var x: real[3]
var z: real[2]
net E = linear()
net G = linear()
p(z | x) = Normal(E(x), 1)
q(z)     = Normal(0, 1)
q(x | z) = Normal(G(z), 0.5)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
"""


def gaussian(seed: int = 0) -> tuple[Program, torch.Tensor, torch.Tensor]:
    """A linear-Gaussian program, and the mean and covariance of its q(x). What proposes z has the mean of its posterior
    and more than its width, so that no particle's weight is large."""
    torch.manual_seed(seed)
    program = jointkl.compile(LINEAR)
    encoder, decoder = (program.nets[name].layers for name in ("E", "G"))
    w, b = decoder.weight.detach(), decoder.bias.detach()
    with torch.no_grad():
        encoder.weight.copy_(torch.linalg.solve(torch.eye(2) + w.T @ w / 0.25, w.T / 0.25))
        encoder.bias.copy_(-encoder.weight @ b)
    return program, b, w @ w.T + 0.25 * torch.eye(3)


def rows(program: Program, values: torch.Tensor) -> tuple[Bound, ...]:
    return bind(program.model, {"data": values})


def error(found: Value) -> float:
    """The standard error that its interval is made of."""
    assert found.interval is not None
    return (found.interval[1] - found.interval[0]) / 2 / 1.959963984540054


@pytest.mark.slow
@pytest.mark.statistical
def test_samples_of_the_programs_own_law() -> None:
    """Data from q(x) itself, by its closed form: no metric finds a difference, and the likelihood is the exact one, up
    to the noise of its particles, whose variance is twice the bias for each datum. What density and coverage vary by is
    seen in pairs of sets from the closed form."""
    program, mean, covariance = gaussian()
    law = MultivariateNormal(mean, covariance)
    torch.manual_seed(1)
    x = law.sample((600,))
    found = judge(program, rows(program, x), samples=600, particles=2000, seed=3)
    shares = {"precision", "recall", "density", "coverage"}
    assert set(found) == {"log_likelihood", "reconstruction", "mmd", "two_sample", "wasserstein"} | shares
    exact = float(law.log_prob(x).mean())
    likelihood = found["log_likelihood"]
    bias = likelihood.details["bias"]
    assert bias < 0.1
    assert likelihood.value == pytest.approx(exact, abs=2 * bias + SIGMAS * (2 * bias / 600) ** 0.5)
    assert likelihood.details["particles"] == 2000
    for name, truth in (("mmd", 0.0), ("two_sample", 0.5), ("wasserstein", 0.0)):
        assert found[name].value == pytest.approx(truth, abs=SIGMAS * error(found[name])), name
    pairs = [density_coverage(law.sample((600,)), law.sample((600,))) for _ in range(40)]
    for name, truth in (("density", 1.0), ("coverage", found["coverage"].details["of_equal"])):
        spread = float(np.std([pair[name].value for pair in pairs], ddof=1))
        assert found[name].value == pytest.approx(truth, abs=SIGMAS * spread), name


@pytest.mark.slow
@pytest.mark.statistical
def test_a_program_that_is_off() -> None:
    """By 6 in a direction whose variance is 1.25 at most: 5.3 standard deviations or more, of which Bayes' rule gets
    99.6 % right. The critic is 1-Lipschitz: no more than 6 in mean, and most of it."""
    program, mean, covariance = gaussian()
    torch.manual_seed(1)
    shift = torch.tensor([6.0, 0.0, 0.0])
    x = MultivariateNormal(mean + shift, covariance).sample((600,))
    found = judge(program, rows(program, x), ("mmd", "two_sample", "precision", "wasserstein"), samples=600)
    assert list(found) == ["mmd", "precision", "two_sample", "wasserstein"], "in the table's order"
    assert found["mmd"].interval is not None
    assert found["mmd"].interval[0] > 0.05
    assert found["two_sample"].value > 0.9
    assert found["precision"].value < 0.3
    assert 0.7 * 6 < found["wasserstein"].value <= 6 + SIGMAS * error(found["wasserstein"])


@pytest.mark.statistical
def test_reconstruction_by_the_laws_means() -> None:
    program, _, _ = gaussian()
    torch.manual_seed(2)
    x = torch.randn(4000, 3)
    found = judge(program, rows(program, x), ["reconstruction"], samples=4000)["reconstruction"]
    e, g = program.nets["E"].layers, program.nets["G"].layers
    with torch.no_grad():
        expected = (g(e(x)) - x).square().mean() + g.weight.square().sum() / 3  # E |G e|^2 / d with e ~ N(0, 1)
    assert found.value == pytest.approx(float(expected), abs=SIGMAS * error(found))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(p.stem for p in MODELS.glob("*.jkl")))
def test_every_system_has_numbers(name: str) -> None:
    """Untrained, with few samples: finite numbers with intervals around them, or a refusal that says why."""
    torch.manual_seed(0)
    program = jointkl.compile(MODELS / f"{name}.jkl")
    given = {"data": torch.randn(40, 2)} if name == "vi" else {}
    held = held_out(program.model, given)
    if name == "domain_adaptation":
        with pytest.raises(DataError, match="no metric applies to"):
            evaluate(program, held)
        return
    names = None if name in ("gan", "vae") else [m for m in QUICK if applies(program, m, held.bound)]
    found = evaluate(program, held, names, train=bind(program.model, given), samples=40, particles=20)
    assert not found.failed
    assert {j.evidence for j in found.judged} <= set(held.origins)
    for j in found.judged:
        if j.value.interval is not None and j.metric not in ("reverse_kl", "inception_score"):
            assert j.value.interval[0] <= j.value.value <= j.value.interval[1], j
    record = json.loads(verdict.document(found, round=0))
    assert [m["metric"] for m in record["metrics"]] == [j.metric for j in found.judged]


def applies(program: Program, name: str, data: tuple[Bound, ...]) -> bool:
    try:
        judge(program, data, [name], samples=20, particles=2)
    except DataError as error:
        if "cannot be had of" in str(error):
            return False
        raise
    return True


def test_a_name_that_does_not_apply_says_why() -> None:
    program = jointkl.compile(MODELS / "gan.jkl")
    data = bind(jointkl.load(MODELS / "gan.jkl"))
    for name, why in (
        ("log_likelihood", r"log_likelihood cannot be had of .*gan.jkl: q\(x\|z\) is a Dirac"),
        ("reconstruction", "no law encodes"),
        ("frechet", "x is no image"),
        ("diversity", "x is no image"),
    ):
        with pytest.raises(DataError, match=why):
            judge(program, data, [name], samples=10)
    with pytest.raises(DataError, match="no metric is called `fid`"):
        judge(program, data, ["fid"])
    vae = jointkl.compile(MODELS / "vae.jkl")
    with pytest.raises(DataError, match=r"the modes of data\(x\) are not known"):
        judge(vae, bind(vae.model), ["modes"], samples=10)
    nothing = jointkl.compile(LINEAR.replace("real[3]", "real[1,4,4]"))
    with pytest.raises(DataError, match="no classes to train a classifier on: name features"):
        judge(nothing, rows(nothing, torch.rand(20, 16)), ["frechet"], samples=20)


def test_no_metric_depends_on_the_others_or_on_torchs_state() -> None:
    program, mean, _ = gaussian()
    data = rows(program, mean + torch.randn(80, 3))
    torch.manual_seed(5)
    every = judge(program, data, QUICK[3:9], samples=80, particles=20, seed=1)
    torch.manual_seed(6)
    for name, value in every.items():
        assert judge(program, data, [name], samples=80, particles=20, seed=1) == {name: value}
    assert judge(program, data, ["mmd"], samples=80, seed=2)["mmd"] != every["mmd"]


@pytest.mark.slow
def test_in_the_middle_of_a_run_nothing_moves() -> None:
    torch.manual_seed(0)
    program = jointkl.compile(
        MODELS.joinpath("vae.jkl").read_text().replace("mlp(256)", "mlp(16, norm=batch, dropout=0.2)")
    )
    data = bind(program.model)
    player = program.players[0]
    program.train()
    loss = program.loss(player, data[0].take(torch.arange(32)))
    loss.backward()
    before = {name: value.clone() for name, value in program.state_dict().items()}
    gradients = [p.grad.clone() for p in program.parameters_of(player) if p.grad is not None]
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    judge(program, data, samples=40, particles=10)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert all(part.training for part in program.modules())
    assert all(torch.equal(before[name], value) for name, value in program.state_dict().items())
    after = [p.grad for p in program.parameters_of(player) if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(gradients, after, strict=True) if b is not None)
    assert all(p.requires_grad for p in program.parameters_of(player))


@pytest.mark.statistical
def test_the_protocols_own_program() -> None:
    """A program that draws one mode of the ring, and one that draws the ring's eight by a finite latent: twice n times
    the plug-in KL of eight equal shares is a chi-square of seven."""
    inside = 1 - math.exp(-4.5)
    one = jointkl.compile(RING.replace("locs[k]", "locs[0]")).eval()
    every = jointkl.compile(RING)
    for program, modes, kl in ((one, 1, math.log(8)), (every, 8, 0.0)):
        with torch.no_grad():
            program.params["locs"].copy_(bind_ring())
        found = judge(program, bind(program.model), ("modes", "high_quality", "reverse_kl"))
        assert found["modes"].value == modes
        assert found["modes"].samples == 2500
        assert found["high_quality"].value == pytest.approx(inside, abs=share_reach(inside, 2500))
        within = 1e-9 if modes == 1 else chi2.isf(1e-7, 7) / (2 * 2400)
        assert found["reverse_kl"].value == pytest.approx(kl, abs=within)
        given = {"data": torch.randn(50, 2)}
        with pytest.raises(DataError, match="modes of data"):
            judge(program, bind(program.model, given), ["modes"], given=["data(x)"])


RING = """
data(x) = ring8()
var x: real[2]
var k: {0..7}
param locs: real[8,2]
param w: simplex[8]
p(k | x) = Free
q(k) = Categorical(w)
q(x | k) = Normal(locs[k], 0.01)
minimize KL(data(x) * p(k|x) || q(k) * q(x|k)) with estimate=gradient
"""


def bind_ring() -> torch.Tensor:
    from jointkl.sources.synthetic import ring8_modes

    return ring8_modes()


def test_rows_come_some_at_a_time_where_much_is_summed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2^8 values of what is hidden each row has its own copy in every layer."""
    torch.manual_seed(0)
    program = jointkl.compile("""
        data(x) = evidence()
        var x: real[2]
        var z: binary[8]
        net G = mlp(16)
        net E = linear()
        p(z | x) = Bernoulli(E(x))
        q(z) = Bernoulli(0.3)
        q(x | z) = Normal(G(z), 1)
        minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
    """)
    data, lengths = rows(program, torch.randn(70, 2)), list[int]()
    real = Program.estimate
    whole = judge(program, data, ["log_likelihood"])

    def watched(self: Program, name: str, batch: Mapping[str, torch.Tensor], particles: int = 1000) -> Estimate:
        lengths.append(len(batch["x"]))
        return real(self, name, batch, particles)

    monkeypatch.setattr(Program, "estimate", watched)
    monkeypatch.setattr(metric_inputs, "NUMBERS", 16 * 256 * 20)
    found = judge(program, data, ["log_likelihood"])
    assert lengths == [20, 20, 20, 10]
    assert found["log_likelihood"].value == pytest.approx(whole["log_likelihood"].value, rel=1e-6)


def test_values_are_named_by_law_and_evidence_where_there_are_several() -> None:
    program = jointkl.compile(MODELS / "cyclegan.jkl")
    found = judge(program, bind(program.model), ["mmd", "reconstruction"], samples=30)
    assert set(found) == {
        "mmd of q(b|a)", "mmd of p(a|b)",
        "reconstruction of p(a|b), q(b|a)", "reconstruction of q(b|a), p(a|b)",
    }  # fmt: skip
    program = jointkl.compile(TWO)
    assert set(judge(program, bind(program.model), ["mmd"], samples=30)) == {
        "mmd of q(x) against data(x)", "mmd of q(x) against target(x)",
    }  # fmt: skip


TWO = """
data(x) = digits()
target(x) = digits(invert=true)
var x: real[1,8,8]
var z: real[2]
net E = mlp(4)
net G = mlp(4)
p(z | x) = Normal(E(x))
q(z) = Normal(0, 1)
q(x | z) = Normal(G(z), 1)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z)) + KL(target(x) * p(z|x) || q(z) * q(x|z))
"""


GIVEN = """
data(a, b) = evidence()
target(a, b) = evidence()
var a, b: real[2]
net G = linear()
q(b | a) = LAW
minimize CE(data(a,b) || q(b|a)) + CE(target(a,b) || q(b|a)) over G
"""


def given_rows(program: Program, shift: float, n: int, seed: int) -> torch.Tensor:
    """Rows whose b are the program's own, given a."""
    torch.manual_seed(seed)
    a = torch.randn(n, 2) + shift
    return torch.cat([a, program.sample("q(b|a)", batch={"a": a})["b"]], 1)


@pytest.mark.statistical
def test_a_law_given_rows_of_the_evidence_is_judged_against_others_of_it() -> None:
    """The program's own law is told from data as little as two sets of data are. Against the rows that its samples are
    given, nearly a copy of each would stand among them; and what one evidence gives says nothing of another."""
    torch.manual_seed(0)
    program = jointkl.compile(GIVEN.replace("LAW", "Normal(G(a), 0.01)"))
    values: dict[str, list[float]] = {}
    for seed in range(1000, 1040, 2):
        data = {"data": given_rows(program, 0.0, 240, seed), "target": given_rows(program, 6.0, 240, seed + 1)}
        found = judge(program, bind(program.model, data), ["mmd", "coverage", "density"], samples=100, seed=seed)
        for name, v in found.items():
            values.setdefault(name, []).append(v.value)
            assert (v.samples, v.data) == (100, 100)
    equal = found["coverage of q(b|a) against data(a,b)"].details["of_equal"]
    for law in ("data(a,b)", "target(a,b)"):
        of = {name: np.array(values[f"{name} of q(b|a) against {law}"]) for name in ("mmd", "coverage", "density")}
        for name, truth in (("mmd", 0.0), ("coverage", equal), ("density", 1.0)):
            assert of[name].mean() == pytest.approx(truth, abs=reach(of[name])), (law, name)


@pytest.mark.parametrize("held", [True, False])
def test_the_critic_is_judged_on_samples_that_it_was_not_trained_on(held: bool) -> None:
    """A law without noise draws the same again from the same rows: others are given rows of training, or the rest."""
    torch.manual_seed(0)
    program = jointkl.compile(GIVEN.replace("LAW", "Delta(G(a), density=Normal(1))"))
    rows_ = {name: torch.randn(60, 4) for name in ("data", "target")}
    train = bind(program.model, {name: torch.randn(60, 4) for name in rows_})
    unseen = {law.key: held for law in program.model.evidence}
    own = frozenset(unseen)
    found = MetricInputs(program, bind(program.model, rows_), train, unseen, own, 1000, 1, 0)
    for subject in drawn(program.derivation.facts):
        sets = found.given("critic", subject)
        assert sets is not None
        for name in ("samples", "data"):
            judged, known = ({tuple(row) for row in sets[part].tolist()} for part in (name, f"train_{name}"))
            assert judged.isdisjoint(known)
            assert len(judged) >= 15
            assert len(known) >= 15


@pytest.mark.statistical
def test_references_are_rows_of_training() -> None:
    """Digits for training in the samples' place score as data do; without held-out rows there is no reference."""
    program = jointkl.compile(MODELS / "vae.jkl")
    train = bind(program.model)
    names = ("log_likelihood", "mmd", "precision", "two_sample", "frechet", "inception_score", "diversity")
    found = evaluate(program, held_out(program.model, {}), names, train=train, samples=200, particles=20)
    by = {j.metric: j for j in found.judged}
    assert by["mmd"].reference == pytest.approx(0.0, abs=SIGMAS / 200), "pairs of 200 that vary by less than 1"
    assert (by["precision"].reference or 0) > 0.8
    assert (by["two_sample"].reference or 1) < 0.5 + share_reach(0.5, 200)
    assert (by["inception_score"].reference or 0) > 7
    assert (by["frechet"].reference or 1e9) < by["frechet"].value.value / 3
    likelihood = by["log_likelihood"]
    within = 2**0.5 * SIGMAS * error(likelihood.value)
    assert likelihood.reference == pytest.approx(likelihood.value.value, abs=within), "untrained"
    assert "classifier of digits" in by["mmd"].view
    seen = evaluate(program, training_rows(train), names[:3], train=train, samples=50, particles=20)
    assert all(j.reference is None for j in seen.judged)


def test_features_of_ones_own() -> None:
    program = jointkl.compile(MODELS / "vae.jkl")
    net = Features("mine", lambda x: (x.flatten(1)[:, :5], None), "five pixels")
    found = evaluate(program, training_rows(bind(program.model)), ["frechet", "mmd"], samples=50, features=net)
    by = {j.metric: j for j in found.judged}
    assert by["frechet"].value.details["features"] == 5
    assert by["mmd"].view == "five pixels"
    with pytest.raises(DataError, match="the features mine give no logits"):
        judge(program, bind(program.model), ["inception_score"], samples=50, features=net)


def test_images_without_classes_are_compared_by_pixels(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for i in range(30):
        pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    text = (
        f'data(x) = images("{tmp_path}", grey=true, size=8)'
        + MODELS.joinpath("aae.jkl").read_text().partition("digits()")[2]
    )
    program = jointkl.compile(text)
    rows_ = training_rows(bind(program.model))
    found = evaluate(program, rows_, ["precision", "diversity"], samples=30)
    assert [(j.metric, j.view) for j in found.judged] == [("precision", "numbers as they are"), ("diversity", "")]
    with pytest.raises(DataError, match=r"the source of data\(x\) has no classes"):
        evaluate(program, rows_, ["frechet"], samples=30)


@pytest.mark.slow
def test_rows_that_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST's files, 20 small stand-ins for a test: in memory or read where they are taken, the same values."""
    layouts.mnist(tmp_path)
    text = (
        f'data(x) = mnist(root="{tmp_path}", size=8)' + MODELS.joinpath("aae.jkl").read_text().partition("digits()")[2]
    )
    torch.manual_seed(0)
    program = jointkl.compile(text)
    found = []
    for large in (streams.LARGE, 0):
        monkeypatch.setattr(streams, "LARGE", large)
        held = held_out(program.model, {})
        found.append(evaluate(program, held, ["mmd", "reconstruction"], train=bind(program.model), samples=40))
    assert isinstance(held.bound[0].columns[0], streams.Stream)
    assert found[0].judged == found[1].judged
    assert found[0].origins["data(x)"].text == "mnist(split=test)"


def failing() -> tuple[Program, tuple[Bound, ...]]:
    """A program whose density has no logarithm at the data: Beta(2, 2) at 0."""
    program = jointkl.compile("""
        data(x) = evidence()
        var x: unit
        var z: real
        net E = linear()
        param c: positive
        p(z | x) = Normal(E(x), 1)
        q(z) = Normal(0, 1)
        q(x | z) = Beta(2, c + 1 + exp(z))
        minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
    """)
    return program, bind(program.model, {"data": torch.linspace(0, 0.5, 50)})


@pytest.mark.slow
def test_what_fails_is_told_and_never_a_number() -> None:
    program, data = failing()
    with pytest.raises(DataError, match="1 of 50 data have no density under the law"):
        judge(program, data, ["log_likelihood"], samples=50)
    found = evaluate(program, training_rows(data), samples=50)
    assert set(found.failed) == {"log_likelihood"}
    assert any("left out log_likelihood" in note for note in verdict.notes(found))


@pytest.fixture(scope="module")
def told() -> Evaluation:
    program, mean, _ = gaussian()
    x = mean + torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    return evaluate(
        program, training_rows(rows(program, x)), ("mmd", "precision", "log_likelihood"), samples=60, particles=5
    )


def test_the_table(told: Evaluation) -> None:
    lines = verdict.text(told).split("\n")
    assert lines[0] == "q(x) against data(x): 60 rows of what it was trained on"
    assert lines[1].split() == ["metric", "value", "95", "%", "interval", "n", "better"]
    assert [line.split()[0] for line in lines[2:5]] == ["log_likelihood", "mmd", "precision"]
    assert "60 + 60" in lines[3]
    assert lines[5] == "  compared by numbers in units of the data's standard deviations"
    assert all(line == line.rstrip() for line in lines)
    assert "\x1b[" in verdict.text(told, colour=True)
    assert any("no rows are held out" in note for note in verdict.notes(told))


def test_the_document(told: Evaluation) -> None:
    content = json.loads(verdict.document(told, round=7), parse_constant=pytest.fail)
    assert (content["round"], content["samples"], content["particles"], content["seed"]) == (7, 60, 5, 0)
    assert content["data"] == {"data(x)": {"rows": 60, "from": "what it was trained on", "unseen": False}}
    first = content["metrics"][0]
    assert first["metric"] == "log_likelihood"
    assert first["interval"][0] < first["value"] < first["interval"][1]
    assert first["better"] == "higher"
    assert "finite data" in first["interval_accounts"]


def test_every_metric_is_listed() -> None:
    text = verdict.listed()
    for row in METRICS.values():
        assert f"{row.name}: {row.about}; better: {row.better}" in text
