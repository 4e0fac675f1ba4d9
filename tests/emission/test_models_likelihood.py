"""The models that evaluate a likelihood: emitted losses equal losses written by hand from the papers."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from jointkl.program import Program
from tests.hand import (
    LOG_2PI,
    N,
    agree,
    bernoulli,
    black_and_white,
    compiled,
    divergence,
    gaussian,
    grey,
    laplace,
    model,
    normal,
    one,
    perturb,
    zero,
)


@model("vae", "enc+dec")
def test_vae(p: Program) -> None:
    """Su 7: E{-log q(x|z) + KL[p(z|x)||q(z)]}."""
    x, e = black_and_white(), normal(N, 8)

    def hand() -> Tensor:
        loc, scale = p.nets["enc"](x)
        return (bernoulli(x, p.nets["dec"](loc + scale * e)) + divergence(loc, scale)).mean()

    agree(p, "enc+dec", {"x": x, "z.noise": e}, hand)


@model("iwae", "enc+dec")
def test_iwae(p: Program) -> None:
    """Burda et al. 8: E{-log 1/8 sum_k q(x|z_k) q(z_k) / p(z_k|x)}."""
    x, e = black_and_white(), normal(8, N, 8)

    def hand() -> Tensor:
        loc, scale = p.nets["enc"](x)
        log_w = []
        for k in range(8):
            z = loc + scale * e[k]
            log_w.append(gaussian(z, loc, scale) - bernoulli(x, p.nets["dec"](z)) - gaussian(z, torch.zeros_like(z)))
        return -torch.stack(log_w).exp().mean(0).log().mean()

    agree(p, "enc+dec", {"x": x, "z.noise": e}, hand)


@model("avb", "E+G", "T")
def test_avb(p: Program) -> None:
    """Mescheder et al.: E{-log q(x|z) - l(x,z)}, l = log data(x) q(z) / data(x) p(z|x), from T's logistic loss."""
    E, G, T = p.nets["E"], p.nets["G"], p.nets["T"]
    x, e, z = black_and_white(), normal(N, 8), normal(N, 8, seed=1)
    batch = {"x": x, "e": e, "z": z}
    agree(p, "E+G", batch, lambda: (bernoulli(x, G(E(x, e))) - T(x, E(x, e))).mean())
    agree(p, "T", batch, lambda: (one(T(x, z)) + zero(T(x, E(x, e)))).mean())


@model("vi", "mw+mb+sw+sb")
def test_vi(p: Program) -> None:
    """Wu 1-3: per datum -log q(x|t,w,b), and the N-th part of KL[p(w)||q(w)] + KL[p(b)||q(b)]."""
    x, t, e = normal(N), normal(N, seed=1), normal(2, seed=2)
    batch = {"x": x, "t": t, "w.noise": e[0], "b.noise": e[1]}

    def hand(size: int) -> Tensor:
        mw, mb, sw, sb = (p.params[name] for name in ("mw", "mb", "sw", "sb"))
        w, b = mw + sw * e[0], mb + sb * e[1]
        nll = (x - w * t - b) ** 2 / (2 * 0.5**2) + torch.tensor(0.5).double().log() + 0.5 * LOG_2PI
        kl = sum(0.5 * (m**2 + s**2 - 1) - s.log() for m, s in ((mw, sw), (mb, sb)))
        return nll.mean() + kl / size

    agree(p, "mw+mb+sw+sb", batch, lambda: hand(N))
    p.data_size = 100
    agree(p, "mw+mb+sw+sb", batch, lambda: hand(100))


def test_vi_of_a_global_that_is_not_normal() -> None:
    """Cauchy by its location, scale and one noise for the whole data set, given or drawn."""
    p = compiled("vi", "p(w) = Normal(mw, sw)", "p(w) = Cauchy(mw, sw)")
    assert p is not None
    x, t, e = normal(N), normal(N, seed=1), normal(2, seed=2)

    def hand() -> Tensor:
        mw, mb, sw, sb = (p.params[name] for name in ("mw", "mb", "sw", "sb"))
        w, b = mw + sw * e[0], mb + sb * e[1]
        nll = (x - w * t - b) ** 2 / (2 * 0.5**2) + torch.tensor(0.5).double().log() + 0.5 * LOG_2PI
        kl_w = -(torch.pi * sw).log() - (1 + e[0] ** 2).log() + 0.5 * w**2 + 0.5 * LOG_2PI
        kl_b = 0.5 * (mb**2 + sb**2 - 1) - sb.log()
        return nll.mean() + (kl_w + kl_b) / N

    agree(p, "mw+mb+sw+sb", {"x": x, "t": t, "w.noise": e[0], "b.noise": e[1]}, hand)
    assert p.loss("mw+mb+sw+sb", {"x": x, "t": t}).shape == ()


@model("em", "p(k|x)", "mu+L+w")
def test_em(p: Program) -> None:
    """Su 11, 8: responsibilities; then -E sum_k p(k|x) log q(k) q(x|k)."""
    x = normal(N, 4)

    def log_joint() -> Tensor:
        mu, tril, w = p.params["mu"], p.params["L"], p.params["w"]
        columns = []
        for k in range(3):
            e = torch.linalg.solve_triangular(tril[k], (x - mu[k]).T, upper=False)
            columns.append(w[k].log() - 0.5 * (e**2).sum(0) - tril[k].diagonal().log().sum() - 2 * LOG_2PI)
        return torch.stack(columns, 1)

    r = log_joint().softmax(1).detach()
    torch.testing.assert_close(p.solve("p(k|x)", {"x": x}), r, rtol=1e-12, atol=1e-12)
    agree(p, "mu+L+w", {"x": x}, lambda: -(r * log_joint()).sum(1).mean())


# --- wake-sleep draws finite variables, which no noise can give


def saturate(*weights: Tensor) -> None:
    """So large that a Bernoulli with these logits has one value."""
    with torch.no_grad():
        for w in weights:
            w *= 1e7


def sure(logits: Tensor) -> Tensor:
    """The value of such a Bernoulli."""
    assert logits.abs().min() > 100
    return (logits > 0).double()


@model("wake_sleep", "G+b", "E")
def test_wake(p: Program) -> None:
    """Hinton et al.: E_p{-log q(x|z) - log q(z)}, where the code is certain."""
    E, G, x = p.nets["E"], p.nets["G"], black_and_white()
    saturate(*list(E.parameters())[-2:])

    def hand() -> Tensor:
        z = sure(E(x)).detach()
        return (bernoulli(x, G(z)) + bernoulli(z, p.params["b"])).mean()

    agree(p, "G+b", {"x": x}, hand)


@model("wake_sleep", "G+b", "E")
def test_sleep(p: Program) -> None:
    """E_q{-log p(z|x)}, where the dream is certain."""
    E, G, x = p.nets["E"], p.nets["G"], black_and_white()
    saturate(p.params["b"], *list(G.parameters())[-2:])

    def hand() -> Tensor:
        z = sure(p.params["b"]).expand(N, 16)
        return bernoulli(z, E(sure(G(z)).detach())).mean()

    agree(p, "E", {"x": x}, hand)


def within(emitted: Tensor, written: Tensor) -> None:
    """A mean over draws lies within 4 standard errors (both are random) of that of other draws, one a row."""
    error = 4 * (2 * written.var(0) / len(written)).sqrt()
    assert (emitted - written.mean(0)).abs().lt(error).all()


@model("wake_sleep", "G+b", "E")
def test_wake_sleep_in_expectation(p: Program) -> None:
    """Values, and gradients in the last layer, whose per-datum gradient in a logit is its mean less the value."""
    E, G, b = p.nets["E"], p.nets["G"], p.params["b"]
    x = black_and_white(size=8000)
    with torch.no_grad():
        z = torch.bernoulli(E(x).sigmoid())
        wake, wake_b, wake_g = bernoulli(x, G(z)) + bernoulli(z, b), b.sigmoid() - z, (G(z).sigmoid() - x).flatten(1)
        z = torch.bernoulli(b.sigmoid().expand(len(x), 16))
        x2 = torch.bernoulli(G(z).sigmoid())
        sleep, sleep_e = bernoulli(z, E(x2)), E(x2).sigmoid() - z
    loss = p.loss("G+b", {"x": x})
    grad_b, grad_g = torch.autograd.grad(loss, (b, list(G.parameters())[-1]))
    within(loss.detach(), wake)
    within(grad_b, wake_b)
    within(grad_g, wake_g)
    loss = p.loss("E", {"x": x})
    (grad_e,) = torch.autograd.grad(loss, (list(E.parameters())[-1],))
    within(loss.detach(), sleep)
    within(grad_e, sleep_e)


# --- encoders as critics


def moments(z: Tensor) -> Tensor:
    """KL of the Gaussian fit to a batch of codes to the standard normal."""
    mean = z.mean(0)
    var = ((z - mean) ** 2).mean(0)
    return 0.5 * (mean**2 + var - 1 - var.log()).sum()


@model("age", "E", "G")
def test_age(p: Program) -> None:
    """Ulyanov et al.: E drives the codes of data and of samples apart, G together; E rebuilds data, G codes."""
    E, G = p.nets["E"], p.nets["G"]
    x, z, z2 = grey(), normal(N, 8), normal(N, 8, seed=1)
    batch = {"x": x, "z": z, "z'": z2}
    agree(p, "E", batch, lambda: moments(E(x)) - moments(E(G(z2))) + 10 * laplace(x, G(E(x))).mean())
    agree(p, "G", batch, lambda: moments(E(G(z2))) + 1000 * gaussian(z, E(G(z))).mean())


class IntroVAE:
    """Huang et al. 11, 12: hinges on means over the batch; E's own samples and reconstructions are fixed, and old."""

    def __init__(self, p: Program) -> None:
        self.p = p
        assert sorted(p.players) == ["E", "G"]
        p.snapshot()
        self.old_E, self.old_G = deepcopy(p.nets["E"]), deepcopy(p.nets["G"])
        perturb(p, "E", "G")
        self.x, self.z, self.e = grey(), normal(N, 8), normal(N, 8, seed=1)
        self.batch = {"x": self.x, "z": self.z, "z.noise": self.e}

    def code(self, E: nn.Module) -> Tensor:
        loc, scale = E(self.x)
        return loc + scale * self.e

    def kl(self, x: Tensor) -> Tensor:
        return divergence(*self.p.nets["E"](x)).mean()

    def old_kls(self) -> tuple[Tensor, Tensor]:
        rebuilt, generated = self.old_G(self.code(self.old_E)), self.old_G(self.z)
        return self.kl(rebuilt.detach()), self.kl(generated.detach())

    def reconstruction(self) -> Tensor:
        return 0.05 * gaussian(self.x, self.p.nets["G"](self.code(self.p.nets["E"]))).mean()

    def encoder(self, m: float) -> Tensor:
        return self.kl(self.x) + sum(0.25 * (m - k).clamp(min=0) for k in self.old_kls()) + self.reconstruction()

    def generator(self) -> Tensor:
        E, G = self.p.nets["E"], self.p.nets["G"]
        return 0.25 * self.kl(G(self.code(E))) + 0.25 * self.kl(G(self.z)) + self.reconstruction()


@pytest.mark.parametrize("margin", ["above both", "a little above one", "below both"])
def test_introvae(margin: str) -> None:
    if (p := compiled("introvae")) is None:
        return
    world = IntroVAE(p)
    rebuilt, generated = (k.item() for k in world.old_kls())
    m = {"above both": 100, "a little above one": min(rebuilt, generated) + 1e-4, "below both": 1e-4}[margin]
    assert abs(rebuilt - generated) > 1e-3
    if m != 100:
        p = compiled("introvae", "let m = 100", f"let m = {m}")
        assert p is not None
        world = IntroVAE(p)
    agree(p, "E", world.batch, lambda: world.encoder(m))
    agree(p, "G", world.batch, world.generator)
