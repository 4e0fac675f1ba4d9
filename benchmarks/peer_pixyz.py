"""The VAE and the GAN in Pixyz: distributions that are modules, and its model classes, as in its own examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pixyz import models
from pixyz.distributions import Bernoulli, Deterministic, Normal
from pixyz.losses import KullbackLeibler
from torch import Tensor, nn

from benchmarks.hand import Step, mlp
from benchmarks.peer_nets import OneHead, TwoHeads, assign

ADAM: dict[str, Any] = {"lr": 1e-3}
SLOW: dict[str, Any] = {"betas": (0.5, 0.999)}


def prior(features: int) -> Normal:
    loc, scale = torch.tensor(0.0), torch.tensor(1.0)
    return Normal(var=["z"], features_shape=[features], loc=loc, scale=scale, name="p_{prior}")


class Encoder(Normal):
    """q(z|x)"""

    def __init__(self, net: TwoHeads | OneHead) -> None:
        super().__init__(var=["z"], cond_var=["x"], name="q")
        self.net = net

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        loc, scale = self.net(x)
        return {"loc": loc, "scale": scale}


class Decoder(Bernoulli):
    """p(x|z); Pixyz's Bernoulli takes probabilities."""

    def __init__(self) -> None:
        super().__init__(var=["x"], cond_var=["z"], name="p")
        self.layers = mlp(20, 400, 784)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"probs": torch.sigmoid(self.layers(z))}


class Generator(Deterministic):
    """p(x|z)"""

    def __init__(self) -> None:
        super().__init__(var=["x"], cond_var=["z"], name="p")
        self.layers = mlp(2, 128, 128, 2)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"x": self.layers(z)}


class Discriminator(Deterministic):
    """d(t|x); Pixyz's adversarial loss takes probabilities."""

    def __init__(self) -> None:
        super().__init__(var=["t"], cond_var=["x"], name="d")
        self.layers = mlp(2, 128, 128, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"t": torch.sigmoid(self.layers(x))}


class VAE(nn.Module):
    """784-400-20 with ReLU; `options` are those of Adam."""

    def __init__(self, net: TwoHeads | OneHead, **options: Any) -> None:
        super().__init__()
        self.encoder, self.decoder, self.prior = Encoder(net), Decoder(), prior(20)
        divergence = KullbackLeibler(self.encoder, self.prior)
        adam = ADAM | options
        self.model = models.VAE(self.encoder, self.decoder, regularizer=divergence, optimizer_params=adam)

    def assign(self, weights: Mapping[str, Sequence[Tensor]]) -> None:
        self.encoder.net.assign(weights["enc"])
        assign(self.decoder, weights["dec"])

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        return {"enc+dec": self.model.loss_cls.eval({"x": x})}

    def step(self) -> Step:
        def step(x: Tensor) -> None:
            self.model.train({"x": x})

        return step


class GAN(nn.Module):
    """2-128-128 with ReLU; `options` are those of Adam."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.generator, self.discriminator, self.prior = Generator(), Discriminator(), prior(2)
        made = (self.generator * self.prior).marginalize_var("z")
        adam = ADAM | SLOW | options
        self.model = models.GAN(made, self.discriminator, optimizer_params=adam, d_optimizer_params=adam)

    def assign(self, weights: Mapping[str, Sequence[Tensor]]) -> None:
        assign(self.generator, weights["G"])
        assign(self.discriminator, weights["D"])

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        """Both players' at the same noise; the generator's without what Pixyz adds to it: the loss of the data's
        labels swapped, a constant for it."""
        real = self.discriminator.layers(x)
        swapped = F.binary_cross_entropy_with_logits(real, torch.zeros_like(real))
        noise = torch.get_rng_state()
        of_d = self.model.loss_cls.eval({"x": x}, discriminator=True)
        torch.set_rng_state(noise)
        return {"D": of_d, "G": self.model.loss_cls.eval({"x": x}) - swapped}

    def step(self) -> Step:
        def step(x: Tensor) -> None:
            self.model.train({"x": x})

        return step
