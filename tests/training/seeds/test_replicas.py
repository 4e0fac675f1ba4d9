"""Several seeds at once: each is the run of its seed, and a run by itself."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import jointkl
from jointkl import disk
from jointkl.cli import main
from jointkl.diagnostics import DataError, JklError
from jointkl.semantics.model import Evidence
from jointkl.training.folder import checkpoints
from jointkl.training.folder.run import Run, load_run
from jointkl.training.seeds.engine import SeedsEngine
from jointkl.training.seeds.replicas import Replicas, of_seed
from jointkl.training.seeds.vmapped import VmappedMinibatches, clip_each
from tests.training.distributed import several
from tests.training.runs import last, metrics, planned
from tests.training.specs import DISCRETE, MIXTURE
from tests.worlds import MODELS

ROUNDS = 30

ALI = (MODELS / "ali.jkl").read_text().replace("mlp(128, 128)", "mlp(16)")
SPECTRAL = "D = mlp(16, norm=spectral)"


def specs(gan: str, vae: str, proximal: str) -> Mapping[str, str]:
    return {
        "gan": gan,
        "vae": vae,
        "ali": ALI,
        "old copies, several steps, a bound": proximal + "\ntrain G(repeat=2, every=3, clip=0.05)\n",
        "at once": f"{gan}\ntrain(updates=simultaneous)\n",
        "at once, one after the other": f"{gan.replace('D = mlp(16)', SPECTRAL)}\ntrain(updates=simultaneous)\n",
        "batch norm and dropout": gan.replace("D = mlp(16)", "D = mlp(16, norm=batch, dropout=0.3)").replace(
            "beta1=0.5",
            "optimizer=sgd",  # the biases before a batch norm have no gradient but rounding, which Adam scales
        ),
        "spectral norm": gan.replace("D = mlp(16)", SPECTRAL),
        "a gradient penalty": gan.replace("|| p(x,y))", "|| p(x,y)) + 0.1 * R1(data(x) || p(y|x))"),
        "rmsprop, decay and a free law": MIXTURE.replace("METHOD", "estimate=gradient")
        + "train pi(weight_decay=0.01)\n",
        "a closed step": MIXTURE.replace(" with METHOD", "")
        .replace("s[k]", "1")
        .replace("param s: positive[3,4]\n", ""),
        "discrete draws": DISCRETE,
        "sgd": gan.replace("beta1=0.5", "optimizer=sgd, weight_decay=0.01"),
        "a schedule and averages": gan.replace("beta1=0.5", "beta1=0.5, schedule=cosine, warmup=5")
        + "\ntrain G(ema=0.9)\n",
        "convolutions": vae.replace("enc = mlp(H)", "enc = conv(4)").replace("dec = mlp(H)", "dec = deconv(4)"),
    }


NAMES = tuple(specs("", "", ""))


def train(spec: str, out: Path, **options: Any) -> Any:
    return jointkl.train(spec, out=out, **{"quiet": True, "pictures": 0, "steps": ROUNDS, **options})


def assert_close(one: Run, other: Run) -> None:
    """The same up to rounding; the random numbers and the places in the data are the same."""
    a, b = last(one.folder), last(other.folder)
    assert a.keys() == b.keys()
    for name, value in a.items():
        if name.startswith(("random/", "data/")):
            assert torch.equal(value, b[name]), name
        else:
            torch.testing.assert_close(
                b[name], value, rtol=1e-3, atol=1e-5, msg=lambda told, name=name: f"{name}: {told}"
            )
    lines = zip(metrics(one.folder), metrics(other.folder), strict=True)
    for line, found in lines:
        assert line["round"] == found["round"]
        assert found["losses"] == pytest.approx(line["losses"], rel=1e-4, abs=1e-6)
    values = one.program.emitted.state_dict()
    for name, value in other.program.emitted.state_dict().items():
        torch.testing.assert_close(value, values[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("name", NAMES)
def test_each_is_the_run_of_its_seed(name: str, gan: str, vae: str, proximal: str, tmp_path: Path) -> None:
    spec = specs(gan, vae, proximal)[name]
    found = train(spec, tmp_path / "all", seed=4, replicas=3)
    assert found.seeds == (4, 5, 6)
    for seed, replica in zip(found.seeds, found, strict=True):
        assert_close(train(spec, tmp_path / f"one-{seed}", seed=seed), replica)
    starts = [torch.cat([p.flatten() for p in run.program.parameters()]) for run in found]
    assert not torch.allclose(starts[0], starts[1], atol=1e-3), "and they are not one another"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(MODELS.glob("*.jkl")), ids=lambda path: path.stem)
def test_each_of_every_model_is_the_run_of_its_seed(path: Path, tmp_path: Path) -> None:
    given = any(isinstance(law.body, Evidence) and law.body.source == "evidence" for law in jointkl.load(path).evidence)
    data = {"data": torch.randn(64, 2)} if given else None
    options = {"steps": 6, "quiet": True, "pictures": 0, "settings": {"optimizer": "sgd", "batch": "32"}}
    found = jointkl.train(path, data, seed=4, replicas=2, out=tmp_path / "all", **options)
    for seed, replica in zip(found.seeds, found, strict=True):
        assert_close(jointkl.train(path, data, seed=seed, out=tmp_path / f"one-{seed}", **options), replica)


@pytest.mark.slow
def test_each_folder_is_a_run(gan: str, tmp_path: Path) -> None:
    found = train(gan, tmp_path / "all", seed=1, replicas=2, pictures=1)
    one = train(gan, tmp_path / "one", seed=2, steps=ROUNDS + 10)
    folder = found.folder / "seed-2"
    assert {path.name for path in found.folder.iterdir()} == {"replicas.json", "summary.json", "seed-1", "seed-2"}
    assert {path.name for path in folder.iterdir()} == {path.name for path in one.folder.iterdir()}
    loaded = load_run(folder)
    assert loaded.losses == found[1].losses
    assert torch.equal(loaded.sample(5, seed=0)["x"], found[1].sample(5, seed=0)["x"])
    assert json.loads((folder / "config.json").read_text())["seed"] == 2
    on = jointkl.resume(folder, steps=ROUNDS + 10, quiet=True)
    assert isinstance(on, Run)
    assert_close(one, on)


@pytest.mark.slow
def test_the_summary(gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "gan.jkl"
    spec.write_text(gan)
    out = tmp_path / "all"
    assert main(["train", str(spec), "--steps", "8", "--seed", "1", "--replicas", "4", "--out", str(out)]) == 0
    found = json.loads((out / "summary.json").read_text())
    assert (found["round"], found["seeds"]) == (8, [1, 2, 3, 4])
    each = [load_run(out / f"seed-{seed}").losses["D"] for seed in found["seeds"]]
    of_d = found["losses"]["D"]
    assert of_d["each"] == each
    assert of_d["mean"] == pytest.approx(np.mean(each))
    assert of_d["sd"] == pytest.approx(np.std(each, ddof=1))
    head, names, *rows, mean, deviation = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{out}: 8 steps in ")
    assert head.endswith("of 4 seeds at once")
    assert names.split() == ["D", "G"]
    assert [row.split()[:2] for row in rows] == [[f"seed-{i + 1}", f"{loss:.4g}"] for i, loss in enumerate(each)]
    assert mean.split()[:2] == ["mean", f"{of_d['mean']:.4g}"]
    assert deviation.split()[:2] == ["sd", f"{of_d['sd']:.4g}"]


def test_one_replica_is_no_spread(gan: str, tmp_path: Path) -> None:
    found = train(gan, tmp_path / "all", replicas=1, steps=3)
    assert found.losses["D"].sd is None
    assert found.losses["D"].mean == found[0].losses["D"]


def test_data_given_from_python(gan: str, tmp_path: Path) -> None:
    data = {"data": torch.randn(300, 2)}
    spec = gan.replace("ring8(std=0.02, n=1000)", "evidence()")
    found = jointkl.train(spec, data, steps=9, replicas=2, out=tmp_path / "all", quiet=True, pictures=0)
    one = jointkl.train(spec, data, steps=9, seed=1, out=tmp_path / "one", quiet=True, pictures=0)
    assert_close(one, found[1])
    again = jointkl.resume(found.folder, data, steps=12, quiet=True)
    assert again.rounds == 12


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which number of threads is fastest is not measured, here and in the processes that are killed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


# --- going on


@pytest.fixture(autouse=True)
def interruptible() -> Any:
    """SIGINT as in a terminal: it is ignored where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def assert_same(one: Path, other: Path) -> None:
    """Bit for bit, every replica."""
    for folder in one.glob("seed-*"):
        a, b = last(folder), last(other / folder.name)
        assert a.keys() == b.keys()
        assert all(torch.equal(value, b[name]) for name, value in a.items())
        assert metrics(folder) == metrics(other / folder.name)
    assert (one / "summary.json").read_bytes() == (other / "summary.json").read_bytes()


def interrupt(monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """Ctrl-C, once, in the middle of a round."""
    draw, count = VmappedMinibatches.draw, itertools.count()

    def interrupted(minibatches: VmappedMinibatches) -> dict[str, Tensor]:
        if next(count) == when:
            os.kill(os.getpid(), signal.SIGINT)
        return draw(minibatches)

    monkeypatch.setattr(VmappedMinibatches, "draw", interrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["old copies, several steps, a bound", "batch norm and dropout", "at once", "a closed step"]
)
def test_ctrl_c_and_resume_end_as_an_unbroken_run(
    name: str,
    gan: str,
    vae: str,
    proximal: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = specs(gan, vae, proximal)[name]
    train(spec, tmp_path / "whole", replicas=2, seed=4, steps=100)
    with monkeypatch.context() as patch:
        interrupt(patch, 57)
        with pytest.raises(KeyboardInterrupt):
            train(spec, tmp_path / "broken", replicas=2, seed=4, steps=100, quiet=False)
    assert f"to go on: jointkl resume {tmp_path / 'broken'}\n" in capsys.readouterr().err
    assert 0 < load_run(tmp_path / "broken" / "seed-5").rounds < 100
    found = jointkl.resume(tmp_path / "broken", quiet=True)
    assert isinstance(found, Replicas)
    assert (found.rounds, found.seeds) == (100, (4, 5))
    assert_same(tmp_path / "whole", tmp_path / "broken")


def child(spec: str, out: Path, ready: Any) -> None:
    torch.set_num_threads(1)
    ready.set()
    if (out / "replicas.json").exists():
        jointkl.resume(out, quiet=True)
    else:
        jointkl.train(spec, replicas=3, out=out, quiet=True, pictures=0, checkpoints=20)


@pytest.mark.slow
def test_killed_at_random_instants(gan: str, tmp_path: Path) -> None:
    """SIGKILL while it trains and saves, also between the checkpoints of two replicas."""
    spec, whole, broken = gan.replace("steps=200", "steps=300"), tmp_path / "whole", tmp_path / "broken"
    processes = get_context("forkserver")
    processes.set_forkserver_preload([__name__, "jointkl.training.seeds.replicas", "pyro"])
    jointkl.train(spec, replicas=3, out=whole, quiet=True, pictures=0, checkpoints=20)
    chance, kills = random.Random(0), 0
    for goal in (100, 200):
        ready = processes.Event()
        process = processes.Process(target=child, args=(spec, broken, ready))
        process.start()
        assert ready.wait(120)
        while process.exitcode is None and reached(broken) < goal:
            time.sleep(0.02)
        process.join(chance.uniform(0, 0.05))
        if process.exitcode is None:
            os.kill(process.pid or 0, signal.SIGKILL)
            kills += 1
        process.join()
    jointkl.resume(broken, quiet=True)
    assert kills
    assert_same(whole, broken)


def reached(folder: Path) -> int:
    """The last round in the metrics of the last replica; 0 before any."""
    try:
        return metrics(folder / "seed-2")[-1]["round"]
    except (OSError, ValueError, IndexError):
        return 0


@pytest.mark.slow
def test_from_the_newest_round_of_all(gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a kill between two checkpoints leaves them, and where one of them is damaged."""
    train(gan, tmp_path / "whole", replicas=2, steps=100)
    for name in ("killed", "damaged"):
        train(gan, tmp_path / name, replicas=2, steps=100)
    newest = checkpoints.whole(tmp_path / "killed" / "seed-1")[-1]
    newest.with_suffix(".json").unlink()
    damaged = checkpoints.whole(tmp_path / "damaged" / "seed-0")[-1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    for name in ("killed", "damaged"):
        capsys.readouterr()
        jointkl.resume(tmp_path / name)
        assert "note: goes on after round 90\n" in capsys.readouterr().err
        assert_same(tmp_path / "whole", tmp_path / name)


def test_a_replica_that_went_on_by_itself_is_left_alone(gan: str, tmp_path: Path) -> None:
    found = train(gan, tmp_path / "all", replicas=2, steps=20)
    jointkl.resume(found.folder / "seed-1", steps=24, quiet=True)
    with pytest.raises(DataError, match=r"seed-1 went on by itself.* is 20"):
        jointkl.resume(found.folder, steps=30)
    jointkl.resume(found.folder / "seed-1", steps=40, quiet=True)
    with pytest.raises(DataError, match="there is no round of which every replica has a checkpoint"):
        jointkl.resume(found.folder, steps=50)
    assert load_run(found.folder / "seed-1").rounds == 40
    assert load_run(found.folder / "seed-0").rounds == 20


# --- what goes wrong


def test_the_seed_that_is_not_finite_is_named_and_found(tmp_path: Path, gan: str) -> None:
    """The logarithm of a weight that is below zero for one of the seeds."""
    spec = gan.replace("var x: real[2]", "var x: real[2]\nparam w: real[2]").replace(
        "Delta(G(z))", "Delta(G(z) + log(w))"
    )
    data = [torch.manual_seed(seed) and jointkl.compile(spec).params["w"].detach().clone() for seed in range(20)]
    fine = [bool((w > 0).all()) for w in data]
    seed = next(i for i in range(18) if fine[i] and not fine[i + 1])
    with pytest.raises(JklError, match=rf"seed {seed + 1}: the loss of player . is not finite in round 1") as told:
        train(spec, tmp_path / "all", seed=seed, replicas=2)
    folder = tmp_path / "all" / f"seed-{seed + 1}"
    assert f"are in {folder / 'failure'}" in str(told.value)
    assert jointkl.load_failure(folder).number == 1
    assert not (tmp_path / "all" / f"seed-{seed}" / "failure").exists()


def test_a_seed_that_is_not_finite_moves_no_other(gan: str, tmp_path: Path) -> None:
    plans = [of_seed(planned(jointkl.parse(gan), steps=2), seed) for seed in (7, 8, 9)]
    engine = SeedsEngine(plans)
    with torch.no_grad():
        engine.engines[1].program.nets["G"].layers[0].weight[0, 0] = torch.nan
    for number in (1, 2):
        engine.play(number, engine.steppers, engine.minibatches.draw, engine.program.snapshot)
    for one, finite in zip(engine.engines, (True, False, True), strict=True):
        assert all(p.isfinite().all() for p in one.program.parameters()) == finite
    for seed, place in ((7, 0), (9, 2)):
        alone = train(gan, tmp_path / f"one-{seed}", seed=seed, steps=2).program.emitted.state_dict()
        for name, value in engine.engines[place].program.emitted.state_dict().items():
            torch.testing.assert_close(value, alone[name], rtol=1e-4, atol=1e-6)


class Reader(nn.Linear):
    """Looks at its numbers, which many replicas at once do not have."""

    def __init__(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__(inputs[0], outputs[0])

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if input.sum() > 0 else super().forward(-input)


def test_what_vmap_cannot_do_is_refused_by_its_player(
    gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("a_module_of_mine")
    vars(module)["Reader"] = Reader
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = gan.replace("D = mlp(16)", 'D = python("a_module_of_mine:Reader")')
    with pytest.raises(DataError, match="the loss of D cannot be computed for several replicas at once: vmap") as told:
        jointkl.train(spec, replicas=2, seed=5, out=tmp_path / "all", allow_imports=("a_module_of_mine",))
    assert told.value.help == ("train the seeds one by one: --seed 5, then --seed 6 and so on, without --replicas",)
    assert not (tmp_path / "all").exists()
    dirichlet = gan.replace("var z: real[2]", "var z: simplex[3]").replace("Normal(0, 1)", "Dirichlet([1, 1, 1])")
    with pytest.raises(DataError, match="the loss of D cannot be computed for several replicas at once"):
        jointkl.train(dirichlet, replicas=2, out=tmp_path / "all")


@pytest.mark.parametrize("name", ["Tied", "Keeper"])
def test_a_module_that_shares_weights_or_replaces_a_buffer(
    name: str, gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(several.__file__).parent))
    spec, allowed = several.own(gan, name), (Path(several.__file__).stem,)
    found = train(spec, tmp_path / "all", seed=4, replicas=2, allow_imports=allowed)
    for seed, replica in zip(found.seeds, found, strict=True):
        assert_close(train(spec, tmp_path / f"one-{seed}", seed=seed, allow_imports=allowed), replica)


def test_a_full_disk_says_how_all_seeds_go_on(gan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, write = tmp_path / "all", disk.write

    def full(path: Path, content: bytes) -> None:
        if path == out / "seed-1" / "checkpoints" / "00000020.safetensors":
            raise disk.cannot_write(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", full)
        with pytest.raises(DataError, match=r"seed 1: .*00000020.safetensors cannot be written") as told:
            train(gan, out, replicas=2, steps=40, checkpoints=2)
    assert told.value.help[-1] == f"then go on: jointkl resume {out}"
    assert jointkl.resume(out, quiet=True).rounds == 40


def test_the_last_seed_is_one_that_a_run_takes(gan: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"setting `seed`: .*found `2147483648`"):
        train(gan, tmp_path / "all", seed=2147483647, replicas=2)


def test_refusals(gan: str, tmp_path: Path) -> None:
    out = tmp_path / "all"
    with pytest.raises(DataError, match="a Program has parameters of its own"):
        jointkl.train(jointkl.compile(gan), replicas=2, out=out)
    for options, what in (
        ({"way": "compile"}, "way `compile`"),
        ({"precision": "bf16"}, "precision `bf16`"),
        ({"stop_on": "loss:G"}, "stop_on"),
    ):
        with pytest.raises(DataError, match=f"{what} does not go with several replicas at once"):
            jointkl.train(gan, replicas=2, out=out, **options)
    with pytest.raises(DataError, match="0 replicas"):
        jointkl.train(gan, replicas=0, out=out)
    assert not out.exists()
    train(gan, out, replicas=2, steps=2)
    with pytest.raises(DataError, match="holds the runs of 2 seeds, not one run") as told:
        load_run(out)
    assert told.value.help == (f"give one of them, as in {out / 'seed-0'}",)
    with pytest.raises(DataError, match="exists and is not empty"):
        train(gan, out, replicas=2, steps=2)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"seeds": []}', '{"seeds": ["../../other"]}', '{"seeds": [true]}', "9" * 5000]
)
def test_a_hostile_folder_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "replicas.json").write_text(content)
    with pytest.raises(DataError, match="is damaged"):
        jointkl.resume(tmp_path)


def test_a_replica_that_is_missing(gan: str, tmp_path: Path) -> None:
    found = train(gan, tmp_path / "all", replicas=2, steps=2)
    shutil.rmtree(found.folder / "seed-1")
    with pytest.raises(DataError, match="seed-1 is no run"):
        jointkl.resume(found.folder)


def test_a_bound_on_each_gradient() -> None:
    """As torch's clip_grad_norm_ of each replica by itself: one is longer than the bound, one shorter."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(2, 3, 4)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, 5))]
    for p in parameters[:2]:
        p.grad = torch.randn_like(p) * torch.tensor([10.0, 0.01]).view(2, *[1] * (p.dim() - 1))
    own = [[nn.Parameter(p[i].detach()) for p in parameters] for i in range(2)]
    for i, each in enumerate(own):
        for p, stack in zip(each, parameters, strict=True):
            p.grad = None if stack.grad is None else stack.grad[i].clone()
        torch.nn.utils.clip_grad_norm_(each, 1.5)
    clip_each(parameters, 1.5)
    for i, each in enumerate(own):
        for p, stack in zip(each[:2], parameters, strict=False):
            assert p.grad is not None
            assert stack.grad is not None
            torch.testing.assert_close(stack.grad[i], p.grad)
