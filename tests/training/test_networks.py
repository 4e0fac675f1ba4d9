"""Convolutions train; statistics are part of a run: kept, copied, and used by samples."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import jointkl
from jointkl.diagnostics import DataError
from jointkl.training.folder import checkpoints
from jointkl.training.folder.run import load_run
from jointkl.training.machine import products

VAE = """
data(x) = digits(threshold=0.5)
var x: binary[1,8,8]
var z: real[4]
net enc = conv(8, 16, norm=batch)
net dec = deconv(16, 8, norm=batch)
p(z | x) = Normal(enc(x))
q(z)     = Normal(0, 1)
q(x | z) = Bernoulli(dec(z))
minimize KL(data(x) * p(z|x) || q(z) * q(x|z))
train(batch=64, steps=150, lr=3e-3)
"""

GAN = """
data(x) = digits()
var x: unit[1,8,8]
var z: real[4]
var y: {0, 1}
net G = deconv(16, 8, norm=batch)
net D = conv(8, 16, norm=spectral, activation=leaky_relu, dropout=0.1)
q(z)     = Normal(0, 1)
q(x | z) = Delta(G(z))
p(y | x) = Bernoulli(D(x))
q(x, y) = { y=1: data(x); y=0: q(z) * q(x|z) }
p(x, y) = data(x) * p(y|x)
minimize KL(q(x,y) || p(x,y)) with proximal=dirac(1)
train(batch=64, steps=12)
"""

ALI = """
data(x) = digits()
var x: unit[1,8,8]
var z: real[4]
var y: {0, 1}
net E = resnet(8)
net G = deconv(16, 8)
net D = conv(8, 16, hidden=32, norm=batch)
q(z)        = Normal(0, 1)
q(x | z)    = Delta(G(z))
p(z | x)    = Normal(E(x))
p(y | x, z) = Bernoulli(D(x, z))
p(x, z, y)  = { y=1: data(x) * p(z|x); y=0: q(z) * q(x|z) }
r(x, z, y)  = data(x) * p(z|x) * p(y|x,z)
minimize KL(p(x,z,y) || r(x,z,y))
train(batch=64, steps=10)
"""


@pytest.mark.slow
@pytest.mark.statistical
def test_a_convolutional_vae_learns_digits(halfway: float, tmp_path: Path) -> None:
    run = jointkl.train(VAE, out=tmp_path / "run", quiet=True, pictures=1)
    assert run.losses["enc+dec"] < halfway


@pytest.mark.parametrize("spec", [GAN, ALI], ids=["gan", "ali"])
def test_adversaries_take_steps(spec: str, tmp_path: Path) -> None:
    program = jointkl.compile(spec)
    before = {name: p.clone() for name, p in program.emitted.named_parameters() if not name.startswith("old_")}
    run = jointkl.train(program, out=tmp_path / "run", quiet=True, pictures=1)
    assert all(math.isfinite(loss) for loss in run.losses.values())
    for name, p in run.program.emitted.named_parameters():
        if name in before:
            assert not torch.equal(p, before[name]), name
    assert list((run.folder / "samples").iterdir())


def test_statistics_and_old_copies_of_them_come_back(tmp_path: Path) -> None:
    run = jointkl.train(GAN, out=tmp_path / "run", quiet=True, pictures=0)
    kept = load_file(checkpoints.whole(run.folder)[-1])
    buffers = {f"program/{name}" for name, _ in run.program.emitted.named_buffers() if name != "anchor"}
    for part in ("G.layers.2.running_mean", "old_G.layers.2.running_var", "D.layers.0.parametrizations.weight.0._u"):
        assert f"program/{part}" in buffers
    assert buffers <= kept.keys()
    assert kept["program/G.layers.2.num_batches_tracked"].item() > 0
    again = load_run(run.folder)
    for name, value in run.program.emitted.state_dict().items():
        assert torch.equal(value, again.program.emitted.state_dict()[name]), name
    assert torch.equal(run.sample(5, seed=1)["x"], again.sample(5, seed=1)["x"])


def test_a_snapshot_copies_statistics() -> None:
    program = jointkl.compile(GAN)
    new, old = program.nets["G"], program.emitted.old_G
    x = torch.rand(8, 1, 8, 8)
    program.loss("G", {"x": x})
    assert not torch.equal(new.layers[2].running_mean, torch.zeros(16))
    with torch.no_grad():
        new.layers[0].bias.add_(1.0)
        new(torch.randn(8, 4))
    assert not torch.equal(new.layers[2].running_mean, old.layers[2].running_mean)
    program.snapshot()
    for (name, a), b in zip(new.state_dict().items(), old.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    new(torch.randn(8, 4))
    assert not torch.equal(new.layers[2].running_mean, old.layers[2].running_mean), "copied, not shared"


def test_samples_are_taken_in_evaluation_mode_and_leave_no_trace() -> None:
    program = jointkl.compile(GAN)
    program.loss("G", {"x": torch.rand(8, 1, 8, 8)})
    before = {name: value.clone() for name, value in program.emitted.state_dict().items()}
    program.nets["D"].eval()
    z = torch.randn(6, 4)
    together = program.sample("q(x|z)", batch={"z": z})["x"]
    alone = torch.cat([program.sample("q(x|z)", batch={"z": row})["x"] for row in z.split(1)])
    torch.testing.assert_close(together, alone)
    assert program.nets["G"].training
    assert not program.nets["D"].training, "each part is again in the mode it was in"
    for name, value in program.emitted.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_densities_are_taken_in_evaluation_mode_and_leave_no_trace() -> None:
    program = jointkl.compile(VAE).double()
    x = (torch.rand(6, 1, 8, 8) < 0.5).double()
    program.loss("enc+dec", {"x": x})
    before = {name: value.clone() for name, value in program.emitted.state_dict().items()}
    z = torch.randn(6, 4, dtype=torch.float64)
    together = program.log_prob("q(x, z)", {"x": x, "z": z})
    alone = [program.log_prob("q(x, z)", {"x": a, "z": b}) for a, b in zip(x.split(1), z.split(1), strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert program.training
    for name, value in program.emitted.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("spec", [VAE, GAN, ALI], ids=["vae", "gan", "ali"])
def test_products_are_those_that_the_layers_do(spec: str) -> None:
    """Counted where they happen: each output number of a layer is a sum over what its kernel or row covers."""
    program = jointkl.compile(spec)
    for name, net in program.nets.items():
        counted = 0

        def count(layer: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            nonlocal counted
            match layer:
                case nn.Linear():
                    counted += layer.in_features * out[0].numel()
                case nn.Conv2d():
                    counted += layer.in_channels * math.prod(layer.kernel_size) * out[0].numel()
                case nn.ConvTranspose2d():
                    counted += layer.out_channels * math.prod(layer.kernel_size) * given[0][0].numel()

        for layer in net.modules():
            layer.register_forward_hook(count)
        net(*(torch.zeros(2, *space.shape) for space in program.model.nets[name].inputs))
        assert products(program.model.nets[name]) == counted > 0


def test_one_datum_a_batch_has_no_statistics(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the net enc takes statistics of a batch"):
        jointkl.train(VAE, settings={"batch": "1"}, steps=1, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_copies_pass_through_convolutions_as_one_batch() -> None:
    spec = VAE.replace("q(x|z))\ntrain", "q(x|z)) with importance=3\ntrain")
    program = jointkl.compile(spec).double()
    x = (torch.rand(5, 1, 8, 8) < 0.5).double()
    noise = torch.randn(3, 5, 4, dtype=torch.float64)
    found = program.loss("enc+dec", {"x": x, "z.noise": noise})
    enc, dec = program.nets["enc"], program.nets["dec"]
    loc, scale = enc(x)
    z = loc + scale * noise
    logits = dec(z.reshape(15, 4)).reshape(3, 5, 64)  # one batch of 15, whose statistics are shared
    normal = torch.distributions.Normal
    fit = -torch.nn.functional.binary_cross_entropy_with_logits(logits, x.flatten(1).expand(3, 5, 64), reduction="none")
    ratio = fit.sum(-1) + normal(0, 1).log_prob(z).sum(-1) - normal(loc, scale).log_prob(z).sum(-1)
    torch.testing.assert_close(found, -(ratio.logsumexp(0) - math.log(3)).mean(), rtol=1e-9, atol=1e-9)


MIXED = """
data(x) = digits(threshold=0.5)
var x: binary[1,8,8]
var z: real[3]
var k: {0..2}
net enc = conv(8, hidden=16, norm=batch)
net cls = conv(8, norm=spectral)
net dec = deconv(8, norm=batch)
p(k | x)    = Categorical(cls(x))
p(z | x, k) = Normal(enc(x, k))
q(k)        = Categorical()
q(z)        = Normal(0, 1)
q(x | z, k) = Bernoulli(dec(z, k))
minimize KL(data(x) * p(k|x) * p(z|x,k) || q(k) * q(z) * q(x|z,k))
"""


def test_every_value_of_a_class_passes_through_convolutions() -> None:
    """In evaluation mode each value by itself is the same as all at once."""
    program = jointkl.compile(MIXED).double()
    x = (torch.rand(5, 1, 8, 8) < 0.5).double()
    noise = torch.randn(5, 3, dtype=torch.float64)
    program.loss("enc+cls+dec", {"x": x})
    program.eval()
    enc, cls, dec = (program.nets[name] for name in ("enc", "cls", "dec"))
    weights = cls(x).softmax(-1)
    total = (weights * (weights.log() + math.log(3))).sum(-1)
    normal = torch.distributions.Normal
    for k in range(3):
        value = torch.full((5,), k)
        loc, scale = enc(x, value)
        logits = dec(loc + scale * noise, value)
        fit = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)
        prior = torch.distributions.kl_divergence(normal(loc, scale), normal(0.0, 1.0)).sum(-1)
        total = total + weights[:, k] * (fit + prior)
    found = program.loss("enc+cls+dec", {"x": x, "z.noise": noise})
    torch.testing.assert_close(found, total.mean(), rtol=1e-10, atol=1e-10)
