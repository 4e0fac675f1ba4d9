"""Each estimator of a gradient against an integral, an exact sum or a long run of another: values and gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal, Poisson, StudentT, VonMises

import jointkl
from jointkl.objective.builder import LOCATION_SCALE
from jointkl.program import Program
from jointkl.semantics.families import CLOSED_FORM, FAMILIES
from tests.bounds import reach, sigmas

pytestmark = pytest.mark.statistical


def compiled(text: str) -> Program:
    """Params are moved off their start by the same in every run: no seed puts them where a gradient is zero."""
    torch.manual_seed(0)
    p = jointkl.compile(jointkl.parse(text)).double()
    with torch.no_grad():
        for w in p.parameters():
            w.add_(0.4 * torch.cos(torch.arange(w.numel(), dtype=w.dtype)).reshape(w.shape))
    return p


def gradient(p: Program, loss: Tensor) -> Tensor:
    (player,) = p.players
    found = torch.autograd.grad(loss, p.parameters_of(player), allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(w) if g is None else g).flatten()
            for g, w in zip(found, p.parameters_of(player), strict=True)
        ]
    )


def verify(p: Program, draw: Callable[[], Tensor], exact: Tensor, runs: int, of: str = "") -> None:
    """The mean over many draws is the exact value, and its gradient the exact gradient, to five standard errors.

    They would tell if the gradient of `of`, a net or param, were lost: where the parameters that a seed gives make the
    estimator noisy, up to 16 times as many are drawn. What a value so rare adds that it may never be drawn, such as a
    large count, is left out of account: a thousandth of the largest.
    """
    (player,) = p.players
    target = gradient(p, exact)
    names = {id(w): name for name, w in p.emitted.named_parameters()}
    owned = [
        names[id(w)].split(".")[0].removesuffix("_raw") == of for w in p.parameters_of(player) for _ in range(w.numel())
    ]
    mask = torch.tensor(owned) if of else torch.ones(len(target), dtype=torch.bool)
    torch.manual_seed(2)
    values: list[Tensor] = []
    slopes: list[Tensor] = []
    for number in range(1, 16 * runs + 1):
        loss = draw()
        values.append(loss.detach())
        slopes.append(gradient(p, loss))
        if number % runs == 0:
            error = torch.stack(slopes).std(0) / number**0.5
            if (target[mask].abs() > 8 * error[mask]).any():
                break
    else:
        raise AssertionError("these draws tell nothing")
    for found, wanted in ((torch.stack(values), exact.detach()), (torch.stack(slopes), target)):
        error = found.std(0) / number**0.5
        unseen = 1e-3 * wanted.abs().max()
        assert ((found.mean(0) - wanted).abs() <= sigmas(number) * error + unseen).all()


X = torch.tensor([0.7], dtype=torch.float64)
MANY = X.expand(2000)


# --- the score function


def counts(most: int = 40) -> Tensor:
    return torch.arange(most, dtype=torch.float64)


def normal(x: Tensor, loc: Tensor, scale: float = 1.0) -> Tensor:
    return Normal(loc, scale).log_prob(x)


LATENT = """
data(x) = evidence()
var x: real
var k: SPACE
net E = mlp(3)
net G = mlp(3)
p(k | x) = FAMILY(E(x))
q(k)     = PRIOR
q(x | k) = Normal(G(k), 1)
minimize KL(data(x) * p(k|x) || q(k) * q(x|k))
"""


@pytest.mark.parametrize("options", ["", " with estimate=monte_carlo"], ids=["closed KL", "monte carlo"])
def test_a_count_is_scored(options: str) -> None:
    text = LATENT.replace("SPACE", "natural").replace("FAMILY", "Poisson").replace("PRIOR", "Poisson(2)")
    p = compiled(text + options)
    k = counts()
    log_p = Poisson(p.nets["E"](X)).log_prob(k)
    cost = log_p - Poisson(2.0).log_prob(k) - normal(X, p.nets["G"](k))
    verify(p, lambda: p.loss("E+G", {"x": MANY}), (log_p.exp() * cost).sum(), 40, "E")


def test_an_angle_is_scored() -> None:
    """Continuous, but drawn by rejection: Pyro gives no pathwise gradient."""
    text = LATENT.replace("SPACE", "real").replace("FAMILY", "VonMises").replace("PRIOR", "VonMises(0, 1)")
    p = compiled(text)
    loc, concentration = p.nets["E"](X)
    a = torch.arange(2000, dtype=torch.float64) * (2 * math.pi / 2000) - math.pi
    log_p = VonMises(loc, concentration).log_prob(a)
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    cost = log_p - VonMises(zero, one).log_prob(a) - normal(X, p.nets["G"](a))
    verify(p, lambda: p.loss("E+G", {"x": MANY}), (log_p.exp() * cost).sum() * (2 * math.pi / 2000), 40, "E")


def test_what_descends_from_a_count_is_its_cost() -> None:
    """k -> z = F(k) -> x: the likelihood names z alone, and hangs on k all the same."""
    p = compiled("""
        data(x) = evidence()
        var x, z: real
        var k: natural
        net E = mlp(3)
        net F = mlp(3)
        net G = mlp(3)
        p(k | x) = Poisson(E(x))
        p(z | k) = Delta(F(k))
        q(x | z) = Normal(G(z), 1)
        minimize CE(data(x) * p(k|x) * p(z|k) || q(x|z))
    """)
    k = counts()
    weights = Poisson(p.nets["E"](X)).log_prob(k).exp()
    exact = -(weights * normal(X, p.nets["G"](p.nets["F"](k)))).sum()
    verify(p, lambda: p.loss("E+F+G", {"x": MANY}), exact, 40, "E")


def test_a_closed_divergence_below_a_count_is_its_cost() -> None:
    """KL[p(z|k) || q(z|k)] is closed in z, and hangs on k."""
    p = compiled("""
        data(x) = evidence()
        var x, z: real
        var k: natural
        net E = mlp(3)
        net F = mlp(3)
        p(k | x) = Poisson(E(x))
        p(z | k) = Normal(F(k))
        q(k)     = Poisson(2)
        q(z | k) = Normal(k, 1)
        q(x | z) = Normal(z, 1)
        minimize KL(data(x) * p(k|x) * p(z|k) || q(k) * q(z|k) * q(x|z))
    """)
    k = counts()
    rate = p.nets["E"](X)
    loc, scale = p.nets["F"](k)
    log_p = Poisson(rate).log_prob(k)
    expected = 0.5 * ((X - loc) ** 2 + scale**2) + 0.5 * math.log(2 * math.pi)  # E -log N(x; z, 1)
    inner = 0.5 * (scale**2 + (loc - k) ** 2 - 1) - scale.log()
    exact = (log_p.exp() * (log_p - Poisson(2.0).log_prob(k) + expected + inner)).sum()
    verify(p, lambda: p.loss("E+F", {"x": MANY}), exact, 40, "E")


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", " with estimate=monte_carlo"], ids=["closed KL", "monte carlo"])
@pytest.mark.parametrize("size", [None, 10], ids=["whole data", "10 data"])
def test_a_global_count_is_scored(options: str, size: int | None) -> None:
    """One draw for all data: no datum's cost is a baseline for another's."""
    p = compiled(
        """
        data(x) = evidence()
        var x: real
        var w: natural global
        param a: positive
        param m: real
        p(w) = Poisson(a)
        q(w) = Poisson(2)
        q(x | w) = Normal(m * w, 2)
        minimize KL(data(x) * p(w) || q(w) * q(x|w))
        """
        + options
    )
    p.data_size = size
    x = torch.tensor([3.3, 2.6, 4.1], dtype=torch.float64)
    with torch.no_grad():
        p.params["m"].fill_(0.9)
    w = counts()
    log_p = Poisson(p.params["a"]).log_prob(w)
    likelihood = normal(x[:, None], p.params["m"] * w, 2.0).mean(0)
    exact = (log_p.exp() * ((log_p - Poisson(2.0).log_prob(w)) / (size or 3) - likelihood)).sum()
    verify(p, lambda: p.loss("a+m", {"x": x}), exact, 2000, "a")


@pytest.mark.parametrize(
    ("space", "family", "prior"),
    [
        ("real", "Normal", "Normal(0, 1)"),
        ("positive", "LogNormal", "LogNormal(0, 1)"),
        ("positive", "Gamma", "Gamma(2, 1)"),
    ],
)
def test_a_continuous_law_is_scored_if_asked(space: str, family: str, prior: str) -> None:
    """Its own draws carry no gradient, and the likelihood-ratio gradient is that of the integral."""
    text = LATENT.replace("SPACE", space).replace("FAMILY", family).replace("PRIOR", prior)
    p = compiled(text + " with estimate=score")
    z, weights = POINTS[space]
    heads = p.nets["E"](X)
    log_p = getattr(torch.distributions, family)(*heads).log_prob(z)
    log_q = getattr(torch.distributions, family)(*map(float, prior[:-1].partition("(")[2].split(","))).log_prob(z)
    exact = (weights * log_p.exp() * (log_p - log_q - normal(X, p.nets["G"](z)))).sum()
    verify(p, lambda: p.loss("E+G", {"x": MANY}), exact, 40, "E")


FINE = torch.linspace(-8, 8, 4001, dtype=torch.float64)
LOGS = torch.linspace(-60, 6, 8001, dtype=torch.float64)
POINTS = {"real": (FINE, torch.full_like(FINE, 0.004)), "positive": (LOGS.exp(), 66 / 8000 * LOGS.exp())}
"""Points that fill a space, and the lengths that they stand for."""


def test_a_score_of_one_law_above_another() -> None:
    """z -> y -> x of Normals, all scored: the gradient of a closed Gaussian divergence."""
    p = compiled("""
        data(x) = evidence()
        var x, y, z: real
        param a, b, s: positive
        p(z | x) = Normal(a * x, s)
        p(y | z) = Normal(b * z, 0.5)
        q(y)     = Normal(0, 1)
        minimize CE(data(x) * p(z|x) * p(y|z) || q(y)) with estimate=score
    """)
    a, b, s = (p.params[n] for n in "abs")
    exact = 0.5 * ((a * b * X) ** 2 + (b * s) ** 2 + 0.25) + 0.5 * math.log(2 * math.pi)
    verify(p, lambda: p.loss("a+b+s", {"x": MANY}), exact.sum(), 60, "a")


def test_a_continuous_global_is_scored_if_asked() -> None:
    """One draw for all data: KL[N(m, s) || N(0, 1)] / N and the mean of (x - w)^2 / 2, as Gaussians have them. Over all
    noise, by quadrature, the estimator is exact."""
    p = compiled("""
        data(x) = evidence()
        var x: real
        var w: real global
        param m: real
        param s: positive
        p(w) = Normal(m, s)
        q(w) = Normal(0, 1)
        q(x | w) = Normal(w, 1)
        minimize KL(data(x) * p(w) || q(w) * q(x|w)) with estimate=score
    """)
    p.data_size = 10
    x = torch.tensor([0.3, -0.6, 1.1], dtype=torch.float64)
    m, s = p.params["m"], p.params["s"]
    kl = 0.5 * (m**2 + s**2 - 1) - s.log()
    exact = kl / 10 + (0.5 * ((x - m) ** 2 + s**2)).mean() + 0.5 * math.log(2 * math.pi)
    noise, weights = (torch.from_numpy(t) for t in np.polynomial.hermite_e.hermegauss(12))
    losses = [w * p.loss("m+s", {"x": x, "w.noise": e}) for e, w in zip(noise, weights / weights.sum(), strict=True)]
    found = torch.stack(losses).sum()
    torch.testing.assert_close(found, exact)
    torch.testing.assert_close(gradient(p, found), gradient(p, exact))


# --- enumeration


def test_a_joint_support_of_64_is_summed_over_and_65_is_not() -> None:
    spec = """
        data(x) = evidence()
        var x: real
        var j: {0..7}
        var k: {0..LAST}
        net A = mlp(3)
        net B = mlp(3)
        net G = mlp(3)
        p(j | x) = Categorical(A(x))
        p(k | x) = Categorical(B(x))
        q(x | j, k) = Normal(G(j, k), 1)
        minimize CE(data(x) * p(j|x) * p(k|x) || q(x|j,k))
    """
    for last in (7, 8):
        p = compiled(spec.replace("LAST", str(last)))
        pj, pk = p.nets["A"](X).softmax(-1)[0], p.nets["B"](X).softmax(-1)[0]
        j, k = torch.meshgrid(torch.arange(8), torch.arange(last + 1), indexing="ij")
        exact = -(pj[:, None] * pk * normal(X, p.nets["G"](j, k))).sum()
        if last == 7:
            loss = p.loss("A+B+G", {"x": X})
            torch.testing.assert_close(loss, exact)
            torch.testing.assert_close(gradient(p, loss), gradient(p, exact))
        else:
            verify(p, lambda p=p: p.loss("A+B+G", {"x": MANY}), exact, 40)


def test_six_binary_codes_are_summed_over() -> None:
    text = LATENT.replace("SPACE", "binary[6]").replace("FAMILY", "Bernoulli").replace("PRIOR", "Bernoulli(0.3)")
    p = compiled(text)
    k = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 6)
    log_p = Bernoulli(logits=p.nets["E"](X)).log_prob(k).sum(-1)
    prior = Bernoulli(torch.tensor(0.3, dtype=torch.float64)).log_prob(k).sum(-1)
    exact = (log_p.exp() * (log_p - prior - normal(X, p.nets["G"](k)))).sum()
    loss = p.loss("E+G", {"x": X})
    torch.testing.assert_close(loss, exact)
    torch.testing.assert_close(gradient(p, loss), gradient(p, exact))


# --- pathwise and closed forms, against integrals

GRID = torch.linspace(-1, 1, 40001, dtype=torch.float64)
LINES: dict[str, tuple[Tensor, Tensor]] = {
    "real": (torch.sinh(6 * GRID), 6 * torch.cosh(6 * GRID)),
    "heavy": (torch.sinh(20 * GRID), 20 * torch.cosh(20 * GRID)),
    "positive": (torch.exp(20 * GRID), 20 * torch.exp(20 * GRID)),
    "unit": (torch.sigmoid(25 * GRID), 25 * torch.sigmoid(25 * GRID) * torch.sigmoid(-25 * GRID)),
}
"""Points that fill each space, and how far apart they lie for each step of the grid."""

REFERENCE = {"real": "StudentT(3, 0.3, 1)", "positive": "LogNormal(0.2, 1)", "unit": "Beta(2, 3)"}
"""Densities whose logarithm has a mean under heavy tails too."""

BOUNDED = {"Uniform", "AffineBeta", "Pareto"}
"""Families whose bounds are parameters, where a fixed grid has no derivative."""


HEAVY = {"Cauchy", "StudentT"}
"""Families with tails that reach beyond some hundreds."""


def integral(family: str, f: Callable[[Tensor], Tensor]) -> Tensor:
    points, spacing = LINES["heavy" if family in HEAVY else FAMILIES[family].support]
    values = f(points)
    return torch.where(spacing > 0, values * spacing, 0.0).sum() * (GRID[1] - GRID[0])


def trained(family: str, suffix: str) -> tuple[str, str, Callable[[Program], object]]:
    """A family with params of its own: their declarations, the call, and Pyro's distribution at their values."""
    row = FAMILIES[family]
    names = {p.name: (f"{suffix}_{p.name}", "positive" if p.extent == "whole" else p.space) for p in row.parameters}
    declared = "\n".join(f"param {n}: {kind}" for n, kind in names.values())
    call = f"{family}({', '.join(f'{n}={v}' for n, (v, _) in names.items())})"
    return declared, call, lambda p: getattr(dist, family)(**{n: p.params[v] for n, (v, _) in names.items()})


def moved(p: Program) -> Program:
    """Shapes and degrees of freedom of one and more, where the integrands are tame."""
    with torch.no_grad():
        for name, value in p.emitted.named_parameters():
            if name.endswith(
                ("df_raw", "concentration_raw", "concentration1_raw", "concentration0_raw", "df1_raw", "df2_raw")
            ):
                value.add_(1.2)
    return p


@pytest.mark.parametrize(
    "family", [f.name for f in FAMILIES.values() if f.reparameterised and not f.event and f.name not in BOUNDED]
)
def test_pathwise_gradients_are_those_of_the_integral(family: str) -> None:
    """E_q -log r, q with params: location-scale, transformed and implicitly reparameterised families."""
    support = FAMILIES[family].support
    declared, call, made = trained(family, "a")
    p = moved(
        compiled(f"""
        data(x) = evidence()
        var x: real
        var z: {support}
        {declared}
        q(z) = {call}
        r(z) = {REFERENCE[support]}
        minimize CE(data(x) * q(z) || r(z))
    """)
    )
    name, _, numbers = REFERENCE[support].rstrip(")").partition("(")
    r = getattr(dist, name)(*(torch.tensor(float(v), dtype=torch.float64) for v in numbers.split(",")))
    q = made(p)
    exact = -integral(family, lambda z: q.log_prob(z).exp() * r.log_prob(z))
    (player,) = p.players
    verify(p, lambda: p.loss(player, {"x": MANY}), exact, 40)


PAIRS = sorted(
    (f, g)
    for f, g in CLOSED_FORM
    if f not in BOUNDED and not FAMILIES[f].event and FAMILIES[f].support in ("real", "positive", "unit", "natural")
)


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_closed_divergences_are_the_integral(left: str, right: str) -> None:
    """KL[f || g] as it is emitted, with both sides' params, against the sum or the integral of f (log f - log g)."""
    support = FAMILIES[left].support
    declared, call, f = trained(left, "a")
    declared_g, call_g, g = trained(right, "b")
    p = moved(
        compiled(f"""
            var z: {support}
            {declared}
            {declared_g}
            p(z) = {call}
            q(z) = {call_g}
            minimize KL(p(z) || q(z))
        """)
    )

    def each(z: Tensor) -> Tensor:
        log_f = f(p).log_prob(z)
        return log_f.exp() * (log_f - g(p).log_prob(z))

    exact = each(counts(400)).sum() if support == "natural" else integral(left, each)
    (player,) = p.players
    loss = p.loss(player, {})
    torch.testing.assert_close(loss, exact, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient(p, loss), gradient(p, exact), rtol=2e-3, atol=1e-3)


PRECISION = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
FACTOR = torch.tensor([[1.0], [0.5]], dtype=torch.float64)
ZERO, ONE = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
VECTORS = {
    "simplex[3]": {
        "LogisticNormal(0, 1)": ("LogisticNormal", dist.LogisticNormal(ZERO, ONE)),
        "Dirichlet(2)": ("Dirichlet", dist.Dirichlet(2 * torch.ones(3, dtype=torch.float64))),
    },
    "real[2]": {
        "MultivariateNormal(0, precision_matrix=[[2.0, 0.5], [0.5, 1.0]])": (
            "MultivariateNormal",
            dist.MultivariateNormal(ZERO, precision_matrix=PRECISION),
        ),
        "LowRankMultivariateNormal(0, [[1.0], [0.5]], 1)": (
            "MultivariateNormal",
            dist.LowRankMultivariateNormal(ZERO, FACTOR, ONE),
        ),
    },
    "positive[2]": {
        "InverseGamma(2, 1)": ("InverseGamma", dist.InverseGamma(2 * ONE, ONE).to_event(1)),
        "Gamma(2, 1)": ("Chi2", dist.Gamma(2 * ONE, ONE).to_event(1)),
    },
}


@pytest.mark.parametrize(("space", "prior"), [(space, prior) for space, rows in VECTORS.items() for prior in rows])
def test_closed_divergences_of_vectors_are_the_mean_log_ratio(space: str, prior: str) -> None:
    """A posterior for each datum against one prior for all."""
    family, q = VECTORS[space][prior]
    p = compiled(f"""
        data(x) = evidence()
        var x: real
        var z: {space}
        net E = mlp(3)
        p(z | x) = {family}(E(x))
        q(z)     = {prior}
        minimize KL(data(x) * p(z|x) || data(x) * q(z))
    """)
    x = torch.tensor([0.7, -0.4, 1.2], dtype=torch.float64)

    def ratio() -> Tensor:
        f = p.emitted.p_z_given_x(x)
        z = f.rsample((2000,))
        return (f.log_prob(z) - q.log_prob(z)).mean()

    verify(p, ratio, p.loss("E", {"x": x}), 40)


# --- importance weights


GAUSSIAN = """
data(x) = evidence()
var x, z: real
param a, c: real
param s: positive
p(z | x) = Normal(c*x, s)
q(z)     = Normal(0, 1)
q(x | z) = Normal(a*z, 0.7)
minimize KL(data(x) * p(z|x) || q(z) * q(x|z)) with importance=COPIES
"""


def bound(p: Program, x: Tensor, noise: Tensor) -> Tensor:
    """-log mean_k q(z_k) q(x|z_k) / p(z_k|x), (n,), the copies leading the noise (Burda et al. 2016, eq. 8)."""
    a, c, s = (p.params[n] for n in "acs")
    z = c * x + s * noise
    log_w = normal(z, torch.zeros_like(z)) + normal(x, a * z, 0.7) - Normal(c * x, s).log_prob(z)
    return math.log(len(noise)) - log_w.logsumexp(0)


def gauss_hermite(count: int, nodes: int = 20) -> tuple[Tensor, Tensor]:
    """Points (count, m) and weights (m,) whose weighted mean is the expectation under that many standard normals."""
    points, weights = (torch.tensor(v, dtype=torch.float64) for v in hermegauss(nodes))
    every = torch.cartesian_prod(*[points] * count).T
    return every, torch.cartesian_prod(*[weights / weights.sum()] * count).prod(-1)


def test_importance_weights_by_hand_and_in_expectation() -> None:
    p = compiled(GAUSSIAN.replace("COPIES", "3"))
    (player,) = p.players
    torch.manual_seed(3)
    x, noise = torch.randn(5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    loss, hand = p.loss(player, {"x": x, "z.noise": noise}), bound(p, x, noise).mean()
    torch.testing.assert_close(loss, hand)
    torch.testing.assert_close(gradient(p, loss), gradient(p, hand))
    points, weights = gauss_hermite(3)
    verify(p, lambda: p.loss(player, {"x": MANY}), (weights * bound(p, X, points)).sum(), 40)


def test_many_copies_reach_the_evidence() -> None:
    """log q(x) = log N(x; 0, a^2 + 0.7^2), from below, by var(w) / 2K, here less than 1 / K; its gradient too, where
    the proposal has none."""
    copies = 2000
    p = compiled(GAUSSIAN.replace("COPIES", str(copies)))
    (player,) = p.players
    with torch.no_grad():
        for name, value in (("a", 0.8), ("c", 0.6), ("s_raw", -0.1)):
            p.emitted.get_parameter(name).fill_(value)
    spread = (p.params["a"] ** 2 + 0.49).sqrt()
    exact = -Normal(0.0, spread).log_prob(X).mean()
    torch.manual_seed(5)
    own = [p.params["a"]]
    runs = [p.loss(player, {"x": X.expand(25)}) for _ in range(20)]
    values, slopes = [v.item() for v in runs], [torch.autograd.grad(v, own)[0].item() for v in runs]
    (wanted,) = torch.autograd.grad(exact, own)
    for found, limit in ((values, exact), (slopes, wanted)):
        assert sum(found) / 20 == pytest.approx(limit.item(), abs=reach(found) + 1 / copies)
        assert reach(found) < 0.02


# --- frozen copies, given noise


def test_an_old_law_is_drawn_at_the_snapshot_and_never_trained() -> None:
    p = compiled("""
        data(x) = evidence()
        var x, z: real[2]
        net E = mlp(3)
        net G = mlp(3)
        p(z | x) = Normal(E(x))
        q(z)     = Normal(0, 1)
        q(x | z) = Normal(G(z), 1)
        minimize KL(data(x) * p(z|x) || q(z) * q(x|z)) over E
        minimize CE(data(x) * old p(z|x) || q(x|z)) over G
    """)
    p.snapshot()
    before = copy.deepcopy(p.nets["E"])
    with torch.no_grad():
        for w in p.nets["E"].parameters():
            w.add_(torch.randn_like(w))
    x, noise = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    batch = {"x": x, "z.noise": noise}

    def hand(net: torch.nn.Module) -> Tensor:
        loc, scale = net(x)
        return -normal(x, p.nets["G"]((loc + scale * noise).detach())).sum(-1).mean()

    loss = p.loss("G", batch)
    torch.testing.assert_close(loss, hand(before))
    weights = p.parameters_of("G")
    for a, b in zip(torch.autograd.grad(loss, weights), torch.autograd.grad(hand(before), weights), strict=True):
        torch.testing.assert_close(a, b)
    loss = p.loss("G", batch)
    assert all(g is None for g in torch.autograd.grad(loss, p.parameters_of("E"), allow_unused=True))
    p.snapshot()
    torch.testing.assert_close(p.loss("G", batch), hand(p.nets["E"]))


@pytest.mark.parametrize("family", sorted(LOCATION_SCALE))
def test_given_noise_is_scaled_and_moved(family: str) -> None:
    """z = loc + scale * noise (LogNormal: its exponential), and nothing is drawn."""
    positive = family == "LogNormal"
    p = compiled(f"""
        data(x) = evidence()
        var x: real[2]
        var z: {"positive" if positive else "real"}[2]
        net E = mlp(3)
        p(z | x) = {family}(E(x))
        r(z) = {"LogNormal(0.2, 1)" if positive else "StudentT(3, 0.3, 1)"}
        minimize CE(data(x) * p(z|x) || r(z))
    """)
    torch.manual_seed(6)
    x, noise = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    loc, scale = p.nets["E"](x)
    z = loc + scale * noise
    if positive:
        hand = (z + normal(z, torch.full_like(z, 0.2)).neg()).sum(-1).mean()  # -log LogNormal(e^z)
    else:
        hand = -StudentT(3.0, torch.tensor(0.3, dtype=torch.float64), 1.0).log_prob(z).sum(-1).mean()
    loss = p.loss("E", {"x": x, "z.noise": noise})
    torch.testing.assert_close(loss, hand)
    torch.testing.assert_close(gradient(p, loss), gradient(p, hand))


def test_given_noise_of_a_vector_is_turned_by_its_triangle() -> None:
    p = compiled("""
        data(x) = evidence()
        var x, z: real[2]
        net E = mlp(3)
        p(z | x) = MultivariateNormal(E(x))
        r(z) = MultivariateNormal(0, scale_tril=[[1.5, 0.0], [0.4, 0.8]])
        minimize CE(data(x) * p(z|x) || r(z))
    """)
    torch.manual_seed(6)
    x, noise = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, 2, dtype=torch.float64)
    loc, tril = p.nets["E"](x)
    z = loc + torch.einsum("nij,nj->ni", tril, noise)
    triangle = torch.tensor([[1.5, 0.0], [0.4, 0.8]], dtype=torch.float64)
    hand = -MultivariateNormal(torch.zeros(2, dtype=torch.float64), scale_tril=triangle).log_prob(z).mean()
    loss = p.loss("E", {"x": x, "z.noise": noise})
    torch.testing.assert_close(loss, hand)
    torch.testing.assert_close(gradient(p, loss), gradient(p, hand))


def test_a_generator_of_bits_is_scored_by_its_classifier() -> None:
    """A GAN over 128 bit patterns: -log p(1|x) is the cost of every draw, given z."""
    p = compiled("""
        data(x) = evidence()
        var x: binary[7]
        var z: real[2]
        var y: {0, 1}
        net G = mlp(3)
        net D = mlp(3)
        q(z)     = Normal(0, 1)
        q(x | z) = Bernoulli(G(z))
        p(y | x) = Bernoulli(D(x))
        q(x, y)  = { y=1: data(x); y=0: q(z) * q(x|z) }
        minimize KL(q(x,y) || data(x) * p(y|x)) with game=nonsaturating
    """)
    torch.manual_seed(7)
    z = torch.randn(1, 2, dtype=torch.float64)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 7)
    log_p = Bernoulli(logits=p.nets["G"](z)).log_prob(every).sum(-1)
    exact = -(log_p.exp() * torch.nn.functional.logsigmoid(p.nets["D"](every))).sum()
    weights = p.parameters_of("G")
    target = torch.cat([g.flatten() for g in torch.autograd.grad(exact, weights)])
    found: list[Tensor] = []
    for _ in range(60):
        loss = p.loss("G", {"z": z.expand(2000, 2), "x": every})
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)]))
    error = torch.stack(found).std(0) / 60**0.5
    assert ((torch.stack(found).mean(0) - target).abs() <= sigmas(60) * error + 1e-9).all()
    assert (target.abs() > 8 * error).any()


def test_what_descends_from_an_enumerated_value_is_summed_with_it() -> None:
    """sum_k p(k|x) (log p(k|x) - log q(k) + KL[p(z|k) || q(z|k)] - log q(x|z_k)), the same noise for every k."""
    p = compiled("""
        data(x) = evidence()
        var x, z: real
        var k: {0..2}
        net E = mlp(3)
        net F = mlp(3)
        net G = mlp(3)
        p(k | x) = Categorical(E(x))
        p(z | k) = Normal(F(k))
        q(k)     = Categorical([0.2, 0.3, 0.5])
        q(z | k) = Normal(k, 1)
        q(x | z) = Normal(G(z), 1)
        minimize KL(data(x) * p(k|x) * p(z|k) || q(k) * q(z|k) * q(x|z))
    """)
    torch.manual_seed(8)
    x, noise = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    log_p = p.nets["E"](x).log_softmax(-1)
    loc, scale = p.nets["F"](torch.arange(3))
    z = loc + scale * noise[:, None]
    inner = 0.5 * (scale**2 + (loc - torch.arange(3)) ** 2 - 1) - scale.log()
    prior = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
    hand = (log_p.exp() * (log_p - prior + inner - normal(x[:, None], p.nets["G"](z)))).sum(-1).mean()
    loss = p.loss("E+F+G", {"x": x, "z.noise": noise})
    torch.testing.assert_close(loss, hand)
    torch.testing.assert_close(gradient(p, loss), gradient(p, hand))
