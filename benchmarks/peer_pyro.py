"""The VAE in Pyro: a model and a guide that register their networks, and SVI."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from benchmarks.hand import Step, mlp
from benchmarks.peer_nets import OneHead, TwoHeads, assign

CODE = 20


class VAE(nn.Module, ABC):
    """784-400-20 with ReLU. Pyro knows parameters by their names: of these modules the last one made is its own."""

    def __init__(self, encoder: TwoHeads | OneHead) -> None:
        super().__init__()
        pyro.clear_param_store()
        self.encoder, self.decoder = encoder, mlp(CODE, 400, 784)

    def assign(self, weights: Mapping[str, Sequence[Tensor]]) -> None:
        self.encoder.assign(weights["enc"])
        assign(self.decoder, weights["dec"])

    @abstractmethod
    def seen(self, z: Tensor) -> dist.Distribution:
        """p(x|z)"""

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            prior = dist.Normal(x.new_zeros(len(x), CODE), x.new_ones(len(x), CODE)).to_event(1)
            z = pyro.sample("z", prior)
            pyro.sample("x", self.seen(z).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, scale = self.encoder(x)
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    def sampled(self, x: Tensor) -> dict[str, Tensor]:
        """The loss of `Trace_ELBO` per datum, every term of it an average over the draw."""
        return {"enc+dec": Trace_ELBO().differentiable_loss(self.model, self.guide, x) / len(x)}

    def closed(self, x: Tensor) -> dict[str, Tensor]:
        """The loss of `TraceMeanField_ELBO` per datum, its divergence in closed form."""
        return {"enc+dec": TraceMeanField_ELBO().differentiable_loss(self.model, self.guide, x) / len(x)}


class Tutorial(VAE):
    """As Pyro's tutorial has it."""

    def __init__(self) -> None:
        super().__init__(TwoHeads())

    def seen(self, z: Tensor) -> dist.Distribution:
        return dist.Bernoulli(torch.sigmoid(self.decoder(z)))

    def step(self) -> Step:
        svi = SVI(self.model, self.guide, pyro.optim.Adam({"lr": 1e-3}), loss=Trace_ELBO())

        def step(x: Tensor) -> None:
            svi.step(x)

        return step


class Fastest(VAE):
    """One head, logits, the divergence in closed form, and one fused optimiser of torch for all parameters."""

    def __init__(self) -> None:
        super().__init__(OneHead())

    def seen(self, z: Tensor) -> dist.Distribution:
        return dist.Bernoulli(logits=self.decoder(z))

    def step(self) -> Step:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)

        def step(x: Tensor) -> None:
            optimizer.zero_grad()
            self.closed(x)["enc+dec"].backward()
            optimizer.step()

        return step
