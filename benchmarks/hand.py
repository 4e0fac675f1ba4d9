"""The systems as one writes them by hand in PyTorch: what the emitted programs are measured against.

Of the forms that are common, the fastest is taken: one batch of fakes for both players, detached for the classifier;
criteria from `torch.nn`; fused Adam; each player's own optimiser. A `Hand` gives its losses at given noise, so that
they can be compared with the emitted ones before a clock starts, and a step that draws its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[Tensor], None]
Batch = Mapping[str, Tensor]
ADAM = (1e-3, (0.5, 0.999))


def mlp(inputs: int, *widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip((inputs, *widths), widths, strict=False)):
        layers += [nn.ReLU()] * (i > 0) + [nn.Linear(a, b)]
    return nn.Sequential(*layers)


def adam(*modules: nn.Module, betas: tuple[float, float] = ADAM[1]) -> torch.optim.Adam:
    return torch.optim.Adam([p for m in modules for p in m.parameters()], lr=ADAM[0], betas=betas, fused=True)


def normal_nll(x: Tensor, loc: Tensor, log_scale: Tensor) -> Tensor:
    """-log N(x; loc, scale), summed over the event and averaged over the batch, up to its constant."""
    return (0.5 * ((x - loc) * torch.exp(-log_scale)) ** 2 + log_scale).sum() / len(x)


class VAE(nn.Module):
    """The VAE of pytorch/examples, on logits; mean and log variance from one layer, which is faster than two."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc2 = nn.Linear(400, 40)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.fc2(F.relu(self.fc1(x))).chunk(2, dim=1)
        std = torch.exp(0.5 * logvar)
        z = mu + (torch.randn_like(std) if noise is None else noise) * std
        return self.fc4(F.relu(self.fc3(z))), mu, logvar

    def loss(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        logits, mu, logvar = self(x, noise)
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return (bce + kld) / len(x)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"enc+dec": self.loss(batch["x"], batch["z.noise"])}

    def step(self, size: int) -> Step:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)

        def step(x: Tensor) -> None:
            optimizer.zero_grad()
            self.loss(x).backward()
            optimizer.step()

        return step


class IWAE(VAE):
    """The importance-weighted bound of 50 particles, all in one leading dimension (Burda et al. 2016)."""

    particles = 50

    def loss(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        mu, logvar = self.fc2(F.relu(self.fc1(x))).chunk(2, dim=1)
        std = torch.exp(0.5 * logvar)
        eps = torch.randn(self.particles, *std.shape) if noise is None else noise
        z = mu + eps * std
        logits = self.fc4(F.relu(self.fc3(z)))
        log_px = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        log_w = log_px + (-0.5 * z.pow(2) + 0.5 * eps.pow(2) + 0.5 * logvar).sum(-1)
        return (math.log(self.particles) - torch.logsumexp(log_w, 0)).mean()


class GAN(nn.Module):
    """The loop of PyTorch's DCGAN tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.G, self.D = mlp(2, 128, 128, 2), mlp(2, 128, 128, 1)
        self.criterion = nn.BCEWithLogitsLoss()

    def d_loss(self, x: Tensor, fake: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
        return self.criterion(self.D(x), ones) + self.criterion(self.D(fake.detach()), zeros)

    def g_loss(self, fake: Tensor, ones: Tensor) -> Tensor:
        return self.criterion(self.D(fake), ones)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x, fake = batch["x"], self.G(batch["z"])
        ones, zeros = torch.ones(len(x), 1).to(x), torch.zeros(len(x), 1).to(x)
        return {"D": self.d_loss(x, fake, ones, zeros), "G": self.g_loss(fake, ones)}

    def step(self, size: int) -> Step:
        ones, zeros = torch.ones(size, 1), torch.zeros(size, 1)
        of_d, of_g = adam(self.D), adam(self.G)

        def step(x: Tensor) -> None:
            fake = self.G(torch.randn(len(x), 2))
            of_d.zero_grad()
            self.d_loss(x, fake, ones, zeros).backward()
            of_d.step()
            of_g.zero_grad()
            self.g_loss(fake, ones).backward()
            of_g.step()

        return step


class ALI(nn.Module):
    """Adversarially learned inference with Su's fourth term, the encoder's likelihood at detached samples."""

    def __init__(self) -> None:
        super().__init__()
        self.E, self.G, self.D = mlp(2, 128, 128, 4), mlp(2, 128, 128, 4), mlp(4, 128, 128, 1)
        self.criterion = nn.BCEWithLogitsLoss()

    def drawn(self, x: Tensor, z: Tensor, z_noise: Tensor, x_noise: Tensor) -> tuple[Tensor, Tensor]:
        """(x, E(x)) and (G(z), z)."""
        loc, log_scale = self.E(x).chunk(2, 1)
        code = loc + log_scale.exp() * z_noise
        loc, log_scale = self.G(z).chunk(2, 1)
        fake = loc + log_scale.exp() * x_noise
        return torch.cat([x, code], 1), torch.cat([fake, z], 1)

    def d_loss(self, real: Tensor, fake: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
        return self.criterion(self.D(real.detach()), ones) + self.criterion(self.D(fake.detach()), zeros)

    def g_loss(self, real: Tensor, fake: Tensor, ones: Tensor) -> Tensor:
        loc, log_scale = self.E(fake[:, :2].detach()).chunk(2, 1)
        played = self.criterion(self.D(real), ones) + self.criterion(self.D(fake), ones)
        return played + normal_nll(fake[:, 2:], loc, log_scale)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x = batch["x"]
        real, fake = self.drawn(x, batch["z"], batch["z.noise"], batch["x.noise"])
        ones, zeros = torch.ones(len(x), 1).to(x), torch.zeros(len(x), 1).to(x)
        constant = math.log(2 * math.pi)
        return {"D": self.d_loss(real, fake, ones, zeros), "E+G": self.g_loss(real, fake, ones) + constant}

    def step(self, size: int) -> Step:
        ones, zeros = torch.ones(size, 1), torch.zeros(size, 1)
        of_d, of_g = adam(self.D), adam(self.E, self.G)

        def step(x: Tensor) -> None:
            real, fake = self.drawn(x, *(torch.randn(len(x), 2) for _ in range(3)))
            of_d.zero_grad()
            self.d_loss(real, fake, ones, zeros).backward()
            of_d.step()
            of_g.zero_grad()
            self.g_loss(real, fake, ones).backward()
            of_g.step()

        return step


class AAE(nn.Module):
    """The adversarial autoencoder of Makhzani et al. (2016) on 64 pixels, squared error."""

    def __init__(self) -> None:
        super().__init__()
        self.E, self.G, self.D = mlp(64, 256, 8), mlp(8, 256, 64), mlp(8, 128, 128, 1)
        self.criterion = nn.BCEWithLogitsLoss()

    def d_loss(self, z: Tensor, code: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
        return self.criterion(self.D(z), ones) + self.criterion(self.D(code.detach()), zeros)

    def g_loss(self, x: Tensor, code: Tensor, ones: Tensor) -> Tensor:
        error = F.mse_loss(torch.sigmoid(self.G(code)), x, reduction="sum") / len(x)
        return self.criterion(self.D(code), ones) + error

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x = batch["x"]
        code = self.E(x)
        ones, zeros = torch.ones(len(x), 1).to(x), torch.zeros(len(x), 1).to(x)
        constant = 64 * math.log(2 * math.pi)
        return {"D": self.d_loss(batch["z"], code, ones, zeros), "E+G": self.g_loss(x, code, ones) + constant}

    def step(self, size: int) -> Step:
        ones, zeros = torch.ones(size, 1), torch.zeros(size, 1)
        of_d, of_g = adam(self.D), adam(self.E, self.G)

        def step(x: Tensor) -> None:
            code = self.E(x)
            of_d.zero_grad()
            self.d_loss(torch.randn(len(x), 8), code, ones, zeros).backward()
            of_d.step()
            of_g.zero_grad()
            self.g_loss(x, code, ones).backward()
            of_g.step()

        return step


class AlphaGAN(nn.Module):
    """alpha-GAN (Rosca et al. 2017): critics of codes and of images; one batch of reconstructions serves all."""

    def __init__(self) -> None:
        super().__init__()
        self.E, self.G = mlp(64, 256, 8), mlp(8, 256, 64)
        self.C, self.D = mlp(8, 128, 128, 1), mlp(64, 256, 1)
        self.criterion = nn.BCEWithLogitsLoss()

    def drawn(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, reconstructions and samples."""
        code = self.E(x)
        return code, torch.sigmoid(self.G(code)), torch.sigmoid(self.G(z))

    def c_loss(self, z: Tensor, code: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
        return self.criterion(self.C(z), ones) + self.criterion(self.C(code.detach()), zeros)

    def d_loss(self, x: Tensor, made: Tensor, fake: Tensor, ones: Tensor, zeros: Tensor) -> Tensor:
        fakes = self.criterion(self.D(made.detach()), zeros) + self.criterion(self.D(fake.detach()), zeros)
        return self.criterion(self.D(x), ones) + 0.5 * fakes

    def g_loss(self, x: Tensor, code: Tensor, made: Tensor, fake: Tensor) -> Tensor:
        critics = self.C(code).mean() + 0.5 * self.D(fake).mean() + 0.5 * self.D(made).mean()
        return 10 * (F.l1_loss(made, x, reduction="sum") / len(x)) - critics

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        x, z = batch["x"], batch["z"]
        code, made, fake = self.drawn(x, z)
        ones, zeros = torch.ones(len(x), 1).to(x), torch.zeros(len(x), 1).to(x)
        return {
            "C": self.c_loss(z, code, ones, zeros),
            "D": self.d_loss(x, made, fake, ones, zeros),
            "E+G": self.g_loss(x, code, made, fake) + 640 * math.log(2),
        }

    def step(self, size: int) -> Step:
        ones, zeros = torch.ones(size, 1), torch.zeros(size, 1)
        of_c, of_d, of_g = adam(self.C), adam(self.D), adam(self.E, self.G)

        def step(x: Tensor) -> None:
            z = torch.randn(len(x), 8)
            code, made, fake = self.drawn(x, z)
            of_c.zero_grad()
            self.c_loss(z, code, ones, zeros).backward()
            of_c.step()
            of_d.zero_grad()
            self.d_loss(x, made, fake, ones, zeros).backward()
            of_d.step()
            of_g.zero_grad()
            self.g_loss(x, code, made, fake).backward()
            of_g.step()

        return step
