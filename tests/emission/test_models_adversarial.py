"""The models with classifiers and density ratios: emitted losses equal losses written by hand from the papers."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor

import jointkl
from jointkl.program import Program
from tests.hand import (
    N,
    agree,
    categorical,
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

X, Z = normal(N, 2, seed=10), normal(N, 2, seed=11)
RING = {"x": X, "z": Z}

# --- GANs


@model("gan", "D", "G")
def test_gan(p: Program) -> None:
    """Su 16, 20: E_data{-log D1} + E_gen{-log D0}; E_gen{-log D1}."""
    G, D = p.nets["G"], p.nets["D"]
    agree(p, "D", RING, lambda: (one(D(X)) + zero(D(G(Z)))).mean())
    agree(p, "G", RING, lambda: one(D(G(Z))).mean())


@model("gan_regularized", "D", "G")
def test_gan_regularized(p: Program) -> None:
    """Su 26: E{-log D1 + 5 ||G(z) - G_old(z)||^2}."""
    p.snapshot()
    old = deepcopy(p.nets["G"])
    perturb(p, "G", "D")
    G, D = p.nets["G"], p.nets["D"]
    agree(p, "D", RING, lambda: (one(D(X)) + zero(D(G(Z)))).mean())
    agree(p, "G", RING, lambda: (one(D(G(Z))) + 5 * ((G(Z) - old(Z).detach()) ** 2).sum(1)).mean())


@model("gan_ratio", "G", "T")
def test_gan_ratio(p: Program) -> None:
    """KL(q || data) = E_gen{-l}, l = log data/q from T's logistic loss."""
    G, T = p.nets["G"], p.nets["T"]
    agree(p, "T", RING, lambda: (one(T(X)) + zero(T(G(Z)))).mean())
    agree(p, "G", RING, lambda: -T(G(Z)).mean())


@model("iwgan", "D", "G")
def test_iwgan(p: Program) -> None:
    """Hu et al.: E sum_k w_k (-log D1(x_k)), w = softmax of the logits over 8 samples, fixed; D as a GAN's."""
    G, D = p.nets["G"], p.nets["D"]
    z = normal(8, N, 2)

    def generator() -> Tensor:
        logits = torch.stack([D(G(z[k])) for k in range(8)])
        return (logits.softmax(0).detach() * one(logits)).sum(0).mean()

    agree(p, "D", {"x": X, "z": z}, lambda: one(D(X)).mean() + zero(D(G(z.flatten(0, 1)))).mean())
    agree(p, "G", {"x": X, "z": z}, generator)


@model("infogan", "G+R", "T+D")
def test_infogan(p: Program) -> None:
    """Chen et al.: a GAN, and -log r(c|x) for G and R; the trunk T is the discriminator's."""
    G, T, D, R = (p.nets[name] for name in ("G", "T", "D", "R"))
    x, z, c = grey(), normal(N, 16), torch.tensor([3, 0, 9, 3, 7, 1])
    batch = {"x": x, "z": z, "c": c}
    agree(p, "T+D", batch, lambda: (one(D(T(x))) + zero(D(T(G(z, c))))).mean())
    agree(p, "G+R", batch, lambda: (one(D(T(G(z, c)))) + categorical(c, R(T(G(z, c))))).mean())


@model("cyclegan", "F+G", "DA", "DB")
def test_cyclegan(p: Program) -> None:
    """Zhu et al.: two GANs, each way once, and 10 times an L1 reconstruction from either side."""
    F, G, DA, DB = (p.nets[name] for name in ("F", "G", "DA", "DB"))
    a, b = grey(), grey(1)
    batch = {"a": a, "b": b}
    agree(p, "DA", batch, lambda: (one(DA(a)) + zero(DA(G(b)))).mean())
    agree(p, "DB", batch, lambda: (one(DB(b)) + zero(DB(F(a)))).mean())

    def translators() -> Tensor:
        return (one(DB(F(a))) + one(DA(G(b))) + 10 * laplace(a, G(F(a))) + 10 * laplace(b, F(G(b)))).mean()

    agree(p, "F+G", batch, translators)


@model("domain_adaptation", "E+R", "D")
def test_domain_adaptation(p: Program) -> None:
    """Ganin et al.: D tells source features from target ones; E the opposite sign, and source classes."""
    E, R, D = (p.nets[name] for name in "ERD")
    x, x2, c = grey(), grey(1), torch.tensor([3, 0, 9, 3, 7, 1])
    batch = {"source.x": x, "target.x": x2, "c": c}
    agree(p, "D", batch, lambda: (one(D(E(x))) + zero(D(E(x2)))).mean())
    agree(p, "E+R", batch, lambda: (categorical(c, R(E(x))) - one(D(E(x))) - zero(D(E(x2)))).mean())


# --- encoders and generators


@model("aae", "E+G", "D")
def test_aae(p: Program) -> None:
    """Su 30, 33, 34: the prior against codes; twice the Gaussian reconstruction is (34)'s squared error, lambda = 1."""
    E, G, D = (p.nets[name] for name in "EGD")
    x, z = grey(), normal(N, 8)
    agree(p, "D", {"x": x, "z": z}, lambda: (one(D(z)) + zero(D(E(x)))).mean())
    agree(p, "E+G", {"x": x, "z": z}, lambda: (one(D(E(x))) + 2 * gaussian(x, G(E(x)))).mean())


class ALI:
    """Su 35-43: pairs (x, z) of the encoder and of the generator, and D's loss (38)."""

    def __init__(self, p: Program) -> None:
        self.E, self.G, self.D = (p.nets[name] for name in "EGD")
        self.x, self.z, self.ex, self.ez = (normal(N, 2, seed=s) for s in range(4))
        self.batch = {"x": self.x, "z": self.z, "x.noise": self.ex, "z.noise": self.ez}

    def encoded(self) -> tuple[Tensor, Tensor]:
        loc, scale = self.E(self.x)
        return self.x, loc + scale * self.ez

    def generated(self) -> tuple[Tensor, Tensor]:
        loc, scale = self.G(self.z)
        return loc + scale * self.ex, self.z

    def check(self, p: Program, players: Callable[[], Tensor]) -> None:
        agree(p, "D", self.batch, lambda: (one(self.D(*self.encoded())) + zero(self.D(*self.generated()))).mean())
        agree(p, "E+G", self.batch, lambda: players().mean())


@model("ali", "E+G", "D")
def test_ali(p: Program) -> None:
    """Su 40 to first order: (41), and E's residual -log p(z|x) at the generator's samples, fixed."""
    s = ALI(p)

    def players() -> Tensor:
        residual = gaussian(s.z, *s.E(s.generated()[0].detach()))
        return one(s.D(*s.encoded())) + one(s.D(*s.generated())) + residual

    s.check(p, players)
    assert not p.derivation.warnings


@model("ali_proximal", "E+G", "D")
def test_ali_proximal(p: Program) -> None:
    """Su 40, all four terms: through the samples as well."""
    p.snapshot()
    old_E, old_G = deepcopy(p.nets["E"]), deepcopy(p.nets["G"])
    perturb(p, "E+G", "D")
    s = ALI(p)

    def players() -> Tensor:
        x, z = s.generated()
        proximal = divergence(*s.G(z), *old_G(z))
        residual = gaussian(z, *s.E(x)) - gaussian(z, *old_E(x))
        return one(s.D(*s.encoded())) + one(s.D(x, z)) + proximal + residual

    s.check(p, players)


MIXED = """
data(x) = evidence()
var x: real[3]
var z: real[2]
net E = linear()
net G = linear()
net D = mlp(4)
p(z | x) = Delta(E(x))
q(z)     = Normal(0, 1)
q(x | z) = Delta(G(z))
q(x) = { s=0: q(z) * q(x|z); s=1: data(x') * p(z|x') * q(x|z) }
minimize KL(q(x) || data(x)) with critic=D, proximal=dirac(0.5)
"""


def test_a_mixture_keeps_the_distances_of_what_each_branch_draws() -> None:
    """Su 26 on each path of a hidden mixture: E draws in the second branch alone, G in both."""
    torch.manual_seed(1)
    p = jointkl.compile(jointkl.parse(MIXED)).double()
    perturb(p, "E+G", "D")
    p.snapshot()
    old_E, old_G = deepcopy(p.nets["E"]), deepcopy(p.nets["G"])
    perturb(p, "E+G", "D")
    noise, x = normal(N, 2), normal(N, 3, seed=1)

    def hand() -> Tensor:
        E, G, D = (p.nets[name] for name in "EGD")
        z = E(x.roll(1, 0))

        def path(z: Tensor) -> Tensor:
            return -D(G(z)) + 0.5 * (G(z) - old_G(z)).square().sum(-1)

        moved = 0.5 * (z - old_E(x.roll(1, 0))).square().sum(-1)
        return (0.5 * path(noise) + 0.5 * (path(z) + moved)).mean()

    agree(p, "E+G", {"x": x, "z": noise}, hand)


@model("ali_dropped", "E+G", "D")
def test_ali_dropped(p: Program) -> None:
    """Su 41, with a warning."""
    s = ALI(p)
    s.check(p, lambda: one(s.D(*s.encoded())) + one(s.D(*s.generated())))
    assert len(p.derivation.warnings) == 1


@model("ali_minimax", "E+G", "D")
def test_ali_minimax(p: Program) -> None:
    """Su 42: E_E{log D1} + E_G{log D0}."""
    s = ALI(p)
    s.check(p, lambda: -one(s.D(*s.encoded())) - zero(s.D(*s.generated())))


@model("ali_nonsaturating", "E+G", "D")
def test_ali_nonsaturating(p: Program) -> None:
    """Su 43: E_E{-log D0} + E_G{-log D1}."""
    s = ALI(p)
    s.check(p, lambda: zero(s.D(*s.encoded())) + one(s.D(*s.generated())))


@model("bigan", "E+G", "D")
def test_bigan(p: Program) -> None:
    """As ALI; the residual is 1/2 ||z - E(x)||^2 and a constant, at the generator's samples, fixed."""
    E, G, D = (p.nets[name] for name in "EGD")
    x, z = grey(), normal(N, 8)

    def players() -> Tensor:
        return (one(D(x, E(x))) + one(D(G(z), z)) + gaussian(z, E(G(z).detach()))).mean()

    agree(p, "D", {"x": x, "z": z}, lambda: (one(D(x, E(x))) + zero(D(G(z), z))).mean())
    agree(p, "E+G", {"x": x, "z": z}, players)


# --- several at once


@model("alpha_gan", "E+G", "C", "D")
def test_alpha_gan(p: Program) -> None:
    """Rosca et al.: ratios of codes, and of samples and reconstructions, half and half; 10 times the L1 error."""
    E, G, C, D = (p.nets[name] for name in "EGCD")
    x, copy, z = grey(), grey(1), normal(N, 8)
    for batch, x2 in (({"x": x, "z": z}, x.roll(1, 0)), ({"x": x, "x'": copy, "z": z}, copy)):

        def samples(critic: Callable[[Tensor], Tensor], x2: Tensor = x2) -> Tensor:
            return 0.5 * critic(D(G(z))) + 0.5 * critic(D(G(E(x2))))

        def players(x2: Tensor = x2) -> Tensor:
            return (10 * laplace(x, G(E(x))) - C(E(x)) - samples(lambda logit: logit, x2)).mean()

        agree(p, "C", batch, lambda: (one(C(z)) + zero(C(E(x)))).mean())
        agree(p, "D", batch, lambda x2=x2: (one(D(x)) + samples(zero, x2)).mean())
        agree(p, "E+G", batch, players)


@model("vae_gan", "E", "G", "T+D")
def test_vae_gan(p: Program) -> None:
    """Larsen et al.: the likelihood of D's hidden layer; samples and reconstructions, half and half, against data."""
    E, G, T, D = (p.nets[name] for name in "EGTD")
    x, copy, z, e = grey(), grey(1), normal(N, 8), normal(N, 8, seed=1)

    def rebuilt(x: Tensor) -> Tensor:
        loc, scale = E(x)
        return T(G(loc + scale * e))

    for batch, x2 in (({}, x.roll(1, 0)), ({"x'": copy}, copy)):

        def samples(label: Callable[[Tensor], Tensor], x2: Tensor = x2) -> Tensor:
            return 0.5 * label(D(T(G(z)))) + 0.5 * label(D(rebuilt(x2)))

        given = {"x": x, "z": z, "z.noise": e, "z'.noise": e, **batch}  # whichever names a reconstruction's draw
        agree(p, "E", given, lambda: (divergence(*E(x)) + gaussian(T(x), rebuilt(x))).mean())
        agree(p, "G", given, lambda x2=x2: (gaussian(T(x), rebuilt(x)) + samples(one, x2)).mean())
        agree(p, "T+D", given, lambda x2=x2: (one(D(T(x))) + samples(zero, x2)).mean())


def test_keys_do_not_hang_on_the_order_of_branches() -> None:
    """design.md: "z" gives a root without parameters, whichever branch of a mixture draws it."""
    first, second = "q(z) * q(x|z)", "data(x') * p(z|x') * q(x|z)"
    x, z, e = grey(), normal(N, 8), normal(N, 8, seed=1)
    batch = {"x": x, "z": z, "z.noise": e, "z'.noise": e}
    losses = []
    for branches in (f"s=0: {first}; s=1: {second}", f"s=1: {second}; s=0: {first}"):
        p = compiled("vae_gan", f"s=0: {first}; s=1: {second}", branches)
        assert p is not None
        losses.append(p.loss("T+D", batch))
    torch.testing.assert_close(*losses)


@model("adversary_activated_vae", "E+G", "D")
def test_adversary_activated_vae(p: Program) -> None:
    """Hu et al.: {-log q(x|z) + KL[p(z|x)||q(z)]} at data and at old samples, each weighed by D1; D as a GAN's."""
    p.snapshot()
    old = deepcopy(p.nets["G"])
    perturb(p, "E+G", "D")
    E, G, D = (p.nets[name] for name in "EGD")
    x, z, z2, ex, ez = grey(), normal(N, 8), normal(N, 8, seed=1), normal(N, 1, 8, 8, seed=2), normal(N, 8, seed=3)
    batch = {"x": x, "z": z, "z'": z2, "x.noise": ex, "z.noise": ez}

    def weighed(x: Tensor) -> Tensor:
        loc, scale = E(x)
        return D(x).sigmoid() * (gaussian(x, G(loc + scale * ez)) + divergence(loc, scale))

    agree(p, "E+G", batch, lambda: (0.5 * weighed(x) + 0.5 * weighed((old(z2) + ex).detach())).mean())
    agree(p, "D", batch, lambda: (one(D(x)) + zero(D(G(z) + ex))).mean())
