"""The emitted losses equal losses written by hand from the papers, in value and gradient, float64, given noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

import jointkl
from jointkl.program import Program
from tests.worlds import GAN, MODELS, VAE

N = 7


def gradients(program: Program, player: str, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, program.parameters_of(player), allow_unused=True))


def agree(program: Program, player: str, batch: Mapping[str, Tensor], hand: Callable[[], Tensor]) -> None:
    """Value and gradient with respect to everything the player trains."""
    emitted, written = program.loss(player, batch), hand()
    assert emitted.dtype == torch.float64
    assert emitted.shape == ()
    torch.testing.assert_close(emitted, written, rtol=1e-12, atol=1e-12)
    for a, b in zip(gradients(program, player, emitted), gradients(program, player, written), strict=True):
        assert a is not None
        assert b is not None
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def program(text: str, **passes: bool) -> Program:
    torch.manual_seed(1)
    return jointkl.compile(jointkl.parse(text), jointkl.Passes(**passes)).double()


PASSES = [{}, {"branches": False}, {"frozen": False}, {"branches": False, "frozen": False}]


@pytest.fixture(params=PASSES, ids=["all", "no branches", "no frozen", "none"])
def passes(request: pytest.FixtureRequest) -> dict[str, bool]:
    return request.param


# --- VAE


def vae_batch() -> dict[str, Tensor]:
    torch.manual_seed(2)
    x = torch.bernoulli(torch.full((N, 1, 8, 8), 0.4, dtype=torch.float64))
    return {"x": x, "z.noise": torch.randn(N, 8, dtype=torch.float64)}


def test_vae(passes: dict[str, bool]) -> None:
    """Kingma and Welling: -E log q(x|z) + 1/2 sum(mu^2 + sigma^2 - 1 - log sigma^2), z = mu + sigma e."""
    p, batch = program(VAE, **passes), vae_batch()

    def hand() -> Tensor:
        mu, sigma = p.nets["enc"](batch["x"])
        z = mu + sigma * batch["z.noise"]
        s = p.nets["dec"](z).sigmoid()
        log_likelihood = (batch["x"] * s.log() + (1 - batch["x"]) * (1 - s).log()).flatten(1).sum(1)
        divergence = 0.5 * (mu**2 + sigma**2 - 1 - (sigma**2).log()).sum(1)
        return (divergence - log_likelihood).mean()

    agree(p, "enc+dec", batch, hand)


def test_vae_by_monte_carlo() -> None:
    """No closed form: -E{log q(x|z) + log q(z) - log p(z|x)} at the draw itself."""
    p, batch = program(VAE + " with estimate=monte_carlo"), vae_batch()

    def hand() -> Tensor:
        mu, sigma = p.nets["enc"](batch["x"])
        z = mu + sigma * batch["z.noise"]
        s = p.nets["dec"](z).sigmoid()
        log_likelihood = (batch["x"] * s.log() + (1 - batch["x"]) * (1 - s).log()).flatten(1).sum(1)
        log_prior = (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(1)
        log_posterior = (-0.5 * batch["z.noise"] ** 2 - 0.5 * math.log(2 * math.pi) - sigma.log()).sum(1)
        return -(log_likelihood + log_prior - log_posterior).mean()

    agree(p, "enc+dec", batch, hand)


def test_vae_with_a_gaussian_decoder() -> None:
    """A learned scale: -log N(x; m, s^2) = (x - m)^2 / 2 s^2 + log s + 1/2 log 2 pi."""
    text = VAE.replace("binary[1,8,8]", "real[5]").replace("digits(threshold=0.5)", "evidence()")
    p = program(text.replace("Bernoulli(dec(z))", "Normal(dec(z))"))
    torch.manual_seed(3)
    batch = {"x": torch.randn(N, 5, dtype=torch.float64), "z.noise": torch.randn(N, 8, dtype=torch.float64)}

    def hand() -> Tensor:
        mu, sigma = p.nets["enc"](batch["x"])
        m, s = p.nets["dec"](mu + sigma * batch["z.noise"])
        nll = ((batch["x"] - m) ** 2 / (2 * s**2) + s.log() + 0.5 * math.log(2 * math.pi)).sum(1)
        return (nll + 0.5 * (mu**2 + sigma**2 - 1 - (sigma**2).log()).sum(1)).mean()

    agree(p, "enc+dec", batch, hand)


# --- GAN


def gan_batch() -> dict[str, Tensor]:
    torch.manual_seed(4)
    return {"x": torch.randn(N, 2, dtype=torch.float64), "z": torch.randn(N, 2, dtype=torch.float64)}


def test_discriminator(passes: dict[str, bool]) -> None:
    """Su 16: -E log D(x) - E log(1 - D(G(z)))."""
    p, batch = program(GAN, **passes), gan_batch()

    def hand() -> Tensor:
        real = p.nets["D"](batch["x"]).sigmoid()
        fake = p.nets["D"](p.nets["G"](batch["z"])).sigmoid()
        return -real.log().mean() - (1 - fake).log().mean()

    agree(p, "D", batch, hand)


def test_generator(passes: dict[str, bool]) -> None:
    """Su 20: -E log D(G(z))."""
    p, batch = program(GAN, **passes), gan_batch()
    agree(p, "G", batch, lambda: -p.nets["D"](p.nets["G"](batch["z"])).sigmoid().log().mean())


def test_weights_and_swapped_labels() -> None:
    """y=0 the data with weight 0.3: 0.6 and 1.4, D = p(0|x)."""
    p = program(GAN.replace("y=1: data(x); y=0: q(z)", "y=0: 0.3 * data(x); y=1: 0.7 * q(z)"))
    batch = gan_batch()

    def discriminator() -> Tensor:
        real = 1 - p.nets["D"](batch["x"]).sigmoid()
        fake = p.nets["D"](p.nets["G"](batch["z"])).sigmoid()
        return -0.6 * real.log().mean() - 1.4 * fake.log().mean()

    agree(p, "D", batch, discriminator)
    agree(p, "G", batch, lambda: -1.4 * (1 - p.nets["D"](p.nets["G"](batch["z"])).sigmoid()).log().mean())


@pytest.mark.parametrize(("game", "sign"), [("minimax", 1), ("nonsaturating", -1)])
def test_games(game: str, sign: int) -> None:
    """Su 42: + log(1 - D(G(z))); 43: - log D(G(z))."""
    p, batch = program(GAN + f" with game={game}"), gan_batch()

    def hand() -> Tensor:
        d = p.nets["D"](p.nets["G"](batch["z"])).sigmoid()
        return (1 - d).log().mean() if sign == 1 else -d.log().mean()

    agree(p, "G", batch, hand)


def test_a_batch_that_gives_nothing_is_drawn_at_random() -> None:
    p, batch = program(GAN), gan_batch()
    torch.manual_seed(5)
    first = p.loss("G", {"x": batch["x"]})
    second = p.loss("G", {"x": batch["x"]})
    torch.manual_seed(5)
    assert p.loss("G", {"x": batch["x"]}) == first != second


def test_what_the_batch_lacks_is_named() -> None:
    with pytest.raises(KeyError, match=r"the loss of D needs 'x' in its batch, which holds \['z'\]"):
        program(GAN).loss("D", {"z": gan_batch()["z"]})


def test_a_step_gives_gradients_to_its_player_alone() -> None:
    p, batch = program(GAN), gan_batch()
    p.loss("D", batch).backward(inputs=p.parameters_of("D"))
    assert all(w.grad is not None for w in p.parameters_of("D"))
    assert all(w.grad is None for w in p.parameters_of("G"))


def test_the_models_compile_to_what_they_are_named() -> None:
    vae, gan = jointkl.compile(MODELS / "vae.jkl"), jointkl.compile(str(MODELS / "gan.jkl"))
    assert vae.players == ("enc+dec",)
    assert gan.players == ("G", "D")
    assert set(gan.nets) == {"G", "D"}
